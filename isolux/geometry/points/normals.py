"""Normals of bare points: planes through neighbourhoods, and a common side.

Letters: n points, k neighbours.
"""

import logging
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.gauss import gauss_normals, witnesses
from isolux.geometry.points.neighbours import Neighbours, distinct
from isolux.geometry.points.noise import aligned
from isolux.geometry.points.orientation import (
    Graph,
    agreed,
    by_cameras,
    by_propagation,
    by_sensor,
    by_witness,
    vouched,
)
from isolux.geometry.points.plane_kernels import fit_sides
from isolux.geometry.points.plane_sizes import FEW, LEAST, by_noise, fitted, steadiest

__all__ = ["LOW_CONFIDENCE", "estimate_normals", "neighbours_of"]

LOW_CONFIDENCE = 0.25
"""Points under this are reported."""

_log = logging.getLogger(__name__)
_GRAPH = 12  # neighbours that a normal's side is compared with
_PART = 1 << 13  # points of a task
_NARROW = 0.2  # width over length of a neighbourhood under which it is a line, no disc
_WIDEST = 256  # neighbours that are tried for those
_SPARSE = 4000  # points of which each may ask all others
_THICK = 0.4  # thickness over width of neighbourhoods that hold more than one piece of surface
_LAYERS = 2.2  # kurtosis of their heights: 2.3 of a bent sheet or noise, 1 of two layers
_HALF = 0.4  # of the votes on the pieces' sides, by chance none
_FLAT = 0.85  # median flatness from which planes need no help
_EXACT = 1e-3  # thickness under which heights are rounding
_TRUST = 0.1  # of the witness beside the neighbours' spread


def estimate_normals(
    cloud: PointCloud,
    neighbours: int | None = None,
    *,
    cameras: Float[Tensor, "m 3"] | None = None,
    drop_grazing: bool = False,
    drop_degrees: float = 85.0,
) -> tuple[PointCloud, Float[Tensor, " n"]]:
    """The cloud with unit normals that point outward, and how far each is to be trusted.

    The side comes from the cloud's sensors where it has them, else from the cameras, else
    from the points: consistent along a minimum spanning tree of neighbours (Hoppe et al. 1992),
    each connected part by itself, its volume positive, a cavity's wall facing into the cavity.
    Up to 4000 points of a closed surface ask all others for their side (Lin et al. 2022).
    Normals that the cloud has are not used.

    Args:
        cloud: finite points; duplicates share one normal.
        neighbours: points that a plane goes through; None chooses 16 to 160, by the
            noise and the shape. Where neighbours lie on one line (a scanner's), more are taken.
        cameras: places that photographs of the surface were taken from.
        drop_grazing: leave out points that are seen at a slant of more than `drop_degrees`.
        drop_degrees: between normal and sight line, in (0, 90]; needs sensors.

    Returns:
        The cloud, and confidence in [0, 1]: how flat the neighbourhood is, times how far its
        normals agree on the side. A low one is reported in the log.

    Raises:
        ValueError: one or two points, points that are not finite, or arguments out of range.
    """
    _check(cloud, neighbours, cameras, drop_degrees)
    if not len(cloud):
        return _with(cloud, torch.zeros(0, 3)), torch.zeros(0)
    xyz = cloud.xyz.detach().double().cpu().numpy()
    once = distinct(xyz)
    first = np.arange(len(xyz)) if once is None else once[0]
    tree = Neighbours(xyz[first])
    row = first[tree.order]  # the cloud's row of each point along the curve
    normals, graph, flatness = _planes(tree, neighbours)
    witness = gauss_normals(tree) if len(first) <= _SPARSE else None
    sided = None
    if witness is not None:
        sided = _sides(tree, neighbours, float(np.median(flatness)), witness)
    if sided is not None:
        normals, graph, flatness = sided
    sight = None
    if cloud.sensor is not None:
        sensor = cloud.sensor.detach().double().cpu().numpy()[row] - tree.middle
        normals, sight = by_sensor(graph, normals, sensor)
        sure = np.minimum(sight / 0.1, 1.0)
    elif cameras is not None:
        places = cameras.detach().double().cpu().numpy() - tree.middle
        normals, sure = by_cameras(graph, normals, places)
    elif sided is not None:
        normals, sure = by_witness(graph, normals, witness)
    else:
        witness = witnesses(tree) if witness is None else witness
        normals, sure = by_propagation(graph, normals, witness)
    confidence = flatness * sure * agreed(graph, normals)
    back = np.empty(len(row), np.int64)
    back[tree.order] = np.arange(len(row))
    back = back if once is None else back[once[1]]
    out = _with(cloud, torch.from_numpy(normals[back]).float())
    trust = torch.from_numpy(confidence[back]).float()
    if drop_grazing and sight is not None:
        keep = torch.from_numpy(sight[back] >= np.cos(np.radians(drop_degrees)))
        _log.info("dropped %d points seen at over %g degrees", int((~keep).sum()), drop_degrees)
        out, trust = out[keep], trust[keep]
    _report(trust)
    return out, trust


