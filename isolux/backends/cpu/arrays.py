"""The border between tensors and kernels: flat contiguous arrays, indices within range."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["check_indices", "flat", "flat_index", "zeros"]


def flat(tensor: Tensor) -> Any:
    """The numbers of a tensor as a one-dimensional contiguous array, shared where possible."""
    return tensor.detach().contiguous().numpy().reshape(-1)


def flat_index(tensor: Tensor) -> Any:
    """Indices as a one-dimensional contiguous array of unsigned 32-bit integers.

    Kernels index fastest with unsigned integers; `check_indices` has seen them first.
    """
    return flat(tensor.to(torch.int32)).view(np.uint32)


def check_indices(name: str, index: Tensor, count: int) -> None:
    """Raise unless every index lies in [0, count): a kernel would read outside its memory.

    Raises:
        IndexError: naming the argument, the offending value and the bound.
    """
    if index.numel() == 0:
        return
    low, high = (int(value) for value in torch.aminmax(index))
    if low < 0 or high >= count:
        raise IndexError(
            f"{name}: indices must lie in [0, {count}), got {low if low < 0 else high}"
        )


def zeros(shape: Sequence[int], like: Tensor) -> Tensor:
    """As torch.zeros, but by calloc and in huge pages: faster where it is large."""
    dtype = np.float64 if like.dtype == torch.float64 else np.float32
    return torch.from_numpy(np.zeros(tuple(shape), dtype=dtype))
