"""Interpolation of corner attributes at pixels, in plain torch."""

import torch
from torch import Tensor

__all__ = ["backward", "forward"]


def forward(attributes: Tensor, corners: Tensor, triangle: Tensor, uv: Tensor) -> Tensor:
    """Raw `interpolate`: u a_0 + v a_1 + (1 - u - v) a_2 at each pixel."""
    rows = corners[triangle.long()].long()  # [p, 3]
    weights = torch.cat([uv, 1.0 - uv.sum(dim=-1, keepdim=True)], dim=-1)
    return torch.einsum("pk,pkc->pc", weights, attributes[rows])


def backward(
    attributes: Tensor,
    corners: Tensor,
    triangle: Tensor,
    uv: Tensor,
    grad: Tensor,
    need_attributes: bool,
    need_uv: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Raw gradients of `interpolate`, by differentiating the forward pass."""
    with torch.enable_grad():
        leaves = attributes.detach().requires_grad_(), uv.detach().requires_grad_()
        out = forward(leaves[0], corners, triangle, leaves[1])
        to_attributes, to_uv = torch.autograd.grad(out, leaves, grad)
    return to_attributes if need_attributes else None, to_uv if need_uv else None
