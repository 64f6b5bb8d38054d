"""What the network's outputs do to a level's fit, in torch, so that it can be trained.

Letters: c cells, s samples, m rows. The outputs of a cell are: logarithms of factors on the
value's weight, the gradient's weight and the smoothness; how far its normals go towards the
coarser levels' gradients; how far its targets go towards their values; a shift of the targets;
a shift of the normals. Zeros change nothing.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["STEEPEST", "Correction", "corrected"]

STEEPEST = 4.0  # at most, of a factor's logarithm


@dataclass(frozen=True)
class Correction:
    """Of each sample, and the smoothness of each cell."""

    value: Tensor  # [s], a factor
    slope: Tensor  # [s], a factor
    normal: Tensor  # [s, 3]
    target: Tensor  # [s], in cells
    smoothness: Tensor  # [c], the logarithm of a factor


def corrected(outputs: Tensor, cell: Any, value: Any, slope: Any, normal: Any) -> Correction:
    """Apply outputs [c, 9].

    Args:
        outputs: of the network.
        cell: int64 [s], of each sample.
        value: [s], of the coarser levels' function at the samples, clipped.
        slope: [s, 3], its gradient.
        normal: [s, 3], of the samples.
    """
    logs = STEEPEST * torch.tanh(outputs[:, :3] / STEEPEST)
    rest = torch.tanh(outputs[:, 3:])[torch.from_numpy(cell)]
    n, g = torch.from_numpy(normal), torch.from_numpy(slope)
    factors = torch.exp(logs[:, :2])[torch.from_numpy(cell)]
    return Correction(
        *(factors[:, 0], factors[:, 1]),
        n + rest[:, :1] * (g - n) + rest[:, 3:6],
        rest[:, 1] * torch.from_numpy(value) + rest[:, 2],
        logs[:, 2],
    )
