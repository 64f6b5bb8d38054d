"""Sparse levels: sorted keys, sums that coarser levels keep, exact refinement."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spline_levels import (
    basis,
    box_keys,
    cells_at,
    evaluated,
    keys,
    sample_places,
    sphere,
    whole_numbers,
)

from isolux.geometry.points.octree import (
    Samples,
    children,
    dilated,
    first_samples,
    prolonged,
    subset,
    united,
)
from isolux.geometry.points.octree_kernels import seek


def cloud(count: int = 600, seed: int = 0) -> tuple[Any, Any, Any]:
    """Points about a small sphere, several to a cell, with weights that differ."""
    place, normal = sphere(count, 3.0, 8.3, seed)
    weight = np.random.default_rng(seed + 1).uniform(0.5, 2.0, count).astype(np.float32)
    return place, normal, weight


def scattered(count: int, seed: int) -> Any:
    """Keys of random cells away from the border of what a key can hold."""
    return keys(np.random.default_rng(seed).integers(3, 12, (count, 3)))


def check_order(samples: Samples) -> None:
    """Keys rise, and the cells' ranges cover the samples."""
    assert (np.diff(samples.key) > 0).all()
    assert np.array_equal(samples.cells, np.unique(samples.key >> 3))
    counts = np.diff(samples.first)
    assert np.array_equal(np.repeat(samples.cells, counts), samples.key >> 3)
    eighth = samples.key[:, None] >> np.array([2, 1, 0]) & 1
    part = samples.fraction.reshape(-1, 3)
    assert (np.abs(part - 0.25 - 0.5 * eighth) <= 0.25 + 1e-6).all()


def test_keys_are_sorted_and_no_two_are_equal() -> None:
    samples = first_samples(*cloud())
    for _ in range(4):
        check_order(samples)
        samples = samples.coarser()
    assert len(samples) <= 8  # the whole sphere has come into few cells


def test_samples_are_the_means_of_the_points_in_an_eighth() -> None:
    place, normal, weight = cloud()
    samples = first_samples(place, normal, weight)
    half = np.floor(2 * place).astype(int)
    eighths = np.unique(half, axis=0)
    assert len(samples) == len(eighths)
    found = {
        tuple(np.floor(2 * p).astype(int)): i for i, p in enumerate(sample_places(samples))
    }
    for eighth in eighths:
        inside = (half == eighth).all(1)
        at, w = found[tuple(eighth)], weight[inside, None].astype(np.float64)
        assert samples.weight[at] == pytest.approx(w.sum(), rel=1e-6)
        mean = (w * place[inside]).sum(0) / w.sum()
        np.testing.assert_allclose(sample_places(samples)[at], mean, atol=1e-6)
        mean = (w * normal[inside]).sum(0) / w.sum()
        np.testing.assert_allclose(samples.normal.reshape(-1, 3)[at], mean, atol=1e-6)


def test_coarser_samples_keep_sums() -> None:
    place, normal, weight = cloud()
    samples, w = first_samples(place, normal, weight), weight[:, None].astype(np.float64)
    for level in range(4):
        mass = samples.weight[:, None].astype(np.float64)
        assert mass.sum() == pytest.approx(w.sum(), rel=1e-6)
        there = 2.0**level * sample_places(samples)
        np.testing.assert_allclose((mass * there).sum(0), (w * place).sum(0), rtol=1e-6)
        turned = (mass * samples.normal.reshape(-1, 3)).sum(0)
        np.testing.assert_allclose(turned, (w * normal).sum(0), atol=1e-4)
        samples = samples.coarser()


def test_coarser_samples_are_those_of_larger_cells() -> None:
    place, normal, weight = cloud()
    up, fresh = (
        first_samples(place, normal, weight).coarser(),
        first_samples(place / 2, normal, weight),
    )
    assert np.array_equal(up.key, fresh.key)
    assert np.array_equal(up.first, fresh.first)
    np.testing.assert_allclose(up.weight, fresh.weight, rtol=1e-6)
    np.testing.assert_allclose(up.fraction, fresh.fraction, atol=1e-6)
    np.testing.assert_allclose(up.normal, fresh.normal, atol=1e-6)


def test_the_order_of_points_does_not_matter() -> None:
    parts = cloud()
    order = np.random.default_rng(3).permutation(len(parts[0]))
    one, two = first_samples(*parts), first_samples(*(part[order] for part in parts))
    assert np.array_equal(one.key, two.key)
    np.testing.assert_allclose(one.fraction, two.fraction, atol=1e-6)
    np.testing.assert_allclose(one.weight, two.weight, rtol=1e-6)


