"""The two-level preconditioner against its formula, with dense matrices."""

from typing import Any

import numpy as np
import pytest
from spline_levels import cells_at, dense, sphere

from isolux.geometry.points.assembly import System, assemble
from isolux.geometry.points.conjugate_gradients import solve
from isolux.geometry.points.octree import dilated, first_samples
from isolux.geometry.points.two_levels import TwoLevels


def system(smoothness: float = 0.1, radius: float = 1.6) -> tuple[System, Any]:
    """The equations of points on a sphere, and their cells."""
    count = int(30 * radius**2)
    place, normal = sphere(count, radius, radius + 4.1)
    samples = first_samples(place, normal, np.ones(count, np.float32))
    rows = dilated(samples.cells)
    weight, extra = np.ones(len(samples), np.float32), np.full(len(rows), 1e-3, np.float32)
    nothing = np.zeros_like(extra)
    return assemble(rows, samples, weight, weight, smoothness, extra, nothing), rows


def prolongation(rows: Any) -> Any:
    """What splines of twice the width are, in those at the rows [m, c]."""
    fine = cells_at(rows).astype(int)
    coarse = np.unique((fine // 2)[:, None] + np.indices((3, 3, 3)).reshape(3, -1).T - 1)
    grid = np.stack(np.meshgrid(coarse, coarse, coarse, indexing="ij"), -1).reshape(-1, 3)
    away = fine[:, None] - 2 * grid[None]
    share = np.array([0.25, 0.75, 0.75, 0.25, 0.0])[np.where(abs(away - 0.5) < 2, away + 1, 4)]
    full = share.prod(-1)
    return full[:, full.any(0)]


def test_it_is_its_formula() -> None:
    equations, rows = system()
    matrix, wide = dense(equations), prolongation(rows)
    coarse = np.diag(1 / np.diag(wide.T @ matrix @ wide))
    expected = np.diag(1 / np.diag(matrix)) + wide @ coarse @ wide.T
    residual = np.random.default_rng(0).normal(size=len(rows)).astype(np.float32)
    out = np.empty_like(residual)
    product = TwoLevels(equations, rows)(residual, out)
    np.testing.assert_allclose(out, expected @ residual, rtol=1e-4, atol=1e-4 * abs(out).max())
    assert product == pytest.approx(residual @ expected @ residual, rel=1e-4)
    assert product > 0


def test_smooth_equations_take_fewer_steps_to_the_same_solution() -> None:
    equations, rows = system(10.0, 6.0)
    start = np.zeros(len(rows), np.float32)
    alone, many, _ = solve(equations, start, 1e-5, 3000)
    helped, few, left = solve(equations, start, 1e-5, 3000, rows)
    assert few < 0.6 * many
    assert left <= 1e-5
    np.testing.assert_allclose(helped, alone, atol=2e-3 * abs(alone).max())


def test_the_limit_of_steps_holds_over_both_parts() -> None:
    equations, rows = system(10.0, 6.0)
    start = np.zeros(len(rows), np.float32)
    for most in (0, 5, 20, 21, 33):
        assert solve(equations, start, 1e-9, most, rows)[1] == most
