"""The same bits on every run on one GPU, where that is asked for.

On the processor runs are so anyway. On a device kernels that add from many threads then do so
in fixed point (`isolux.backends.cuda.fixed_point`), and torch takes algorithms with one result,
or raises where it has none.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["determinism"]

_VARIABLE = "CUBLAS_WORKSPACE_CONFIG"
_GOOD = (":4096:8", ":16:8")  # with which cuBLAS gives one result
_memory: Any = torch.utils.deterministic


@contextmanager
def determinism(wanted: bool) -> Iterator[None]:
    """Within it, results are the same on every run, if that is wanted.

    Raises:
        ValueError: in one line, if it is too late for matrix products, whose library reads a
            variable of the environment when it starts.
    """
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        # Whether it is wanted or not: the next run may want it.
        os.environ.setdefault(_VARIABLE, _GOOD[0])
    if not wanted:
        yield
        return
    if (given := os.environ.get(_VARIABLE)) not in _GOOD:
        raise ValueError(
            f"optimize.deterministic=true: {_VARIABLE} must be {_GOOD[0]} before CUDA starts, "
            f"and is {given or 'not set'}: set it in the environment"
        )
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        _memory.fill_uninitialized_memory,
    )
    torch.use_deterministic_algorithms(True)
    # What we leave uninitialised, kernels fill; to write it twice takes time.
    _memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        _memory.fill_uninitialized_memory = before[2]
