"""Analytic antialiasing of silhouettes, on the processor.

Where two neighbouring pixels show different triangles, and the nearer one ends in a
silhouette edge between their centres, the pixel that the edge cuts deeper takes some of the
other's colour, in proportion to how far the edge lies from the midpoint (Laine et al. 2020,
"Modular primitives for high-performance differentiable rendering", section 3.4). Summed over a
row, the change equals the distance from the edge to the boundary between the two pixels, so the
picture's sum is the covered area and its derivative the motion of the edge.

An edge (p_1, p_2) of a triangle with third corner p_0 is a silhouette when the neighbour's
corner q lies on the same side of it: det(p_0, p_1, p_2) det(q, p_1, p_2) >= 0, p = (x, y, w).
With w_1, w_2 > 0 this holds also where p_0 or q lies behind the camera. Edges that reach
w <= 0 themselves are left alone.

Each edge acts along one axis: on pairs in a row if it is as steep as the diagonal or steeper,
on pairs in a column otherwise. So no edge is counted twice.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from isolux.backends.cpu.arrays import check_indices, flat, flat_index
from isolux.backends.cpu.jit import kernel
from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.backends.cpu.raster import bands

__all__ = ["backward", "forward"]

_FACES = 8192  # of a task


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
    views, count = clip.shape[:2]
    height, width, channels = color.shape[1:]
    check_indices("faces", faces, count)
    check_indices("opposite", opposite + 1, count + 1)
    check_indices("triangle", triangle, len(faces) + 1)
    p, f, t, d = flat(clip), flat_index(faces), flat(triangle), flat(depth)
    near = flat(opposite.to(torch.int32))
    edges = np.zeros(views * len(faces), dtype=np.uint8)
    parallel_for(
        _find_silhouettes,
        [
            (p, f, near, edges, count, view, *part)
            for view in range(views)
            for part in chunks(len(faces), _FACES)
        ],
    )
    tasks = bands(views, height)
    found = parallel_for(
        _find, [(p, f, edges, t, d, count, height, width, *task) for task in tasks]
    )
    sizes = np.zeros(views + 1, dtype=np.int64)
    for task, (_, alpha) in zip(tasks, found, strict=True):
        sizes[task[0] + 1] += alpha.size
    ends = np.cumsum(sizes)
    places = np.concatenate([np.empty(0, np.int64), *(part for part, _ in found)])
    alphas = np.concatenate([np.empty(0), *(part for _, part in found)])
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
def _det(p: Any, i: Any, j: Any, k: Any) -> Any:
    """Determinant of three vertices as (x, y, w): the sign of their turn on the screen."""
    x0, y0, w0 = np.float64(p[i]), np.float64(p[i + 1]), np.float64(p[i + 3])
    x1, y1, w1 = np.float64(p[j]), np.float64(p[j + 1]), np.float64(p[j + 3])
    x2, y2, w2 = np.float64(p[k]), np.float64(p[k + 1]), np.float64(p[k + 3])
    return w0 * (x1 * y2 - x2 * y1) + w1 * (x2 * y0 - x0 * y2) + w2 * (x0 * y1 - x1 * y0)


@kernel
def _find_silhouettes(
    p: Any, faces: Any, opposite: Any, edges: Any, count: int, view: int, start: int, stop: int
) -> None:
    """Bit i of a face's byte: the edge opposite to corner i is a silhouette in this view."""
    total = faces.size // 3
    for face in range(start, stop):
        k0 = 4 * (view * count + np.int64(faces[3 * face]))
        k1 = 4 * (view * count + np.int64(faces[3 * face + 1]))
        k2 = 4 * (view * count + np.int64(faces[3 * face + 2]))
        own = _det(p, k0, k1, k2)
        bits = 0
        for i in range(3):
            other = np.int64(opposite[3 * face + i])
            a, b = (k1, k2) if i == 0 else ((k2, k0) if i == 1 else (k0, k1))
            if not (p[a + 3] > 0 and p[b + 3] > 0):
                continue
            if other < 0 or own * _det(p, 4 * (view * count + other), a, b) >= 0.0:
                bits |= 1 << i
        edges[view * total + face] = bits


