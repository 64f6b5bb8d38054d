"""Kernels of the tree of boxes over triangles."""

from typing import Any

import numpy as np

from isolux.backends.cpu.jit import kernel

__all__ = ["build", "closest", "dipoles", "winding"]

_DEPTH = 128  # of the stack: each split halves, so 64 levels hold any number of faces


@kernel
def build(corners: Any, bounds: Any, child: Any, leaf: int) -> int:
    """Halve the triangles, which come in an order that keeps neighbours together.

    `child` holds two box numbers, or the first face and minus the count; children have larger
    numbers than their parent. Returns the number of boxes.
    """
    stack = np.empty(3 * _DEPTH, np.int64)  # box, first, stop
    stack[0], stack[1], stack[2] = 0, 0, len(corners) // 9
    top, boxes = 1, 1
    while top > 0:
        top -= 1
        box, first, stop = stack[3 * top], stack[3 * top + 1], stack[3 * top + 2]
        if stop - first <= leaf:
            child[2 * box], child[2 * box + 1] = first, first - stop
            continue
        middle = (first + stop) // 2
        child[2 * box], child[2 * box + 1] = boxes, boxes + 1
        for side in range(2):
            stack[3 * top] = boxes + side
            stack[3 * top + 1] = middle if side else first
            stack[3 * top + 2] = stop if side else middle
            top += 1
        boxes += 2
    for back in range(boxes):
        box = boxes - 1 - back
        first, second = child[2 * box], child[2 * box + 1]
        for axis in range(3):
            low, high = np.inf, -np.inf
            if second < 0:
                for i in range(3 * first, 3 * (first - second)):
                    low = min(low, corners[3 * i + axis])
                    high = max(high, corners[3 * i + axis])
            else:
                low = min(bounds[6 * first + axis], bounds[6 * second + axis])
                high = max(bounds[6 * first + 3 + axis], bounds[6 * second + 3 + axis])
            bounds[6 * box + axis] = low
            bounds[6 * box + 3 + axis] = high
    return boxes


@kernel
def dipoles(corners: Any, child: Any, dipole: Any) -> None:
    """Each box's area-weighted centre, its area vector, and the radius about the centre."""
    size = len(child) // 2
    area = np.zeros(size)
    for back in range(size):
        box = size - 1 - back
        d = 7 * box
        first, second = child[2 * box], child[2 * box + 1]
        if second < 0:
            for i in range(first, first - second):
                area[box] += _add_triangle(corners, 9 * i, dipole, d)
        else:
            for other in (first, second):
                area[box] += area[other]
                for axis in range(3):
                    dipole[d + axis] += area[other] * dipole[7 * other + axis]
                    dipole[d + 3 + axis] += dipole[7 * other + 3 + axis]
        for axis in range(3):
            dipole[d + axis] /= area[box]
        far = 0.0
        if second < 0:
            for i in range(3 * first, 3 * (first - second)):
                far = max(far, _gap(corners, 3 * i, dipole, d))
        else:
            for other in (first, second):
                far = max(far, _gap(dipole, 7 * other, dipole, d) + dipole[7 * other + 6])
        dipole[d + 6] = far


@kernel
def _add_triangle(c: Any, i: int, dipole: Any, d: int) -> Any:
    """Add area times centre, and the area vector; return the area, never zero."""
    ux, uy, uz = c[i + 3] - c[i], c[i + 4] - c[i + 1], c[i + 5] - c[i + 2]
    vx, vy, vz = c[i + 6] - c[i], c[i + 7] - c[i + 1], c[i + 8] - c[i + 2]
    x = 0.5 * (uy * vz - uz * vy)
    y = 0.5 * (uz * vx - ux * vz)
    z = 0.5 * (ux * vy - uy * vx)
    size = np.sqrt(x * x + y * y + z * z) + 1e-300
    for axis in range(3):
        dipole[d + axis] += size * (c[i + axis] + c[i + 3 + axis] + c[i + 6 + axis]) / 3
    dipole[d + 3] += x
    dipole[d + 4] += y
    dipole[d + 5] += z
    return size


@kernel
def _gap(a: Any, i: int, b: Any, j: int) -> Any:
    x, y, z = a[i] - b[j], a[i + 1] - b[j + 1], a[i + 2] - b[j + 2]
    return np.sqrt(x * x + y * y + z * z)


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
