"""The next smaller mip of a texture in plain torch."""

import torch
from torch import Tensor

__all__ = ["backward", "forward"]


def forward(texture: Tensor) -> Tensor:
    """Raw `halve`: [h, w, c] to half its extents, rounded down, at least 1."""
    return _halve(_halve(texture, 0), 1)


def backward(grad: Tensor, into: Tensor) -> None:
    """Add the adjoint of `forward` at `grad` to `into`, shaped as the larger texture."""
    with torch.enable_grad():
        texture = torch.zeros_like(into, requires_grad=True)
        into += torch.autograd.grad(forward(texture), texture, grad)[0]


def _halve(texture: Tensor, axis: int) -> Tensor:
    count = texture.shape[axis]
    if count < 2:
        return texture
    half = count // 2
    if count % 2 == 0:
        shape = texture.shape
        pairs = texture.reshape(*shape[:axis], half, 2, *shape[axis + 1 :])
        even: Tensor = 0.5 * (pairs.select(axis + 1, 0) + pairs.select(axis + 1, 1))
        return even
    index = torch.arange(half, dtype=texture.dtype, device=texture.device)
    index = index.reshape([-1] + [1] * (2 - axis))
    left, centre, right = (texture.narrow(axis, k, 2 * half - 1) for k in (0, 1, 2))
    every_other = (*[slice(None)] * axis, slice(None, None, 2))
    left, centre, right = left[every_other], centre[every_other], right[every_other]
    odd: Tensor = ((half - index) * left + half * centre + (index + 1) * right) / count
    return odd
