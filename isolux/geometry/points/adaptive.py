"""Fewer triangles where the surface is flat: cells become one with their neighbours.

The leaves of an octree over the drawn cells, found from the smallest up, each with one vertex
for the disc of surface in it; the quads of the smallest cells are kept, their corners moved to
those of the leaves, and what has no area any more is dropped (Schaefer, Ju and Warren 2007,
"Manifold dual contouring"). All signs are those at the smallest cells' corners, so that leaves
of different sizes meet without a crack. Letters: c cells, v vertices, q quads, f faces.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.backends.extraction_tables import cube_groups
from isolux.geometry.points import adaptive_kernels as kernels
from isolux.geometry.points.extraction import Dual

__all__ = ["merged"]

_CHUNK = 4096
_MASK = (1 << 20) - 1
_LEVELS = 10  # of leaves at most: the largest has 1024 cells along an edge
_TURN = 0.3  # cosine, from a leaf's mean normal to any in it
_ROUNDS = 12  # in which leaves are taken back


@dataclass
class _Level:
    """Cells of one size that the surface passes. Flat arrays."""

    keys: Any  # int64 [c], sorted
    case: Any  # uint8 [c]
    leaf: Any  # bool [c]: one vertex will do for all in it
    parent: Any  # int64 [c]: its place in the next level
    vertices: Any  # float64 [3 c], in the smallest cells
    normals: Any  # float64 [3 c]


def merged(dual: Dual, tolerance: float) -> tuple[Any, Any]:
    """A dual mesh of cells as large as the surface allows.

    Args:
        dual: of cells of one size, with slopes.
        tolerance: how far a leaf's vertex may be from the planes that touch the surface in
            it, in the smallest cells.

    Returns:
        Vertices (float64 [v, 3]) and faces (int32 [f, 3]). Closed and manifold where those of
        the cells are; cells beside an open border stay as they are.
    """
    normals = _unit(dual.slopes)
    levels = _levels(dual, normals, tolerance)
    owner = np.repeat(np.arange(len(dual.cells)), np.diff(dual.first))
    vertices = np.concatenate([dual.vertices, *(level.vertices for level in levels[1:])])
    turned = np.concatenate([normals, *(level.normals for level in levels[1:])])
    size = 2 * (len(dual.quads) // 4)
    faces, bad = np.empty(3 * size, np.int64), np.empty(size, np.bool_)
    for _ in range(_ROUNDS):
        name = _names(levels, owner)
        count = kernels.cut(name[dual.quads], vertices, turned, faces, tolerance, bad)
        corners = faces[: 3 * count].reshape(-1, 3)[bad[:count]]
        if not _split(levels, corners, len(owner)):
            break
    used, number = np.unique(faces[: 3 * count], return_inverse=True)
    return vertices.reshape(-1, 3)[used], number.reshape(-1, 3).astype(np.int32)


def _levels(dual: Dual, normals: Any, tolerance: float) -> list[_Level]:
    """From the smallest cells up, as long as some become one."""
    leaf = _discs()[dual.case] & ~_torn(dual)
    levels = [_Level(dual.cells, dual.case, leaf, None, dual.vertices, normals)]
    # Of the smallest cells that are leaves, which have one vertex: it, and its leaf so far.
    cell = np.flatnonzero(leaf)
    vertex = dual.first[cell]
    while len(cell) and len(levels) <= _LEVELS:
        level, size = _joined(levels[-1]), float(2 ** len(levels))
        cell = levels[-1].parent[cell]
        kept = level.leaf[cell]
        vertex, cell = vertex[kept], cell[kept]
        levels.append(level)
        planes = dual.vertices, normals, vertex, cell
        corner = _corners(level.keys)
        sums = np.zeros(kernels.SUMS * len(level.keys))
        kernels.add_planes(*planes, corner, size, sums)
        parallel_for(
            kernels.place,
            [
                (sums, corner, size, level.leaf, level.vertices, level.normals, *part)
                for part in chunks(len(level.keys), _CHUNK)
            ],
        )
        error, cosine = np.zeros(len(level.keys)), np.ones(len(level.keys))
        kernels.farthest(*planes, level.vertices, level.normals, error, cosine)
        level.leaf &= (error <= tolerance) & (cosine >= _TURN)
        kept = level.leaf[cell]
        vertex, cell = vertex[kept], cell[kept]
    return levels


def _joined(level: _Level) -> _Level:
    """The cells one level up, leaves as far as the shape of the surface goes."""
    key = level.keys
    half = ((key >> 41) << 40) | ((key >> 21 & _MASK >> 1) << 20) | (key >> 1 & _MASK >> 1)
    keys, level.parent = np.unique(half, return_inverse=True)
    order = np.argsort(level.parent, kind="stable")
    begin = np.concatenate([[0], np.cumsum(np.bincount(level.parent, minlength=len(keys)))])
    case, leaf = np.empty(len(keys), np.uint8), np.empty(len(keys), np.bool_)
    parallel_for(
        kernels.join,
        [
            (order, begin, key, level.case, level.leaf, _discs(), case, leaf, *part)
            for part in chunks(len(keys), _CHUNK)
        ],
    )
    empty = np.zeros(3 * len(keys)), np.zeros(3 * len(keys))
    return _Level(keys, case, leaf, None, *empty)


def _names(levels: list[_Level], owner: Any) -> Any:
    """For each vertex of the smallest cells the number of what stands for it: a leaf's vertex,
    numbered level by level after them, or itself."""
    name = np.arange(len(owner))
    vertex = np.flatnonzero(levels[0].leaf[owner])
    cell, offset = owner[vertex], len(owner)
    for below, level in pairwise(levels):
        cell = below.parent[cell]
        kept = level.leaf[cell]
        vertex, cell = vertex[kept], cell[kept]
        name[vertex] = offset + cell
        offset += len(level.keys)
    return name


def _split(levels: list[_Level], corners: Any, offset: int) -> bool:
    """Take back the largest leaves at the corners [n, 3] of bad triangles; whether any are.

    `offset`: the number of the first leaf that is not one of the smallest cells.
    """
    begin = offset + np.cumsum([0] + [len(level.keys) for level in levels[1:]])
    of = np.searchsorted(begin, corners, side="right")  # 0: of the smallest
    worst = corners[(of > 0) & (of == of.max(1, keepdims=True, initial=0))]
    cell = np.empty(0, np.int64)
    for number, level in enumerate(levels[1:]):
        here = worst[(worst >= begin[number]) & (worst < begin[number + 1])] - begin[number]
        cell = np.union1d(cell, here)
        level.leaf[cell] = False
        if level.parent is not None:
            cell = np.unique(level.parent[cell])
    return len(worst) > 0


def _torn(dual: Dual) -> Any:
    """The cells (bool [c]) with a crossed edge about which another cell is missing."""
    owner = np.repeat(np.arange(len(dual.cells)), np.diff(dual.first))
    quads = dual.quads.reshape(-1, 4)
    whole = (quads != quads[:, [1, 2, 3, 0]]).all(1)  # others are triangles at a border
    drawn = np.bincount(owner[quads[whole]].reshape(-1), minlength=len(dual.cells))
    crossed = (cube_groups()[:256] >= 0).sum(1)
    return drawn < crossed[dual.case]


@cache
def _discs() -> Any:
    """The cases (bool [256]) of one disc that crosses no face of the cube twice."""
    groups = cube_groups()[:256]
    good = groups.max(1) == 0
    for axis in range(3):
        u, v = 1 << (axis + 1) % 3, 1 << (axis + 2) % 3
        for low in (0, 1 << axis):
            one, two = _inside(low), _inside(low + u + v)
            good &= ~(
                (one == two)
                & (_inside(low + u) == _inside(low + v))
                & (one != _inside(low + u))
            )
    return good


def _inside(corner: int) -> Any:
    return (np.arange(256) >> corner & 1).astype(bool)


def _corners(keys: Any) -> Any:
    return np.stack([keys >> 40, keys >> 20 & _MASK, keys & _MASK], -1).reshape(-1)


def _unit(slopes: Any) -> Any:
    by_vertex = slopes.reshape(-1, 3).astype(np.float64)
    length = np.sqrt((by_vertex**2).sum(1, keepdims=True))
    return (by_vertex / np.maximum(length, 1e-30)).reshape(-1)
