"""Distances between images on the device: the sums of many threads, added in one order."""

import torch
from torch import Tensor

from isolux.backends.cuda.launch import launch

__all__ = ["backward", "forward"]

_SUMS = 1 << 17  # threads, each of which adds up every so-manyth pixel
_KINDS = ("logl1", "logl2", "mse", "smape", "relmse")  # their places are numbers in the text


def forward(
    kind: str, rgb: Tensor, reference: Tensor, weight: Tensor, with_slope: bool
) -> tuple[Tensor, Tensor | None]:
    """Mean over everything, and its slope in rgb."""
    which, pixels, count = _which(kind), weight.numel(), max(rgb.numel(), 1)
    given = rgb.contiguous(), reference.contiguous(), weight.contiguous()
    slope = torch.empty_like(given[0]) if with_slope else None
    threads = min(pixels, _SUMS)
    sums = torch.empty(threads, dtype=torch.float64, device=rgb.device)
    launch(
        "image_loss", "image_loss_forward", threads,
        *given, slope, sums, 1.0 / count, which, pixels, threads,
    )  # fmt: skip
    return (sums.sum() / count).to(rgb.dtype), slope


def backward(
    kind: str,
    rgb: Tensor,
    reference: Tensor,
    weight: Tensor,
    grad: Tensor,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor | None, ...]:
    """Gradients to rgb, reference and weight, None where not needed."""
    which, pixels, count = _which(kind), weight.numel(), max(rgb.numel(), 1)
    given = rgb.contiguous(), reference.contiguous(), weight.contiguous()
    found = tuple(
        torch.empty_like(t) if need else None for t, need in zip(given, needs, strict=True)
    )
    launch(
        "image_loss", "image_loss_backward", pixels,
        *given, grad.contiguous(), *found, 1.0 / count, which, pixels,
    )  # fmt: skip
    return found


def _which(kind: str) -> int:
    if kind not in _KINDS:
        raise ValueError(f"image loss must be one of {', '.join(_KINDS)}, got '{kind}'")
    return _KINDS.index(kind)
