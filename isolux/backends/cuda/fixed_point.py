"""Sums that are the same bits whatever the order of their terms.

Threads add to one place in an order that no two runs share, and sums of floating point numbers
depend on it. Under `torch.use_deterministic_algorithms(True)` kernels therefore add integers:
multiples of a power of two that is chosen on the device, from the largest magnitude of a term
and their number, such that no sum overflows. Below the largest term stand 62 binary places less
those that the number of terms needs: 39 for eight million terms, more than float32 has.

A kernel takes the three tensors that `start` gives as `real* total, long long* fixed,
const double* scale` and adds by `sum_up(total, fixed, scale, place, value)`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Sums", "finish", "largest", "start"]

Sums = tuple[Tensor, Tensor | None, Tensor | None]  # total, fixed, scale

_BITS = 62  # of a sum's magnitude; the sign has one, and one is left for rounding
_BIAS, _MANTISSA = 1023, 52  # of float64


def start(total: Tensor, bound: Callable[[], Tensor], terms: int) -> Sums:
    """What a kernel adds to.

    Args:
        total: contiguous; to its numbers the terms are added.
        bound: gives one number on the device that no finite term's magnitude exceeds; called in
            the deterministic mode only. A larger term makes the sum that it belongs to NaN.
        terms: as many as may be added to one place, at most.
    """
    if not torch.are_deterministic_algorithms_enabled():
        return total, None, None
    fixed = torch.zeros_like(total, dtype=torch.int64)
    return total, fixed, _scale(bound(), terms)


def finish(total: Tensor, fixed: Tensor | None, scale: Tensor | None) -> Tensor:
    """`total` with the sums in it; NaN where a term was not finite."""
    if fixed is None or scale is None:
        return total
    return total.add_((fixed.to(torch.float64) / scale[0]).to(total.dtype))


def largest(tensor: Tensor) -> Tensor:
    """The largest finite magnitude among the numbers, on their device; 0 if there is none."""
    if not tensor.numel():
        return tensor.new_zeros(())
    finite = tensor.detach().nan_to_num(0.0, 0.0, 0.0)
    found: Tensor = torch.linalg.vector_norm(finite, torch.inf)
    return found


def _scale(bound: Tensor, terms: int) -> Tensor:
    """A power of two by which sums stay below 2^62, and the largest term that it allows."""
    _, exponent = torch.frexp(bound.to(torch.float64))  # bound < 2^exponent
    power = _BITS - max(terms, 1).bit_length() - exponent.to(torch.int64)
    # From its bits, as a library's power function need not be exact.
    scale = ((power.clamp(1 - _BIAS, _BIAS) + _BIAS) << _MANTISSA).view(torch.float64)
    return torch.stack([scale, bound.to(torch.float64)])
