"""How a cloud is cut into cubes of cells: an octree of few leaves over the whole lattice.

Letters: n points, c cells, t tiles. A tile of level b is a cube of 2^b finest cells along each
side; keys are those of `octree`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from isolux.geometry.points.octree import LINE, PLANE, above

__all__ = ["Tiles", "cell_keys", "counted", "cut", "merged_counts", "within"]

_MASK = LINE - 1


def cell_keys(local: Any, number: int) -> Any:
    """The cells of a level that points [n, 3] (float64, in finest cells) lie in."""
    place = np.floor(local * 0.5**number).astype(np.int64)
    return place[:, 0] << 40 | place[:, 1] << 20 | place[:, 2]


def within(keys: Any, low: Any, high: Any) -> Any:
    """Which cells lie from `low` up to below `high` (whole numbers [3])."""
    inside = np.ones(len(keys), bool)
    for axis, shift in enumerate((40, 20, 0)):
        at = keys >> shift if axis == 0 else keys >> shift & _MASK
        inside &= (at >= low[axis]) & (at < high[axis])
    return inside


@dataclass(frozen=True)
class Tiles:
    """Cubes that fill the lattice, none in another. Sorted by level, then key."""

    level: Any  # int64 [t]
    key: Any  # int64 [t]: the cube's place, in cubes of its level
    points: Any  # int64 [t]: how many each holds

    def __len__(self) -> int:
        """The number of tiles."""
        return len(self.level)

    def box(self, tile: int, number: int = 0) -> tuple[Any, Any]:
        """Lowest cell of a tile, and the one beyond its highest, at a level not above it."""
        size = int(self.level[tile]) - number
        key = int(self.key[tile])
        low = np.array([key >> 40, key >> 20 & _MASK, key & _MASK], np.int64) << size
        return low, low + (1 << size)

    def of(self, cells: Any, number: int = 0) -> Any:
        """The tile (int64 [c]) of each cell of a level; -1 beyond the lattice."""
        out = np.full(len(cells), -1, np.int64)
        for level in np.unique(self.level):
            first, last = np.searchsorted(self.level, [level, level + 1])
            wanted = above(cells, int(level) - number)
            at = np.minimum(np.searchsorted(self.key[first:last], wanted), last - first - 1)
            found = self.key[first + at] == wanted
            out[found] = first + at[found]
        return out

    def touching(self, low: Any, high: Any) -> Any:
        """The tiles (int64) that a box of finest cells reaches into."""
        at = np.stack([self.key >> 40, self.key >> 20 & _MASK, self.key & _MASK], -1)
        start, stop = at << self.level[:, None], (at + 1) << self.level[:, None]
        return np.flatnonzero((stop > low).all(1) & (start < high).all(1))


def merged_counts(parts: Iterator[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Sorted keys and how often each occurs, from parts of the same kind."""
    keys, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for more, times in parts:
        both = np.concatenate([keys, more])
        keys, place = np.unique(both, return_inverse=True)
        counts = np.bincount(place, np.concatenate([counts, times]), len(keys)).astype(np.int64)
    return keys, counts


def counted(locals_: Callable[[], Iterator[Any]], number: int) -> tuple[Any, Any]:
    """The occupied cells of a level, sorted, and the points in each."""
    return merged_counts(
        np.unique(cell_keys(local, number), return_counts=True) for local in locals_()
    )


def cut(
    cells: Any, counts: Any, number: int, shape: tuple[int, int, int], top: int, most: int
) -> Tiles:
    """Cubes with at most `most` points, as far as cubes of two cells allow.

    Args:
        cells: sorted occupied cells of level `number`.
        counts: the points in each.
        number: a level; no tile is smaller than two of its cells.
        shape: cells of level `top` along each axis.
        top: the coarsest level.
        most: points of a tile.
    """
    root = max(top + int(np.ceil(np.log2(max(shape)))), number + 1)
    leaves: list[tuple[int, int, int]] = []
    todo: list[tuple[int, int, Any, Any]] = [(root, 0, cells, counts)]
    while todo:
        level, key, inside, many = todo.pop()
        total = int(many.sum())
        if total <= most or level <= number + 1:
            leaves.append((level, key, total))
            continue
        which = above(inside, level - 1 - number)
        first = (key >> 40) << 41 | (key >> 20 & _MASK) << 21 | (key & _MASK) << 1
        for child in range(8):
            at = first + (child >> 2) * PLANE + (child >> 1 & 1) * LINE + (child & 1)
            own = which == at
            todo.append((level - 1, at, inside[own], many[own]))
    level_, key_, total_ = np.array(sorted(leaves), np.int64).T
    return Tiles(level_.copy(), key_.copy(), total_.copy())
