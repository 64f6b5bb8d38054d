"""Split-sum shading in plain torch. Letters as in `isolux.backends.shade`."""

import torch
from torch import Tensor

__all__ = ["backward", "forward"]


def forward(
    albedo: Tensor,
    orm: Tensor,
    n_dot_v: Tensor,
    diffuse_light: Tensor,
    specular_light: Tensor,
    lut: Tensor,
) -> Tensor:
    """Radiance [p, 3]."""
    occlusion, roughness, metalness = orm[:, :1], orm[:, 1], orm[:, 2:]
    factors = _table(lut, roughness, n_dot_v)  # [p, 2]
    specular = 0.04 * (1.0 - metalness) + albedo * metalness
    diffuse = albedo * (1.0 - metalness)
    light = diffuse_light * diffuse + specular_light * (
        specular * factors[:, :1] + factors[:, 1:]
    )
    return light * (1.0 - occlusion)


def backward(
    albedo: Tensor,
    orm: Tensor,
    n_dot_v: Tensor,
    diffuse_light: Tensor,
    specular_light: Tensor,
    lut: Tensor,
    grad: Tensor,
) -> tuple[Tensor, ...]:
    """Gradients to all but the table."""
    with torch.enable_grad():
        inputs = [
            t.detach().requires_grad_()
            for t in (albedo, orm, n_dot_v, diffuse_light, specular_light)
        ]
        a, b, c, d, e = inputs
        return torch.autograd.grad(forward(a, b, c, d, e, lut), inputs, grad)


def _table(lut: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Bilinear values at (row, column) in [0, 1]^2, the outermost entries going on beyond."""
    size = lut.shape[0]
    y, x = (row * size - 0.5).clamp(0, size - 1), (column * size - 0.5).clamp(0, size - 1)
    top, left = (t.detach().long().clamp(max=max(size - 2, 0)) for t in (y, x))
    bottom, right = (top + 1).clamp(max=size - 1), (left + 1).clamp(max=size - 1)
    y, x = (y - top)[:, None], (x - left)[:, None]
    upper = (1.0 - x) * lut[top, left] + x * lut[top, right]
    return (1.0 - y) * upper + y * ((1.0 - x) * lut[bottom, left] + x * lut[bottom, right])
