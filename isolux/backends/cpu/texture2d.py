"""Lookups in mip-mapped textures. Letters as in `isolux.backends.sample`.

Levels are visited one after the other, each adding its share of every point: a point has shares
in two levels at most, and nothing needs all levels in one array. A texel's gradient is added
up by the one task that owns its band of rows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isolux.backends.cpu.arrays import zeros
from isolux.backends.cpu.jit import SHADING_MATH, kernel
from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.backends.reference.texture2d import THINNEST

__all__ = ["backward", "forward"]

_CHUNK = 32768  # points of a task
_USUAL = 9  # channels of a material, for which the kernels are unrolled
_BAND = 65536  # texels, about, that a task owns at least when it adds up gradients
_BANDS = 4  # such tasks of a level at most, as each looks at all points


def forward(
    levels: Sequence[Tensor], uv: Tensor, uv_da: Tensor | None, boundary: str
) -> Tensor:
    """Values [p, c]."""
    out = uv.new_zeros(len(uv), levels[0].shape[-1])
    at = _level_of(levels, uv, uv_da)
    common = uv.numpy().reshape(-1), at, *_order(at, len(levels), len(uv))
    flat = out.numpy().reshape(-1)

    def run(start: int, stop: int) -> None:
        for k, level in enumerate(levels):
            _forward(_flat(level), *_shape(level), *common, k, wrap, flat, start, stop)

    wrap = boundary == "wrap"
    parallel_for(run, chunks(len(uv), _CHUNK))
    return out


def backward(
    levels: Sequence[Tensor],
    uv: Tensor,
    uv_da: Tensor | None,
    boundary: str,
    grad: Tensor,
    need_levels: bool,
    need_uv: bool,
) -> tuple[list[Tensor] | None, Tensor | None]:
    """Gradients to the levels and to uv, None where not needed."""
    at = _level_of(levels, uv, uv_da)
    common = uv.numpy().reshape(-1), at, *_order(at, len(levels), len(uv))
    above, wrap = grad.numpy().reshape(-1), boundary == "wrap"
    to_levels = to_uv = None
    if need_levels:
        to_levels = [zeros(level.shape, level) for level in levels]
        parallel_for(
            _scatter,
            [
                (_flat(level), *_shape(level), *common, k, wrap, above, *rows)
                for k, level in enumerate(to_levels)
                for rows in _bands(level)
            ],
        )
    if need_uv:
        to_uv = torch.zeros_like(uv)
        flat = to_uv.numpy().reshape(-1)

        def run(start: int, stop: int) -> None:
            for k, level in enumerate(levels):
                _to_uv(_flat(level), *_shape(level), *common, k, wrap, above, flat, start, stop)

        parallel_for(run, chunks(len(uv), _CHUNK))
    return to_levels, to_uv


def _flat(level: Tensor) -> Any:
    return level.numpy().reshape(-1)


def _shape(level: Tensor) -> tuple[int, int, int]:
    height, width, channels = level.shape
    return height, width, channels


def _bands(level: Tensor) -> list[tuple[int, int]]:
    """Rows of a level, as tasks own them."""
    height, width, _ = level.shape
    return chunks(height, max(_BAND // width, -(-height // _BANDS)))


def _order(at: Any, levels: int, points: int) -> tuple[Any, Any]:
    """Points by the lower of their levels, and where those of each level begin and end.

    A level is then seen by a range of points, as large as what lies in it. Levels that no
    footprint reaches cost nothing.
    """
    if at.size == 0:
        return np.arange(points, dtype=np.uint32), np.array([0, points], dtype=np.int64)
    lower = at.astype(np.int8)
    ends = np.cumsum(np.bincount(lower, minlength=levels))
    return np.argsort(lower, kind="stable").astype(np.uint32), np.concatenate([[0], ends])


def _level_of(levels: Sequence[Tensor], uv: Tensor, uv_da: Tensor | None) -> Any:
    """The level of each point; empty if all look at the first one."""
    if uv_da is None:
        return uv.new_empty(0).numpy()
    height, width, _ = levels[0].shape
    level = uv.new_empty(len(uv)).numpy()
    real = level.dtype.type
    size = real(width), real(height), real(len(levels) - 1)
    tasks = [
        (uv_da.numpy().reshape(-1), *size, level, a, b) for a, b in chunks(len(uv), _CHUNK)
    ]
    parallel_for(_footprint, tasks)
    return level


@kernel
def _footprint(
    uv_da: Any, width: Any, height: Any, top: Any, level: Any, start: int, stop: int
) -> None:
    """log2 of the mean axis of a pixel's ellipse in texels, in [0, top]."""
    half, zero, thin = type(top)(0.5), type(top)(0), type(top)(1 / THINNEST)
    for p in range(start, stop):
        sx, sy = uv_da[4 * p] * width, uv_da[4 * p + 1] * width
        tx, ty = uv_da[4 * p + 2] * height, uv_da[4 * p + 3] * height
        a, b, c = sx * sx + tx * tx, sy * sy + ty * ty, sx * sy + tx * ty
        spread = half * (a - b)
        longer = half * (a + b) + np.sqrt(spread * spread + c * c)  # squared, as all here
        square = max(np.sqrt(max(a * b - c * c, zero)), longer * thin)
        # Written so that a footprint of zero, or not a number, lands on level 0.
        level[p] = min(half * np.log2(square), top) if square > 1 else zero


