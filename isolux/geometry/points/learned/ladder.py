"""Clouds made ready to train on, and their levels fitted with a network.

It follows `fit_hierarchy`, level by level, with the levels detached from each other. Letters:
n points, c cells, s samples, m rows, q queries.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isolux.geometry.points.assembly import field_at
from isolux.geometry.points.cloud import Frame, PointCloud
from isolux.geometry.points.density import target_points, voxel_size_for
from isolux.geometry.points.extraction import Level
from isolux.geometry.points.hierarchy import fit_hierarchy
from isolux.geometry.points.hierarchy_options import HierarchyOptions
from isolux.geometry.points.learned.adjoint import Band, evaluated, fitted
from isolux.geometry.points.learned.clouds import Scan, queries
from isolux.geometry.points.learned.correction import corrected
from isolux.geometry.points.learned.features import features_of
from isolux.geometry.points.learned.lookup import neighbours_of
from isolux.geometry.points.learned.network import Network, cells_of
from isolux.geometry.points.octree import Samples, dilated, first_samples, prolonged
from isolux.geometry.points.weights import RIDGE, Weights, WeightSearch

__all__ = ["Errors", "Prepared", "climbed", "prepared", "training_bands"]

_SEARCHED = 3
_WORSE, _EXACT = 0.1, -20.0  # as `fit_hierarchy` has them
_UNUSUAL = 6.0
_QUERIES = 6000  # a level


@dataclass(frozen=True)
class Prepared:
    """A cloud with its coarsest level, the weights of the others, and what is asked of them."""

    local: Any  # float64 [n, 3], in finest cells
    normals: Any  # float32 [n, 3]
    top: Level
    weights: dict[int, Weights]  # of the levels below the coarsest that are used
    queries: dict[int, tuple[Any, Any, Any]]  # places in the level's cells, distances, normals


@dataclass(frozen=True)
class Errors:
    """A level's mean errors at its queries: distances in cells, and of gradients."""

    value: Tensor
    slope: Tensor


def prepared(
    scan: Scan, fuller: tuple[float, float], rng: np.random.Generator
) -> Prepared | None:
    """Fit the coarsest level and choose the weights; None when there is only one level.

    Args:
        scan: the cloud.
        fuller: least and most of the points in a finest cell, over what is usual.
        rng: draws the cells' size and the queries.
    """
    xyz = scan.xyz
    low, extent = xyz.min(0), float(np.ptp(xyz, axis=0).max())
    wanted = target_points(len(xyz)) * float(np.exp(rng.uniform(*np.log(fuller))))
    size = voxel_size_for(xyz - low, extent, wanted)
    plain = HierarchyOptions(voxel_size=size, value_weight=1.0, smoothness=1e-2, learned="off")
    cloud = PointCloud(torch.from_numpy(xyz), torch.from_numpy(scan.normals))
    field = fit_hierarchy(cloud, plain)
    frame: Frame = field.frame
    local = frame.local(cloud.xyz).numpy()
    level, top = field.levels[-1], len(field.levels) - 1
    if top < 1:
        return None
    points = local, scan.normals, np.ones(len(local), np.float32)
    pyramid = _pyramid(points, top)
    search = WeightSearch(points, pyramid[0].cells, (True, True), plain.solver_tol)
    chosen: dict[int, Weights] = {}
    weights, score, coarser = Weights(), np.inf, level
    for number in range(top - 1, -1, -1):
        if number < _SEARCHED and search.able:
            begin = [weights, weights.finer((True, True))] if score < np.inf else [weights]
            weights, found = search.best(number, pyramid[number], coarser, begin)
            if number == 0 and found > max(score + _WORSE, _EXACT):
                break
            score = found
        chosen[number] = weights
        coarser = _fit_plain(pyramid[number], number, coarser, weights)
    asked = {}
    for number in chosen:
        places, away, normals = queries(scan, size * 2**number, _QUERIES, rng)
        cells = frame.local(torch.from_numpy(places)).numpy() / 2**number
        asked[number] = cells, away / (size * 2**number), normals
    return Prepared(local, scan.normals, level, chosen, asked)


def _pyramid(points: tuple[Any, Any, Any], top: int) -> list[Samples]:
    pyramid = [first_samples(*points)]
    for _ in range(top):
        pyramid.append(pyramid[-1].coarser())
    return pyramid


def _band(samples: Samples, number: int, coarser: Level) -> tuple[Band, Any]:
    """The band, and the masses of its samples."""
    rows = dilated(samples.cells)
    before = prolonged(rows, coarser.rows, coarser.coefficient)
    extra = np.full(len(rows), RIDGE, np.float32)
    band = Band(rows, samples, extra, before / np.float32(2.0**number))
    mass = samples.weight * np.float32(len(samples.cells) / samples.weight.sum())
    return band, mass


