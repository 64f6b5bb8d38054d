"""Gradients through a level's fit, against differences and laws."""

from typing import Any

import numpy as np
import pytest
import torch

from isolux.geometry.points.assembly import System, field_at
from isolux.geometry.points.learned import adjoint
from isolux.geometry.points.learned.adjoint import Band, evaluated, fitted
from isolux.geometry.points.octree import Samples, dilated, first_samples

LINE, PLANE = 1 << 20, 1 << 40


def some_samples(count: int, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(count, 3)).astype(np.float32)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    place = 4 + rng.random((count, 3)) * (2.5, 1.5, 1.0)
    return first_samples(place, normal, np.ones(count, np.float32), average=False)


def some_band(count: int = 12) -> Band:
    samples = some_samples(count)
    rows = dilated(samples.cells)
    rng = np.random.default_rng(1)
    start = rng.normal(size=len(rows)).astype(np.float32)
    return Band(rows, samples, np.full(len(rows), 0.1, np.float32), start)


def matrices(band: Band) -> tuple[Any, Any, Any]:
    """What takes coefficients to values, gradients and second differences, float64, dense."""
    columns = [field_at(band.rows, unit, band.samples) for unit in np.eye(len(band.rows))]
    value = np.stack([c[0] for c in columns], -1)
    slope = np.stack([c[1] for c in columns], -1)
    at = {int(key): i for i, key in enumerate(band.rows)}
    bends, middles = [], []
    for key, i in at.items():
        for step in (1, LINE, PLANE):
            if key - step in at and key + step in at:
                bend = np.zeros(len(band.rows))
                bend[[at[key - step], i, at[key + step]]] = 1, -2, 1
                bends.append(bend)
                middles.append(i)
    return value, slope, (np.array(bends), np.array(middles))


@pytest.fixture
def dense(monkeypatch: pytest.MonkeyPatch) -> Band:
    """A band whose equations are made and solved in double precision."""
    band = some_band()
    value, slope, (bends, middles) = matrices(band)

    def assemble(
        rows: Any, samples: Samples, wv: Any, wg: Any, smooth: Any, extra: Any, start: Any,
        target: Any,
    ) -> System:  # fmt: skip
        matrix = value.T @ (wv[:, None] * value) + np.diag(extra.astype(np.float64))
        matrix += np.einsum("sai,s,saj->ij", slope, wg, slope)
        matrix += bends.T @ (smooth[middles, None] * bends)
        normal = samples.normal.reshape(-1, 3)
        right = value.T @ (wv * target) + np.einsum("sai,s,sa->i", slope, wg, normal)
        return System([], [], matrix, right + extra * start)

    def solve(system: System, start: Any, tolerance: float, steps: int) -> Any:
        return np.linalg.solve(system.diagonal, system.right), 0, 0.0

    monkeypatch.setattr(adjoint, "assemble", assemble)
    monkeypatch.setattr(adjoint, "solve", solve)
    return band


def given(band: Band, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(3)
    count, rows = len(band.samples), len(band.rows)
    normal = torch.from_numpy(band.samples.normal.reshape(-1, 3)).to(dtype)
    parts = [
        0.5 + torch.rand(count, generator=draw, dtype=dtype),
        0.5 + torch.rand(count, generator=draw, dtype=dtype),
        normal + 0.1 * torch.randn(count, 3, generator=draw, dtype=dtype),
        0.3 * torch.randn(count, generator=draw, dtype=dtype),
        0.1 + torch.rand(rows, generator=draw, dtype=dtype),
    ]
    return [part.requires_grad_() for part in parts]


@pytest.mark.parametrize(
    "which", range(5), ids=["value", "slope", "normal", "target", "smooth"]
)
def test_the_fit_has_the_gradient_of_differences(dense: Band, which: int) -> None:
    parts = [part.detach() for part in given(dense)]
    parts[which].requires_grad_()

    def fit(part: torch.Tensor) -> torch.Tensor:
        return fitted(dense, *parts[:which], part, *parts[which + 1 :])

    assert torch.autograd.gradcheck(fit, (parts[which],))


def test_values_have_the_gradient_of_differences() -> None:
    band, other = some_band(), some_samples(9, seed=5)
    start = torch.from_numpy(band.start).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda a: evaluated(band.rows, a, other), (start,))


def test_the_sparse_fit_is_the_dense_one(dense: Band, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = fitted(dense, *given(dense))
    monkeypatch.undo()
    band = Band(dense.rows, dense.samples, dense.extra, dense.start, 1e-7, 2000)
    found = fitted(band, *(part.detach().float() for part in given(dense)))
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_the_sparse_gradient_is_the_dense_one(
    dense: Band, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = given(dense)
    push = torch.linspace(-1, 1, len(dense.rows), dtype=torch.float64)
    (fitted(dense, *exact) * push).sum().backward()
    monkeypatch.undo()
    band = Band(dense.rows, dense.samples, dense.extra, dense.start, 1e-7, 2000)
    rough = [part.detach().float().requires_grad_() for part in exact]
    (fitted(band, *rough) * push.float()).sum().backward()
    for mine, theirs in zip(rough, exact, strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=1e-3, atol=1e-4)