@kernel
def _range(ends: Any, k: int, start: int, stop: int) -> Any:
    """Of the ordered points in [start, stop), those that may see level k."""
    if k + 1 >= ends.size:
        return stop, stop
    return max(start, ends[max(k - 1, 0)]), min(stop, ends[k + 1])


@kernel
def _share(level: Any, p: int, k: int, one: Any) -> Any:
    """How much of level k a point sees."""
    if level.size == 0:
        return one
    return max(one - abs(level[p] - type(one)(k)), one - one)


@kernel
def _axis(u: Any, count: int, wrap: bool) -> Any:
    """The two texels of one axis, the place between them, and whether u moves it (1 or 0)."""
    one, half = type(u)(1), type(u)(0.5)
    finite = abs(u) < np.inf
    moves = one if finite else one - one
    u = u if finite else one - one
    if wrap:
        x = (u - np.floor(u)) * type(u)(count) - half
        low = int(np.floor(x))
        inside = x - type(u)(low)
        low = low + count if low < 0 else low
        high = low + 1
        return low, (0 if high >= count else high), inside, moves
    x = u * type(u)(count) - half
    last = type(u)(count - 1)
    if x < 0 or x > last:
        moves = one - one
    x = min(max(x, one - one), last)
    low = min(int(x), max(count - 2, 0))
    return low, min(low + 1, count - 1), x - type(u)(low), moves


@kernel(fastmath=SHADING_MATH)
def _mix(
    texels: Any,
    a: Any,
    b: Any,
    c: Any,
    d: Any,
    w00: Any,
    w10: Any,
    w01: Any,
    w11: Any,
    out: Any,
    o: Any,
    channels: int,
) -> None:
    """Add four weighted texels to a point's values."""
    for channel in range(channels):
        i = np.uint64(channel)
        upper = w00 * texels[a + i] + w10 * texels[b + i]
        out[o + i] += upper + (w01 * texels[c + i] + w11 * texels[d + i])


@kernel(fastmath=SHADING_MATH)
def _add(
    out: Any, a: Any, b: Any, left: Any, right: Any, above: Any, o: Any, channels: int
) -> None:
    """Add a point's gradient to two texels."""
    for channel in range(channels):
        i = np.uint64(channel)
        g = above[o + i]
        out[a + i] += left * g
        out[b + i] += right * g


@kernel(fastmath=SHADING_MATH)
def _products(
    texels: Any, a: Any, b: Any, c: Any, d: Any, above: Any, o: Any, channels: int
) -> Any:
    """Products of a point's gradient with four texels."""
    zero = above.dtype.type(0)
    t00, t10, t01, t11 = zero, zero, zero, zero
    for channel in range(channels):
        i = np.uint64(channel)
        g = above[o + i]
        t00 += g * texels[a + i]
        t10 += g * texels[b + i]
        t01 += g * texels[c + i]
        t11 += g * texels[d + i]
    return t00, t10, t01, t11