def _trust(value: Any, slope: Any, normal: Any) -> Any:
    usual = max(1.0, _UNUSUAL * float(np.median(np.abs(value))))
    return 1 / (1 + (value / np.float32(usual)) ** 2) ** 2


def _fit_plain(samples: Samples, number: int, coarser: Level, weights: Weights) -> Level:
    band, mass = _band(samples, number, coarser)
    value, slope = field_at(band.rows, band.start, samples)
    normal = samples.normal.reshape(-1, 3)
    mass *= _trust(value, slope, normal)
    given = torch.from_numpy(mass)
    coefficient = fitted(
        *(band, weights.value * given, weights.normal * given),
        *(torch.from_numpy(normal), torch.zeros(len(mass))),
        torch.full((len(band.rows),), weights.smoothness),
    ).numpy()
    return _level(band, coefficient, number)


def _level(band: Band, coefficient: Any, number: int) -> Level:
    size = np.float32(2.0**number)
    return Level(band.rows, coefficient * size, (coefficient - band.start) * size)


def training_bands(given: Prepared) -> list[Samples]:
    """The samples of the levels down to the finest that is used."""
    ones = np.ones(len(given.local), np.float32)
    return _pyramid((given.local, given.normals, ones), max(given.weights))


def climbed(
    given: Prepared,
    network: Network | None,
    told: Callable[[int, Errors], None],
    motion: tuple[Any, Any] | None = None,
    change: Callable[[Weights], Weights] = lambda weights: weights,
) -> None:
    """Fit the levels from coarse to fine, and tell the errors of each.

    Args:
        given: the cloud.
        network: None fits without.
        told: is given a level's number and its errors, which have gradients.
        motion: that the network sees the cloud moved by.
        change: of the weights.
    """
    pyramid, coarser = training_bands(given), given.top
    for number in sorted(given.weights, reverse=True):
        samples, weights = pyramid[number], change(given.weights[number])
        band, mass = _band(samples, number, coarser)
        value, slope = field_at(band.rows, band.start, samples)
        normal = samples.normal.reshape(-1, 3)
        mass = mass * _trust(value, slope, normal)
        plain = torch.from_numpy(mass)
        if network is None:
            parts = (
                *(weights.value * plain, weights.normal * plain, torch.from_numpy(normal)),
                torch.zeros(len(mass)),
                torch.full((len(band.rows),), weights.smoothness),
            )
        else:
            features = features_of(samples, value, slope, mass, weights)
            out = network(features, cells_of(samples.cells), motion)
            cell = np.repeat(np.arange(len(samples.cells)), np.diff(samples.first))
            c = corrected(out, cell, np.clip(value, -4, 4), np.clip(slope, -4, 4), normal)
            near = neighbours_of(band.rows, samples.cells).reshape(-1, 27).astype(np.int64)
            smooth = torch.exp(_mean_near(c.smoothness, torch.from_numpy(near)))
            parts = (
                *(weights.value * plain * c.value, weights.normal * plain * c.slope),
                *(c.normal, c.target, weights.smoothness * smooth),
            )
        coefficient = fitted(band, *parts)
        told(number, _errors(band, coefficient, given.queries[number]))
        coarser = _level(band, coefficient.detach().numpy(), number)


def _mean_near(x: Tensor, near: Tensor) -> Tensor:
    """`kernels.spread_mean` with a gradient."""
    there = near >= 0
    total = (x[near.clamp_min(0)] * there).sum(1)
    return total / there.sum(1).clamp_min(1)


def _errors(band: Band, coefficient: Tensor, asked: tuple[Any, Any, Any]) -> Errors:
    places, away, normals = asked
    row = np.arange(len(places))
    packed = np.concatenate([away[:, None], normals], 1).astype(np.float32)
    found = first_samples(places, packed[:, 1:], (row + 1).astype(np.float32), average=False)
    order = found.weight.astype(np.int64) - 1  # which query each sample is
    whole = (neighbours_of(found.cells, band.rows).reshape(-1, 27) >= 0).all(1)
    inside = np.repeat(whole, np.diff(found.first))
    value, slope = evaluated(band.rows, coefficient, found)
    keep = torch.from_numpy(np.flatnonzero(inside))
    truth = torch.from_numpy(packed[order])
    off = (value - truth[:, 0])[keep].abs()
    turned = (slope - truth[:, 1:])[keep].square().sum(-1).add(1e-8).sqrt()
    if len(keep) == 0:
        return Errors(0 * coefficient.sum(), 0 * coefficient.sum())
    return Errors(off.mean(), turned.mean())
