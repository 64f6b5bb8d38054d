"""Which side of a plane is outside: from sensors, from cameras, or from the points themselves.

Letters: n points (along a curve, as `Neighbours` has them), w graph neighbours, m cameras.
"""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.geometry.points.orientation_kernels import agreement, costs, spanning_signs

__all__ = [
    "Graph",
    "agreed",
    "by_cameras",
    "by_propagation",
    "by_sensor",
    "by_witness",
    "vouched",
]

_log = logging.getLogger(__name__)
_PART = 1 << 15  # points of a task
_GRAZING = 0.3  # |cos| to the sight line under which neighbours are asked
_SMOOTH = 0.3  # a smooth piece: unsure of neighbours' sides by less, as in `costs`
_OPEN = 0.3  # of its mean normal's length: a part of less volume is an open sheet
_ROUND = 0.1  # volume about the middle of the cloud that tells a sheet's outside
_CAMERAS = 4  # nearest ones that vote
_SURE = 0.25  # |sum of a part's votes| over the sum of their sizes, from which they decide
_CHANCE = 5.0  # more for few points: over the root of their number


@dataclass(frozen=True)
class Graph:
    """Points and whom each is near to."""

    points: Any  # float64 [n, 3]
    index: Any  # int32 [n, w]; the point itself stands for no neighbour
    spacing: Any  # float64 [n]: what a point's area goes with the square of


def by_sensor(graph: Graph, normals: Any, sensor: Any) -> tuple[Any, Any]:
    """Normals that face their sensor.

    Where a sight line nearly lies in the surface, noise decides on its side. There the smooth
    piece about the point decides, if its points together are sure.

    Returns:
        Normals [n, 3] and |cos| of the angle to the sight line [n].
    """
    sight = sensor - graph.points
    sight /= np.maximum(np.linalg.norm(sight, axis=1, keepdims=True), 1e-300)
    cosine = (normals * sight).sum(1)
    turned = np.where(cosine[:, None] < 0, -normals, normals)
    grazing = np.abs(cosine) < _GRAZING
    if grazing.any():
        pieces, part = _consistent(graph, normals, _SMOOTH)
        seen = (pieces * sight).sum(1)
        total = np.bincount(part, seen)
        sure = np.abs(total) > 3.0 * np.sqrt(np.bincount(part, seen * seen))
        replaced = grazing & sure[part]
        side = np.where(total < 0, -1.0, 1.0)[part]
        turned[replaced] = (pieces * side[:, None])[replaced]
    return turned, np.abs(cosine)


def by_cameras(graph: Graph, normals: Any, cameras: Any) -> tuple[Any, Any]:
    """Connected parts made consistent, then each turned to the cameras nearest to its points.

    A near camera need not have seen a point, but most of a part's points are seen from near
    by, so the parts' sums of votes decide.

    Returns:
        Normals [n, 3], and |mean vote| of each point's part [n], in [0, 1].
    """
    turned, part = _consistent(graph, normals)
    count = min(_CAMERAS, len(cameras))
    _, near = cKDTree(cameras).query(graph.points, k=range(1, count + 1))
    sight = cameras[near] - graph.points[:, None]  # [n, 4, 3]
    sight /= np.maximum(np.linalg.norm(sight, axis=2, keepdims=True), 1e-300)
    votes = np.einsum("nck,nk->n", sight, turned) / count
    total = np.bincount(part, votes)
    share = np.abs(total) / np.maximum(np.bincount(part, np.abs(votes)), 1e-300)
    return turned * np.where(total < 0, -1.0, 1.0)[part][:, None], share[part]


def vouched(graph: Graph, normals: Any, witness: Any) -> float:
    """How far `witness` has one side on each smooth piece, in [0, 1]; by chance about zero.

    A piece of one point agrees with itself and says nothing.
    """
    votes, part = _votes(graph, normals, witness, _SMOOTH)[1:]
    total = np.abs(np.bincount(part, votes))
    size = np.bincount(part, np.abs(votes))
    chance = np.sqrt(np.bincount(part, votes * votes))
    return max(float((total - chance).sum()) / max(float((size - chance).sum()), 1e-300), 0.0)


def by_witness(graph: Graph, normals: Any, witness: Any) -> tuple[Any, Any]:
    """Smooth pieces made consistent, then each turned to the side that most of it has in
    `witness`; a piece that is of two minds is left as single points.

    Args:
        witness: unit vectors [n, 3] of the right side, roughly normals.

    Returns:
        Normals [n, 3], and how far the votes agreed on each point's piece [n], in [0, 1].
    """
    pieces, votes, part = _votes(graph, normals, witness, _SMOOTH)
    total, size = np.bincount(part, votes), np.bincount(part, np.abs(votes))
    sure = (np.abs(total) / np.maximum(size, 1e-300))[part]
    enough = _SURE + _CHANCE / np.sqrt(np.bincount(part))
    side = np.where(np.where(sure < enough[part], votes, total[part]) < 0, -1.0, 1.0)
    return pieces * side[:, None], sure


