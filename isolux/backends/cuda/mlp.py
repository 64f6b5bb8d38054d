"""Fully connected network on the device. Letters as in `isolux.backends.encode`.

Plain matrix products, so the speed is that of torch's library. Hidden layers are not kept: the
way back computes them once more.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

__all__ = ["backward", "forward"]

# g where h is above 0, in place: (g, h, 0, grad_input=g).
_mask: Any = torch.ops.aten.threshold_backward.grad_input


def forward(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """Outputs [p, o]."""
    for layer in range(len(weights) - 1):
        x = _hidden(x, layer, weights, biases)
    return linear(x, weights[-1], biases[-1] if biases else None)


def backward(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    grad: Tensor,
    need_x: bool,
) -> tuple[Tensor | None, list[Tensor], list[Tensor]]:
    """Gradients to x, weights and biases. That to x is stored by columns."""
    inputs = [x]  # of each layer
    for layer in range(len(weights) - 1):
        inputs.append(_hidden(inputs[-1], layer, weights, biases))
    to_weights, to_biases = [], []
    for layer in range(len(weights) - 1, -1, -1):
        to_weights.append(grad.T @ inputs[layer])
        if biases:
            to_biases.append(grad.sum(0))
        if layer:
            grad = grad @ weights[layer]
            _mask(grad, inputs[layer], 0, grad_input=grad)
    # By columns, as the hash grid takes it.
    to_x = (weights[0].T @ grad.T).T if need_x else None
    return to_x, to_weights[::-1], to_biases[::-1]


def _hidden(
    x: Tensor, layer: int, weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> Tensor:
    return linear(x, weights[layer], biases[layer] if biases else None).relu_()
