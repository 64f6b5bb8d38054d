"""Closed forms against what they are the expectation of, and gradients against differences."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from isolux.geometry.points.spline_kernels import (
    KernelName,
    Lifted,
    SplineKernel,
    gradient_sums,
    rows,
    value_sums,
)

NAMES: tuple[KernelName, ...] = ("neural-spline", "spherical-laplace", "linear-angle")
KERNELS = [SplineKernel(name) for name in NAMES] + [
    SplineKernel("neural-spline", variance=1.0),
    SplineKernel("neural-spline", variance=0.0),
    SplineKernel("spherical-laplace", decay=-0.8, power=0.75),
]


def points(count: int, extent: float = 1.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return extent * (torch.rand(count, 3, generator=generator, dtype=torch.float64) - 0.5)


def lift(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones_like(x[:, :1])], 1)


def textbook(spec: SplineKernel, x: Tensor, z: Tensor) -> Tensor:
    """As it is printed, with the angle by atan2."""
    x, z = lift(x)[:, None], lift(z)[None]
    r, s = x.norm(dim=-1), z.norm(dim=-1)
    minus, plus = s[..., None] * x - r[..., None] * z, s[..., None] * x + r[..., None] * z
    t = 2 * torch.atan2(minus.norm(dim=-1), plus.norm(dim=-1))
    if spec.name == "linear-angle":
        return (math.pi - t) / math.pi
    if spec.name == "spherical-laplace":
        return r * s * torch.exp(spec.decay * (1 - t.cos()) ** spec.power)
    arc = t.sin() + (1 + spec.variance) * (math.pi - t) * t.cos()
    return r * s / math.pi * arc


@pytest.mark.parametrize("spec", KERNELS, ids=str)
@pytest.mark.parametrize("extent", [1.0, 20.0])  # 20: angles beyond a right one as well
def test_values_and_gradients_are_the_textbook_s(spec: SplineKernel, extent: float) -> None:
    x, z = points(30, extent).requires_grad_(), points(20, extent, seed=1)
    expected = textbook(spec, x, z)
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(spec.matrix(x, z), expected, rtol=0, atol=1e-14 * scale)
    slopes = spec.slopes(x, z)
    for j in range(len(z)):
        (slope,) = torch.autograd.grad(expected[:, j].sum(), x, retain_graph=True)
        torch.testing.assert_close(slopes[:, :, j], slope, rtol=1e-10, atol=1e-12 * scale)


@pytest.mark.parametrize("spec", KERNELS, ids=str)
def test_gradients_are_the_limit_of_differences(spec: SplineKernel) -> None:
    x, z, h = points(20), points(20, seed=1), 1e-5
    for axis, step in enumerate(h * torch.eye(3, dtype=torch.float64)):
        rise = (spec.matrix(x + step, z) - spec.matrix(x - step, z)) / (2 * h)
        torch.testing.assert_close(spec.slopes(x, z)[:, axis], rise, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("variance", [0.0, 0.5])
def test_neural_spline_is_an_expectation_over_networks(variance: float) -> None:
    spec = SplineKernel("neural-spline", variance)
    x, z = lift(points(6)), lift(points(6, seed=1))
    w = torch.randn(400_000, 4, generator=torch.Generator().manual_seed(2)).double()
    hidden, other = w @ x.T, w @ z.T
    outer = 2 * hidden.relu().T @ other.relu() / len(w)
    both = (hidden > 0).double().T @ (other > 0).double() / len(w)
    sampled = outer + 2 * variance * (x @ z.T) * both
    torch.testing.assert_close(spec.matrix(x[:, :3], z[:, :3]), sampled, rtol=0.02, atol=0.0)


@pytest.mark.parametrize("spec", KERNELS, ids=str)
def test_positive_definite(spec: SplineKernel) -> None:
    x = points(80)
    matrix = spec.matrix(x, x)
    torch.testing.assert_close(matrix, matrix.T)
    lowest = float(torch.linalg.eigvalsh(matrix)[0])
    assert lowest > (-1e-12 if spec.variance == 0 else 0)


@pytest.mark.parametrize("gap", [1e-12, 1e-9, 1e-6, 1e-3])
def test_small_angles_keep_their_digits(gap: float) -> None:
    """What is left without the linear part falls as v t, down to the smallest distances."""
    spec = SplineKernel("neural-spline", 0.25)
    x, z = torch.zeros(1, 3).double(), torch.tensor([[gap, 0.0, 0.0]]).double()
    out = np.empty(1)
    rows(spec, Lifted(x), Lifted(z), False, out, 0, 1)
    t = math.atan(gap)
    expected = math.hypot(1, gap) / math.pi * (math.sin(t) - 1.25 * t * math.cos(t))
    assert out[0] == pytest.approx(expected, rel=1e-7, abs=0)
    assert out[0] < 0


def test_opposite_points() -> None:
    """An angle of pi but for 2e-6: the kernel falls to the third power of what is missing."""
    x = torch.tensor([[1e6, 0.0, 0.0]]).double()
    spec = SplineKernel("neural-spline", 0.0)
    unit = float(spec.matrix(x, -x)) / (1 + 1e12)
    assert abs(unit) < 1e-15  # (2e-6)^3 / (3 pi) is nothing
    assert bool(spec.slopes(x, -x).isfinite().all())
    angle = float(SplineKernel("linear-angle").matrix(x, -x))
    # Here it is the chord that loses half of the digits; what is absolute stays.
    assert angle == pytest.approx(2e-6 / math.pi, rel=0, abs=1e-10)


@pytest.mark.parametrize("spec", KERNELS, ids=str)
def test_a_centre_itself_has_a_finite_gradient(spec: SplineKernel) -> None:
    x = points(4)
    assert bool(spec.slopes(x, x).isfinite().all())
    if spec == SplineKernel("neural-spline", variance=0.0):
        own = spec.slopes(x, x).diagonal(dim1=0, dim2=2).T
        torch.testing.assert_close(own, x)  # K(x, x) = |X|^2: half of its gradient


@pytest.mark.parametrize("spec", KERNELS, ids=str)
def test_sums_are_products_with_the_matrix(spec: SplineKernel) -> None:
    x, z = points(33), points(17, seed=1)
    weight = points(17, seed=2)[:, 0]
    lifted, centres = Lifted(x), Lifted(z)
    value, slope = np.empty(33), np.empty(99)
    for part in ((0, 20), (20, 33)):
        value_sums(spec, lifted, centres, weight.numpy(), value, *part)
        gradient_sums(spec, lifted, centres, weight.numpy(), slope, *part)
    linear = spec.linear * (centres.whole.T @ weight)
    whole = torch.from_numpy(value) + lifted.whole @ linear
    torch.testing.assert_close(whole, spec.matrix(x, z) @ weight)
    gradient = torch.from_numpy(slope).reshape(-1, 3) + linear[:3]
    torch.testing.assert_close(gradient, spec.slopes(x, z) @ weight)


@pytest.mark.parametrize("spec", KERNELS, ids=str)
def test_single_precision_is_near_double(spec: SplineKernel) -> None:
    x, z = points(30), points(20, seed=1)
    for slope in (False, True):
        width = 3 if slope else 1
        wide, narrow = np.empty(600 * width), np.empty(600 * width, np.float32)
        rows(spec, Lifted(x), Lifted(z), slope, wide, 0, 30)
        rows(spec, Lifted(x, np.float32), Lifted(z, np.float32), slope, narrow, 0, 30)
        np.testing.assert_allclose(narrow, wide, atol=2e-6)


def test_turning_about_the_origin_changes_nothing() -> None:
    x, z = points(10), points(10, seed=1)
    turn, _ = torch.linalg.qr(points(3, seed=3))
    for spec in KERNELS:
        torch.testing.assert_close(spec.matrix(x @ turn.T, z @ turn.T), spec.matrix(x, z))
