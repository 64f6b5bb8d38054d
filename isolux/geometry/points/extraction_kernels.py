"""Kernels that follow the zero set down the levels, and the quads between dual vertices.

Over one cell the field is a polynomial of degree two along each axis, given by the 27
coefficients about the cell.
"""

from typing import Any

import numpy as np

from isolux.backends.cpu.jit import kernel
from isolux.geometry.points.octree_kernels import seek

__all__ = [
    "corners",
    "crossed",
    "cut_quads",
    "find_cases",
    "find_quads",
    "gap",
    "gather",
    "number_vertices",
    "overwrite",
]

_Z = 1
_Y = 1 << 20
_X = 1 << 40


@kernel
def overwrite(
    rows: Any, values: Any, other: Any, other_values: Any, start: int, stop: int
) -> None:
    """Take the other's values where it has a row too."""
    at = 0
    for i in range(start, stop):
        at = seek(other, rows[i], at)
        if at < len(other) and other[at] == rows[i]:
            values[i] = other_values[at]


@kernel
def gather(cell: int, rows: Any, values: Any, near: Any, corner: Any) -> bool:
    """The 27 coefficients about a cell; whether all exist."""
    full = True
    for line in range(9):
        low = cell + (line // 3 - 1) * _X + (line % 3 - 1) * _Y - 1
        at = seek(rows, low, near[line])
        near[line] = at
        if at + 2 < len(rows) and rows[at] == low and rows[at + 2] == low + 2:
            for k in range(3):
                corner[3 * line + k] = values[at + k]
        else:
            full = False
    return full


@kernel
def crossed(cells: Any, rows: Any, values: Any, keep: Any, start: int, stop: int) -> None:
    """Mark the cells that the zero set may pass through.

    In Bernstein's basis a polynomial lies between its least and its largest coefficient, and
    closely so.
    """
    near = np.zeros(9, np.int64)
    c = np.empty(27)
    for i in range(start, stop):
        if not gather(cells[i], rows, values, near, c):
            keep[i] = False
            continue
        for axis in range(3):
            step = (9, 3, 1)[axis]
            for other in range(9):
                at = (
                    other
                    if axis == 0
                    else (other // 3 * 9 + other % 3 if axis == 1 else 3 * other)
                )
                middle = c[at + step]
                c[at] = 0.5 * (c[at] + middle)
                c[at + 2 * step] = 0.5 * (c[at + 2 * step] + middle)
        low, high = c[0], c[0]
        for k in range(27):
            low, high = min(low, c[k]), max(high, c[k])
        keep[i] = low < 0 <= high


@kernel
def corners(c: Any, corner: Any) -> None:
    """Values at a cell's corners: means of eight coefficients, summed in the order of space,
    so that all cells about a corner find the same bits."""
    for k in range(8):
        at = 9 * (k & 1) + 3 * (k >> 1 & 1) + (k >> 2 & 1)
        corner[k] = 0.125 * (
            ((c[at] + c[at + 1]) + (c[at + 3] + c[at + 4]))
            + ((c[at + 9] + c[at + 10]) + (c[at + 12] + c[at + 13]))
        )


@kernel
def find_cases(cells: Any, rows: Any, values: Any, case: Any, start: int, stop: int) -> None:
    """Bit i is set where corner i (bits x, y, z) is inside; none where a coefficient lacks."""
    near = np.zeros(9, np.int64)
    c, corner = np.empty(27), np.empty(8)
    for i in range(start, stop):
        case[i] = 0
        if gather(cells[i], rows, values, near, c):
            corners(c, corner)
            for k in range(8):
                case[i] |= np.uint8((1 if corner[k] < 0 else 0) << k)


@kernel
def number_vertices(
    cells: Any, case: Any, twists: Any, groups: Any, row: Any, first: Any
) -> int:
    """The table's row of each crossed cell and its first dual vertex; how many there are."""
    count = 0
    for i in range(len(cells)):
        row[i] = case[i]
        twist = twists[case[i]]
        if twist >= 0:
            step = (_X, _Y, _Z)[twist // 2] * (1 if twist % 2 == 1 else -1)
            at = seek(cells, cells[i] + step, i)
            if at < len(cells) and cells[at] == cells[i] + step and twists[case[at]] >= 0:
                row[i] = case[i] + 256
        first[i] = count
        most = -1
        for e in range(12):
            most = max(most, groups[12 * np.int64(row[i]) + e])
        count += most + 1
    return count


@kernel
def find_quads(
    cells: Any, case: Any, edge_of: Any, groups: Any, row: Any, first: Any, quads: Any
) -> int:
    """The four vertices about each crossed edge, counter-clockwise from outside; how many.

    `edge_of` says which edge a cell has along an axis at (u, v): place 4 axis + u + 2 v.
    A cell owns the three edges from its lowest corner.
    """
    count = 0
    near = np.zeros(9, np.int64)
    steps = np.array([_X, _Y, _Z])
    for i in range(len(cells)):
        lowest = case[i] & 1
        for axis in range(3):
            if (case[i] >> (1 << axis) & 1) == lowest:
                continue
            u, v = steps[(axis + 1) % 3], steps[(axis + 2) % 3]
            whole = True
            # Counter-clockwise about the axis, from the cell beyond both sides.
            for k in range(4):
                back_u = 1 if (k == 0 or k == 3) else 0
                back_v = 1 if k < 2 else 0
                target = cells[i] - back_u * u - back_v * v
                at = i
                if k != 2:
                    slot = 3 * axis + (k if k < 2 else 2)
                    at = seek(cells, target, near[slot])
                    near[slot] = at
                if at >= len(cells) or cells[at] != target:
                    whole = False
                    break
                e = edge_of[4 * axis + back_u + 2 * back_v]
                place = k if lowest else 3 - k
                quads[4 * count + place] = first[at] + groups[12 * np.int64(row[at]) + e]
            if whole:
                count += 1
    return count


@kernel
def cut_quads(quads: Any, vertices: Any, faces: Any, start: int, stop: int) -> None:
    """Two triangles of each quad, cut along the shorter diagonal."""
    for q in range(start, stop):
        one = gap(vertices, quads[4 * q], quads[4 * q + 2])
        two = gap(vertices, quads[4 * q + 1], quads[4 * q + 3])
        turn = 0 if one <= two else 1
        for half in range(2):
            faces[6 * q + 3 * half] = quads[4 * q + turn]
            faces[6 * q + 3 * half + 1] = quads[4 * q + (turn + 1 + half) % 4]
            faces[6 * q + 3 * half + 2] = quads[4 * q + (turn + 2 + half) % 4]


@kernel
def gap(vertices: Any, a: int, b: int) -> float:
    """The squared distance of two vertices."""
    x = vertices[3 * a] - vertices[3 * b]
    y = vertices[3 * a + 1] - vertices[3 * b + 1]
    z = vertices[3 * a + 2] - vertices[3 * b + 2]
    square: float = x * x + y * y + z * z
    return square
