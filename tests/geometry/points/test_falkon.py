"""The iteration finds what a dense solver finds, with rows kept or made anew."""

import pytest
import torch
from torch import Tensor

from isolux.backends.cpu.pool import set_threads
from isolux.geometry.points.falkon import Equations, solve
from isolux.geometry.points.spline_kernels import SplineKernel

SPEC = SplineKernel("neural-spline", 0.1)


def draw(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, generator=generator, dtype=torch.float64) - 0.5


def some_equations(count: int = 400) -> Equations:
    x = draw(count)
    slopes = torch.stack([x[:, 1], x[:, 0], torch.ones(count)], 1)
    values = x[:, 0] * x[:, 1] + x[:, 2]
    return Equations(x, values, x[: count // 2], slopes[: count // 2], 0.05)


def matrix(spec: SplineKernel, given: Equations, centres: Tensor) -> tuple[Tensor, Tensor]:
    slopes = given.slope_weight * spec.slopes(given.slope_points, centres)
    whole = torch.cat([spec.matrix(given.points, centres), slopes.flatten(0, 1)])
    return whole, torch.cat([given.values, given.slope_weight * given.slopes.flatten()])


def dense(spec: SplineKernel, given: Equations, centres: Tensor, penalty: float) -> Tensor:
    k, y = matrix(spec, given, centres)
    ridge = penalty * spec.matrix(centres, centres)
    return torch.linalg.solve(k.T @ k / len(given) + ridge, k.T @ y / len(given))


@pytest.mark.parametrize("name", ["neural-spline", "spherical-laplace", "linear-angle"])
@pytest.mark.parametrize("single", [False, True])
def test_weights_are_those_of_a_dense_solver(name: str, single: bool) -> None:
    spec = SplineKernel(name, 0.1)  # type: ignore[arg-type]
    given, centres = some_equations(), draw(60, seed=1)
    found = solve(spec, given, centres, 1e-4, 1e-12, 200, single=single)
    exact = dense(spec, given, centres, 1e-4)
    at = draw(200, seed=5)
    values, wanted = (spec.matrix(at, centres) @ w for w in (found.weights, exact))
    torch.testing.assert_close(values, wanted, rtol=0, atol=1e-5 if single else 1e-9)


def test_the_gradient_of_the_objective_vanishes() -> None:
    given, centres = some_equations(), draw(60, seed=1)
    weights = solve(SPEC, given, centres, 1e-3, 1e-12, 200, single=False).weights
    k, y = matrix(SPEC, given, centres)
    slope = (
        k.T @ (k @ weights - y) / len(given) + 1e-3 * SPEC.matrix(centres, centres) @ weights
    )
    assert float(slope.abs().max()) < 1e-9


def test_rows_made_anew_give_the_same_bits() -> None:
    given, centres = some_equations(), draw(50, seed=1)
    kept = solve(SPEC, given, centres, 1e-6, memory=2**30)
    anew = solve(SPEC, given, centres, 1e-6, memory=0)
    assert (kept.cached, anew.cached) == (True, False)
    assert torch.equal(kept.weights, anew.weights)


def test_threads_do_not_change_the_bits() -> None:
    given, centres = some_equations(30_000), draw(100, seed=1)
    weights = []
    try:
        for count in (1, 2, 5):
            set_threads(count)
            weights.append(solve(SPEC, given, centres, 1e-6).weights)
    finally:
        set_threads(None)
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


def test_the_tolerance_is_relative() -> None:
    """Theirs compares with a number: in millimetres it never stops, in kilometres at once."""
    given, centres = some_equations(), draw(60, seed=1)
    steps = []
    for unit in (2.0**-20, 1.0, 2.0**20):
        scaled = Equations(
            given.points,
            unit * given.values,
            given.slope_points,
            unit * given.slopes,
            given.slope_weight,
        )
        found = solve(SPEC, scaled, centres, 1e-8, 1e-6, 200)
        assert found.residual <= 1e-6
        steps.append(found.iterations)
    assert len(set(steps)) == 1
    assert 2 < steps[0] < 80


def test_centres_that_coincide_need_a_larger_diagonal() -> None:
    given, centres = some_equations(), draw(30, seed=1).repeat(3, 1)
    found = solve(SPEC, given, centres, 1e-6, 1e-8, 200)
    assert found.jitter > 0
    at = draw(100, seed=5)
    values = SPEC.matrix(at, centres) @ found.weights
    once = solve(SPEC, given, centres[:30], 1e-6, 1e-8, 200)
    torch.testing.assert_close(
        values, SPEC.matrix(at, centres[:30]) @ once.weights, rtol=0, atol=2e-3
    )


def test_nothing_asked_is_nothing() -> None:
    x = draw(20)
    given = Equations(x, torch.zeros(20).double(), x[:0], x[:0])
    found = solve(SPEC, given, x, 1e-8)
    assert found.iterations == 0
    assert float(found.weights.abs().max()) == 0


def test_points_that_are_not_finite() -> None:
    x = draw(20)
    x[3] = float("nan")
    given = Equations(x, torch.zeros(20).double(), x[:0], x[:0])
    with pytest.raises(ArithmeticError, match="positive definite"):
        solve(SPEC, given, x, 1e-8)


def test_progress_rises_to_one() -> None:
    told: list[float] = []
    solve(SPEC, some_equations(), draw(40), 1e-8, iterations=200, progress=told.append)
    assert told == sorted(told)
    assert 0 < told[0] < told[-1] <= 1