@kernel
def _crossing(
    p: Any, i: Any, j: Any, axis: int, column: int, row: int, height: int, width: int
) -> Any:
    """Where an edge crosses the line through a pixel's centre along an axis.

    Returns (whether it does and is steep enough for this axis, position from the centre).
    """
    wi, wj = 1.0 / np.float64(p[i + 3]), 1.0 / np.float64(p[j + 3])
    xi, xj = (p[i] * wi + 1.0) * (0.5 * width), (p[j] * wj + 1.0) * (0.5 * width)
    yi, yj = (1.0 - p[i + 1] * wi) * (0.5 * height), (1.0 - p[j + 1] * wj) * (0.5 * height)
    xi, xj = xi - (column + 0.5), xj - (column + 0.5)
    yi, yj = yi - (row + 0.5), yj - (row + 0.5)
    steep = abs(yj - yi) >= abs(xj - xi)
    if axis == 1:
        xi, xj, yi, yj = yi, yj, xi, xj
        steep = not steep
    if (yi < 0.0) == (yj < 0.0):
        return False, False, 0.0
    return True, steep, (xi * yj - xj * yi) / (yj - yi)


@kernel
def _exit(
    p: Any,
    faces: Any,
    bits: int,
    first: int,
    face: Any,
    side: int,
    axis: int,
    column: int,
    row: int,
    height: int,
    width: int,
) -> Any:
    """The silhouette edge by which a line from a pixel's centre leaves the triangle there.

    Returns (distance along the line, the edge's vertices); the distance is infinite when the
    line leaves by an edge that is no silhouette or acts along the other axis.
    """
    k0 = 4 * (first + np.int64(faces[3 * face]))
    k1 = 4 * (first + np.int64(faces[3 * face + 1]))
    k2 = 4 * (first + np.int64(faces[3 * face + 2]))
    best, good, begin, end = -np.inf, False, k0, k0
    for i in range(3):
        a, b = (k1, k2) if i == 0 else ((k2, k0) if i == 1 else (k0, k1))
        if not (p[a + 3] > 0 and p[b + 3] > 0):
            continue
        crosses, steep, place = _crossing(p, a, b, axis, column, row, height, width)
        if crosses and side * place > best:
            best, begin, end = side * place, a, b
            good = steep and (bits >> i) & 1 == 1
    return (best if good else np.inf), begin // 4, end // 4


@kernel
def _find(
    p: Any,
    faces: Any,
    edges: Any,
    triangle: Any,
    depth: Any,
    count: int,
    height: int,
    width: int,
    view: int,
    row0: int,
    row1: int,
) -> Any:
    """The blends between each pixel of a band and its neighbours to the right and below."""
    place = np.empty(8 * (row1 - row0) * width, dtype=np.int64)  # touched as far as used
    alpha = np.empty(2 * (row1 - row0) * width, dtype=np.float64)
    found = 0
    slack = 1.0 / 1024.0  # pixel; coverage is exact, so rounding only
    total = faces.size // 3
    for row in range(row0, row1):
        for column in range(width):
            k0 = (view * height + row) * width + column
            for axis in range(2):
                if (column + 1 == width) if axis == 0 else (row + 1 == height):
                    continue
                k1 = k0 + 1 if axis == 0 else k0 + width
                if triangle[k0] == triangle[k1]:
                    continue
                mine = triangle[k1] == 0 or (triangle[k0] != 0 and depth[k0] <= depth[k1])
                face = np.int64(triangle[k0] if mine else triangle[k1]) - 1
                bits = edges[view * total + face]
                if bits == 0:
                    continue
                shift = 0 if mine else 1
                x, y = (column + shift, row) if axis == 0 else (column, row + shift)
                distance, begin, end = _exit(
                    p, faces, bits, view * count, face, 1 - 2 * shift, axis, x, y, height, width
                )
                if not -slack < distance < 1.0 + slack:
                    continue
                blend = 0.5 - distance if mine else distance - 0.5
                place[4 * found], place[4 * found + 1] = k0, k1
                place[4 * found + 2], place[4 * found + 3] = begin, end
                alpha[found] = min(max(blend, -0.5), 0.5)
                found += 1
    return place[: 4 * found].copy(), alpha[:found].copy()


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
