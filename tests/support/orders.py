"""Results of the emulated CUDA backend under two orders of its threads."""

from collections.abc import Callable, Sequence

import torch
from emulated import emulated
from torch import Tensor

from isolux.backends import Backend
from isolux.backends.cuda.launch import use_host

__all__ = ["both_orders"]


def both_orders(
    run: Callable[[Backend], Sequence[Tensor]], deterministic: bool
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """What `run` gives with the first thread first, and with the last thread first."""
    torch.use_deterministic_algorithms(deterministic)
    try:
        return run(emulated()), run(emulated(backwards=True))
    finally:
        torch.use_deterministic_algorithms(False)
        use_host(None)
