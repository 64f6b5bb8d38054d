"""Seamless cube map lookups. Letters as in `isolux.backends.sample`.

Faces are first padded by one texel of their neighbours, so that a lookup is an ordinary
bilinear one and no inner loop knows of edges. The gradient goes to padded faces, of which each
part of the points has its own; these are added in order and then folded back.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isolux.backends import cubes
from isolux.backends.cpu.arrays import flat
from isolux.backends.cpu.jit import SHADING_MATH, kernel
from isolux.backends.cpu.pool import chunks, parallel_for

__all__ = ["backward", "forward"]

_CHUNK = 16384  # points of a task
_PARTS = 8  # private sums of the texels' gradients, at most
_USUAL = 3  # channels of light, for which the kernels are unrolled


def forward(levels: Sequence[Tensor], direction: Tensor, level: Tensor | None) -> Tensor:
    """Values [p, c]."""
    channels = levels[0].shape[-1]
    out = direction.new_zeros(len(direction), channels)
    maps = _padded(levels)
    at = direction.numpy().reshape(-1), _levels_of(direction, level)
    tasks = [
        (*maps, channels, *at, _axes(direction), out.numpy().reshape(-1), start, stop)
        for start, stop in chunks(len(direction), _CHUNK)
    ]
    parallel_for(_forward, tasks)
    return out


def backward(
    levels: Sequence[Tensor],
    direction: Tensor,
    level: Tensor | None,
    grad: Tensor,
    need_levels: bool,
    need_place: bool,
) -> tuple[list[Tensor] | None, Tensor | None, Tensor | None]:
    """Gradients to the levels' texels, and to direction and level; None where not needed."""
    above, channels = grad.contiguous().numpy().reshape(-1), levels[0].shape[-1]
    at = direction.numpy().reshape(-1), _levels_of(direction, level)
    padded, starts, sizes = _padded(levels)
    count, texels = len(direction), int(starts[-1])
    # A private sum pays while it is no larger than what is summed into it.
    parts = min(_PARTS, 1 + count // texels) if need_levels else -(-count // _CHUNK)
    cuts = [count * k // max(parts, 1) for k in range(parts + 1)]
    sums = direction.new_zeros(parts, texels * channels if need_levels else 0)
    to_direction = torch.zeros_like(direction) if need_place else direction.new_empty(0)
    to_level = direction.new_zeros(count if need_place else 0)
    outs = to_direction.numpy().reshape(-1), to_level.numpy()
    common = padded, starts, sizes, channels, *at, _axes(direction), above, *outs
    parallel_for(
        _backward, [(*common, sums[k].numpy(), cuts[k], cuts[k + 1]) for k in range(parts)]
    )
    return (
        _to_texels(levels, starts, sizes, sums) if need_levels else None,
        to_direction if need_place else None,
        None if level is None or not need_place else to_level,
    )


def _to_texels(levels: Sequence[Tensor], starts: Any, sizes: Any, sums: Tensor) -> list[Tensor]:
    """The parts' sums, added in order and folded."""
    padded = sums[0]
    for part in sums[1:]:
        padded += part
    out = [torch.zeros_like(texels) for texels in levels]
    channels = levels[0].shape[-1]
    parallel_for(
        _fold,
        [
            (padded.numpy(), int(start), int(size), channels, _index(int(size)), flat(o))
            for start, size, o in zip(starts, sizes, out, strict=False)
        ],
    )
    return out


def _layout(levels: Sequence[Tensor]) -> tuple[Any, Any]:
    """Edge of each level, and its first texel among all levels' padded ones."""
    sizes = np.array([texels.shape[1] for texels in levels], dtype=np.int64)
    return sizes, np.concatenate([[0], np.cumsum(6 * (sizes + 2) ** 2)])


def _padded(levels: Sequence[Tensor]) -> tuple[Any, Any, Any]:
    sizes, starts = _layout(levels)
    channels = levels[0].shape[-1]
    padded = levels[0].new_empty(int(starts[-1]) * channels).numpy()
    tasks = [
        (texels.numpy().reshape(-1), int(start), int(size), channels, _index(int(size)), face)
        for texels, start, size in zip(levels, starts, sizes, strict=False)
        for face in range(6)
    ]
    parallel_for(_pad, [(padded, *task) for task in tasks])
    return padded, starts, sizes


def _index(size: int) -> Any:
    return cubes.padding(size).numpy().reshape(-1)


def _axes(like: Tensor) -> Any:
    return cubes.AXES.astype(np.float64 if like.dtype == torch.float64 else np.float32).ravel()


def _levels_of(direction: Tensor, level: Tensor | None) -> Any:
    """The levels, or an empty array that stands for the base."""
    return direction.new_empty(0).numpy() if level is None else level.numpy()


@kernel
def _pad(
    padded: Any, texels: Any, start: int, size: int, channels: int, index: Any, face: int
) -> None:
    wide = size + 2
    third = texels.dtype.type(1) / texels.dtype.type(3)
    for row in range(wide):
        for column in range(wide):
            here = (face * wide + row) * wide + column
            at = (start + here) * channels
            source = index[here]
            if source >= 0:
                for k in range(channels):
                    padded[at + k] = texels[source * channels + k]
            else:  # the mean of the three texels that meet at the cube's corner
                right = -1 if column else 1
                down = -wide if row else wide
                a, b, c = index[here + right], index[here + down], index[here + right + down]
                for k in range(channels):
                    total = texels[a * channels + k] + texels[b * channels + k]
                    padded[at + k] = (total + texels[c * channels + k]) * third


@kernel
def _fold(padded: Any, start: int, size: int, channels: int, index: Any, out: Any) -> None:
    """The adjoint of `_pad`, faces in order."""
    wide = size + 2
    third = out.dtype.type(1) / out.dtype.type(3)
    for here in range(6 * wide * wide):
        at = (start + here) * channels
        target = index[here]
        if target >= 0:
            for k in range(channels):
                out[target * channels + k] += padded[at + k]
        else:
            right = -1 if here % wide else 1
            down = -wide if here // wide % wide else wide
            a, b, c = index[here + right], index[here + down], index[here + right + down]
            for k in range(channels):
                part = padded[at + k] * third
                out[a * channels + k] += part
                out[b * channels + k] += part
                out[c * channels + k] += part


@kernel
def _face(direction: Any, p: int) -> int:
    """The face that a direction meets, or -1 for none: zero, infinite or not a number."""
    x, y, z = abs(direction[3 * p]), abs(direction[3 * p + 1]), abs(direction[3 * p + 2])
    total = x + y + z
    if not (total > 0 and total < np.inf):
        return -1
    axis = 2 if z > max(x, y) else (1 if y > x else 0)
    return 2 * axis + (0 if direction[3 * p + axis] > 0 else 1)


@kernel
def _project(direction: Any, axes: Any, face: int, p: int) -> Any:
    """Place on the face in [-1, 1]^2, and one over the major coordinate."""
    x, y, z = direction[3 * p], direction[3 * p + 1], direction[3 * p + 2]
    f = 9 * face
    one = type(x)(1)
    inverse = one / (axes[f + 6] * x + axes[f + 7] * y + axes[f + 8] * z)
    u = (axes[f] * x + axes[f + 1] * y + axes[f + 2] * z) * inverse
    v = (axes[f + 3] * x + axes[f + 4] * y + axes[f + 5] * z) * inverse
    return u, v, inverse


@kernel(fastmath=SHADING_MATH)
def _taps(u: Any, v: Any, face: int, start: int, size: int) -> Any:
    """First of the four padded texels, the row's stride, and the place between them."""
    half, one, edge = type(u)(0.5), type(u)(1), type(u)(size)
    x = (u * half + half) * edge + half  # in [0.5, size + 0.5]: counted from the padding
    y = (v * half + half) * edge + half
    column = min(max(int(x), 0), size)
    row = min(max(int(y), 0), size)
    wide = size + 2
    first = start + (face * wide + row) * wide + column
    return first, wide, x - type(u)(column), y - type(u)(row), edge * half * one


@kernel(fastmath=SHADING_MATH)
def _blend(level: Any, p: int, count: int, one: Any) -> Any:
    """The lower of the two levels, the share of the upper one, and whether it can move."""
    if level.size == 0 or count == 1:
        return 0, one - one, False
    at = level[p]
    top = type(one)(count - 1)
    if not at > 0:  # also not a number
        return 0, one - one, at == 0
    if at >= top:
        return count - 2, one, at == top
    lower = int(at)
    return lower, at - type(one)(lower), True


@kernel(fastmath=SHADING_MATH)
def _mix(
    padded: Any,
    a: Any,
    b: Any,
    w00: Any,
    w10: Any,
    w01: Any,
    w11: Any,
    out: Any,
    o: Any,
    channels: int,
) -> None:
    """Add four weighted texels to a point's values."""
    right = np.uint64(channels)
    for c in range(channels):
        i = np.uint64(c)
        top = w00 * padded[a + i] + w10 * padded[a + right + i]
        bottom = w01 * padded[b + i] + w11 * padded[b + right + i]
        out[o + i] += top + bottom


@kernel(fastmath=SHADING_MATH)
def _forward(
    padded: Any,
    starts: Any,
    sizes: Any,
    channels: int,
    direction: Any,
    level: Any,
    axes: Any,
    out: Any,
    start: int,
    stop: int,
) -> None:
    one = direction.dtype.type(1)
    for p in range(start, stop):
        face = _face(direction, p)
        if face < 0:
            continue
        u, v, _ = _project(direction, axes, face, p)
        lower, share, _ = _blend(level, p, sizes.size, one)
        o = np.uint64(p * channels)
        for side in range(2):
            weight = share if side else one - share
            if weight == 0:
                continue
            k = lower + side
            first, wide, x, y, _ = _taps(u, v, face, starts[k], sizes[k])
            a = np.uint64(first * channels)
            b = np.uint64((first + wide) * channels)
            w00, w10 = (one - x) * (one - y) * weight, x * (one - y) * weight
            w01, w11 = (one - x) * y * weight, x * y * weight
            if channels == _USUAL:  # the compiler unrolls what it can count
                _mix(padded, a, b, w00, w10, w01, w11, out, o, _USUAL)
            else:
                _mix(padded, a, b, w00, w10, w01, w11, out, o, channels)


@kernel(fastmath=SHADING_MATH)
def _add(
    out: Any,
    a: Any,
    b: Any,
    w00: Any,
    w10: Any,
    w01: Any,
    w11: Any,
    above: Any,
    o: Any,
    channels: int,
) -> None:
    """Add a point's gradient to four texels."""
    right = np.uint64(channels)
    for c in range(channels):
        i = np.uint64(c)
        g = above[o + i]
        out[a + i] += w00 * g
        out[a + right + i] += w10 * g
        out[b + i] += w01 * g
        out[b + right + i] += w11 * g


@kernel(fastmath=SHADING_MATH)
def _products(padded: Any, a: Any, b: Any, above: Any, o: Any, channels: int) -> Any:
    """Products of a point's gradient with four texels."""
    zero, right = above.dtype.type(0), np.uint64(channels)
    t00, t10, t01, t11 = zero, zero, zero, zero
    for c in range(channels):
        i = np.uint64(c)
        g = above[o + i]
        t00 += g * padded[a + i]
        t10 += g * padded[a + right + i]
        t01 += g * padded[b + i]
        t11 += g * padded[b + right + i]
    return t00, t10, t01, t11


@kernel(fastmath=SHADING_MATH)
def _backward(
    padded: Any,
    starts: Any,
    sizes: Any,
    channels: int,
    direction: Any,
    level: Any,
    axes: Any,
    above: Any,
    to_direction: Any,
    to_level: Any,
    total: Any,
    start: int,
    stop: int,
) -> None:
    """Add the gradients of points in [start, stop) to padded texels; write those of places."""
    one = direction.dtype.type(1)
    texels, place = total.size > 0, to_level.size > 0
    for p in range(start, stop):
        face = _face(direction, p)
        if face < 0:
            continue
        u, v, inverse = _project(direction, axes, face, p)
        lower, share, moves = _blend(level, p, sizes.size, one)
        du, dv, slope = one - one, one - one, one - one
        o = np.uint64(p * channels)
        for side in range(2):
            weight = share if side else one - share
            if weight == 0 and not moves:
                continue
            k = lower + side
            first, wide, x, y, scale = _taps(u, v, face, starts[k], sizes[k])
            a = np.uint64(first * channels)
            b = np.uint64((first + wide) * channels)
            if texels:
                w00, w10 = (one - x) * (one - y) * weight, x * (one - y) * weight
                w01, w11 = (one - x) * y * weight, x * y * weight
                if channels == _USUAL:
                    _add(total, a, b, w00, w10, w01, w11, above, o, _USUAL)
                else:
                    _add(total, a, b, w00, w10, w01, w11, above, o, channels)
            if place:
                if channels == _USUAL:
                    t00, t10, t01, t11 = _products(padded, a, b, above, o, _USUAL)
                else:
                    t00, t10, t01, t11 = _products(padded, a, b, above, o, channels)
                du += weight * scale * ((one - y) * (t10 - t00) + y * (t11 - t01))
                dv += weight * scale * ((one - x) * (t01 - t00) + x * (t11 - t10))
                top, bottom = (one - x) * t00 + x * t10, (one - x) * t01 + x * t11
                value = (one - y) * top + y * bottom
                slope += value if side else -value
        if place:
            if moves:
                to_level[p] = slope
            f = 9 * face
            along = -(du * u + dv * v)
            for k in range(3):
                along_k = du * axes[f + k] + dv * axes[f + 3 + k] + along * axes[f + 6 + k]
                to_direction[3 * p + k] = along_k * inverse
