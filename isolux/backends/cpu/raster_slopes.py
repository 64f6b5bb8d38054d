"""How the weights of drawn triangles change: with their corners, and over the screen.

With corners p_i = (x, y, w) and a pixel at f = (fx, fy), q_i = p_i.xy - w_i f: the edge
functions are a_0 = q_1 x q_2 and so on around, and u = a_0 / S, v = a_1 / S with S their sum.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from isolux.backends.cpu.arrays import check_indices, flat, flat_index
from isolux.backends.cpu.bands import bands
from isolux.backends.cpu.jit import kernel
from isolux.backends.cpu.pool import chunks, parallel_for

__all__ = ["backward", "screen_derivatives"]


def backward(
    clip: Tensor, faces: Tensor, triangle: Tensor, uv: Tensor, grad_uv: Tensor
) -> Tensor:
    """Raw gradient of `rasterize`: from the weights to clip x, y, w; none to z."""
    views, count = clip.shape[:2]
    height, width = triangle.shape[1:]
    tasks = bands(views, height)
    per_view = max(len(tasks) // max(views, 1), 1)
    parts = clip.new_zeros(per_view, views, count, 4)
    p, f, t, w, g = flat(clip), flat_index(faces), flat(triangle), flat(uv), flat(grad_uv)
    parallel_for(
        _draw_backward,
        [
            (p, f, t, w, g, flat(parts[k % per_view, band[0]]), count, height, width, *band)
            for k, band in enumerate(tasks)
        ],
    )
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total


def screen_derivatives(
    clip: Tensor, faces: Tensor, triangle: Tensor, uv: Tensor, pixels: Tensor
) -> Tensor:
    """Raw `screen_derivatives`: du/dX, du/dY, dv/dX, dv/dY a pixel step at the given pixels."""
    height, width = triangle.shape[1:]
    check_indices("pixels", pixels, triangle.numel())
    out = clip.new_zeros(len(pixels), 4)
    p, f, t, w, o = flat(clip), flat_index(faces), flat(triangle), flat(uv), flat(out)
    index = flat(pixels.to(torch.int64)).view(np.uint64)
    parallel_for(
        _screen_derivatives,
        [
            (p, f, t, w, index, o, clip.shape[1], height, width, *part)
            for part in chunks(len(pixels), 16384)
        ],
    )
    return out


@kernel
def _draw_backward(
    p: Any,
    faces: Any,
    triangle: Any,
    uv: Any,
    grad_uv: Any,
    grad: Any,
    count: int,
    height: int,
    width: int,
    view: int,
    row0: int,
    row1: int,
) -> None:
    """Add the gradient of the weights in a band of rows to the corners' x, y, w."""
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    first = np.uint64(view * count)
    for row in range(row0, row1):
        fy = 1.0 - (row + 0.5) * (2.0 / height)
        for column in range(width):
            k = np.uint64((view * height + row) * width + column)
            gu, gv = np.float64(grad_uv[two * k]), np.float64(grad_uv[two * k + one])
            if triangle[k] == 0 or (gu == 0.0 and gv == 0.0):
                continue
            fx = (column + 0.5) * (2.0 / width) - 1.0
            face = three * np.uint64(triangle[k] - 1)
            i0, i1 = np.uint64(faces[face]), np.uint64(faces[face + one])
            i2 = np.uint64(faces[face + two])
            k0, k1 = np.uint64(4) * (first + i0), np.uint64(4) * (first + i1)
            k2 = np.uint64(4) * (first + i2)
            q0x, q0y = p[k0] - fx * p[k0 + three], p[k0 + one] - fy * p[k0 + three]
            q1x, q1y = p[k1] - fx * p[k1 + three], p[k1 + one] - fy * p[k1 + three]
            q2x, q2y = p[k2] - fx * p[k2 + three], p[k2 + one] - fy * p[k2 + three]
            a0, a1 = q1x * q2y - q2x * q1y, q2x * q0y - q0x * q2y
            total = a0 + a1 + (q0x * q1y - q1x * q0y)
            if total == 0.0:
                continue
            inverse = 1.0 / total
            shift = gu * (a0 * inverse) + gv * (a1 * inverse)
            g0, g1, g2 = (gu - shift) * inverse, (gv - shift) * inverse, -shift * inverse
            for corner in range(3):
                if corner == 0:
                    gx, gy, i = g2 * q1y - g1 * q2y, g1 * q2x - g2 * q1x, i0
                elif corner == 1:
                    gx, gy, i = g0 * q2y - g2 * q0y, g2 * q0x - g0 * q2x, i1
                else:
                    gx, gy, i = g1 * q0y - g0 * q1y, g0 * q1x - g1 * q0x, i2
                j = np.uint64(4) * i
                grad[j] += gx
                grad[j + one] += gy
                grad[j + three] -= fx * gx + fy * gy


@kernel
def _screen_derivatives(
    p: Any,
    faces: Any,
    triangle: Any,
    uv: Any,
    pixels: Any,
    out: Any,
    count: int,
    height: int,
    width: int,
    start: int,
    stop: int,
) -> None:
    """du/dX = (da_0/dX - u dS/dX) / S with a_i linear in the pixel's position; v alike."""
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    for n in range(np.uint64(start), np.uint64(stop)):
        k = pixels[n]
        if triangle[k] == 0:
            continue
        column, row = k % np.uint64(width), (k // np.uint64(width)) % np.uint64(height)
        first = (k // np.uint64(width * height)) * np.uint64(count)
        fx, fy = (column + 0.5) * (2.0 / width) - 1.0, 1.0 - (row + 0.5) * (2.0 / height)
        face = three * np.uint64(triangle[k] - 1)
        k0 = np.uint64(4) * (first + np.uint64(faces[face]))
        k1 = np.uint64(4) * (first + np.uint64(faces[face + one]))
        k2 = np.uint64(4) * (first + np.uint64(faces[face + two]))
        x0, y0, w0 = np.float64(p[k0]), np.float64(p[k0 + one]), np.float64(p[k0 + three])
        x1, y1, w1 = np.float64(p[k1]), np.float64(p[k1 + one]), np.float64(p[k1 + three])
        x2, y2, w2 = np.float64(p[k2]), np.float64(p[k2 + one]), np.float64(p[k2 + three])
        e0x, e0y, e0w = y1 * w2 - y2 * w1, x2 * w1 - x1 * w2, x1 * y2 - x2 * y1
        e1x, e1y, e1w = y2 * w0 - y0 * w2, x0 * w2 - x2 * w0, x2 * y0 - x0 * y2
        e2x, e2y, e2w = y0 * w1 - y1 * w0, x1 * w0 - x0 * w1, x0 * y1 - x1 * y0
        sx, sy = e0x + e1x + e2x, e0y + e1y + e2y
        total = sx * fx + sy * fy + (e0w + e1w + e2w)
        if total == 0.0:
            continue
        u, v = uv[two * k], uv[two * k + one]
        scale_x, scale_y = 2.0 / (width * total), -2.0 / (height * total)
        o = np.uint64(4) * n
        out[o] = (e0x - u * sx) * scale_x
        out[o + one] = (e0y - u * sy) * scale_y
        out[o + two] = (e1x - v * sx) * scale_x
        out[o + three] = (e1y - v * sy) * scale_y
