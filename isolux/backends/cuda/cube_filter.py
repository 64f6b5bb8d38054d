"""Sparse linear maps between cube maps, applied on the device. Letters as in `backends.light`.

The map's table is made on the processor and kept on the device by `backends.light`, once for a
size, lobe and device. It is symmetric, so its rows are also those of the transposed map: both
ways a sum is gathered, and nothing is added to by atomics.
"""

from typing import TYPE_CHECKING

from torch import Tensor

from isolux.backends.cuda.launch import launch

if TYPE_CHECKING:
    from isolux.backends.light import CubeMap

__all__ = ["backward", "forward"]

_MOST_LANES = 64
_ENTRIES = 8  # of a row and lane, at least: what lanes write is little beside what they read


def forward(lobe: "CubeMap", texels: Tensor) -> Tensor:
    """The map applied to texels [n, 3]."""
    return _apply(lobe, texels, lobe.before, lobe.after)


def backward(lobe: "CubeMap", grad: Tensor) -> Tensor:
    """The transposed map applied to gradients [n, 3]."""
    return _apply(lobe, grad, lobe.after, lobe.before)


def _apply(lobe: "CubeMap", texels: Tensor, before: Tensor, after: Tensor) -> Tensor:
    # Rows are few and long, or many and short: the long ones are shared by lanes.
    rows = len(texels)
    lanes = _lanes(len(lobe.columns), rows)
    scaled = texels * before[:, None]
    parts = scaled.new_empty(rows, 3, lanes)
    launch(
        "cube_filter", "cube_filter_rows", rows * lanes,
        lobe.starts, lobe.columns, lobe.weights, scaled, parts, lanes, rows * lanes,
    )  # fmt: skip
    return parts.sum(dim=-1) * after[:, None]


def _lanes(entries: int, rows: int) -> int:
    """A power of two: the threads of a row of mean length."""
    most = entries // (_ENTRIES * max(rows, 1))
    return min(_MOST_LANES, 1 << max(most.bit_length() - 1, 0))
