"""Split-sum shading on the device. Letters as in `isolux.backends.shade`."""

import torch
from torch import Tensor

from isolux.backends.cuda.launch import launch

__all__ = ["backward", "forward"]


def forward(*inputs: Tensor) -> Tensor:
    """Radiance [p, 3] of (albedo, orm, n_dot_v, diffuse light, specular light, table)."""
    out = torch.empty_like(inputs[0])
    launch("split_sum", "split_sum_forward", len(out), *inputs, out, len(inputs[5]), len(out))
    return out


def backward(*inputs: Tensor) -> tuple[Tensor, ...]:
    """Gradients to all but the table; the inputs as in `forward`, then the gradient above."""
    found = tuple(torch.empty_like(t) for t in inputs[:5])
    count = len(inputs[0])
    launch(
        "split_sum", "split_sum_backward", count, *inputs, *found, len(inputs[5]), count
    )  # fmt: skip
    return found