def test_points_stay_single_on_request() -> None:
    place, normal, weight = cloud()
    samples = first_samples(place, normal, weight, average=False)
    assert len(samples) == len(place)
    assert np.array_equal(samples.cells, first_samples(place, normal, weight).cells)
    there = sample_places(samples)
    order, other = np.lexsort(there.T), np.lexsort(place.T)
    np.testing.assert_allclose(there[order], place[other], atol=1e-6)
    turned = samples.normal.reshape(-1, 3)
    np.testing.assert_allclose(turned, (there - 8.3) / 3.0, atol=1e-6)


def test_no_points_make_no_samples() -> None:
    none = np.empty((0, 3))
    samples = first_samples(none, none.astype(np.float32), np.empty(0, np.float32))
    assert len(samples) == len(samples.coarser()) == len(dilated(samples.cells)) == 0


@pytest.mark.parametrize("times", [0, 1, 2])
def test_dilation_adds_all_neighbours(times: int) -> None:
    cells = scattered(15, 0)
    steps = np.array(list(product(range(-times, times + 1), repeat=3)))
    brute = keys((cells_at(cells)[:, None] + steps).reshape(-1, 3))
    assert np.array_equal(dilated(cells, times), brute)


def test_children_fill_their_cells() -> None:
    cells = scattered(40, 1)
    down = children(cells)
    assert (np.diff(down) > 0).all()
    assert len(down) == 8 * len(cells)
    assert np.array_equal(keys(cells_at(down) // 2), cells)


def test_unions_are_sorted_and_hold_both() -> None:
    one, two = scattered(60, 2), scattered(60, 3)
    assert np.array_equal(united(one, two), np.union1d(one, two))
    assert np.array_equal(united(one, one[:0]), one)
    assert np.array_equal(united(one[:0], two), two)


@settings(deadline=None)  # the first call may compile
@given(st.lists(st.integers(0, 60), unique=True), st.integers(-2, 62), st.data())
def test_a_search_may_start_anywhere(
    found: list[int], target: int, data: st.DataObject
) -> None:
    ranked = np.array(sorted(found), np.int64)
    near = data.draw(st.integers(0, len(ranked)))
    assert seek(ranked, target, near) == np.searchsorted(ranked, target)


def test_splines_are_a_partition_of_unity() -> None:
    points = np.random.default_rng(4).uniform(3, 5, (100, 3))
    value, slope = basis(points, box_keys((8, 8, 8)))
    np.testing.assert_allclose(value.sum(1), 1.0, atol=1e-14)
    np.testing.assert_allclose(slope.sum(1), 0.0, atol=1e-14)


def test_refined_coefficients_give_the_same_function() -> None:
    """Each spline is a sum of finer ones, so that nothing is lost, not even at the rim."""
    cells = scattered(25, 5)
    coarse, fine = dilated(cells), dilated(children(cells))
    coefficient = whole_numbers(len(coarse), 6)
    refined = prolonged(fine, coarse, coefficient)
    draw = np.random.default_rng(7)
    points = cells_at(cells)[draw.integers(0, len(cells), 300)] + draw.uniform(size=(300, 3))
    value, slope = evaluated(points, coarse, coefficient)
    there, steep = evaluated(2 * points, fine, refined)
    np.testing.assert_allclose(there, value, atol=1e-11)
    np.testing.assert_allclose(2 * steep, slope, atol=1e-11)


def test_refinement_leaves_constants_alone_where_cells_lack() -> None:
    cells = scattered(20, 8)
    refined = prolonged(children(cells), cells, np.full(len(cells), 3.0, np.float32))
    assert (refined == 3.0).all()


def test_blocks_are_taken_whole_and_by_place_alone() -> None:
    place = np.random.default_rng(9).uniform(0, 200, (4000, 3))
    cells = first_samples(place, *cloud(4000)[1:]).cells
    chosen = subset(place, cells, 4, len(cells) // 3)
    assert (np.diff(chosen) > 0).all()
    assert 0.2 < len(chosen) / len(place) < 0.5
    block = keys(place[chosen] // 16)
    rest = np.delete(place, chosen, 0)
    assert not np.isin(keys(rest // 16), block).any()
    order = np.random.default_rng(10).permutation(len(place))
    again = subset(place[order], cells, 4, len(cells) // 3)
    assert np.array_equal(np.sort(order[again]), chosen)
    assert len(subset(place, cells, 4, 10 * len(cells))) == len(place)
