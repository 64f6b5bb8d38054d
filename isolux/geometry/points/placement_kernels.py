"""Where dual vertices lie in their cells.

Over one cell the field is a polynomial of degree two along each axis, given by the 27
coefficients about the cell.
"""

from typing import Any

import numpy as np

from isolux.backends.cpu.jit import kernel
from isolux.geometry.points.extraction_kernels import corners, gather

__all__ = ["place_vertices"]

_Y = 1 << 20
_STEPS = 6  # of Newton's method at most; two as a rule
_NEAR = 1e-4  # cells; after a step so short the next one would be nothing
_MISSED, _MOST = 18.0, 0.0225  # see `_bulge`; the latter in cells


@kernel
def _value_and_slope(c: Any, p: Any, basis: Any, out: Any) -> None:
    for axis in range(3):
        t = p[axis]
        basis[3 * axis] = 0.5 * (1 - t) * (1 - t)
        basis[3 * axis + 1] = 0.5 + t - t * t
        basis[3 * axis + 2] = 0.5 * t * t
        basis[9 + 3 * axis] = t - 1
        basis[9 + 3 * axis + 1] = 1 - 2 * t
        basis[9 + 3 * axis + 2] = t
    out[:] = 0.0
    for i in range(3):
        for j in range(3):
            a = 9 * i + 3 * j
            plain = c[a] * basis[6] + c[a + 1] * basis[7] + c[a + 2] * basis[8]
            steep = c[a] * basis[15] + c[a + 1] * basis[16] + c[a + 2] * basis[17]
            out[0] += basis[i] * basis[3 + j] * plain
            out[1] += basis[9 + i] * basis[3 + j] * plain
            out[2] += basis[i] * basis[12 + j] * plain
            out[3] += basis[i] * basis[3 + j] * steep


@kernel
def _to_the_surface(c: Any, p: Any, basis: Any, out: Any, step: Any) -> None:
    """Newton's method from a point of a cell, within it; `out` ends with value and slope.

    Where a step would leave through a wall it goes along the wall, so that a vertex that is
    pressed to one still comes to lie on the surface.
    """
    for _ in range(_STEPS):
        _value_and_slope(c, p, basis, out)
        square = 0.0
        for axis in range(3):
            along = out[0] * out[1 + axis]
            held = along > 0 if p[axis] <= 0 else (along < 0 if p[axis] >= 1 else False)
            step[axis] = 0.0 if held else out[1 + axis]
            square += step[axis] * step[axis]
        if not square > 1e-12:
            break
        far = 0.0
        for axis in range(3):
            move = min(max(-out[0] * step[axis] / square, -0.5), 0.5)
            p[axis] = min(max(p[axis] + move, 0.0), 1.0)
            far = max(far, abs(move))
        if far < _NEAR:
            break


@kernel
def _bulge(c: Any, p: Any, basis: Any, out: Any) -> None:
    """Move a vertex outward where the surface bends, by a share of what a triangle misses.

    Triangles between vertices that lie on the surface lie on the inner side of its bends. With
    vertices a little beyond it they lie on both sides, at half the mean distance. A square of
    side h on a surface of curvatures a and b misses it by (a + b) h^2 / 12 on average, and a
    cell has about 1.5 vertices for the square of its side. Beside an edge, where that is much,
    the field bends within less than a cell, and nothing is moved.
    """
    square = out[1] * out[1] + out[2] * out[2] + out[3] * out[3]
    if not square > 1e-12:
        return
    length = np.sqrt(square)
    missed = _bend(c, basis, out, square) / (_MISSED * length)
    move = missed / (1 + (missed / _MOST) ** 2) / length
    for axis in range(3):
        p[axis] = min(max(p[axis] + move * out[1 + axis], 0.0), 1.0)


@kernel
def _bend(c: Any, basis: Any, out: Any, square: float) -> float:
    """The field's second derivatives across its slope, summed: the slope times a + b."""
    total = 0.0
    for i in range(3):
        curved_i = -2.0 if i == 1 else 1.0
        for j in range(3):
            curved_j = -2.0 if j == 1 else 1.0
            for k in range(3):
                curved_k = -2.0 if k == 1 else 1.0
                x, y, z = basis[i], basis[3 + j], basis[6 + k]
                u, v, w = basis[9 + i], basis[12 + j], basis[15 + k]
                xx, yy, zz = curved_i * y * z, x * curved_j * z, x * y * curved_k
                across = xx * (out[2] * out[2] + out[3] * out[3])
                across += yy * (out[1] * out[1] + out[3] * out[3])
                across += zz * (out[1] * out[1] + out[2] * out[2])
                across -= 2 * u * v * z * out[1] * out[2]
                across -= 2 * u * y * w * out[1] * out[3]
                across -= 2 * x * v * w * out[2] * out[3]
                total += c[9 * i + 3 * j + k] * across
    return total / square


@kernel
def place_vertices(
    cells: Any,
    rows: Any,
    values: Any,
    ends: Any,
    groups: Any,
    row: Any,
    first: Any,
    vertices: Any,
    slopes: Any,
    start: int,
    stop: int,
) -> None:
    """Each dual vertex: the mean of its patch's crossings, brought to the surface by Newton.

    Vertices are in cells, and none leaves its own, nor the surface by more than
    _MOST / 2. `slopes`: the field's there, or empty.
    """
    near = np.zeros(9, np.int64)
    c, corner, basis, out = np.empty(27), np.empty(8), np.empty(18), np.empty(4)
    p, step = np.empty(3), np.empty(3)
    mask = _Y - 1
    for i in range(start, stop):
        gather(cells[i], rows, values, near, c)
        corners(c, corner)
        table = 12 * np.int64(row[i])
        group = 0
        while True:
            count = 0
            p[:] = 0.0
            for e in range(12):
                if groups[table + e] != group:
                    continue
                a, b = ends[2 * e], ends[2 * e + 1]
                t = corner[a] / (corner[a] - corner[b])
                for axis in range(3):
                    from_, to = a >> axis & 1, b >> axis & 1
                    p[axis] += from_ + t * (to - from_)
                count += 1
            if count == 0:
                break
            for axis in range(3):
                p[axis] /= count
            _to_the_surface(c, p, basis, out, step)
            _bulge(c, p, basis, out)
            at = np.int64(first[i]) + group
            vertices[3 * at] = p[0] + (cells[i] >> 40)
            vertices[3 * at + 1] = p[1] + (cells[i] >> 20 & mask)
            vertices[3 * at + 2] = p[2] + (cells[i] & mask)
            if len(slopes) > 0:
                for axis in range(3):
                    slopes[3 * at + axis] = out[1 + axis]
            group += 1
