"""Kernels of the tree of boxes over triangles."""

from typing import Any

import numpy as np

from isolux.backends.cpu.jit import kernel

__all__ = ["build", "closest", "dipoles", "winding"]

_DEPTH = 128  # of the stack: a median split halves, so 64 levels hold any number of faces


@kernel
def build(corners: Any, order: Any, bounds: Any, child: Any, leaf: int) -> int:
    """Split at the median of centroids along the longest axis; returns the number of boxes.

    `order` is permuted; `child` holds two box numbers, or first face and minus the count.
    """
    stack = np.empty((_DEPTH, 3), np.int64)  # box, first, stop
    stack[0, 0], stack[0, 1], stack[0, 2] = 0, 0, len(order)
    top, boxes = 1, 1
    while top > 0:
        top -= 1
        box, first, stop = stack[top, 0], stack[top, 1], stack[top, 2]
        low, high = np.full(3, np.inf), np.full(3, -np.inf)
        for i in range(first, stop):
            for j in range(9):
                axis = j % 3
                low[axis] = min(low[axis], corners[order[i], j])
                high[axis] = max(high[axis], corners[order[i], j])
        bounds[box, :3], bounds[box, 3:] = low, high
        if stop - first <= leaf:
            child[box, 0], child[box, 1] = first, first - stop
            continue
        axis = int(np.argmax(high - low))
        key = np.empty(stop - first)
        for i in range(first, stop):
            row = order[i]
            key[i - first] = (
                corners[row, axis] + corners[row, axis + 3] + corners[row, axis + 6]
            )
        middle = (stop - first) // 2
        order[first:stop] = order[first:stop][np.argsort(key, kind="mergesort")]
        child[box, 0], child[box, 1] = boxes, boxes + 1
        stack[top, 0], stack[top, 1], stack[top, 2] = boxes, first, first + middle
        top += 1
        stack[top, 0], stack[top, 1], stack[top, 2] = boxes + 1, first + middle, stop
        top += 1
        boxes += 2
    return boxes


@kernel
def dipoles(corners: Any, child: Any, dipole: Any) -> None:
    """Each box's area-weighted centre, its area vector, and the radius about the centre.

    Children have larger numbers than their parent, so one pass backwards sees them first.
    """
    size = len(child)
    area = np.zeros(size)
    for back in range(size):
        box = size - 1 - back
        first, second = child[box, 0], child[box, 1]
        if second < 0:
            for i in range(first, first - second):
                a, b, c = corners[i, 0:3], corners[i, 3:6], corners[i, 6:9]
                vector = 0.5 * np.cross(b - a, c - a)
                weight = np.sqrt((vector * vector).sum()) + 1e-300
                dipole[box, 0:3] += weight * (a + b + c) / 3
                dipole[box, 3:6] += vector
                area[box] += weight
        else:
            for other in (first, second):
                dipole[box, 0:3] += area[other] * dipole[other, 0:3]
                dipole[box, 3:6] += dipole[other, 3:6]
                area[box] += area[other]
        dipole[box, 0:3] /= area[box]
        centre = dipole[box, 0:3]
        far = 0.0
        if second < 0:
            for i in range(first, first - second):
                for j in range(3):
                    gap = corners[i, 3 * j : 3 * j + 3] - centre
                    far = max(far, np.sqrt((gap * gap).sum()))
        else:
            for other in (first, second):
                gap = dipole[other, 0:3] - centre
                far = max(far, np.sqrt((gap * gap).sum()) + dipole[other, 6])
        dipole[box, 6] = far


@kernel
def closest(
    corners: Any,
    bounds: Any,
    child: Any,
    points: Any,
    distance: Any,
    face: Any,
    start: int,
    stop: int,
) -> None:
    """Depth first, the nearer child first."""
    stack = np.empty(_DEPTH, np.int64)
    gaps = np.empty(_DEPTH)
    for p in range(start, stop):
        x, y, z = points[3 * p], points[3 * p + 1], points[3 * p + 2]
        best, found = np.inf, 0
        top = 1
        stack[0], gaps[0] = 0, 0.0
        while top > 0:
            top -= 1
            if gaps[top] >= best:
                continue
            box = stack[top]
            first, second = child[2 * box], child[2 * box + 1]
            if second < 0:
                for i in range(first, first - second):
                    gap = _to_triangle(corners, 9 * i, x, y, z)
                    if gap < best:
                        best, found = gap, i
                continue
            near, far = _to_box(bounds, first, x, y, z), _to_box(bounds, second, x, y, z)
            if near > far:
                first, second, near, far = second, first, far, near
            if far < best:
                stack[top], gaps[top] = second, far
                top += 1
            if near < best:
                stack[top], gaps[top] = first, near
                top += 1
        distance[p] = np.sqrt(best)
        face[p] = found


