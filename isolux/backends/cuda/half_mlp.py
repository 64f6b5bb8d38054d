"""Small networks in half precision on tensor cores, each pass in one kernel.

Letters as in `isolux.backends.encode`. The functions are those of `mlp.py`, and what does not
fit goes there: networks with biases, in double precision, or of other sizes than one to four
hidden layers, all 32 or all 64 wide, at most 64 inputs and at most 16 outputs.

Inputs, weights, hidden values and gradients on their way are rounded to 11 bits; sums are
float32. Inputs and hidden values from 65520 on become infinite. Gradients are multiplied by
powers of two that are found on the device and divided out in float32, so their magnitude does
not matter: none overflows. What is small beside the largest gradient of all points is rounded
to steps of 2^-38 of that, or coarser by the weights' norms over what they make of gradients.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from isolux.backends.cuda import mlp
from isolux.backends.cuda.fixed_point import largest
from isolux.backends.cuda.launch import launch

__all__ = ["backward", "forward"]

_WIDTHS = (32, 64)
_MOST_HIDDEN = 4  # layers
_MOST_INPUTS = 64
_TILE = 16  # sizes are filled up to multiples of it
_WORDS = _TILE * _TILE // 2  # of a tile, two numbers to a word
_WARP = 32  # threads
_FORWARD_POINTS = 32  # of a warp
_BACKWARD_POINTS = 128  # of a block
_BLOCK = 256  # threads
# Of the way back: enough to fill a device twice, and few enough for their sums to be cheap. The
# same number on every device, as the sums' order follows from it.
_MOST_BLOCKS = 512


def forward(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """Outputs [p, o], rounded as the module says."""
    if not _fits(x, weights, biases):
        return mlp.forward(x, weights, biases)
    shape = _shape(weights)
    packed = _pack(weights, shape, None)
    out = x.new_empty(len(x), shape.outputs)
    warps = -(-len(x) // _FORWARD_POINTS)
    launch(
        "half_mlp", "half_mlp_forward", warps * _WARP,
        x.T.contiguous(), packed, out, shape.inputs, shape.outputs, len(x), warps,
        constants=shape.constants,
    )  # fmt: skip
    return out


def backward(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    grad: Tensor,
    need_x: bool,
) -> tuple[Tensor | None, list[Tensor], list[Tensor]]:
    """Gradients to x, weights and biases. That to x is stored by columns.

    The same bits each time: sums over points are cut by their number.
    """
    if not _fits(x, weights, biases):
        return mlp.backward(x, weights, biases, grad, need_x)
    shape, points = _shape(weights), len(x)
    norms = x.new_zeros(shape.hidden, dtype=torch.int32)  # of layers; written by packing
    packed = _pack(weights, shape, norms)
    blocks = min(-(-points // _BACKWARD_POINTS), _MOST_BLOCKS)
    partial = x.new_empty(blocks, _TILE * _TILE * shape.tiles)
    to_x = x.new_empty(shape.inputs, points) if need_x else None
    launch(
        "half_mlp", "half_mlp_backward", blocks * _BLOCK,
        x.T.contiguous(), packed, norms, grad.contiguous(), largest(grad), to_x, partial,
        shape.inputs, shape.outputs, points, blocks,
        constants=shape.constants,
    )  # fmt: skip
    return None if to_x is None else to_x.T, _split(partial.sum(0), weights), []


@dataclass(frozen=True)
class _Shape:
    inputs: int
    width: int
    hidden: int  # layers
    outputs: int

    @property
    def constants(self) -> tuple[str, ...]:
        """What the text is compiled with."""
        inputs = _filled(self.inputs)
        return (f"WIDTH {self.width}", f"HIDDEN {self.hidden}", f"INPUTS {inputs}")

    @property
    def tiles(self) -> int:
        """Of all layers' weights."""
        rows = _filled(self.inputs) + self.width * (self.hidden - 1) + _TILE
        return self.width * rows // _TILE**2


def _filled(size: int) -> int:
    return -(-size // _TILE) * _TILE


def _fits(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> bool:
    widths = {len(weight) for weight in weights[:-1]}
    return (
        not biases
        and x.dtype == torch.float32
        and 1 <= len(weights) - 1 <= _MOST_HIDDEN
        and len(widths) == 1
        and widths <= set(_WIDTHS)
        and 1 <= x.shape[1] <= _MOST_INPUTS
        and 1 <= len(weights[-1]) <= _TILE
    )


def _shape(weights: Sequence[Tensor]) -> _Shape:
    width, inputs = weights[0].shape
    return _Shape(inputs, width, len(weights) - 1, len(weights[-1]))


def _pack(weights: Sequence[Tensor], shape: _Shape, norms: Tensor | None) -> Tensor:
    """Weights as the tensor cores take them; for the way back too where norms are asked for."""
    flat = torch.cat([weight.reshape(-1) for weight in weights])
    words = shape.tiles * _WORDS * (1 if norms is None else 2)
    packed = flat.new_empty(words, dtype=torch.int32)
    launch(
        "half_mlp", "half_mlp_pack", words,
        flat, packed, norms, shape.inputs, shape.outputs, words,
        constants=shape.constants,
    )  # fmt: skip
    return packed


def _split(total: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """One tensor for each layer, without what was filled up."""
    sizes = [(_filled(len(weight)), _filled(weight.shape[1])) for weight in weights]
    places = pairwise(accumulate((rows * columns for rows, columns in sizes), initial=0))
    return [
        total[start:stop].view(size)[: len(weight), : weight.shape[1]].contiguous()
        for (start, stop), size, weight in zip(places, sizes, weights, strict=True)
    ]
