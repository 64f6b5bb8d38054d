"""Fully connected network in plain torch. Letters as in `isolux.backends.encode`."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["backward", "forward"]


def forward(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """Outputs [p, o]."""
    for layer, weight in enumerate(weights):
        x = (x.relu() if layer else x) @ weight.T
        x = x + biases[layer] if biases else x
    return x


def backward(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    grad: Tensor,
    need_x: bool,
) -> tuple[Tensor | None, list[Tensor], list[Tensor]]:
    """Gradients to x, weights and biases."""
    with torch.enable_grad():
        inputs = [t.detach().requires_grad_() for t in (x, *weights, *biases)]
        layers = len(weights)
        out = forward(inputs[0], inputs[1 : 1 + layers], inputs[1 + layers :])
        found = torch.autograd.grad(out, inputs, grad)
    return (
        found[0] if need_x else None,
        list(found[1 : 1 + layers]),
        list(found[1 + layers :]),
    )
