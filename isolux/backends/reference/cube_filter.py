"""Sparse maps between cube maps in plain torch. Letters as in `isolux.backends.light`."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from isolux.backends.light import CubeMap

__all__ = ["backward", "forward"]


def forward(lobe: "CubeMap", texels: Tensor) -> Tensor:
    """The map applied to texels [n, 3]."""
    rows = torch.repeat_interleave(lobe.starts.diff())
    columns = lobe.columns.long()
    terms = lobe.weights[:, None] * (lobe.before[:, None] * texels)[columns]
    return lobe.after[:, None] * torch.zeros_like(texels).index_add(0, rows, terms)


def backward(lobe: "CubeMap", grad: Tensor) -> Tensor:
    """The transposed map applied to gradients [n, 3]."""
    with torch.enable_grad():
        texels = torch.zeros_like(grad, requires_grad=True)
        (found,) = torch.autograd.grad(forward(lobe, texels), texels, grad)
    return found