def by_propagation(graph: Graph, normals: Any, witness: Any = None) -> tuple[Any, Any]:
    """Connected parts made consistent, and each turned so that its volume is positive.

    Where `witness` knows a closed part's side, it is asked: a cavity faces inward. A part that
    is open and too flat to hold a volume faces away from the middle of the whole cloud; if
    that says nothing either (terrain), along the positive axis nearest to its mean normal.

    Returns:
        Normals [n, 3], and how far that decided each point's part [n], in [0, 1].
    """
    turned, part = _consistent(graph, normals)
    area = graph.spacing**2
    weight = np.maximum(np.bincount(part, area), 1e-300)

    def mean(values: Any) -> Any:
        columns = [np.bincount(part, area * column) / weight for column in values.T]
        return np.stack(columns, axis=1)

    centre = mean(graph.points)
    volume = _volumes(graph, turned, part, area, centre[part])
    # The normals of a closed part cancel, so a thin plate is told from an open sheet.
    facing = mean(turned)
    doubt = _OPEN * np.linalg.norm(facing, axis=1)
    flat = np.abs(volume) < doubt
    outward = _volumes(
        graph, turned, part, area, (area @ graph.points) / max(area.sum(), 1e-300)
    )
    side = np.where(flat, outward, volume)
    axis = np.abs(facing).argmax(1)
    lost = flat & (np.abs(side) < _ROUND)
    side = np.where(lost, facing[np.arange(len(facing)), axis], side)
    sure = np.where(flat, 0.5, np.minimum(np.abs(volume) / np.maximum(2 * doubt, 1e-300), 1.0))
    if witness is not None:
        votes = (turned * witness).sum(1)
        total, size = np.bincount(part, votes), np.bincount(part, np.abs(votes))
        enough = _SURE + _CHANCE / np.sqrt(np.bincount(part))
        known = ~flat & (np.abs(total) > enough * size)
        side = np.where(known, total, side)
    if flat.any():
        _log.info("%d of %d parts are flat: their side is a guess", int(flat.sum()), len(flat))
    return turned * np.where(side < 0, -1.0, 1.0)[part][:, None], sure[part]


def agreed(graph: Graph, normals: Any) -> Any:
    """How far each normal has the side of its neighbours' [n], in [0, 1]."""
    share = np.empty(len(normals))
    flat = np.ascontiguousarray(normals).reshape(-1)
    index, width = graph.index.reshape(-1), graph.index.shape[1]
    parallel_for(
        agreement, [(flat, index, width, share, *span) for span in chunks(len(share), _PART)]
    )
    return share


def _volumes(graph: Graph, normals: Any, part: Any, area: Any, centre: Any) -> Any:
    """Each part's volume about `centre`, over what a sphere of its reach would have."""
    ray = graph.points - centre
    flux = np.bincount(part, area * (ray * normals).sum(1))
    reach = np.bincount(part, area * np.linalg.norm(ray, axis=1))
    return flux / np.maximum(reach, 1e-300)


def _votes(graph: Graph, normals: Any, witness: Any, most: float) -> tuple[Any, Any, Any]:
    """Consistent pieces [n, 3], each point's vote on its piece's side, the pieces' numbers."""
    pieces, part = _consistent(graph, normals, most)
    return pieces, (pieces * witness).sum(1), part


def _consistent(graph: Graph, normals: Any, most: float = 2.0) -> tuple[Any, Any]:
    """Normals with one side within each connected part, and the parts' numbers [n].

    Neighbours that are unsure of each other's side by more than `most` are not connected.
    """
    count, width = graph.index.shape
    cost, flip = np.empty(count * width, np.uint16), np.empty(count * width, np.uint8)
    points, flat = graph.points.reshape(-1), np.ascontiguousarray(normals).reshape(-1)
    index = graph.index.reshape(-1)
    parallel_for(
        costs,
        [(points, flat, index, width, cost, flip, *span) for span in chunks(count, _PART)],
    )
    cost[cost > 32000 * most] = 65535
    root, sign = np.empty(count, np.int32), np.empty(count, np.int8)
    spanning_signs(index, width, cost, flip, root, sign)
    return normals * sign[:, None], np.unique(root, return_inverse=True)[1]
