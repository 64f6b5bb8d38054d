"""Which points of a cloud belong to no surface: sparse where their neighbours are dense.

Letters: n points, k neighbours.
"""

from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from isolux.backends.cpu.pool import chunks, parallel_for, threads
from isolux.geometry.points.neighbours import Neighbours
from isolux.geometry.points.plane_kernels import fit_planes

__all__ = ["strays"]

_NEAR = 8  # neighbours
_FEWEST = 500  # points of which strays can be told
_SPARSER = 2.2  # than neighbours: the distance to the eighth neighbour over theirs
_SOME = 3  # neighbours that say so
_MOST = 7  # neighbours that say so, whatever lies on a plane
_SOME_BESIDE = 2  # neighbours that are strays, or denser, of strays among strays
_LESS_SPARSE, _OFF, _THIN = 1.35, 0.6, 0.15  # of points well off a plane of neighbours
_BULKY = 0.2  # offset from the neighbours' plane and their own, over the eighth's distance
_BULKY_BESIDE = 0.15  # of those beside strays; under it points are on plane surface
_UNEVEN = 0.35  # sparse points on a plane for each off one, from which density says nothing
_ROUNDS = 32
_PASSES = 3  # each among the points that the one before has left
_PART = 1 << 13  # points of a task


def strays(xyz: Any) -> Any:
    """Which points [n] are strays: sparser than their neighbours, and off any plane of them.

    The distance to the eighth neighbour is compared with the neighbours' own, as the local
    outlier factor does (Breunig et al. 2000), so that graded density is no offence. Strays
    among strays have no dense neighbours: from those that are told, the mark goes on to points
    off any plane beside them. Nothing is marked where points on plane surface are as uneven:
    in scans of scenes sparse points are part of them. Nor is anything of few points.

    Args:
        xyz: float64 [n, 3], finite, no two in one place.
    """
    none = np.zeros(len(xyz), np.bool_)
    if len(xyz) < _FEWEST:
        return none
    tree = Neighbours(xyz)
    distance, index = tree.among(_NEAR + 1)
    reach, near = distance[:, _NEAR].copy(), np.ascontiguousarray(index[:, 1:])
    del distance, index
    found = none
    for _ in range(_PASSES):
        more = _marked(tree.points, reach, near, found)
        if not more.any():
            break
        found = found | more
        _without(tree.points, reach, near, found, more)
    out = np.empty(len(xyz), np.bool_)
    out[tree.order] = found
    return out


def _marked(points: Any, reach: Any, near: Any, gone: Any) -> Any:
    """Which points [n] that are not gone are strays."""
    found = np.zeros(len(points), np.bool_)
    votes = _denser(reach, near, _SPARSER)
    rows = np.flatnonzero((votes >= _SOME) & ~gone).astype(np.int32)
    offset, thick = _shape(points, reach, near, rows)
    bulk = np.hypot(offset, thick)
    front = bulk > _BULKY
    if not gone.any() and (bulk < _BULKY_BESIDE).sum() > _UNEVEN * front.sum():
        return found
    known = np.full(len(points), np.nan)
    known[rows] = bulk
    found[rows[front | (votes[rows] >= _MOST)]] = True
    for _ in range(_ROUNDS):
        beside = _beside(near, found, votes, gone)
        new = beside[np.isnan(known[beside])]
        known[new] = np.hypot(*_shape(points, reach, near, new))
        beside = beside[known[beside] > _BULKY_BESIDE]
        if not len(beside):
            break
        found[beside] = True
    less = (_denser(reach, near, _LESS_SPARSE) >= _SOME) & ~gone & ~found
    rows = np.flatnonzero(less).astype(np.int32)
    offset, thick = _shape(points, reach, near, rows)
    near_plane = rows[(offset > _OFF) & (thick < _THIN)]
    # Strays are as likely far away as near; where nearly all are near, they are noise.
    if 2 * len(near_plane) <= (found | gone).sum():
        found[near_plane] = True
    return found


def _without(points: Any, reach: Any, near: Any, gone: Any, new: Any) -> None:
    """Neighbours anew, in place, of the points that had some of the `new` that are gone."""
    left = np.flatnonzero(~gone)
    rows = left[new[near[left]].any(1)]
    if len(left) <= _NEAR or not len(rows):
        return
    tree = cKDTree(points[left])
    distance, index = tree.query(points[rows], k=range(1, _NEAR + 2), workers=threads())
    reach[rows], near[rows] = distance[:, _NEAR], left[index[:, 1:]]


def _denser(reach: Any, near: Any, ratio: float) -> Any:
    """How many neighbours of each point [n] are `ratio` times as dense."""
    out = np.empty(len(reach), np.int8)
    for start, stop in chunks(len(reach), _PART):
        theirs = ratio * reach[near[start:stop]]
        out[start:stop] = (theirs < reach[start:stop, None]).sum(1)
    return out


def _beside(near: Any, found: Any, votes: Any, gone: Any) -> Any:
    """Points that are not found, of which enough neighbours are, or are denser."""
    rows = np.flatnonzero(~found & ~gone)
    strange = np.empty(len(rows), np.int8)
    for start, stop in chunks(len(rows), _PART):
        strange[start:stop] = found[near[rows[start:stop]]].sum(1)
    # What is found is seldom much denser, so that nothing is counted twice.
    return rows[(strange > 0) & (strange + votes[rows] >= _SOME_BESIDE)].astype(np.int32)


def _shape(points: Any, reach: Any, near: Any, rows: Any) -> tuple[Any, Any]:
    """How far off their neighbours' plane `rows` lie, and how thick that is, over its size."""
    normals, values = np.empty((len(rows), 3)), np.empty((len(rows), 3))
    index = np.ascontiguousarray(near[rows])

    def fit(start: int, stop: int) -> None:
        fit_planes(
            points.reshape(-1), index.reshape(-1), rows, _NEAR, 0,
            normals.reshape(-1), values.reshape(-1), start, stop,
        )  # fmt: skip

    parallel_for(fit, chunks(len(rows), _PART))
    middle = points[index].mean(1) - points[rows]
    offset = np.abs((middle * normals).sum(1))
    size = np.maximum(reach[rows], 1e-300)
    return offset / size, np.sqrt(values[:, 0]) / size
