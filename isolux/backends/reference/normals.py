"""Smooth normals in plain torch."""

import torch
from torch import Tensor

__all__ = ["backward", "forward"]

_EPS = 1e-24  # squared length under which a sum of face normals counts as zero


def forward(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Raw `vertex_normals`: unit normals, and the length that each sum had (0: none)."""
    a, b, c = (vertices[faces[:, i].long()] for i in range(3))
    normal = torch.linalg.cross(b - a, c - a, dim=-1)
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total = total.index_add(0, faces[:, corner].long(), normal)
    square = total.square().sum(dim=-1)
    # where() comes before sqrt(): the gradient of sqrt at 0 is infinite, and inf * 0 is NaN.
    length = torch.where(square > _EPS, square, 1.0).sqrt()
    unit = torch.where(square[:, None] > _EPS, total / length[:, None], 0.0)
    return unit, torch.where(square > _EPS, length, 0.0).detach()


def backward(
    vertices: Tensor, faces: Tensor, normals: Tensor, length: Tensor, grad: Tensor
) -> Tensor:
    """Raw adjoint, by torch's own differentiation of `forward`."""
    with torch.enable_grad():
        leaf = vertices.detach().requires_grad_()
        unit, _ = forward(leaf, faces)
        return torch.autograd.grad(unit, leaf, grad)[0]