@kernel(fastmath=SHADING_MATH)
def _forward(
    texels: Any,
    height: int,
    width: int,
    channels: int,
    uv: Any,
    level: Any,
    order: Any,
    ends: Any,
    k: int,
    wrap: bool,
    out: Any,
    start: int,
    stop: int,
) -> None:
    one = uv.dtype.type(1)
    first, last = _range(ends, k, start, stop)
    for j in range(first, last):
        p = int(order[j])
        share = _share(level, p, k, one)
        if share <= 0:
            continue
        left, right, x, _ = _axis(uv[2 * p], width, wrap)
        top, bottom, y, _ = _axis(uv[2 * p + 1], height, wrap)
        w00, w10 = (one - x) * (one - y) * share, x * (one - y) * share
        w01, w11 = (one - x) * y * share, x * y * share
        a = np.uint64((top * width + left) * channels)
        b = np.uint64((top * width + right) * channels)
        c = np.uint64((bottom * width + left) * channels)
        d = np.uint64((bottom * width + right) * channels)
        o = np.uint64(p * channels)
        if channels == _USUAL:  # the compiler unrolls what it can count
            _mix(texels, a, b, c, d, w00, w10, w01, w11, out, o, _USUAL)
        else:
            _mix(texels, a, b, c, d, w00, w10, w01, w11, out, o, channels)


@kernel(fastmath=SHADING_MATH)
def _scatter(
    out: Any,
    height: int,
    width: int,
    channels: int,
    uv: Any,
    level: Any,
    order: Any,
    ends: Any,
    k: int,
    wrap: bool,
    above: Any,
    first: int,
    last: int,
) -> None:
    """Add gradients to the rows in [first, last)."""
    one = uv.dtype.type(1)
    begin, end = _range(ends, k, 0, order.size)
    for j in range(begin, end):
        p = int(order[j])
        share = _share(level, p, k, one)
        if share <= 0:
            continue
        top, bottom, y, _ = _axis(uv[2 * p + 1], height, wrap)
        upper, lower = first <= top < last, first <= bottom < last
        if not (upper or lower):
            continue
        left, right, x, _ = _axis(uv[2 * p], width, wrap)
        for side in range(2):
            if not (lower if side else upper):
                continue
            weight = share * (y if side else one - y)
            row = (bottom if side else top) * width
            a = np.uint64((row + left) * channels)
            b = np.uint64((row + right) * channels)
            o = np.uint64(p * channels)
            if channels == _USUAL:
                _add(out, a, b, (one - x) * weight, x * weight, above, o, _USUAL)
            else:
                _add(out, a, b, (one - x) * weight, x * weight, above, o, channels)


@kernel(fastmath=SHADING_MATH)
def _to_uv(
    texels: Any,
    height: int,
    width: int,
    channels: int,
    uv: Any,
    level: Any,
    order: Any,
    ends: Any,
    k: int,
    wrap: bool,
    above: Any,
    out: Any,
    start: int,
    stop: int,
) -> None:
    one = uv.dtype.type(1)
    first, last = _range(ends, k, start, stop)
    for j in range(first, last):
        p = int(order[j])
        share = _share(level, p, k, one)
        if share <= 0:
            continue
        left, right, x, move_u = _axis(uv[2 * p], width, wrap)
        top, bottom, y, move_v = _axis(uv[2 * p + 1], height, wrap)
        a = np.uint64((top * width + left) * channels)
        b = np.uint64((top * width + right) * channels)
        c = np.uint64((bottom * width + left) * channels)
        d = np.uint64((bottom * width + right) * channels)
        o = np.uint64(p * channels)
        if channels == _USUAL:
            t00, t10, t01, t11 = _products(texels, a, b, c, d, above, o, _USUAL)
        else:
            t00, t10, t01, t11 = _products(texels, a, b, c, d, above, o, channels)
        du = (one - y) * (t10 - t00) + y * (t11 - t01)
        dv = (one - x) * (t01 - t00) + x * (t11 - t10)
        out[2 * p] += du * share * move_u * type(one)(width)
        out[2 * p + 1] += dv * share * move_v * type(one)(height)