def _check(
    cloud: PointCloud, neighbours: int | None, cameras: Tensor | None, degrees: float
) -> None:
    if neighbours is not None and not 3 <= neighbours <= 1024:
        raise ValueError(f"neighbours: need 3 to 1024, got {neighbours}")
    if not 0.0 < degrees <= 90.0:
        raise ValueError(f"drop_degrees: need more than 0 and at most 90, got {degrees}")
    if cameras is not None and not (len(cameras) and bool(cameras.isfinite().all())):
        raise ValueError("cameras: need at least one, with finite positions")
    if 0 < len(cloud) < 3:
        raise ValueError(f"normals need at least 3 points, got {len(cloud)}")
    parts = [cloud.xyz] if cloud.sensor is None else [cloud.xyz, cloud.sensor]
    bad = sum(int((~part.isfinite().all(1)).sum()) for part in parts)
    if bad:
        raise ValueError(f"{bad} points or sensors are not finite: clean the cloud first")


def _with(cloud: PointCloud, normals: Tensor) -> PointCloud:
    return PointCloud(cloud.xyz, normals.to(cloud.xyz.device), cloud.sensor, cloud.colors)


def neighbours_of(cloud: PointCloud) -> int:
    """Through how many points `estimate_normals` lays planes unless it is told; at least 3."""
    xyz = cloud.xyz.detach().double().cpu().numpy()
    once = distinct(xyz)
    return steadiest(Neighbours(xyz if once is None else xyz[once[0]]))


def _planes(tree: Neighbours, neighbours: int | None) -> tuple[Any, Graph, Any]:
    """Normals of no certain side [n, 3], the graph, and flatness [n] in [0, 1]."""
    count = len(tree.points)
    if neighbours is None:
        neighbours = steadiest(tree)
    size = min(neighbours, count)
    picks = _spread(size)
    normals, values = np.empty((count, 3)), np.empty((count, 3))
    index, spacing = np.empty((count, len(picks)), np.int32), np.empty(count)

    def part(start: int, stop: int) -> None:
        rows = np.arange(start, stop, dtype=np.int32)
        distance, near = tree.among(size, slice(start, stop))
        normals[start:stop], values[start:stop] = fitted(tree, rows, near)
        index[start:stop], spacing[start:stop] = near[:, picks], distance[:, -1]

    parallel_for(part, chunks(count, _PART))
    _widen(tree, size, normals, values)
    return normals, Graph(tree.points, index, spacing), _flatness(values)


def _flatness(values: Any) -> Any:
    """From eigenvalues [n, 3], rising: 1 for a plane, 0 for a ball, a line or a place."""
    low, middle, high = values.T
    # Where the middle one is lost in rounding too, the points are one line or one place.
    flat = 1.0 - np.sqrt(np.where(middle > 1e-18 * high, low / np.maximum(middle, 1e-300), 1.0))
    width = np.sqrt(middle / np.maximum(high, 1e-300))
    return flat * np.minimum(width / _NARROW, 1.0)


def _sides(
    tree: Neighbours, neighbours: int | None, flatness: float, witness: Any
) -> tuple[Any, Graph, Any] | None:
    """Planes through neighbours of one side, with graph and flatness; None for open sheets.

    Where points are far apart for the shape that they are of, those nearest to one lie on
    the other side of a tube or around a corner, and planes through all of them are wrong.
    """
    count, wide = len(tree.points), by_noise(tree)
    size = min(count, neighbours or min(wide, max(LEAST, count // 20)))
    distance, near = tree.among(size)
    normals, values = np.empty((count, 3)), np.empty((count, 3))
    arrays = tree.points.reshape(-1), np.ascontiguousarray(near).reshape(-1), size
    side = np.ascontiguousarray(witness).reshape(-1)
    out = normals.reshape(-1), values.reshape(-1)
    parallel_for(
        fit_sides, [(*arrays, side, _TRUST, *out, *span) for span in chunks(count, _PART)]
    )
    local, thickness = aligned(tree, np.arange(count), min(max(wide, 3 * FEW), count))
    height = local[..., 0]
    peaks = (height**4).mean(1) / np.maximum((height**2).mean(1) ** 2, 1e-300)
    graph = Graph(tree.points, near[:, _spread(min(size, LEAST))], distance[:, -1])
    closed = (
        flatness < 1.0 - _THICK
        or (thickness > _EXACT and np.median(peaks) < _LAYERS)
        or (flatness < _FLAT and vouched(graph, normals, witness) > _HALF)
    )
    return (normals, graph, _flatness(values)) if closed else None


def _spread(size: int) -> Any:
    """Which of the `size` nearest stand for all: with noise the first lie above one another."""
    return np.unique(np.linspace(min(1, size - 1), size - 1, min(_GRAPH, size)).astype(int))


def _widen(tree: Neighbours, size: int, normals: Any, values: Any) -> None:
    """Where neighbours lie on a line, the plane of more of them, in place."""
    while (size := min(4 * size, len(tree.points))) <= _WIDEST:
        rows = np.flatnonzero(values[:, 1] < _NARROW**2 * values[:, 2]).astype(np.int32)
        if not len(rows):
            return

        def part(start: int, stop: int, size: int = size, rows: Any = rows) -> None:
            some = rows[start:stop]
            fit, spread = fitted(tree, some, tree.among(size, some)[1])
            ratio = values[some, 1] / np.maximum(values[some, 2], 1e-300)
            better = spread[:, 1] > ratio * spread[:, 2]
            normals[some[better]], values[some[better]] = fit[better], spread[better]

        parallel_for(part, chunks(len(rows), _PART))
        if size == len(tree.points):
            return


def _report(confidence: Tensor) -> None:
    low = int((confidence < LOW_CONFIDENCE).sum())
    if low:
        _log.warning(
            "the normals of %d of %d points are uncertain (confidence under %g)",
            low, len(confidence), LOW_CONFIDENCE,
        )  # fmt: skip
