"""Where silhouettes pass between pixels, on the processor.

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
from isolux.backends.cpu.bands import bands
from isolux.backends.cpu.jit import kernel
from isolux.backends.cpu.pool import chunks, parallel_for

__all__ = ["find_blends"]

_FACES = 8192  # of a task
_STEPS = 64  # triangles that are followed from one pixel to the next, at most
_SLACK = 1.0 / 1024.0  # pixel; coverage is exact, so rounding only


def find_blends(
    triangle: Tensor, depth: Tensor, clip: Tensor, faces: Tensor, opposite: Tensor
) -> tuple[Any, Any, Any]:
    """The m pairs of pixels that a silhouette parts, in the order of views and pixels.

    Returns:
        `place` [4 m], the two pixels and the edge's two vertices (counted over all views);
        `alpha` [m], in [-1/2, 1/2]: what goes over to the first pixel if positive, else to
        the second; `ends` [v + 1], where each view's pairs begin.
    """
    views, count = clip.shape[:2]
    height, width = triangle.shape[1:]
    check_indices("faces", faces, count)
    check_indices("opposite", opposite + 1, faces.numel() + 1)
    check_indices("triangle", triangle, len(faces) + 1)
    p, f, t, d = flat(clip), flat_index(faces), flat(triangle), flat(depth)
    far = flat(opposite.to(torch.int32))
    turn = np.zeros(views * len(faces), dtype=np.int8)
    screen = np.empty(views * count * 2)
    near = np.zeros(triangle.numel(), dtype=np.bool_)
    parts = [(view, *part) for view in range(views) for part in chunks(len(faces), _FACES)]
    parallel_for(
        _project,
        [(p, screen, height, width, *part) for part in chunks(views * count, _FACES)],
    )
    parallel_for(_turns, [(p, f, turn, count, *part) for part in parts])
    # Tasks may mark one pixel at the same time; all of them write the same.
    parallel_for(
        _mark, [(f, far, turn, screen, near, count, height, width, *part) for part in parts]
    )
    tasks = bands(views, height)
    found = parallel_for(
        _find,
        [(screen, f, far, turn, near, t, d, count, height, width, *task) for task in tasks],
    )
    sizes = np.zeros(views + 1, dtype=np.int64)
    for task, (_, alpha) in zip(tasks, found, strict=True):
        sizes[task[0] + 1] += alpha.size
    ends = np.cumsum(sizes)
    places = np.concatenate([np.empty(0, np.int64), *(part for part, _ in found)])
    alphas = np.concatenate([np.empty(0), *(part for _, part in found)])
    return places, alphas, ends


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
def _folds(faces: Any, opposite: Any, turn: Any, first_face: Any, corner: Any) -> Any:
    """Whether the edge opposite to a corner is a silhouette: a border or a fold."""
    if opposite[corner] < 0:
        return True
    one, two, three = np.uint32(1), np.uint32(2), np.uint32(3)
    own, other = np.uint32(corner), np.uint32(opposite[corner])
    own_face, other_face = own // three, other // three
    own_end = faces[own + one if own - three * own_face < two else own - two]
    other_end = faces[other + one if other - three * other_face < two else other - two]
    product = turn[first_face + own_face] * turn[first_face + other_face]
    # Neighbours that go the same way round run along their edge in opposite directions.
    return product >= 0 if own_end == other_end else product <= 0


@kernel
def _mark(
    faces: Any,
    opposite: Any,
    turn: Any,
    screen: Any,
    near: Any,
    count: int,
    height: int,
    width: int,
    view: int,
    start: int,
    stop: int,
) -> None:
    """Mark the pixels whose centre is within a pixel of a silhouette edge's box.

    The line from any other centre to the next meets no silhouette, so it need not be followed.
    """
    first_face, first = np.uint64(view * (faces.size // 3)), np.uint64(view * count)
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    reach = 1.0 + 2.0 * _SLACK
    for face in range(np.uint64(start), np.uint64(stop)):
        for side in range(np.uint64(3)):
            corner = three * face + side
            if np.int64(corner) < opposite[corner]:
                continue  # the neighbour's turn
            if not _folds(faces, opposite, turn, first_face, corner):
                continue
            i = two * (first + np.uint64(faces[corner + one if side < two else corner - two]))
            j = two * (first + np.uint64(faces[corner + two if side < one else corner - one]))
            x, y = min(screen[i], screen[j]), min(screen[i + one], screen[j + one])
            x_end, y_end = max(screen[i], screen[j]), max(screen[i + one], screen[j + one])
            if np.isnan(screen[i] + screen[j]):
                continue
            column0 = int(max(np.ceil(x - 0.5 - reach), 0.0))
            column1 = int(min(np.floor(x_end - 0.5 + reach), width - 1.0))
            row0 = int(max(np.ceil(y - 0.5 - reach), 0.0))
            row1 = int(min(np.floor(y_end - 0.5 + reach), height - 1.0))
            for row in range(row0, row1 + 1):
                base = (view * height + row) * width
                for column in range(column0, column1 + 1):
                    near[base + column] = True


@kernel
def _cross(side: int, ui: Any, ti: Any, uj: Any, tj: Any) -> Any:
    """Where an edge crosses the line t = 0; minus infinity or NaN if it does not."""
    if (ti < 0.0) == (tj < 0.0):
        return -np.inf
    return side * (ui * tj - uj * ti) / (tj - ti)


@kernel
def _leave(
    screen: Any,
    faces: Any,
    first: Any,
    face: Any,
    entry: Any,
    axis: Any,
    side: int,
    along: float,
    across: float,
) -> Any:
    """Where the line from a point along an axis leaves a triangle.

    It came in by the edge opposite to the corner `entry`, or starts inside if that is -1.
    Returns (the corner opposite to the edge that it leaves by or -1, distance, whether that
    edge is steep enough to act along this axis).
    """
    one, two = np.uint64(1), np.uint64(2)
    corner = np.uint64(3 * face)
    i = two * (first + np.uint64(faces[corner]))
    j = two * (first + np.uint64(faces[corner + one]))
    k = two * (first + np.uint64(faces[corner + two]))
    other = one - axis
    u0, t0 = screen[i + axis] - along, screen[i + other] - across
    u1, t1 = screen[j + axis] - along, screen[j + other] - across
    u2, t2 = screen[k + axis] - along, screen[k + other] - across
    best, leaves, rise, run = -np.inf, np.int64(-1), 0.0, 0.0
    here = np.int64(3 * face)
    place = _cross(side, u1, t1, u2, t2)
    if place > best and entry != here:
        best, leaves, rise, run = place, here, abs(t2 - t1), abs(u2 - u1)
    place = _cross(side, u2, t2, u0, t0)
    if place > best and entry != here + 1:
        best, leaves, rise, run = place, here + 1, abs(t0 - t2), abs(u0 - u2)
    place = _cross(side, u0, t0, u1, t1)
    if place > best and entry != here + 2:
        best, leaves, rise, run = place, here + 2, abs(t1 - t0), abs(u1 - u0)
    return leaves, best, (rise > run or (rise == run and axis == 0))


@kernel
def _follow(
    screen: Any,
    faces: Any,
    opposite: Any,
    turn: Any,
    first: Any,
    first_face: Any,
    face: Any,
    goal: Any,
    axis: Any,
    side: int,
    along: float,
    across: float,
) -> Any:
    """Follow the line from a pixel's centre in one triangle to the next pixel's in another.

    Returns (the corner opposite to the silhouette edge that the line crosses within a pixel
    and that acts along this axis, or -1; how far away).
    """
    entry: Any = np.int64(-1)
    for _ in range(_STEPS):
        corner, distance, steep = _leave(
            screen, faces, first, face, entry, axis, side, along, across
        )
        if corner < 0 or not -_SLACK < distance < 1.0 + _SLACK:
            break
        if _folds(faces, opposite, turn, first_face, corner):
            return (corner if steep else np.int64(-1)), distance
        entry = np.int64(opposite[corner])
        face = entry // 3
        if face == goal:
            break  # both pixels show one stretch of surface
    return np.int64(-1), 0.0


@kernel
def _find(
    screen: Any,
    faces: Any,
    opposite: Any,
    turn: Any,
    near: Any,
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
    first, first_face = np.uint64(view * count), np.uint64(view * (faces.size // 3))
    differ = np.empty(width, dtype=np.uint64)
    for row in range(row0, row1):
        start = np.uint64((view * height + row) * width)
        for axis in range(np.uint64(2)):
            if axis == 1 and row + 1 == height:
                continue
            step = np.uint64(width if axis == 1 else 1)
            pairs = np.uint64(0)
            for k in range(start, start + np.uint64(width - 1) + axis):
                differ[pairs] = k  # a list without a branch: half of all pairs differ
                pairs += np.uint64(triangle[k] != triangle[k + step])
            for k0 in differ[:pairs]:
                k1 = k0 + step
                own, other = triangle[k0], triangle[k1]
                mine = other == 0 or (own != 0 and depth[k0] <= depth[k1])
                face, goal = (own, other) if mine else (other, own)
                if not near[k0 if mine else k1]:
                    continue
                column = np.int64(k0 - start)
                side, shift = (1, 0.5) if mine else (-1, 1.5)
                corner, distance = _follow(
                    screen,
                    faces,
                    opposite,
                    turn,
                    first,
                    first_face,
                    np.int64(face - 1),
                    np.int64(goal - 1),
                    axis,
                    side,
                    (column if axis == 0 else row) + shift,
                    (row if axis == 0 else column) + 0.5,
                )
                if corner < 0:
                    continue
                base = corner - corner % 3
                place[4 * found], place[4 * found + 1] = k0, k1
                for end in range(2):
                    vertex = np.int64(faces[base + (corner + 1 + end) % 3])
                    place[4 * found + 2 + end] = view * count + vertex
                alpha[found] = min(max(side * (0.5 - distance), -0.5), 0.5)
                found += 1
    return place[: 4 * found].copy(), alpha[:found].copy()
