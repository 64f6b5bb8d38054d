"""Distances between images, fused. Letters as in `isolux.backends.shade`."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from isolux.backends.cpu.jit import SHADING_MATH, kernel
from isolux.backends.cpu.pool import chunks, parallel_for

__all__ = ["backward", "forward"]

_CHUNK = 16384  # pixels of a task
_KINDS = {"logl1": 0, "logl2": 1, "mse": 2, "smape": 3, "relmse": 4}


def forward(
    kind: str, rgb: Tensor, reference: Tensor, weight: Tensor, with_slope: bool
) -> tuple[Tensor, Tensor | None]:
    """Mean over everything: sums of chunks, added in order in float64; its slope in rgb."""
    which, count = _which(kind), max(rgb.numel(), 1)
    slope = torch.empty_like(rgb) if with_slope else None
    flat = [t.numpy().reshape(-1) for t in (rgb, reference, weight)]
    out = (rgb.new_empty(0) if slope is None else slope).numpy().reshape(-1)
    scale = flat[0].dtype.type(1.0 / count)
    parts = parallel_for(
        _forward, [(which, *flat, scale, out, *part) for part in chunks(weight.numel(), _CHUNK)]
    )
    return rgb.new_tensor(sum(float(part) for part in parts) / count), slope


def backward(
    kind: str,
    rgb: Tensor,
    reference: Tensor,
    weight: Tensor,
    grad: Tensor,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor | None, ...]:
    """Gradients to rgb, reference and weight, None where not needed."""
    found = tuple(
        torch.empty_like(t) if need else None
        for t, need in zip((rgb, reference, weight), needs, strict=True)
    )
    flat = [t.numpy().reshape(-1) for t in (rgb, reference, weight)]
    none = rgb.new_empty(0)
    outs = [(none if t is None else t).numpy().reshape(-1) for t in found]
    scale = flat[0].dtype.type(float(grad) / max(rgb.numel(), 1))
    parallel_for(
        _backward,
        [(_which(kind), *flat, scale, *outs, *part) for part in chunks(weight.numel(), _CHUNK)],
    )
    return found


def _which(kind: str) -> int:
    if kind not in _KINDS:
        raise ValueError(f"image loss must be one of {', '.join(_KINDS)}, got '{kind}'")
    return _KINDS[kind]


@kernel(fastmath=SHADING_MATH)
def _held(x: Any) -> Any:
    """x within [0, 65535], and whether it moves freely (1) or is at an end (0)."""
    zero, one, top = type(x)(0), type(x)(1), type(x)(65535)
    inner = one if zero < x < top else zero
    return (zero if x <= zero else (top if x >= top else x)), inner


@kernel(fastmath=SHADING_MATH)
def _tone(x: Any) -> Any:
    """T(x) = sRGB(log(x + 1)) and its slope."""
    one, knee = type(x)(1), type(x)(0.0031308)
    bright = np.log1p(x)
    if bright <= knee:
        return type(x)(12.92) * bright, type(x)(12.92) / (one + x)
    power = type(x)(1.055) * bright ** type(x)(1 / 2.4)
    return power - type(x)(0.055), power / (type(x)(2.4) * bright * (one + x))


@kernel(fastmath=SHADING_MATH)
def _distance(kind: int, x: Any, y: Any) -> Any:
    """L(x, y), dL/dx, dL/dy."""
    zero, one, two = type(x)(0), type(x)(1), type(x)(2)
    if x == y:
        return zero, zero, zero
    if kind <= 1:
        a, slope_a = _tone(x)
        b, slope_b = _tone(y)
        d = a - b
        if kind == 0:
            sign = one if d > zero else (zero - one if d < zero else d)
            return abs(d), sign * slope_a, -sign * slope_b
        return d * d, two * d * slope_a, -two * d * slope_b
    d = x - y
    if kind == 2:
        return d * d, two * d, -two * d
    if kind == 3:
        total = x + y + type(x)(0.01)
        sign = one if d > zero else (zero - one if d < zero else d)
        value = abs(d) / total
        return value, (sign - value) / total, (-sign - value) / total
    total = x * x + y * y + type(x)(0.1)
    value = d * d / total
    return value, two * (d - value * x) / total, two * (-d - value * y) / total


@kernel(fastmath=SHADING_MATH)
def _forward(
    kind: int,
    rgb: Any,
    reference: Any,
    weight: Any,
    scale: Any,
    slope: Any,
    start: int,
    stop: int,
) -> float:
    total = 0.0
    wanted = slope.size > 0
    for p in range(start, stop):
        w = weight[p]
        for c in range(3):
            x, moves = _held(rgb[3 * p + c] * w)
            y, _ = _held(reference[3 * p + c] * w)
            value, dx, _ = _distance(kind, x, y)
            total += value
            if wanted:
                slope[3 * p + c] = dx * moves * w * scale
    return total


@kernel(fastmath=SHADING_MATH)
def _backward(
    kind: int,
    rgb: Any,
    reference: Any,
    weight: Any,
    scale: Any,
    to_rgb: Any,
    to_reference: Any,
    to_weight: Any,
    start: int,
    stop: int,
) -> None:
    for p in range(start, stop):
        w = weight[p]
        to_w = type(scale)(0)
        for c in range(3):
            at = 3 * p + c
            x, moves_x = _held(rgb[at] * w)
            y, moves_y = _held(reference[at] * w)
            _, dx, dy = _distance(kind, x, y)
            dx *= moves_x * scale
            dy *= moves_y * scale
            to_w += dx * rgb[at] + dy * reference[at]
            if to_rgb.size:
                to_rgb[at] = dx * w
            if to_reference.size:
                to_reference[at] = dy * w
        if to_weight.size:
            to_weight[p] = to_w
