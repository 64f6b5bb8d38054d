"""Analytic antialiasing of silhouettes, on the processor.

Where two neighbouring pixels show different triangles, and the nearer one ends in a
silhouette edge between their centres, the pixel that the edge cuts deeper takes some of the
other's colour, in proportion to how far the edge lies from the midpoint (Laine et al. 2020,
"Modular primitives for high-performance differentiable rendering", section 3.4). Summed over a
row, the change equals the distance from the edge to the boundary between the two pixels, so the
picture's sum is the covered area and its derivative the motion of the edge.

Which edges those are, and how they are found, stands in `silhouettes.py`.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from isolux.backends.cpu.arrays import flat
from isolux.backends.cpu.jit import kernel
from isolux.backends.cpu.pool import parallel_for
from isolux.backends.cpu.silhouettes import find_blends

__all__ = ["backward", "forward"]


def forward(
    color: Tensor,
    triangle: Tensor,
    depth: Tensor,
    clip: Tensor,
    faces: Tensor,
    opposite: Tensor,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Raw `antialias`: the picture, and the m blends that made it, for `backward`.

    Blends are in the order of views and pixels. `place` [m, 4] holds the two pixels and the
    edge's two vertices (of all views), `alpha` [m] how much goes over, `ends` [v + 1] where
    each view's blends begin.
    """
    places, alphas, ends = find_blends(triangle, depth, clip, faces, opposite)
    views, channels = len(color), color.shape[-1]
    out = color.detach().clone(memory_format=torch.contiguous_format)
    c, o = flat(color), flat(out)
    parallel_for(  # by view, as blends reach across bands
        _blend, [(c, o, places, alphas, channels, ends[v], ends[v + 1]) for v in range(views)]
    )
    return out, (
        torch.from_numpy(places.reshape(-1, 4)),
        torch.from_numpy(alphas),
        torch.from_numpy(ends),
    )


def backward(
    color: Tensor,
    clip: Tensor,
    blends: tuple[Tensor, ...],
    grad: Tensor,
    need_color: bool,
    need_clip: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Raw gradients of `antialias`, to the colours and to clip x, y, w, where needed."""
    place, alpha, ends = (flat(part) for part in blends)
    views, height, width, channels = color.shape
    c, p, g = flat(color), flat(clip), flat(grad)
    to_color = to_clip = None
    ranges = [(ends[view], ends[view + 1]) for view in range(views)]
    if need_color:
        to_color = grad.detach().clone(memory_format=torch.contiguous_format)
        o = flat(to_color)
        parallel_for(
            _blend_backward, [(g, o, place, alpha, channels, *part) for part in ranges]
        )
    if need_clip:
        to_clip = torch.zeros_like(clip, memory_format=torch.contiguous_format)
        o = flat(to_clip)
        parallel_for(
            _move_backward,
            [(c, p, g, o, place, alpha, channels, height, width, *part) for part in ranges],
        )
    return to_color, to_clip


@kernel
def _blend(
    color: Any, out: Any, place: Any, alpha: Any, channels: int, start: int, stop: int
) -> None:
    for m in range(start, stop):
        k0, k1 = channels * place[4 * m], channels * place[4 * m + 1]
        a = out.dtype.type(alpha[m])
        to = k0 if a > 0 else k1
        for j in range(channels):
            out[to + j] += a * (color[k1 + j] - color[k0 + j])


@kernel
def _blend_backward(
    grad: Any, out: Any, place: Any, alpha: Any, channels: int, start: int, stop: int
) -> None:
    for m in range(start, stop):
        k0, k1 = channels * place[4 * m], channels * place[4 * m + 1]
        a = out.dtype.type(alpha[m])
        to = k0 if a > 0 else k1
        for j in range(channels):
            g = a * grad[to + j]
            out[k0 + j] -= g
            out[k1 + j] += g


@kernel
def _move_backward(
    color: Any,
    p: Any,
    grad: Any,
    out: Any,
    place: Any,
    alpha: Any,
    channels: int,
    height: int,
    width: int,
    start: int,
    stop: int,
) -> None:
    """alpha = 1/2 - x, where x is the edge's crossing seen from the first pixel's centre.

    With x = (x_i y_j - x_j y_i) / (y_j - y_i) and t = y_j / (y_j - y_i) in [0, 1], dx is
    t dx_i + (1 - t) dx_j - s (t dy_i + (1 - t) dy_j), s = (x_j - x_i) / (y_j - y_i): the
    edge's motion along the axis. |s| <= 1, as an edge acts along its flat side only.
    """
    for m in range(start, stop):
        if abs(alpha[m]) >= 0.5:
            continue  # held at its bound
        k0, k1 = place[4 * m], place[4 * m + 1]
        to = k0 if alpha[m] > 0 else k1
        pull = 0.0
        for j in range(channels):
            pull -= np.float64(grad[channels * to + j]) * (
                color[channels * k1 + j] - color[channels * k0 + j]
            )
        column, row = k0 % width, (k0 // width) % height
        across = k1 - k0 == 1 and width > 1
        i, j = 4 * place[4 * m + 2], 4 * place[4 * m + 3]
        wi, wj = 1.0 / np.float64(p[i + 3]), 1.0 / np.float64(p[j + 3])
        xi, xj = p[i] * wi * (0.5 * width), p[j] * wj * (0.5 * width)
        yi, yj = -p[i + 1] * wi * (0.5 * height), -p[j + 1] * wj * (0.5 * height)
        if across:
            offset = row + 0.5 - 0.5 * height
            t = (yj - offset) / (yj - yi)
            gx, gy = pull, -pull * (xj - xi) / (yj - yi)
        else:
            offset = column + 0.5 - 0.5 * width
            t = (xj - offset) / (xj - xi)
            gx, gy = -pull * (yj - yi) / (xj - xi), pull
        for end in range(2):
            k, w, share = (i, wi, t) if end == 0 else (j, wj, 1.0 - t)
            to_x = gx * share * w * (0.5 * width)
            to_y = -gy * share * w * (0.5 * height)
            out[k] += to_x
            out[k + 1] += to_y
            out[k + 3] -= (p[k] * to_x + p[k + 1] * to_y) * w
