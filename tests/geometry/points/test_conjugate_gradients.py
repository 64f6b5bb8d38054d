"""The solver against a direct one: its tolerance, its limit of steps, and hopeless input."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from spline_levels import dense, sphere

from isolux.geometry.points.assembly import System, assemble
from isolux.geometry.points.conjugate_gradients import solve
from isolux.geometry.points.octree import dilated, first_samples


def system(ridge: float = 1e-2, pull: float = 1.0) -> System:
    """The equations of points on a small sphere, their right side times `pull`."""
    place, normal = sphere(80, 1.6, 5.7)
    samples = first_samples(place, normal * np.float32(pull), np.ones(80, np.float32))
    rows = dilated(samples.cells)
    weight = np.ones(len(samples), np.float32)
    extra = np.full(len(rows), ridge, np.float32)
    return assemble(rows, samples, weight, weight, 0.1, extra, np.zeros_like(extra))


def plain(diagonal: Any, wanted: Any) -> System:
    """A diagonal matrix."""
    samples = first_samples(np.full((1, 3), 5.5), np.zeros((1, 3), np.float32), np.ones(1, "f"))
    rows = dilated(samples.cells)
    nothing = np.zeros(1, np.float32)
    return assemble(rows, samples, nothing, nothing, 0.0, diagonal, wanted)


def relative_residual(equations: System, x: Any) -> float:
    """Against the right side. The solver's own metric is another one, but not by much."""
    off = equations.right - dense(equations) @ x
    return float(np.linalg.norm(off) / np.linalg.norm(equations.right))


def zeros(equations: System) -> Any:
    return np.zeros(len(equations), np.float32)


def test_the_solution_is_the_direct_solver_s() -> None:
    equations = system()
    x, steps, left = solve(equations, zeros(equations), 1e-6, 2000)
    expected = np.linalg.solve(dense(equations), equations.right.astype(float))
    np.testing.assert_allclose(x, expected, atol=1e-4 * np.abs(expected).max())
    assert 0 < steps < len(equations)
    assert left <= 1e-6


def test_any_start_leads_there_and_is_left_alone() -> None:
    equations = system()
    expected, _, _ = solve(equations, zeros(equations), 1e-6, 2000)
    start = np.random.default_rng(0).normal(size=len(equations)).astype(np.float32)
    kept = start.copy()
    x, _, _ = solve(equations, start, 1e-6, 2000)
    np.testing.assert_allclose(x, expected, atol=2e-4 * np.abs(expected).max())
    assert np.array_equal(start, kept)


def test_the_tolerance_is_met_and_not_much_surpassed() -> None:
    equations, taken = system(), []
    for tolerance in (1e-1, 1e-2, 1e-3, 1e-4):
        x, steps, left = solve(equations, zeros(equations), tolerance, 2000)
        assert left <= tolerance
        assert relative_residual(equations, x) < 3 * tolerance
        before, one_less, much = solve(equations, zeros(equations), tolerance, steps - 1)
        assert one_less == steps - 1
        assert much > max(left, 0.4 * tolerance)  # it stops as soon as it may
        assert not np.array_equal(before, x)
        taken.append(steps)
    assert taken == sorted(set(taken))


def test_the_limit_of_steps_is_kept() -> None:
    equations = system()
    for most in (1, 2, 7):
        x, steps, left = solve(equations, zeros(equations), 1e-9, most)
        assert steps == most
        assert left / 3 < relative_residual(equations, x) < 3 * left


def test_no_steps_leave_the_start() -> None:
    equations = system()
    start = np.random.default_rng(1).normal(size=len(equations)).astype(np.float32)
    x, steps, left = solve(equations, start, 1e-3, 0)
    assert np.array_equal(x, start)
    assert steps == 0
    assert left / 3 < relative_residual(equations, start) < 3 * left


def test_a_solution_needs_no_steps() -> None:
    equations = system()
    x, _, _ = solve(equations, zeros(equations), 1e-6, 2000)
    again, steps, _ = solve(equations, x, 1e-5, 2000)
    assert steps == 0
    assert np.array_equal(again, x)


def test_a_diagonal_matrix_takes_one_step() -> None:
    draw = np.random.default_rng(2)
    diagonal, wanted = draw.uniform(0.1, 1e3, 27), draw.normal(size=27)
    equations = plain(diagonal.astype(np.float32), wanted.astype(np.float32))
    x, steps, _ = solve(equations, zeros(equations), 1e-5, 50)
    assert steps == 1
    np.testing.assert_allclose(x, wanted, rtol=1e-5)


def test_nothing_on_the_right_gives_nothing() -> None:
    equations = system(pull=0.0)
    x, steps, left = solve(equations, zeros(equations), 1e-3, 100)
    assert not x.any()
    assert (steps, left) == (0, 0.0)
    start = np.ones(len(equations), np.float32)
    x, steps, _ = solve(equations, start, 1e-3, 300)
    assert steps <= 300
    np.testing.assert_allclose(x, 0, atol=1e-4)


def test_steps_end_where_rounding_eats_them() -> None:
    """No tolerance can be met that single precision does not reach; what is left is finite."""
    equations = system(1e-5)
    x, steps, left = solve(equations, zeros(equations), 0.0, 3000)
    assert steps <= 3000
    assert np.isfinite(x).all()
    assert relative_residual(equations, x) < 1e-3
    assert np.isfinite(left)


@pytest.mark.parametrize("where", ["start", "right", "diagonal"])
def test_what_is_not_a_number_is_not_called_solved(where: str) -> None:
    equations = system()
    start = zeros(equations)
    bad = (start if where == "start" else getattr(equations, where)).copy()
    bad[5] = np.nan
    if where == "start":
        start = bad
    else:
        equations = replace(equations, **{where: bad})
    kept = start.copy()
    x, steps, left = solve(equations, start, 1e-3, 100)
    assert steps == 0
    assert np.array_equal(x, kept, equal_nan=True)  # nothing was spread
    assert not left <= 1e-3