@kernel
def _to_box(bounds: Any, box: int, x: float, y: float, z: float) -> float:
    b = 6 * box
    dx = max(bounds[b] - x, 0.0, x - bounds[b + 3])
    dy = max(bounds[b + 1] - y, 0.0, y - bounds[b + 4])
    dz = max(bounds[b + 2] - z, 0.0, z - bounds[b + 5])
    square: float = dx * dx + dy * dy + dz * dz
    return square


@kernel
def _to_triangle(c: Any, i: int, x: float, y: float, z: float) -> float:
    """Squared distance: the plane where it projects inside, else the nearest edge."""
    ax, ay, az = c[i], c[i + 1], c[i + 2]
    bx, by, bz = c[i + 3], c[i + 4], c[i + 5]
    cx, cy, cz = c[i + 6], c[i + 7], c[i + 8]
    ux, uy, uz = bx - ax, by - ay, bz - az
    vx, vy, vz = cx - ax, cy - ay, cz - az
    px, py, pz = x - ax, y - ay, z - az
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    square = nx * nx + ny * ny + nz * nz
    if square > 0:
        # Barycentric coordinates of the projection, times the squared normal.
        qx, qy, qz = py * vz - pz * vy, pz * vx - px * vz, px * vy - py * vx
        s = qx * nx + qy * ny + qz * nz
        qx, qy, qz = uy * pz - uz * py, uz * px - ux * pz, ux * py - uy * px
        t = qx * nx + qy * ny + qz * nz
        if s >= 0 and t >= 0 and s + t <= square:
            height = px * nx + py * ny + pz * nz
            inside: float = height * height / square
            return inside
    best = _to_segment(px, py, pz, ux, uy, uz)
    best = min(best, _to_segment(px, py, pz, vx, vy, vz))
    return min(best, _to_segment(x - bx, y - by, z - bz, cx - bx, cy - by, cz - bz))


@kernel
def _to_segment(px: float, py: float, pz: float, dx: float, dy: float, dz: float) -> float:
    length = dx * dx + dy * dy + dz * dz
    along = (px * dx + py * dy + pz * dz) / length if length > 0 else 0.0
    along = min(max(along, 0.0), 1.0)
    px, py, pz = px - along * dx, py - along * dy, pz - along * dz
    return px * px + py * py + pz * pz


@kernel
def winding(
    corners: Any, child: Any, dipole: Any, points: Any, number: Any, start: int, stop: int
) -> None:
    stack = np.empty(_DEPTH, np.int64)
    for p in range(start, stop):
        x, y, z = points[3 * p], points[3 * p + 1], points[3 * p + 2]
        total = 0.0
        top = 1
        stack[0] = 0
        while top > 0:
            top -= 1
            box = stack[top]
            d = 7 * box
            dx, dy, dz = dipole[d] - x, dipole[d + 1] - y, dipole[d + 2] - z
            away = np.sqrt(dx * dx + dy * dy + dz * dz)
            if away > 3 * dipole[d + 6]:
                flux = dx * dipole[d + 3] + dy * dipole[d + 4] + dz * dipole[d + 5]
                total += flux / (away * away * away)
                continue
            first, second = child[2 * box], child[2 * box + 1]
            if second >= 0:
                stack[top], stack[top + 1] = first, second
                top += 2
                continue
            for i in range(first, first - second):
                total += _solid_angle(corners, 9 * i, x, y, z)
        number[p] = total / (4 * np.pi)


@kernel
def _solid_angle(c: Any, i: int, x: float, y: float, z: float) -> float:
    """Van Oosterom and Strackee 1983."""
    ax, ay, az = c[i] - x, c[i + 1] - y, c[i + 2] - z
    bx, by, bz = c[i + 3] - x, c[i + 4] - y, c[i + 5] - z
    cx, cy, cz = c[i + 6] - x, c[i + 7] - y, c[i + 8] - z
    a = np.sqrt(ax * ax + ay * ay + az * az)
    b = np.sqrt(bx * bx + by * by + bz * bz)
    r = np.sqrt(cx * cx + cy * cy + cz * cz)
    top = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
    ab, bc, ca = (
        ax * bx + ay * by + az * bz,
        bx * cx + by * cy + bz * cz,
        cx * ax + cy * ay + cz * az,
    )
    angle: float = 2 * np.arctan2(top, a * b * r + ab * r + bc * a + ca * b)
    return angle
