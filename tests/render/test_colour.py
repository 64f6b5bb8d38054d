"""The sRGB curve: known values, inverses, finite gradients."""

import pytest
import torch

from isolux.render.colour import linear_from_srgb, srgb_from_linear


@pytest.mark.parametrize(
    ("srgb", "linear"),
    [(0.0, 0.0), (0.04045, 0.0031308), (0.5, 0.21404114), (0.735356983, 0.5), (1.0, 1.0)],
)
def test_known_values(srgb: float, linear: float) -> None:
    given = torch.tensor([srgb], dtype=torch.float64)
    expected = torch.tensor([linear], dtype=torch.float64)
    torch.testing.assert_close(linear_from_srgb(given), expected, atol=1e-7, rtol=0)
    torch.testing.assert_close(srgb_from_linear(expected), given, atol=1e-7, rtol=0)


def test_there_and_back() -> None:
    x = torch.linspace(-0.2, 3.0, 4001, dtype=torch.float64)
    torch.testing.assert_close(srgb_from_linear(linear_from_srgb(x)), x, atol=3e-8, rtol=0)
    assert (linear_from_srgb(x).diff() > 0).all()


def test_eight_bits_survive() -> None:
    x = torch.arange(256) / 255.0
    assert ((srgb_from_linear(linear_from_srgb(x)) * 255).round() == torch.arange(256)).all()


@pytest.mark.parametrize("curve", [linear_from_srgb, srgb_from_linear])
def test_gradients_are_finite_and_right(curve) -> None:
    special = torch.tensor(
        [0.0, -1.0, 1e-30, 0.0031308, 0.04045, 1.0, 100.0], requires_grad=True
    )
    curve(special).sum().backward()
    assert torch.isfinite(special.grad).all()
    assert (special.grad > 0).all()
    x = torch.tensor(
        [-0.3, 0.001, 0.02, 0.2, 0.7, 1.5], dtype=torch.float64, requires_grad=True
    )
    assert torch.autograd.gradcheck(curve, x)


def test_empty() -> None:
    assert linear_from_srgb(torch.zeros(0, 3)).shape == (0, 3)
    assert srgb_from_linear(torch.zeros(2, 0)).shape == (2, 0)
