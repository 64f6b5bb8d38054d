"""Split-sum shading, fused. Letters as in `isolux.backends.shade`."""

from typing import Any

import torch
from torch import Tensor

from isolux.backends.cpu.jit import SHADING_MATH, kernel
from isolux.backends.cpu.pool import chunks, parallel_for

__all__ = ["backward", "forward"]

_CHUNK = 16384  # points of a task


def forward(*inputs: Tensor) -> Tensor:
    """Radiance [p, 3] of (albedo, orm, n_dot_v, diffuse light, specular light, table)."""
    out = torch.empty_like(inputs[0])
    flat = [t.numpy().reshape(-1) for t in (*inputs, out)]
    size = inputs[-1].shape[0]
    parallel_for(_forward, [(*flat, size, *part) for part in chunks(len(out), _CHUNK)])
    return out


def backward(*inputs: Tensor) -> tuple[Tensor, ...]:
    """Gradients to all but the table; the inputs as in `forward`, then the gradient above."""
    found = tuple(torch.empty_like(t) for t in inputs[:5])
    flat = [t.numpy().reshape(-1) for t in (*inputs, *found)]
    size, count = inputs[5].shape[0], len(inputs[0])
    parallel_for(_backward, [(*flat, size, *part) for part in chunks(count, _CHUNK)])
    return found


@kernel(fastmath=SHADING_MATH)
def _axis(x: Any, size: int) -> Any:
    """First of two entries, the place between them, and d place / d x."""
    zero, half, scale = type(x)(0), type(x)(0.5), type(x)(size)
    x = x * scale - half
    slope = scale if zero <= x <= scale - type(x)(1) else zero
    x = min(max(zero, x), scale - type(x)(1))
    low = min(int(x), max(size - 2, 0))
    return low, x - type(x)(low), slope


@kernel(fastmath=SHADING_MATH)
def _table(lut: Any, size: int, roughness: Any, cosine: Any) -> Any:
    """(A, B), and their slopes along roughness and cosine."""
    row, y, slope_y = _axis(roughness, size)
    column, x, slope_x = _axis(cosine, size)
    a = 2 * (row * size + column)
    right = 2 if size > 1 else 0
    b = a + right * size
    a00, b00, a10, b10 = lut[a], lut[a + 1], lut[a + right], lut[a + right + 1]
    a01, b01, a11, b11 = lut[b], lut[b + 1], lut[b + right], lut[b + right + 1]
    one = type(x)(1)
    a0, a1 = (one - x) * a00 + x * a10, (one - x) * a01 + x * a11
    b0, b1 = (one - x) * b00 + x * b10, (one - x) * b01 + x * b11
    along_a = (one - y) * (a10 - a00) + y * (a11 - a01)
    along_b = (one - y) * (b10 - b00) + y * (b11 - b01)
    return (
        (one - y) * a0 + y * a1,
        (one - y) * b0 + y * b1,
        slope_y * (a1 - a0),
        slope_y * (b1 - b0),
        slope_x * along_a,
        slope_x * along_b,
    )


@kernel(fastmath=SHADING_MATH)
def _forward(
    albedo: Any,
    orm: Any,
    n_dot_v: Any,
    diffuse: Any,
    specular: Any,
    lut: Any,
    out: Any,
    size: int,
    start: int,
    stop: int,
) -> None:
    one, base = orm.dtype.type(1), orm.dtype.type(0.04)
    for p in range(start, stop):
        metal = orm[3 * p + 2]
        scale, bias, _, _, _, _ = _table(lut, size, orm[3 * p + 1], n_dot_v[p])
        for c in range(3):
            at = 3 * p + c
            colour = base * (one - metal) + albedo[at] * metal
            light = diffuse[at] * albedo[at] * (one - metal)
            light += specular[at] * (colour * scale + bias)
            out[at] = light * (one - orm[3 * p])


@kernel(fastmath=SHADING_MATH)
def _backward(
    albedo: Any,
    orm: Any,
    n_dot_v: Any,
    diffuse: Any,
    specular: Any,
    lut: Any,
    above: Any,
    to_albedo: Any,
    to_orm: Any,
    to_cosine: Any,
    to_diffuse: Any,
    to_specular: Any,
    size: int,
    start: int,
    stop: int,
) -> None:
    one, zero, base = orm.dtype.type(1), orm.dtype.type(0), orm.dtype.type(0.04)
    for p in range(start, stop):
        metal, open_ = orm[3 * p + 2], one - orm[3 * p]
        scale, bias, scale_r, bias_r, scale_c, bias_c = _table(
            lut, size, orm[3 * p + 1], n_dot_v[p]
        )
        to_open, to_rough, to_metal, cosine = zero, zero, zero, zero
        for c in range(3):
            at = 3 * p + c
            g, kd, s = above[at], albedo[at], specular[at]
            colour = base * (one - metal) + kd * metal
            factor = colour * scale + bias
            to_open += g * (diffuse[at] * kd * (one - metal) + s * factor)
            g *= open_
            to_albedo[at] = g * (diffuse[at] * (one - metal) + s * metal * scale)
            to_diffuse[at] = g * kd * (one - metal)
            to_specular[at] = g * factor
            to_metal += g * (s * (kd - base) * scale - diffuse[at] * kd)
            to_rough += g * s * (colour * scale_r + bias_r)
            cosine += g * s * (colour * scale_c + bias_c)
        to_orm[3 * p] = -to_open
        to_orm[3 * p + 1] = to_rough
        to_orm[3 * p + 2] = to_metal
        to_cosine[p] = cosine
