"""Sparse levels of cells about points, as sorted keys, and the points averaged for each.

Letters: n points, s samples, c cells. Level 0 is the finest; a cell of level d has 2^d cells
of level 0 along each side.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.geometry.points import octree_kernels as kernels

__all__ = [
    "LINE",
    "PLANE",
    "Samples",
    "above",
    "children",
    "dilated",
    "first_samples",
    "prolonged",
    "subset",
    "united",
]

LINE, PLANE = 1 << 20, 1 << 40
"""What a step along y, and along x, adds to a cell's key."""

_CHUNK = 65536


@dataclass(frozen=True)
class Samples:
    """Points averaged over eighths of cells, in the order of their cells. Flat arrays."""

    key: Any  # int64 [s]: the cell's key, and three bits for the eighth
    fraction: Any  # float32 [s * 3]: where in its cell, in [0, 1]
    normal: Any  # float32 [s * 3]: the mean of unit normals, shorter where they differ
    weight: Any  # float32 [s]: the sum of the points' weights
    cells: Any  # int64 [c], sorted: those that hold a sample
    first: Any  # int32 [c + 1]: the first sample of each cell

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.key)

    def coarser(self) -> "Samples":
        """The same points one level up."""
        parents = np.empty_like(self.key)
        parallel_for(
            kernels.parent_keys,
            [(self.key, parents, *part) for part in chunks(len(parents), _CHUNK)],
        )
        return _merged(parents, self.fraction, self.normal, self.weight, up=True)


def first_samples(local: Any, normal: Any, weight: Any, average: bool = True) -> Samples:
    """Points as samples of cells of edge one.

    Args:
        local: float64 [n, 3], in cells, none negative.
        normal: float32 [n, 3].
        weight: float32 [n], positive.
        average: those in one eighth of a cell become one sample; otherwise each is one.
    """
    keys, fraction = np.empty(len(local), np.int64), np.empty(3 * len(local), np.float32)
    flat = np.ascontiguousarray(local).reshape(-1)
    parallel_for(
        kernels.sample_keys,
        [(flat, keys, fraction, *part) for part in chunks(len(local), _CHUNK)],
    )
    normal = np.ascontiguousarray(normal).reshape(-1)
    if average:
        return _merged(keys, fraction, normal, weight, up=False)
    order = np.argsort(keys)
    place, turned = fraction.reshape(-1, 3)[order], normal.reshape(-1, 3)[order]
    return _with_cells(keys[order], place.reshape(-1), turned.reshape(-1), weight[order])


def _merged(keys: Any, fraction: Any, normal: Any, weight: Any, up: bool) -> Samples:
    order = np.argsort(keys)
    ranked = keys[order]
    size = int((ranked[1:] != ranked[:-1]).sum()) + min(len(keys), 1)
    key, total = np.empty(size, np.int64), np.empty(size, np.float32)
    place, mean = np.empty(3 * size, np.float32), np.empty(3 * size, np.float32)
    kernels.merge(order, keys, fraction, normal, weight, up, key, place, mean, total)
    return _with_cells(key, place, mean, total)


def _with_cells(key: Any, fraction: Any, normal: Any, weight: Any) -> Samples:
    cells, first = np.empty(len(key), np.int64), np.empty(len(key) + 1, np.int32)
    count = kernels.cells_of(key, cells, first)
    return Samples(
        key, fraction, normal, weight, cells[:count].copy(), first[: count + 1].copy()
    )


def above(cells: Any, levels: int) -> Any:
    """The cells so many levels up that hold these."""
    mask = LINE - 1
    x, y, z = cells >> 40, cells >> 20 & mask, cells & mask
    return (x >> levels) << 40 | (y >> levels) << 20 | z >> levels


def dilated(cells: Any, times: int = 1) -> Any:
    """Sorted cells with the 26 about each, `times` over."""
    for _ in range(times):
        for offset in (1, LINE, PLANE):
            out = np.empty(3 * len(cells), np.int64)
            cells = out[: kernels.spread(cells, offset, out)].copy()
    return cells


def children(cells: Any) -> Any:
    """The cells one level down that fill sorted cells, sorted."""
    out = np.empty(8 * len(cells), np.int64)
    kernels.children_of(cells, out)
    out.sort()
    return out


def united(one: Any, two: Any) -> Any:
    """The sorted union of sorted keys."""
    out = np.empty(len(one) + len(two), np.int64)
    return out[: kernels.union(one, two, out)].copy()


def prolonged(fine: Any, coarse: Any, coefficient: Any) -> Any:
    """Coefficients (float32) on fine cells that give the same function as the coarse ones."""
    out = np.empty(len(fine), np.float32)
    parallel_for(
        kernels.prolong,
        [(fine, coarse, coefficient, out, *part) for part in chunks(len(fine), _CHUNK)],
    )
    return out


def subset(local: Any, cells: Any, block: int, most: int) -> Any:
    """Points that lie in some blocks of 2^block cells, which hold about `most` of the cells.

    Args:
        local: float64 [n, 3], in cells.
        cells: all occupied ones.
        block: as a power of two.
        most: cells that are wanted.

    Returns:
        Their numbers, rising. Which blocks is a matter of their place alone.
    """
    place = np.floor(local).astype(np.int64) >> block
    # Fibonacci hashing: the highest bits of a product with an odd number.
    key = (place[:, 0] << 40 | place[:, 1] << 20 | place[:, 2]).astype(np.uint64)
    key ^= key >> np.uint64(29)
    key *= np.uint64(0x9E3779B97F4A7C15)
    share = min(1.0, most / max(len(cells), 1))
    return np.flatnonzero(key <= np.uint64(share * (2**64 - 2**12)))
