"""Interpolation of corner attributes at pixels, on the processor."""

from typing import Any

import numpy as np
from torch import Tensor

from isolux.backends.cpu.arrays import check_indices, flat, flat_index
from isolux.backends.cpu.jit import kernel
from isolux.backends.cpu.pool import chunks, parallel_for

__all__ = ["backward", "forward"]

_PIXELS = 16384  # of a task
_PARTS = 8  # private sums of the attributes' gradient, at most


def forward(attributes: Tensor, corners: Tensor, triangle: Tensor, uv: Tensor) -> Tensor:
    """Raw `interpolate`: u a_0 + v a_1 + (1 - u - v) a_2 at each pixel."""
    check_indices("corners", corners, len(attributes))
    check_indices("triangle", triangle, len(corners))
    pixels, columns = len(triangle), attributes.shape[1]
    out = attributes.new_empty(pixels, columns)
    arrays = flat(attributes), flat_index(corners), flat_index(triangle), flat(uv), flat(out)
    parallel_for(_forward, [(*arrays, columns, *part) for part in chunks(pixels, _PIXELS)])
    return out


def backward(
    attributes: Tensor,
    corners: Tensor,
    triangle: Tensor,
    uv: Tensor,
    grad: Tensor,
    need_attributes: bool,
    need_uv: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Raw gradients of `interpolate`, to the attributes and to the weights, where needed.

    Pixels are cut into parts by their number; each part sums into an array of its own, and the
    arrays are added in order.
    """
    pixels, columns = len(triangle), attributes.shape[1]
    f, t, w, g = flat_index(corners), flat_index(triangle), flat(uv), flat(grad)
    to_attributes = to_uv = None
    if need_uv:
        to_uv = uv.new_zeros(pixels, 2)
        a, u = flat(attributes), flat(to_uv)
        parallel_for(
            _backward_uv, [(a, f, t, g, u, columns, *part) for part in chunks(pixels, _PIXELS)]
        )
    if need_attributes:
        # A private sum pays while it is no larger than what is summed into it.
        count = max(1, min(_PARTS, pixels // max(2 * len(attributes), 1)))
        cuts = [pixels * k // count for k in range(count + 1)]
        parts = attributes.new_zeros(count, *attributes.shape)
        parallel_for(
            _backward_attributes,
            [(f, t, w, g, flat(parts[k]), columns, cuts[k], cuts[k + 1]) for k in range(count)],
        )
        to_attributes = parts[0]
        for part in parts[1:]:
            to_attributes += part
    return to_attributes, to_uv


@kernel
def _forward(
    attributes: Any,
    corners: Any,
    triangle: Any,
    uv: Any,
    out: Any,
    columns: int,
    start: int,
    stop: int,
) -> None:
    one, two, three, c = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(columns)
    for n in range(np.uint64(start), np.uint64(stop)):
        face = three * np.uint64(triangle[n])
        i0 = c * np.uint64(corners[face])
        i1 = c * np.uint64(corners[face + one])
        i2 = c * np.uint64(corners[face + two])
        u, v = uv[two * n], uv[two * n + one]
        w = uv.dtype.type(1) - u - v
        o = c * n
        for j in range(c):
            out[o + j] = (
                u * attributes[i0 + j] + v * attributes[i1 + j] + w * attributes[i2 + j]
            )


@kernel
def _backward_uv(
    attributes: Any,
    corners: Any,
    triangle: Any,
    grad: Any,
    to_uv: Any,
    columns: int,
    start: int,
    stop: int,
) -> None:
    one, two, three, c = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(columns)
    for n in range(np.uint64(start), np.uint64(stop)):
        face = three * np.uint64(triangle[n])
        i0 = c * np.uint64(corners[face])
        i1 = c * np.uint64(corners[face + one])
        i2 = c * np.uint64(corners[face + two])
        o = c * n
        gu = gv = grad.dtype.type(0)
        for j in range(c):
            g, last = grad[o + j], attributes[i2 + j]
            gu += g * (attributes[i0 + j] - last)
            gv += g * (attributes[i1 + j] - last)
        to_uv[two * n], to_uv[two * n + one] = gu, gv


@kernel
def _backward_attributes(
    corners: Any,
    triangle: Any,
    uv: Any,
    grad: Any,
    total: Any,
    columns: int,
    start: int,
    stop: int,
) -> None:
    one, two, three, c = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(columns)
    for n in range(np.uint64(start), np.uint64(stop)):
        face = three * np.uint64(triangle[n])
        i0 = c * np.uint64(corners[face])
        i1 = c * np.uint64(corners[face + one])
        i2 = c * np.uint64(corners[face + two])
        u, v = uv[two * n], uv[two * n + one]
        w = uv.dtype.type(1) - u - v
        o = c * n
        for j in range(c):
            g = grad[o + j]
            total[i0 + j] += u * g
            total[i1 + j] += v * g
            total[i2 + j] += w * g
