"""The quadratic B-splines that a cell sees along an axis."""

from typing import Any

from isolux.backends.cpu.jit import kernel

__all__ = ["splines"]


@kernel
def splines(t: float, value: Any, slope: Any, at: int) -> None:
    """The three quadratic B-splines over a cell, and their slopes, at t in [0, 1]."""
    value[at] = 0.5 * (1 - t) * (1 - t)
    value[at + 1] = 0.5 + t - t * t
    value[at + 2] = 0.5 * t * t
    slope[at] = t - 1
    slope[at + 1] = 1 - 2 * t
    slope[at + 2] = t
