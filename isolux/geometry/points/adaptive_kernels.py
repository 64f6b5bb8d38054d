"""Kernels that make one cell of eight where the surface in them is simple and flat.

Signs are those at the corners of the smallest cells: bit i of a case is set where corner i
(bits x, y, z) is inside.
"""

from typing import Any

import numpy as np

from isolux.backends.cpu.jit import kernel
from isolux.geometry.points.extraction_kernels import gap

__all__ = ["add_planes", "cut", "farthest", "join", "place"]

SUMS = 16
"""Numbers a cell's planes add up to: normals' products (xx xy xz yy yz zz), normals times
offsets (3), positions (3), normals (3), how many."""

_FACING = 0.2  # cosine, of a triangle's normal to the mean one at its corners, at least
_FOLDED = 0.5  # likewise, below which the other diagonal is tried
_PULL = 0.01  # towards the mean of the positions, of a plane's weight


@kernel
def join(
    order: Any,
    begin: Any,
    keys: Any,
    case: Any,
    simple: Any,
    disc: Any,
    up_case: Any,
    up_simple: Any,
    start: int,
    stop: int,
) -> None:
    """For cells of the next level: signs at their corners, and whether one disc fills each.

    `order[begin[i]:begin[i + 1]]` are the children of cell i that the surface passes. A cell is
    simple when its children are, and all of these hold (compare Ju et al. 2002, "Dual
    contouring of Hermite data", section 4.3): along an edge the sign changes once at most, the
    middle of a face has the sign of one of its corners, the corners alone make one disc
    (`disc`, of a case), and what the children hold has the Euler characteristic of one.
    """
    sign = np.empty(27, np.int64)
    child_case = np.empty(8, np.int64)
    for i in range(start, stop):
        sign[:] = -1
        child_case[:] = -1
        good, count = True, 0
        for slot in range(begin[i], begin[i + 1]):
            child = order[slot]
            key = keys[child]
            k = (key >> 40 & 1) | (key >> 20 & 1) << 1 | (key & 1) << 2
            child_case[k] = case[child]
            good = good and simple[child]
            count += 1
            for j in range(8):
                sign[_point(k, j)] = case[child] >> j & 1
        # The surface does not pass the others: one sign fills each, that of the middle.
        for k in range(8):
            if child_case[k] < 0:
                for j in range(8):
                    at = _point(k, j)
                    if sign[at] < 0:
                        sign[at] = sign[13]
                    elif sign[at] != sign[13]:
                        good = False
        of = 0
        for j in range(8):
            of |= sign[18 * (j & 1) + 6 * (j >> 1 & 1) + 2 * (j >> 2 & 1)] << j
        up_case[i] = of
        up_simple[i] = good and disc[of] and _one_disc(sign, count)


@kernel
def _point(k: int, j: int) -> int:
    """Which of 3 x 3 x 3 points is corner j of child k."""
    x, y, z = (k & 1) + (j & 1), (k >> 1 & 1) + (j >> 1 & 1), (k >> 2 & 1) + (j >> 2 & 1)
    return 9 * x + 3 * y + z


@kernel
def _one_disc(sign: Any, count: int) -> bool:
    """Whether signs at 3 x 3 x 3 points keep the law of `join`; `count`: children passed."""
    step = (9, 3, 1)
    crossings, arcs = 0, 0
    for axis in range(3):
        a, b, c = step[axis], step[(axis + 1) % 3], step[(axis + 2) % 3]
        for u in range(3):
            for v in range(3):
                line = u * b + v * c
                low, middle, high = sign[line], sign[line + a], sign[line + 2 * a]
                crossings += (1 if low != middle else 0) + (1 if middle != high else 0)
                if u != 1 and v != 1 and low == high and middle != low:
                    return False
        for plane in range(3):
            base = plane * a
            for u in range(2):
                for v in range(2):
                    at = base + u * b + v * c
                    total = sign[at] + sign[at + b] + sign[at + c] + sign[at + b + c]
                    arcs += 1 if 0 < total < 4 else 0
            if plane != 1:
                total = sign[base] + sign[base + 2 * b] + sign[base + 2 * c]
                total += sign[base + 2 * b + 2 * c]
                if total == 4 * (1 - sign[base + b + c]):
                    return False
    return crossings - arcs + count == 1


@kernel
def add_planes(
    vertices: Any, normals: Any, vertex: Any, cell: Any, corner: Any, size: float, sums: Any
) -> None:
    """Add up the planes at vertices of the smallest cells, in the cells that they lie in.

    Positions are taken from a cell's middle, in edges of it. `vertex` and `cell` belong
    together.
    """
    p, n = np.empty(3), np.empty(3)
    for i in range(len(vertex)):
        v, to = 3 * vertex[i], np.int64(cell[i])
        offset = 0.0
        for axis in range(3):
            p[axis] = vertices[v + axis] / size - corner[3 * to + axis] - 0.5
            n[axis] = normals[v + axis]
            offset += n[axis] * p[axis]
        at, k = SUMS * to, 0
        for one in range(3):
            for two in range(one, 3):
                sums[at + k] += n[one] * n[two]
                k += 1
        for axis in range(3):
            sums[at + 6 + axis] += n[axis] * offset
            sums[at + 9 + axis] += p[axis]
            sums[at + 12 + axis] += n[axis]
        sums[at + 15] += 1.0


