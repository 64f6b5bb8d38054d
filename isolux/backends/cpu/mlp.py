"""Fully connected network on the processor. Letters as in `isolux.backends.encode`.

Points go through in chunks whose activations stay in the cache, many chunks to a task. A task
adds up the weight gradients of its chunks in order, and tasks are added in order, so the
number of threads does not matter.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isolux.backends.cpu import mlp_kernels as kernels
from isolux.backends.cpu.pool import chunks, parallel_for

__all__ = ["backward", "forward"]

_CHUNK = 256  # points: 32 KiB for 32 features
_TASK = 8192


def forward(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """Outputs [p, o]."""
    packed, _, offsets, sizes = _packed(weights, biases)
    out = x.new_empty(len(x), len(weights[-1]))
    common = *_strided(x), packed, offsets, sizes, out.numpy().reshape(-1), out.shape[1], _CHUNK
    parallel_for(kernels.forward, [(*common, *part) for part in chunks(len(x), _TASK)])
    return out


def backward(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    grad: Tensor,
    need_x: bool,
) -> tuple[Tensor | None, list[Tensor], list[Tensor]]:
    """Gradients to x, weights and biases. That to x is stored by columns."""
    packed, transposed, offsets, sizes = _packed(weights, biases)
    to_x = x.new_empty(x.shape[1] if need_x else 0, len(x))
    parts = chunks(len(x), _TASK)
    to_weights = np.zeros((len(parts), packed.size), dtype=packed.dtype)
    to_biases = np.zeros((len(parts), offsets.size), dtype=packed.dtype)
    above = grad.contiguous().numpy().reshape(-1), grad.shape[1], to_x.numpy().reshape(-1)
    common = *_strided(x), packed, transposed, offsets, sizes, *above
    parallel_for(
        kernels.backward,
        [
            (*common, to_weights[k], to_biases[k], len(x), _CHUNK, *part)
            for k, part in enumerate(parts)
        ],
    )
    weight_sum, bias_sum = np.zeros_like(packed), np.zeros_like(offsets)
    for k in range(len(parts)):  # in order, whoever did them
        weight_sum += to_weights[k]
        bias_sum += to_biases[k]
    found = _unpacked(weight_sum, bias_sum, weights, biases)
    return to_x.T if need_x else None, *found


def _strided(x: Tensor) -> tuple[Any, int, int, int]:
    """The numbers of x as they lie, the strides of point and column, and the columns."""
    if x.T.is_contiguous():
        return x.T.numpy().reshape(-1), 1, len(x), x.shape[1]
    return x.contiguous().numpy().reshape(-1), x.shape[1], 1, x.shape[1]


def _packed(weights: Sequence[Tensor], biases: Sequence[Tensor]) -> tuple[Any, Any, Any, Any]:
    """All layers in one array each, padded: weights, weights transposed, biases; and sizes."""
    sizes = [weights[0].shape[1], *(len(weight) for weight in weights)]
    padded = [-(-size // 4) * 4 for size in sizes]
    straight, turned, offsets = [], [], []
    for k, weight in enumerate(weights):
        full = weight.new_zeros(padded[k + 1], padded[k])
        full[: sizes[k + 1], : sizes[k]] = weight
        offset = weight.new_zeros(padded[k + 1])
        if biases:
            offset[: sizes[k + 1]] = biases[k]
        straight.append(full.flatten())
        turned.append(full.T.flatten())
        offsets.append(offset)
    arrays = [torch.cat(parts).numpy() for parts in (straight, turned, offsets)]
    return arrays[0], arrays[1], arrays[2], np.array(padded)


def _unpacked(
    packed: Any, offsets: Any, weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    to_weights, to_biases, at, shift = [], [], 0, 0
    for weight in weights:
        rows, inner = (-(-size // 4) * 4 for size in weight.shape)
        full = torch.from_numpy(packed[at : at + rows * inner]).reshape(rows, inner)
        to_weights.append(full[: weight.shape[0], : weight.shape[1]].clone())
        to_biases.append(torch.from_numpy(offsets[shift : shift + len(weight)]).clone())
        at, shift = at + rows * inner, shift + rows
    return to_weights, to_biases if biases else []
