"""Weights that predict points held out: noise makes them smoother, and given ones stay."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from spline_levels import cells_at, sphere

from isolux.geometry.points.extraction import Level
from isolux.geometry.points.learned.inference import unadjusted
from isolux.geometry.points.octree import Samples, dilated, first_samples
from isolux.geometry.points.weights import Weights, WeightSearch

MIDDLE, RADIUS = 30.3, 20.0


def cloud(noise: float, count: int = 12000) -> tuple[Any, Any, Any]:
    """Points and normals of a sphere, both off by `noise` (in cells)."""
    draw = np.random.default_rng(1)
    place, normal = sphere(count, RADIUS, MIDDLE)
    normal = normal + noise * draw.normal(size=normal.shape)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    shifted = place + noise * draw.normal(size=place.shape)
    return shifted, normal.astype(np.float32), np.ones(count, np.float32)


def chosen(
    points: tuple[Any, Any, Any], free: tuple[bool, bool], start: Weights
) -> tuple[Weights, float]:
    """The search's answer on the finest level, with the true distances above it."""
    samples = first_samples(*points)
    rows = dilated(samples.coarser().cells)
    away = np.linalg.norm(2 * (cells_at(rows) + 0.5) - MIDDLE, axis=1) - RADIUS
    above = Level(rows, away.astype(np.float32), away.astype(np.float32))
    search = WeightSearch(points, samples.cells, free, 1e-3)
    assert search.able
    return search.best(0, samples, above, [start])


def test_noise_asks_for_smoothness() -> None:
    start = Weights(smoothness=0.03)
    clean, low = chosen(cloud(0.0), (True, True), start)
    noisy, high = chosen(cloud(0.4), (True, True), start)
    assert noisy.smoothness > clean.smoothness
    assert high > low  # what is noisy is predicted worse


@pytest.mark.parametrize("free", [(False, False), (True, False), (False, True)])
def test_what_is_given_stays(free: tuple[bool, bool]) -> None:
    start = Weights(value=0.7, smoothness=0.03)
    found, _ = chosen(cloud(0.2, 4000), free, start)
    assert free[0] or found.value == start.value
    assert free[1] or found.smoothness == start.smoothness
    assert found.normal == start.normal
    finer = start.finer(free)
    assert finer.value == (start.value / 4 if free[0] else start.value)
    assert finer.smoothness == (4 * start.smoothness if free[1] else start.smoothness)


def test_points_to_judge_by_are_held_out_of_the_fit() -> None:
    points = cloud(0.1, 3000)
    search = WeightSearch(points, first_samples(*points).cells, (True, True), 1e-3)
    train, test = search.train[0], search.test[0]
    assert len(test) == pytest.approx(len(train) / 9, abs=1)
    both = np.concatenate([train, test])
    assert len(np.unique(both, axis=0)) == len(both)
    assert np.isin(both[:, 0], points[0][:, 0]).all()


def test_too_few_points_judge_nothing() -> None:
    points = cloud(0.1, 100)
    cells = first_samples(*points).cells
    assert not WeightSearch(points, cells, (True, True), 1e-3).able


@pytest.mark.parametrize("smoothness", [1e-3, 3e-3])
def test_what_adjusts_is_taken_where_it_predicts_better(smoothness: float) -> None:
    """Adjusted weights that are better than those given are marked, worse ones are not."""

    def adjust(rows: Any, start: Any, samples: Samples, mass: Any, weights: Weights) -> Any:
        return unadjusted(rows, start, samples, mass, replace(weights, smoothness=0.1))

    points = cloud(0.3, 6000)
    samples = first_samples(*points)
    rows = dilated(samples.coarser().cells)
    away = np.linalg.norm(2 * (cells_at(rows) + 0.5) - MIDDLE, axis=1) - RADIUS
    above = Level(rows, away.astype(np.float32), away.astype(np.float32))
    given = Weights(smoothness=0.1)
    for start, better in ((Weights(smoothness=smoothness), True), (given, False)):
        search = WeightSearch(points, samples.cells, (False, False), 1e-3, adjust)
        found, score = search.best(0, samples, above, [replace(start, learned=True)])
        assert found == replace(start, learned=better)
        plain = WeightSearch(points, samples.cells, (False, False), 1e-3)
        _, other = plain.best(0, samples, above, [start])
        assert score < other if better else score == other
