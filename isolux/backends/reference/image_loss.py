"""Distances between images in plain torch. Letters as in `isolux.backends.shade`."""

import torch
from torch import Tensor

__all__ = ["backward", "forward"]

_TOP = 65535.0


def forward(
    kind: str, rgb: Tensor, reference: Tensor, weight: Tensor, with_slope: bool
) -> tuple[Tensor, None]:
    """Mean over everything, a scalar; the slope is left to `backward`."""
    del with_slope
    return _mean(kind, rgb, reference, weight), None


def _mean(kind: str, rgb: Tensor, reference: Tensor, weight: Tensor) -> Tensor:
    x, y = _held(rgb * weight), _held(reference * weight)
    return _distance(kind, x, y).sum() / max(x.numel(), 1)


def backward(
    kind: str,
    rgb: Tensor,
    reference: Tensor,
    weight: Tensor,
    grad: Tensor,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor | None, ...]:
    """Gradients to rgb, reference and weight."""
    with torch.enable_grad():
        inputs = [t.detach().requires_grad_() for t in (rgb, reference, weight)]
        found = torch.autograd.grad(_mean(kind, *inputs), inputs, grad)
    return tuple(g if need else None for g, need in zip(found, needs, strict=True))


def _held(x: Tensor) -> Tensor:
    """Within [0, top], without a gradient at the ends. What is not a number stays so."""
    return torch.where((x <= 0.0) | (x >= _TOP), x.detach().clamp(0.0, _TOP), x)


def _distance(kind: str, x: Tensor, y: Tensor) -> Tensor:
    match kind:
        case "logl1":
            return (_tone(x) - _tone(y)).abs()
        case "logl2":
            return (_tone(x) - _tone(y)).square()
        case "mse":
            return (x - y).square()
        case "smape":
            return (x - y).abs() / (x + y + 0.01)
        case "relmse":
            return (x - y).square() / (x.square() + y.square() + 0.1)
    raise ValueError(f"image loss must be logl1, logl2, mse, smape or relmse, got '{kind}'")


def _tone(x: Tensor) -> Tensor:
    """sRGB(log(x + 1))."""
    x = x.log1p()
    curve = 1.055 * x.clamp(min=0.0031308).pow(1.0 / 2.4) - 0.055
    return torch.where(x <= 0.0031308, 12.92 * x, curve)