@kernel
def place(
    sums: Any,
    corner: Any,
    size: float,
    wanted: Any,
    vertices: Any,
    normals: Any,
    start: int,
    stop: int,
) -> None:
    """The point of each wanted cell that is nearest to its planes, and their mean normal.

    Along directions that the planes leave open it is the mean of the positions.
    """
    m, r = np.empty(6), np.empty(3)
    for i in range(start, stop):
        at = SUMS * i
        if not wanted[i] or sums[at + 15] == 0:
            continue
        count = sums[at + 15]
        for k in range(6):
            m[k] = sums[at + k] / count
        for axis in range(3):
            r[axis] = (sums[at + 6 + axis] + _PULL * sums[at + 9 + axis]) / count
        m[0] += _PULL
        m[3] += _PULL
        m[5] += _PULL
        a, b, c = (
            m[3] * m[5] - m[4] * m[4],
            m[2] * m[4] - m[1] * m[5],
            m[1] * m[4] - m[2] * m[3],
        )
        d, e, f = (
            m[0] * m[5] - m[2] * m[2],
            m[1] * m[2] - m[0] * m[4],
            m[0] * m[3] - m[1] * m[1],
        )
        whole = m[0] * a + m[1] * b + m[2] * c
        x = (a * r[0] + b * r[1] + c * r[2]) / whole
        y = (b * r[0] + d * r[1] + e * r[2]) / whole
        z = (c * r[0] + e * r[1] + f * r[2]) / whole
        length = 1e-30
        for axis in range(3):
            part = x if axis == 0 else (y if axis == 1 else z)
            part = min(max(part, -0.5), 0.5) + 0.5
            vertices[3 * i + axis] = size * (corner[3 * i + axis] + part)
            length += sums[at + 12 + axis] ** 2
        for axis in range(3):
            normals[3 * i + axis] = sums[at + 12 + axis] / np.sqrt(length)


@kernel
def farthest(
    vertices: Any,
    normals: Any,
    vertex: Any,
    cell: Any,
    places: Any,
    turned: Any,
    error: Any,
    cosine: Any,
) -> None:
    """How far each cell's vertex is from its planes at most, and how much they turn."""
    for i in range(len(vertex)):
        v, to = 3 * vertex[i], np.int64(cell[i])
        off, along = 0.0, 0.0
        for axis in range(3):
            off += normals[v + axis] * (places[3 * to + axis] - vertices[v + axis])
            along += normals[v + axis] * turned[3 * to + axis]
        error[to] = max(error[to], abs(off))
        cosine[to] = min(cosine[to], along)


@kernel
def cut(quads: Any, vertices: Any, normals: Any, faces: Any, tolerance: float, bad: Any) -> int:
    """Triangles of quads whose corners may have become one; how many.

    Of a quad's diagonals the shorter is taken, unless its triangles face the wrong way and
    the other's less so. `bad` are triangles that do not face as the mean normal of their
    corners does, or between whose corners the surface bends away by more than the tolerance.
    """
    count = 0
    kept = np.empty(4, np.int64)
    for q in range(len(quads) // 4):
        size = 0
        for k in range(4):
            corner = quads[4 * q + k]
            if corner != quads[4 * q + (k + 1) % 4]:
                kept[size] = corner
                size += 1
        if size < 3:
            continue
        turn = 0
        if size == 4:
            one = gap(vertices, kept[0], kept[2])
            two = gap(vertices, kept[1], kept[3])
            turn = 0 if one <= two else 1
            facing = _fold(vertices, normals, kept, turn)
            if facing < _FOLDED and _fold(vertices, normals, kept, 1 - turn) > facing:
                turn = 1 - turn
        for half in range(size - 2):
            a, b, c = kept[turn], kept[(turn + 1 + half) % 4], kept[(turn + 2 + half) % 4]
            faces[3 * count] = a
            faces[3 * count + 1] = b
            faces[3 * count + 2] = c
            most = _bend(vertices, normals, a, b)
            most = max(most, _bend(vertices, normals, b, c))
            most = max(most, _bend(vertices, normals, c, a))
            bad[count] = most > tolerance or not _facing(vertices, normals, a, b, c) > _FACING
            count += 1
    return count


@kernel
def _fold(vertices: Any, normals: Any, kept: Any, turn: int) -> float:
    a, c = kept[turn], kept[(turn + 2) % 4]
    one: float = _facing(vertices, normals, a, kept[(turn + 1) % 4], c)
    two: float = _facing(vertices, normals, a, c, kept[(turn + 3) % 4])
    return min(one, two)


@kernel
def _bend(vertices: Any, normals: Any, a: int, b: int) -> float:
    """How far an arc from a to b is from its chord: a quarter of how far an end is from the
    tangent at the other. The lesser of both, as one may be a crease beside something flat."""
    one, two = 0.0, 0.0
    for axis in range(3):
        way = vertices[3 * b + axis] - vertices[3 * a + axis]
        one += normals[3 * a + axis] * way
        two += normals[3 * b + axis] * way
    return 0.25 * min(abs(one), abs(two))


@kernel
def _facing(vertices: Any, normals: Any, a: int, b: int, c: int) -> float:
    """The cosine between a triangle's normal and the sum of those at its corners."""
    ux, uy = vertices[3 * b] - vertices[3 * a], vertices[3 * b + 1] - vertices[3 * a + 1]
    vx, vy = vertices[3 * c] - vertices[3 * a], vertices[3 * c + 1] - vertices[3 * a + 1]
    uz, vz = (
        vertices[3 * b + 2] - vertices[3 * a + 2],
        vertices[3 * c + 2] - vertices[3 * a + 2],
    )
    x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    nx = normals[3 * a] + normals[3 * b] + normals[3 * c]
    ny = normals[3 * a + 1] + normals[3 * b + 1] + normals[3 * c + 1]
    nz = normals[3 * a + 2] + normals[3 * b + 2] + normals[3 * c + 2]
    size = np.sqrt((x * x + y * y + z * z) * (nx * nx + ny * ny + nz * nz))
    cosine: float = (x * nx + y * ny + z * nz) / size if size > 1e-12 else -1.0
    return cosine
