"""Seamless cube map lookups. Letters as in `isolux.backends.sample`.

Faces are first padded by one texel of their neighbours, so that a lookup is an ordinary
bilinear one and no inner loop knows of edges. The gradient goes to padded faces, each owned by
one task, and is then folded back.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isolux.backends import cubes
from isolux.backends.cpu.jit import SHADING_MATH, kernel
from isolux.backends.cpu.pool import chunks, parallel_for

__all__ = ["backward", "forward"]

_CHUNK = 16384  # points of a task


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
    above = grad.contiguous().numpy().reshape(-1)
    at = direction.numpy().reshape(-1), _levels_of(direction, level)
    channels = levels[0].shape[-1]
    to_levels = to_direction = to_level = None
    if need_levels:
        to_levels = _to_texels(levels, len(direction), channels, at, _axes(direction), above)
    if need_place:
        to_direction = torch.zeros_like(direction)
        slope = direction.new_zeros(len(direction))
        outs = to_direction.numpy().reshape(-1), slope.numpy()
        maps = _padded(levels)
        tasks = [
            (*maps, channels, *at, _axes(direction), above, *outs, start, stop)
            for start, stop in chunks(len(direction), _CHUNK)
        ]
        parallel_for(_to_place, tasks)
        to_level = None if level is None else slope
    return to_levels, to_direction, to_level


def _to_texels(
    levels: Sequence[Tensor], count: int, channels: int, at: Any, axes: Any, above: Any
) -> list[Tensor]:
    sizes, starts = _layout(levels)
    padded = levels[0].new_zeros(int(starts[-1]) * channels).numpy()
    face = np.zeros(count, dtype=np.int8)
    parallel_for(_faces, [(at[0], axes, face, a, b) for a, b in chunks(count, _CHUNK)])
    order = np.argsort(face, kind="stable")  # the points of a face together, in their order
    ends = np.searchsorted(face[order], np.arange(7))
    parallel_for(
        _scatter,
        [
            (padded, starts, sizes, channels, *at, axes, above, order[ends[f] : ends[f + 1]])
            for f in range(6)
        ],
    )
    out = [torch.zeros_like(texels) for texels in levels]
    parallel_for(
        _fold,
        [
            (padded, int(starts[k]), int(sizes[k]), channels, _index(int(sizes[k])), o)
            for k, o in enumerate(o.numpy().reshape(-1) for o in out)
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
def _faces(direction: Any, axes: Any, face: Any, start: int, stop: int) -> None:
    for p in range(start, stop):
        face[p] = _face(direction, p)


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
        for side in range(2):
            weight = share if side else one - share
            if weight == 0:
                continue
            k = lower + side
            first, wide, x, y, _ = _taps(u, v, face, starts[k], sizes[k])
            a = np.uint64(first * channels)
            b = np.uint64((first + wide) * channels)
            right = np.uint64(channels)
            w00, w10 = (one - x) * (one - y) * weight, x * (one - y) * weight
            w01, w11 = (one - x) * y * weight, x * y * weight
            for c in range(channels):
                i = np.uint64(c)
                top = w00 * padded[a + i] + w10 * padded[a + right + i]
                bottom = w01 * padded[b + i] + w11 * padded[b + right + i]
                out[p * channels + c] += top + bottom


@kernel(fastmath=SHADING_MATH)
def _scatter(
    padded: Any,
    starts: Any,
    sizes: Any,
    channels: int,
    direction: Any,
    level: Any,
    axes: Any,
    above: Any,
    order: Any,
) -> None:
    """Add the gradients of one face's points to its padded texels."""
    one = direction.dtype.type(1)
    for j in range(order.size):
        p = order[j]
        face = _face(direction, p)
        u, v, _ = _project(direction, axes, face, p)
        lower, share, _ = _blend(level, p, sizes.size, one)
        for side in range(2):
            weight = share if side else one - share
            if weight == 0:
                continue
            k = lower + side
            first, wide, x, y, _ = _taps(u, v, face, starts[k], sizes[k])
            a = np.uint64(first * channels)
            b = np.uint64((first + wide) * channels)
            right = np.uint64(channels)
            w00, w10 = (one - x) * (one - y) * weight, x * (one - y) * weight
            w01, w11 = (one - x) * y * weight, x * y * weight
            for c in range(channels):
                i = np.uint64(c)
                g = above[p * channels + c]
                padded[a + i] += w00 * g
                padded[a + right + i] += w10 * g
                padded[b + i] += w01 * g
                padded[b + right + i] += w11 * g


@kernel(fastmath=SHADING_MATH)
def _to_place(
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
    start: int,
    stop: int,
) -> None:
    """Gradients to directions and levels of points in [start, stop)."""
    one = direction.dtype.type(1)
    for p in range(start, stop):
        face = _face(direction, p)
        if face < 0:
            continue
        u, v, inverse = _project(direction, axes, face, p)
        lower, share, moves = _blend(level, p, sizes.size, one)
        du, dv, slope = one - one, one - one, one - one
        for side in range(2):
            weight = share if side else one - share
            if weight == 0 and not moves:
                continue
            k = lower + side
            first, wide, x, y, scale = _taps(u, v, face, starts[k], sizes[k])
            a = np.uint64(first * channels)
            b = np.uint64((first + wide) * channels)
            right = np.uint64(channels)
            value = one - one
            for c in range(channels):
                i = np.uint64(c)
                g = above[p * channels + c]
                t00, t10 = padded[a + i], padded[a + right + i]
                t01, t11 = padded[b + i], padded[b + right + i]
                du += g * weight * scale * ((one - y) * (t10 - t00) + y * (t11 - t01))
                dv += g * weight * scale * ((one - x) * (t01 - t00) + x * (t11 - t10))
                top = (one - x) * t00 + x * t10
                value += g * (top + y * ((one - x) * t01 + x * t11 - top))
            slope += value if side else -value
        if moves:
            to_level[p] = slope
        f = 9 * face
        along = -(du * u + dv * v)
        for k in range(3):
            total = du * axes[f + k] + dv * axes[f + 3 + k] + along * axes[f + 6 + k]
            to_direction[3 * p + k] = total * inverse
