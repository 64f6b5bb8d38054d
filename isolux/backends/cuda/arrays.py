"""The border between tensors and kernels."""

import torch
from torch import Tensor

from isolux.backends.cpu.arrays import check_indices as check_on_host

__all__ = ["check_indices", "index"]


def index(tensor: Tensor) -> Tensor:
    """Indices as kernels read them: contiguous, 32 bits."""
    return tensor.to(torch.int32).contiguous()


def check_indices(name: str, index: Tensor, count: int) -> None:
    """As on the processor for the processor's tensors; on a device nothing is checked.

    The answer would have to be waited for, in every operator of every step.
    """
    if index.device.type == "cpu":
        check_on_host(name, index, count)
