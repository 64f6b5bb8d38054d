"""Seamless cube map lookups in plain torch. Letters as in `isolux.backends.sample`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from isolux.backends import cubes

__all__ = ["backward", "forward"]


def forward(levels: Sequence[Tensor], direction: Tensor, level: Tensor | None) -> Tensor:
    """Values [p, c]."""
    if level is None:
        level = direction.new_zeros(len(direction))
    level = level.nan_to_num(0.0).clamp(0.0, len(levels) - 1.0)
    lower = level.detach().floor().clamp(max=max(len(levels) - 2, 0))
    share = level - lower
    out = direction.new_zeros(len(direction), levels[0].shape[-1])
    for k, texels in enumerate(levels):
        weight = torch.where(lower == k, 1.0 - share, torch.where(lower == k - 1, share, 0.0))
        out = out + weight[:, None] * _lookup(texels, direction)
    return out


def backward(
    levels: Sequence[Tensor],
    direction: Tensor,
    level: Tensor | None,
    grad: Tensor,
    need_levels: bool,
    need_place: bool,
) -> tuple[list[Tensor] | None, Tensor | None, Tensor | None]:
    """Gradients to the levels' texels, and to direction and level; None where not needed."""
    with torch.enable_grad():
        texels = [t.detach().requires_grad_() for t in levels]
        places = [t.detach().requires_grad_() for t in (direction, level) if t is not None]
        out = forward(texels, places[0], None if level is None else places[1])
        inputs = [*texels, *places]
        found = list(torch.autograd.grad(out, inputs, grad, materialize_grads=True))
    return (
        found[: len(levels)] if need_levels else None,
        found[len(levels)] if need_place else None,
        found[-1] if need_place and level is not None else None,
    )


def _lookup(texels: Tensor, direction: Tensor) -> Tensor:
    """Bilinear values of one level; zero, without a gradient, where there is no direction."""
    size = texels.shape[1]
    largest = direction.detach().abs().sum(dim=-1)
    valid = (largest > 0) & largest.isfinite()
    direction = torch.where(valid[:, None], direction, direction.new_tensor([0.0, 0.0, 1.0]))
    x, y, z = direction.detach().abs().unbind(-1)
    axis = torch.where(z > torch.maximum(x, y), 2, torch.where(y > x, 1, 0))
    sign = direction.detach().gather(1, axis[:, None])[:, 0] <= 0
    face = 2 * axis + sign.long()
    axes = torch.from_numpy(cubes.AXES).to(direction)[face]  # [p, 3, 3]: right, down, out
    local = torch.einsum("pab,pb->pa", axes, direction)
    place = (local[:, :2] / local[:, 2:] + 1.0) / 2.0 * size - 0.5
    first = place.detach().floor().clamp(-1, size - 1)
    inside = place - first
    column, row = (first.long() + 1).unbind(-1)  # in the padded face
    value = torch.zeros_like(direction[:, :1])
    for right in (0, 1):
        for down in (0, 1):
            weight = (inside[:, 0] if right else 1.0 - inside[:, 0]) * (
                inside[:, 1] if down else 1.0 - inside[:, 1]
            )
            value = value + weight[:, None] * _texel(texels, face, row + down, column + right)
    return torch.where(valid[:, None], value, 0.0)


def _texel(texels: Tensor, face: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Texels of padded faces; where three faces meet, the mean of their three."""
    index = cubes.padding(texels.shape[1]).to(texels.device)
    flat = texels.flatten(0, 2)
    edge = texels.shape[1] + 1
    inner_row, inner_column = row.clamp(1, edge - 1), column.clamp(1, edge - 1)
    three = (
        flat[index[face, inner_row, inner_column]]
        + flat[index[face, row, inner_column]]
        + flat[index[face, inner_row, column]]
    ) / 3.0
    own = index[face, row, column]
    return torch.where((own < 0)[:, None], three, flat[own.clamp(min=0)])
