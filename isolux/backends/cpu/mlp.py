"""Fully connected network on the processor. Letters as in `isolux.backends.encode`.

Points go through in chunks whose activations stay in the L2 cache, several chunks to a task.
Inside, a column is a point ([features, points]): the hash grid's own layout. A task adds up the
weight gradients of its chunks in order, and tasks are added in order, so the number of threads
does not matter.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from isolux.backends.cpu.pool import chunks, parallel_for

__all__ = ["backward", "forward"]

_CHUNK = 1024  # points: 128 KiB for 32 features
_TASK = 8 * _CHUNK


def forward(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], keep: bool
) -> tuple[Tensor, list[list[list[Tensor]]]]:
    """Outputs [p, o], and if kept the hidden layers by task, chunk and layer."""
    out = x.new_empty(len(x), len(weights[-1]))

    def run(start: int, stop: int) -> list[list[Tensor]]:
        kept = []
        for first in range(start, stop, _CHUNK):
            last = min(first + _CHUNK, stop)
            hidden = _hidden(x[first:last].T, weights, biases)
            _linear_rows(hidden[-1], weights[-1], biases, out[first:last])
            if keep:
                kept.append(hidden[1:])
        return kept

    return out, parallel_for(run, chunks(len(x), _TASK))


def backward(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    hidden: list[list[list[Tensor]]],
    grad: Tensor,
    need_x: bool,
) -> tuple[Tensor | None, list[Tensor], list[Tensor]]:
    """Gradients to x, weights and biases. That to x is stored by columns."""
    to_x = x.new_empty(x.shape[1], len(x)) if need_x else None

    def run(start: int, stop: int, kept: list[list[Tensor]]) -> list[Tensor]:
        sums = [torch.zeros_like(t) for t in (*weights, *biases)]
        for chunk, first in enumerate(range(start, stop, _CHUNK)):
            last = min(first + _CHUNK, stop)
            above = grad[first:last].T
            inputs = [x[first:last].T, *kept[chunk]]
            for layer in reversed(range(len(weights))):
                sums[layer].addmm_(above, inputs[layer].T)
                if biases:
                    sums[len(weights) + layer] += above.sum(dim=1)
                if layer:
                    above = torch.mm(weights[layer].T, above)
                    torch.ops.aten.threshold_backward.grad_input(
                        above, inputs[layer], 0, grad_input=above
                    )
                elif to_x is not None:
                    torch.mm(weights[0].T, above, out=to_x[:, first:last])
        return sums

    tasks = [
        (start, stop, kept)
        for (start, stop), kept in zip(chunks(len(x), _TASK), hidden, strict=True)
    ]
    totals = [torch.zeros_like(t) for t in (*weights, *biases)]
    for sums in parallel_for(run, tasks):
        for total, part in zip(totals, sums, strict=True):
            total += part
    layers = len(weights)
    return None if to_x is None else to_x.T, totals[:layers], totals[layers:]


def _hidden(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> list[Tensor]:
    """The input, then the hidden layers' activations, a point a column."""
    layers = [x]
    for layer, weight in enumerate(weights[:-1]):
        x = torch.addmm(biases[layer][:, None], weight, x) if biases else weight @ x
        layers.append(x.relu_())
    return layers


def _linear_rows(x: Tensor, weight: Tensor, biases: Sequence[Tensor], out: Tensor) -> None:
    """The last layer, a point a row."""
    if biases:
        torch.addmm(biases[-1], x.T, weight.T, out=out)
    else:
        torch.mm(x.T, weight.T, out=out)
