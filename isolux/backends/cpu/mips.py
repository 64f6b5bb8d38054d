"""The next smaller mip of a texture. Letters: h rows, w columns, c channels of the larger one.

A task owns rows of the smaller texture. Where h is even each has two rows of the larger one
to itself; where it is odd neighbours share one, and a single task adds up all gradients.

Plain IEEE arithmetic: the compiler makes two loops, for arrays that lie apart and for arrays
that may overlap, and chooses by their addresses; if sums could be reassociated the two would
round differently, and a run would depend on where its memory lies.
"""

from typing import Any

from torch import Tensor

from isolux.backends.cpu.jit import kernel
from isolux.backends.cpu.pool import chunks, parallel_for

__all__ = ["backward", "forward"]

_TEXELS = 16384  # of the smaller texture, about, that a task owns


def forward(texture: Tensor) -> Tensor:
    """Raw `halve`: [h, w, c] to half its extents, rounded down, at least 1."""
    height, width, channels = texture.shape
    out = texture.new_empty(max(height // 2, 1), max(width // 2, 1), channels)
    run = _even if height % 2 == width % 2 == 0 else _odd
    arrays = texture.numpy().reshape(-1), out.numpy().reshape(-1)
    tasks = chunks(len(out), max(_TEXELS // out.shape[1], 1))
    parallel_for(run, [(*arrays, height, width, channels, *rows) for rows in tasks])
    return out


def backward(grad: Tensor, into: Tensor) -> None:
    """Add the adjoint of `forward` at `grad` to `into`, shaped as the larger texture."""
    height, width, channels = into.shape
    rows = len(grad)
    owned = max(_TEXELS // grad.shape[1], 1) if height % 2 == 0 else rows
    run = _even_backward if height % 2 == width % 2 == 0 else _odd_backward
    arrays = grad.numpy().reshape(-1), into.numpy().reshape(-1)
    tasks = [(*arrays, height, width, channels, *part) for part in chunks(rows, owned)]
    parallel_for(run, tasks)


@kernel
def _even(
    texels: Any, out: Any, height: int, width: int, channels: int, first: int, last: int
) -> None:
    quarter = out.dtype.type(0.25)
    row, half = width * channels, width // 2
    for y in range(first, last):
        for x in range(half):
            a = 2 * y * row + 2 * x * channels
            o = (y * half + x) * channels
            for c in range(channels):
                upper = texels[a + c] + texels[a + channels + c]
                lower = texels[a + row + c] + texels[a + row + channels + c]
                out[o + c] = quarter * (upper + lower)


@kernel
def _even_backward(
    grad: Any, into: Any, height: int, width: int, channels: int, first: int, last: int
) -> None:
    """Texels that no pixel saw are passed by: their memory is not even touched."""
    quarter, zero = grad.dtype.type(0.25), grad.dtype.type(0)
    row, half = width * channels, width // 2
    for y in range(first, last):
        for x in range(half):
            a = 2 * y * row + 2 * x * channels
            o = (y * half + x) * channels
            seen = False
            for c in range(channels):
                seen |= grad[o + c] != zero
            if not seen:
                continue
            for c in range(channels):
                g = quarter * grad[o + c]
                into[a + c] += g
                into[a + channels + c] += g
                into[a + row + c] += g
                into[a + row + channels + c] += g


@kernel
def _taps(index: int, count: int, one: Any) -> Any:
    """Shares of the three texels from 2 index on; zero where there are fewer."""
    zero = one - one
    if count == 1:
        return one, zero, zero
    if count % 2 == 0:
        return one / type(one)(2), one / type(one)(2), zero
    half, whole = count // 2, type(one)(count)
    return (
        type(one)(half - index) / whole,
        type(one)(half) / whole,
        type(one)(index + 1) / whole,
    )


@kernel
def _odd(
    texels: Any, out: Any, height: int, width: int, channels: int, first: int, last: int
) -> None:
    """Any extents, one of them odd."""
    one = out.dtype.type(1)
    half = max(width // 2, 1)
    for y in range(first, last):
        rows = _taps(y, height, one)
        for x in range(half):
            columns = _taps(x, width, one)
            o = (y * half + x) * channels
            for c in range(channels):
                out[o + c] = one - one
            for j in range(min(3, height - 2 * y)):
                for i in range(min(3, width - 2 * x)):
                    share = rows[j] * columns[i]
                    a = ((2 * y + j) * width + 2 * x + i) * channels
                    for c in range(channels):
                        out[o + c] += share * texels[a + c]


@kernel
def _odd_backward(
    grad: Any, into: Any, height: int, width: int, channels: int, first: int, last: int
) -> None:
    one = grad.dtype.type(1)
    half = max(width // 2, 1)
    tall = 2 if height % 2 == 0 else 3
    for y in range(first, last):
        rows = _taps(y, height, one)
        for x in range(half):
            columns = _taps(x, width, one)
            o = (y * half + x) * channels
            for j in range(min(tall, height - 2 * y)):
                for i in range(min(3, width - 2 * x)):
                    share = rows[j] * columns[i]
                    a = ((2 * y + j) * width + 2 * x + i) * channels
                    for c in range(channels):
                        into[a + c] += share * grad[o + c]
