"""The normal equations against rows of basis values and gradients written out densely."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from spline_levels import basis, cells_at, dense, evaluated, sample_places, sphere

from isolux.backends.cpu.pool import set_threads
from isolux.geometry.points.assembly import System, assemble, field_at
from isolux.geometry.points.conjugate_gradients import solve
from isolux.geometry.points.octree import LINE, PLANE, Samples, dilated, first_samples


class Problem(NamedTuple):
    """What `assemble` takes."""

    rows: Any
    samples: Samples
    value_weight: Any
    slope_weight: Any
    smoothness: float
    extra: Any
    wanted: Any


def problem(count: int = 60, radius: float = 1.6, seed: int = 0) -> Problem:
    """Points on a sphere of a few cells; each weight is another number."""
    draw = np.random.default_rng(seed)
    place, normal = sphere(count, radius, radius + 4.2, seed)
    samples = first_samples(place, normal, np.ones(count, np.float32))
    rows = dilated(samples.cells)

    def numbers(low: float, high: float, size: int) -> Any:
        return draw.uniform(low, high, size).astype(np.float32)

    weights = numbers(0.5, 2.0, len(samples)), numbers(0.5, 2.0, len(samples))
    extra, wanted = numbers(1e-2, 0.1, len(rows)), numbers(-1, 1, len(rows))
    return Problem(rows, samples, *weights, 0.3, extra, wanted)


def bends(rows: Any) -> Any:
    """Second differences along the axes of all triples of rows, [triples, m]."""
    place = {int(key): i for i, key in enumerate(rows)}
    lines = []
    for key, i in place.items():
        for step in (1, LINE, PLANE):
            if key - step in place and key + step in place:
                line = np.zeros(len(rows))
                line[[place[key - step], i, place[key + step]]] = 1, -2, 1
                lines.append(line)
    return np.array(lines)


def brute_force(parts: Problem) -> tuple[Any, Any]:
    """Matrix and right side."""
    value, slope = basis(sample_places(parts.samples), parts.rows)
    wv, wg = parts.value_weight.astype(float), parts.slope_weight.astype(float)
    bend = bends(parts.rows)
    matrix = value.T @ (wv[:, None] * value) + parts.smoothness * bend.T @ bend
    matrix += np.einsum("smk,s,snk->mn", slope, wg, slope, optimize=True)
    matrix += np.diag(parts.extra.astype(float))
    normal = parts.samples.normal.reshape(-1, 3)
    right = np.einsum("smk,s,sk->m", slope, wg, normal, optimize=True)
    return matrix, right + parts.extra * parts.wanted


def energy(parts: Problem, x: Any) -> float:
    """As the module states it, in float64."""
    value, slope = evaluated(sample_places(parts.samples), parts.rows, x)
    off = slope - parts.samples.normal.reshape(-1, 3)
    total = (parts.value_weight * value**2 + parts.slope_weight * (off**2).sum(-1)).sum()
    bent = parts.smoothness * ((bends(parts.rows) @ x) ** 2).sum()
    return float(total + bent + (parts.extra * (x - parts.wanted) ** 2).sum())


@pytest.mark.parametrize("seed", [0, 1])
def test_matrix_and_right_side_are_the_dense_ones(seed: int) -> None:
    parts = problem(seed=seed)
    system = assemble(*parts)
    matrix, right = brute_force(parts)
    scale = np.abs(matrix).max()
    np.testing.assert_allclose(dense(system), matrix, atol=2e-6 * scale)
    np.testing.assert_allclose(system.diagonal, matrix.diagonal(), atol=2e-6 * scale)
    np.testing.assert_allclose(system.right, right, atol=2e-6 * np.abs(right).max())


def test_the_matrix_is_symmetric_and_positive_definite() -> None:
    matrix = dense(assemble(*problem()))
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6 * np.abs(matrix).max())
    assert np.linalg.eigvalsh(matrix)[0] > 0


def test_the_solution_has_less_energy_than_its_neighbours() -> None:
    parts = problem()
    system = assemble(*parts)
    x, _, _ = solve(system, np.zeros(len(system), np.float32), 1e-6, 500)
    least, draw = energy(parts, x), np.random.default_rng(2)
    for _ in range(5):
        step = draw.normal(size=len(x)) * 0.01
        assert energy(parts, x + step) > least
        slope = (energy(parts, x + step) - energy(parts, x - step)) / 2
        assert abs(slope) < 1e-4 * np.linalg.norm(step)


def test_what_a_fit_should_find_exactly_it_finds() -> None:
    """A linear function has second differences of zero; points on its zero set agree."""
    parts = problem()
    normal = np.array([2.0, -1.0, 2.0]) / 3
    place = sample_places(parts.samples)
    flat = place - (place - 5.8) @ normal[:, None] * normal  # onto a plane
    ones = np.ones(len(flat), np.float32)
    samples = first_samples(flat, np.tile(normal.astype(np.float32), (len(flat), 1)), ones)
    rows = dilated(samples.cells)
    linear = (cells_at(rows) + 0.5 - 5.8) @ normal
    weight = np.ones(len(samples), np.float32)
    nothing = np.full(len(rows), 1e-4, np.float32)
    system = assemble(rows, samples, weight, weight, 1.0, nothing, linear.astype(np.float32))
    zeros = np.zeros(len(rows), np.float32)
    x, _, _ = solve(system, zeros, 1e-7, 2000)
    np.testing.assert_allclose(x, linear, atol=1e-3)
    value, slope = field_at(rows, x, samples)
    np.testing.assert_allclose(value, 0, atol=1e-4)
    np.testing.assert_allclose(slope, samples.normal.reshape(-1, 3), atol=1e-4)


def test_fields_at_samples_are_values_and_gradients() -> None:
    parts = problem(200)
    x = np.random.default_rng(3).normal(size=len(parts.rows)).astype(np.float32)
    wanted = evaluated(sample_places(parts.samples), parts.rows, x)
    for found, true in zip(field_at(parts.rows, x, parts.samples), wanted, strict=True):
        np.testing.assert_allclose(found, true, atol=1e-5)


def test_fields_take_coefficients_that_lack_as_zero() -> None:
    parts = problem()
    some = parts.rows[::2]
    x = np.random.default_rng(4).normal(size=len(some)).astype(np.float32)
    value, _ = evaluated(sample_places(parts.samples), some, x)
    np.testing.assert_allclose(field_at(some, x, parts.samples)[0], value, atol=1e-5)


def test_threads_do_not_change_bits() -> None:
    parts, found = problem(8000, 24.0), []
    try:
        for count in (1, 2):
            set_threads(count)
            system = assemble(*parts)
            x, steps, left = solve(system, parts.wanted, 1e-3, 20)
            found.append((system, x, steps, left, *field_at(parts.rows, x, parts.samples)))
    finally:
        set_threads(None)
    one, two = found
    assert len(one[0].ranges) > 2
    check_same(one[0], two[0])
    assert one[2:4] == two[2:4]
    for a, b in zip((one[1], *one[4:]), (two[1], *two[4:]), strict=True):
        assert np.array_equal(a, b)


def check_same(one: System, two: System) -> None:
    """All arrays of two systems."""
    assert np.array_equal(one.diagonal, two.diagonal)
    assert np.array_equal(one.right, two.right)
    for a, b in zip(one.blocks, two.blocks, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
