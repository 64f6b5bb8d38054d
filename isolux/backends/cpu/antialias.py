"""Analytic antialiasing of silhouettes, on the processor.

Where two neighbouring pixels show different triangles, and the nearer one ends in a
silhouette edge between their centres, the pixel that the edge cuts deeper takes some of the
other's colour, in proportion to how far the edge lies from the midpoint (Laine et al. 2020,
"Modular primitives for high-performance differentiable rendering", section 3.4). Summed over a
row, the change equals the distance from the edge to the boundary between the two pixels, so the
picture's sum is the covered area and its derivative the motion of the edge.

An edge is a silhouette when its two triangles turn on the screen in opposite ways, as seen from
one side of the surface; det(p_0, p_1, p_2) with p = (x, y, w) says which way. Between corners
with w > 0 this holds also where a third corner lies behind the camera. Edges that reach w <= 0
themselves are left alone.

From a pixel's centre the line to the next centre is followed across the surface, triangle by
triangle, to the first silhouette. (Looking at the pixel's own triangle alone loses an edge near
each of its ends: a few per cent of the gradient, and more the smaller the triangles.)

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
_STEPS = 8  # triangles that are followed from one pixel to the next
_SLACK = 1.0 / 1024.0  # pixel; coverage is exact, so rounding only


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
    check_indices("opposite", opposite + 1, faces.numel() + 1)
    check_indices("triangle", triangle, len(faces) + 1)
    p, f, t, d = flat(clip), flat_index(faces), flat(triangle), flat(depth)
    far = flat(opposite.to(torch.int32))
    turn = np.zeros(views * len(faces), dtype=np.int8)
    screen = np.empty(views * count * 2)
    on_edge, close = (np.zeros(views * count, dtype=np.bool_) for _ in range(2))
    parts = [(view, *part) for view in range(views) for part in chunks(len(faces), _FACES)]
    parallel_for(
        _project,
        [(p, screen, height, width, *part) for part in chunks(views * count, _FACES)],
    )
    parallel_for(_turns, [(p, f, turn, count, *part) for part in parts])
    # Tasks may mark one vertex at the same time; all of them write the same.
    parallel_for(_mark, [(f, far, turn, on_edge, count, *part) for part in parts])
    parallel_for(_spread, [(f, on_edge, close, count, *part) for part in parts])
    tasks = bands(views, height)
    found = parallel_for(
        _find,
        [(screen, f, far, turn, close, t, d, count, height, width, *task) for task in tasks],
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
def _project(p: Any, screen: Any, height: int, width: int, start: int, stop: int) -> None:
    """Pixel positions of vertices; NaN for those at w <= 0."""
    for i in range(start, stop):
        w = np.float64(p[4 * i + 3])
        inverse = 1.0 / w if w > 0.0 else np.nan
        screen[2 * i] = (p[4 * i] * inverse + 1.0) * (0.5 * width)
        screen[2 * i + 1] = (1.0 - p[4 * i + 1] * inverse) * (0.5 * height)


@kernel
def _turns(p: Any, faces: Any, turn: Any, count: int, view: int, start: int, stop: int) -> None:
    """The sign of det(p_0, p_1, p_2) of each face, with p = (x, y, w)."""
    for face in range(start, stop):
        i = 4 * (view * count + np.int64(faces[3 * face]))
        j = 4 * (view * count + np.int64(faces[3 * face + 1]))
        k = 4 * (view * count + np.int64(faces[3 * face + 2]))
        x0, y0, w0 = np.float64(p[i]), np.float64(p[i + 1]), np.float64(p[i + 3])
        x1, y1, w1 = np.float64(p[j]), np.float64(p[j + 1]), np.float64(p[j + 3])
        x2, y2, w2 = np.float64(p[k]), np.float64(p[k + 1]), np.float64(p[k + 3])
        a = w0 * (x1 * y2 - x2 * y1)
        b = w1 * (x2 * y0 - x0 * y2)
        c = w2 * (x0 * y1 - x1 * y0)
        det = a + b + c
        turn[view * (faces.size // 3) + face] = np.int8(det > 0.0) - np.int8(det < 0.0)


@kernel
def _folds(faces: Any, opposite: Any, turn: Any, first_face: int, corner: int) -> Any:
    """Whether the edge opposite to a corner is a silhouette: a border or a fold."""
    other = np.int64(opposite[corner])
    if other < 0:
        return True
    own_end = faces[corner + 1 if corner % 3 < 2 else corner - 2]
    other_end = faces[other + 1 if other % 3 < 2 else other - 2]
    product = turn[first_face + corner // 3] * turn[first_face + other // 3]
    # Neighbours that go the same way round run along their edge in opposite directions.
    return product >= 0 if own_end == other_end else product <= 0


@kernel
def _mark(
    faces: Any,
    opposite: Any,
    turn: Any,
    on_edge: Any,
    count: int,
    view: int,
    start: int,
    stop: int,
) -> None:
    """Mark the vertices of silhouette edges."""
    for corner in range(3 * start, 3 * stop):
        if _folds(faces, opposite, turn, view * (faces.size // 3), corner):
            base = corner - corner % 3
            on_edge[view * count + np.int64(faces[base + (corner + 1) % 3])] = True
            on_edge[view * count + np.int64(faces[base + (corner + 2) % 3])] = True


@kernel
def _spread(
    faces: Any, on_edge: Any, close: Any, count: int, view: int, start: int, stop: int
) -> None:
    """Mark the vertices of all faces that have a marked vertex."""
    for face in range(start, stop):
        i = view * count + np.int64(faces[3 * face])
        j = view * count + np.int64(faces[3 * face + 1])
        k = view * count + np.int64(faces[3 * face + 2])
        if on_edge[i] or on_edge[j] or on_edge[k]:
            close[i] = close[j] = close[k] = True


@kernel
def _leave(
    screen: Any,
    faces: Any,
    first: int,
    face: Any,
    entry: Any,
    axis: int,
    side: int,
    x: float,
    y: float,
) -> Any:
    """Where the line from (x, y) along an axis leaves a triangle.

    It came in by the edge opposite to the corner `entry`, or starts inside if that is -1.
    Returns (the corner opposite to the edge that it leaves by or -1, distance, whether that
    edge is steep enough to act along this axis).
    """
    best, leaves, good = -np.inf, -1, False
    for corner in range(3 * face, 3 * face + 3):
        i = 2 * (first + np.int64(faces[corner + 1 if corner % 3 < 2 else corner - 2]))
        j = 2 * (first + np.int64(faces[corner + 2 if corner % 3 < 1 else corner - 1]))
        xi, yi, xj, yj = screen[i] - x, screen[i + 1] - y, screen[j] - x, screen[j + 1] - y
        steep = abs(yj - yi) >= abs(xj - xi)
        if axis == 1:
            xi, yi, xj, yj, steep = yi, xi, yj, xj, not steep
        if corner == entry or np.isnan(xi + xj) or (yi < 0.0) == (yj < 0.0):
            continue
        place = side * (xi * yj - xj * yi) / (yj - yi)
        if place > best:
            best, leaves, good = place, corner, steep
    return leaves, best, good


@kernel
def _find(
    screen: Any,
    faces: Any,
    opposite: Any,
    turn: Any,
    close: Any,
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
    first, first_face = view * count, view * (faces.size // 3)
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
                face: Any = np.int64(triangle[k0] if mine else triangle[k1]) - 1
                goal = np.int64(triangle[k1] if mine else triangle[k0]) - 1
                if not (
                    close[first + np.int64(faces[3 * face])]
                    or close[first + np.int64(faces[3 * face + 1])]
                    or close[first + np.int64(faces[3 * face + 2])]
                ):
                    continue
                shift = 0.0 if mine else 1.0
                x = column + 0.5 + (shift if axis == 0 else 0.0)
                y = row + 0.5 + (shift if axis == 1 else 0.0)
                entry: Any = -1
                for _ in range(_STEPS):
                    corner, distance, steep = _leave(
                        screen, faces, first, face, entry, axis, 1 if mine else -1, x, y
                    )
                    if corner < 0 or not -_SLACK < distance < 1.0 + _SLACK:
                        break
                    if _folds(faces, opposite, turn, first_face, corner):
                        if steep:
                            base = corner - corner % 3
                            place[4 * found], place[4 * found + 1] = k0, k1
                            for end in range(2):
                                vertex = np.int64(faces[base + (corner + 1 + end) % 3])
                                place[4 * found + 2 + end] = first + vertex
                            blend = 0.5 - distance if mine else distance - 0.5
                            alpha[found] = min(max(blend, -0.5), 0.5)
                            found += 1
                        break
                    entry = np.int64(opposite[corner])
                    face = entry // 3
                    if face == goal:
                        break  # both pixels show one stretch of surface
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
