"""Sparse linear maps between cube maps, applied. Letters as in `isolux.backends.light`."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from isolux.backends.cpu.jit import SHADING_MATH, kernel
from isolux.backends.cpu.pool import chunks, parallel_for

if TYPE_CHECKING:
    from isolux.backends.light import CubeMap

__all__ = ["backward", "forward"]

_CHUNK = 512  # rows of a task
_INNER = 384  # rows of a dense map, of a task


def forward(lobe: "CubeMap", texels: Tensor) -> Tensor:
    """The map applied to texels [n, 3]."""
    return _apply(lobe, texels, lobe.before, lobe.after)


def backward(lobe: "CubeMap", grad: Tensor) -> Tensor:
    """The transposed map applied to gradients [n, 3]."""
    return _apply(lobe, grad, lobe.after, lobe.before)


def _apply(lobe: "CubeMap", texels: Tensor, before: Tensor, after: Tensor) -> Tensor:
    if lobe.dense is not None:
        # F is symmetric; with the long side inside, torch's product is six times as fast.
        wide, dense = (texels * before[:, None]).T.contiguous(), lobe.dense
        parts = parallel_for(
            lambda first, last: wide[:, first:last] @ dense[first:last],
            chunks(len(texels), _INNER),
        )
        total: Tensor = parts[0]
        for part in parts[1:]:  # in order, whoever made them
            total += part
        return (total * after).T.contiguous()
    scaled = (texels * before[:, None]).numpy().reshape(-1)
    out = torch.empty_like(texels)
    common = lobe.starts.numpy(), lobe.columns.numpy(), lobe.weights.numpy(), scaled
    flat = after.numpy(), out.numpy().reshape(-1)
    parallel_for(_rows, [(*common, *flat, *rows) for rows in chunks(len(texels), _CHUNK)])
    return out


@kernel(fastmath=SHADING_MATH)
def _rows(
    starts: Any,
    columns: Any,
    weights: Any,
    texels: Any,
    after: Any,
    out: Any,
    first: int,
    last: int,
) -> None:
    zero = texels.dtype.type(0)
    for i in range(first, last):
        red, green, blue = zero, zero, zero
        for e in range(starts[i], starts[i + 1]):
            at = 3 * columns[e]
            red += weights[e] * texels[at]
            green += weights[e] * texels[at + 1]
            blue += weights[e] * texels[at + 2]
        out[3 * i] = red * after[i]
        out[3 * i + 1] = green * after[i]
        out[3 * i + 2] = blue * after[i]
