"""Lookups in mip-mapped textures in plain torch. Letters as in `isolux.backends.sample`."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["THINNEST", "backward", "forward"]

THINNEST = 16.0  # a footprint thinner than one to this counts as if it were not


def forward(
    levels: Sequence[Tensor], uv: Tensor, uv_da: Tensor | None, boundary: str
) -> Tensor:
    """Values [p, c]."""
    if uv_da is None:
        return _bilinear(levels[0], uv, boundary)
    height, width, _ = levels[0].shape
    level = _level(uv_da, height, width).clamp(0.0, len(levels) - 1.0)
    out = uv.new_zeros(len(uv), levels[0].shape[-1])
    for k, texels in enumerate(levels):
        share = (1.0 - (level - k).abs()).clamp(min=0.0)  # a tent over the levels
        out = out + share[:, None] * _bilinear(texels, uv, boundary)
    return out


def backward(
    levels: Sequence[Tensor],
    uv: Tensor,
    uv_da: Tensor | None,
    boundary: str,
    grad: Tensor,
    need_levels: bool,
    need_uv: bool,
) -> tuple[list[Tensor] | None, Tensor | None]:
    """Gradients to the levels and to uv, None where not needed."""
    with torch.enable_grad():
        inputs = [t.detach().requires_grad_() for t in (uv, *levels)]
        out = forward(inputs[1:], inputs[0], uv_da, boundary)
        found = torch.autograd.grad(out, inputs, grad, materialize_grads=True)
    return list(found[1:]) if need_levels else None, found[0] if need_uv else None


def _level(uv_da: Tensor, height: int, width: int) -> Tensor:
    """log2 of the mean axis: half of log2 of |det J|, J being texels by pixels."""
    jacobian = uv_da.reshape(-1, 2, 2) * uv_da.new_tensor([[width], [height]])
    a, b = jacobian.square().sum(dim=1).unbind(-1)
    c = jacobian.prod(dim=2).sum(dim=1)
    longer = 0.5 * (a + b) + (0.25 * (a - b).square() + c.square()).sqrt()
    square = torch.maximum((a * b - c.square()).clamp_min(0.0).sqrt(), longer / THINNEST)
    return torch.where(square > 1.0, 0.5 * square.log2(), 0.0)


def _bilinear(texels: Tensor, uv: Tensor, boundary: str) -> Tensor:
    height, width, _ = texels.shape
    left, right, x = _axis(uv[:, 0], width, boundary)
    top, bottom, y = _axis(uv[:, 1], height, boundary)
    upper = (1.0 - x) * texels[top, left] + x * texels[top, right]
    lower = (1.0 - x) * texels[bottom, left] + x * texels[bottom, right]
    return (1.0 - y) * upper + y * lower


def _axis(u: Tensor, count: int, boundary: str) -> tuple[Tensor, Tensor, Tensor]:
    u = torch.where(u.isfinite(), u, 0.0)
    if boundary == "wrap":
        x = (u - u.detach().floor()) * count - 0.5
        low = x.detach().floor()
        return low.long() % count, (low.long() + 1) % count, (x - low)[:, None]
    x = (u * count - 0.5).clamp(0.0, count - 1.0)
    low = x.detach().floor().clamp(max=max(count - 2, 0))
    return low.long(), (low.long() + 1).clamp(max=count - 1), (x - low)[:, None]
