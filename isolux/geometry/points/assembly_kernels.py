"""The kernels that assemble rows of the normal equations.

A cell's 27 splines are products of three one-dimensional ones, and so are the entries that a
sample adds. Each row gathers from the 27 cells about it, so that no two rows write to one
place. The matrix is symmetric: a row has its diagonal and the entries right of it.

A row's neighbours are numbered by their steps along x, y, z: 62 + 25 dx + 5 dy + dz.
"""

from typing import Any

import numpy as np

from isolux.backends.cpu.jit import SUM_MATH, kernel
from isolux.geometry.points.basis import splines
from isolux.geometry.points.octree_kernels import seek

__all__ = ["assemble_rows", "evaluate"]


@kernel(fastmath=SUM_MATH)
def _add_samples(
    begin: int,
    end: int,
    qx: int,
    qy: int,
    qz: int,
    fraction: Any,
    normal: Any,
    target: Any,
    value_weight: Any,
    slope_weight: Any,
    value: Any,
    slope: Any,
    entry: Any,
    base: int,
) -> float:
    """A cell's samples: products of one of its splines with itself and those behind it.

    Returns the right side.
    """
    right = 0.0
    for s in range(begin, end):
        for axis in range(3):
            splines(np.float64(fraction[3 * s + axis]), value, slope, 3 * axis)
        wv, wg = np.float64(value_weight[s]), np.float64(slope_weight[s])
        x, y, z = value[qx], value[3 + qy], value[6 + qz]
        gx = wg * slope[qx] * y * z
        gy = wg * x * slope[3 + qy] * z
        gz = wg * x * y * slope[6 + qz]
        right += gx * normal[3 * s] + gy * normal[3 * s + 1] + gz * normal[3 * s + 2]
        plain = wv * x * y * z
        right += plain * target[s]
        for j in range(3):
            for k in range(3):
                yz = value[3 + j] * value[6 + k]
                u = (
                    plain * yz
                    + gz * value[3 + j] * slope[6 + k]
                    + gy * slope[3 + j] * value[6 + k]
                )
                v = gx * yz
                at = base + 5 * j + k
                behind = at + 25 * qx >= 62
                if qx == 0 and behind:
                    entry[at] += u * value[0] + v * slope[0]
                if qx == 0 or (qx == 1 and behind):
                    entry[at + 25] += u * value[1] + v * slope[1]
                if qx < 2 or behind:
                    entry[at + 50] += u * value[2] + v * slope[2]
    return right


@kernel
def _smooth(entry: Any, column: Any, smoothness: Any) -> None:
    """Squared second differences along the axes, of triples whose cells all exist.

    The smoothness of a triple is that of the row in its middle.
    """
    own = np.float64(smoothness[column[62]])
    for axis in range(3):
        step = (25, 5, 1)[axis]
        low, lower = column[62 - step] >= 0, column[62 - 2 * step] >= 0
        high, higher = column[62 + step] >= 0, column[62 + 2 * step] >= 0
        if low and high:
            entry[62] += 4 * own
            entry[62 + step] -= 2 * own
        if low and lower:
            entry[62] += np.float64(smoothness[column[62 - step]])
        if high and higher:
            other = np.float64(smoothness[column[62 + step]])
            entry[62] += other
            entry[62 + step] -= 2 * other
            entry[62 + 2 * step] += other


@kernel
def _find_neighbours(rows: Any, key: Any, near: Any, column: Any) -> None:
    """The neighbours of a row that its entries need, -1 where there is none."""
    column[:] = -1
    for line in range(25):
        if line < 12 and line != 2 and line != 7 and line != 10 and line != 11:
            continue  # before the row, and on no axis
        low = key + (np.int64(line // 5 - 2) << 40) + (np.int64(line % 5 - 2) << 20) - 2
        at = seek(rows, low, near[line])
        near[line] = at
        while at < len(rows) and rows[at] <= low + 4:
            column[5 * line + (rows[at] - low)] = at
            at += 1


@kernel
def assemble_rows(
    rows: Any,
    cells: Any,
    first: Any,
    fraction: Any,
    normal: Any,
    target: Any,
    value_weight: Any,
    slope_weight: Any,
    smoothness: Any,
    extra: Any,
    start: int,
    stop: int,
) -> tuple[Any, Any, Any, Any, Any, Any]:
    """Rows start to stop: where each begins, columns, entries, beyond, diagonal, right side.

    Columns count from `start`. Rows from `stop` on get the numbers after the own ones, in the
    order of `beyond`, so that a block reads and writes few places.
    """
    begin = np.empty(stop - start + 1, np.int32)
    diagonal = np.empty(stop - start, np.float32)
    right = np.empty(stop - start, np.float32)
    room = 36 * (stop - start) + 125
    columns, entries = np.empty(room, np.int32), np.empty(room, np.float32)
    near, near_cell = np.zeros(25, np.int64), np.zeros(9, np.int64)
    column, entry = np.empty(125, np.int64), np.empty(125)
    value, slope = np.empty(9), np.empty(9)
    reach = seek(rows, rows[stop - 1] + (2 << 40) + (2 << 20) + 3, stop - 1)
    number, beyond = np.full(reach - stop, -1, np.int32), np.empty(reach - stop, np.int32)
    count, far = 0, 0
    for i in range(start, stop):
        key = rows[i]
        entry[:] = 0.0
        _find_neighbours(rows, key, near, column)
        total = 0.0
        for line in range(9):
            ox, oy = line // 3, line % 3  # plus one
            low = key + (np.int64(ox - 1) << 40) + (np.int64(oy - 1) << 20) - 1
            at = seek(cells, low, near_cell[line])
            near_cell[line] = at
            while at < len(cells) and cells[at] <= low + 2:
                oz = cells[at] - low
                total += _add_samples(
                    *(first[at], first[at + 1], 2 - ox, 2 - oy, 2 - oz),
                    *(fraction, normal, target, value_weight, slope_weight, value, slope),
                    *(entry, 25 * ox + 5 * oy + oz),
                )
                at += 1
        _smooth(entry, column, smoothness)
        entry[62] += extra[i]
        if count + 125 > len(columns):
            columns = np.append(columns, np.empty(len(columns) // 2, np.int32))
            entries = np.append(entries, np.empty(len(entries) // 2, np.float32))
        begin[i - start] = count
        for k in range(63, 125):
            if entry[k] != 0 and column[k] >= 0:
                at = column[k] - start
                if column[k] >= stop:
                    if number[column[k] - stop] < 0:
                        number[column[k] - stop] = stop - start + far
                        beyond[far] = column[k]
                        far += 1
                    at = number[column[k] - stop]
                columns[count] = at
                entries[count] = entry[k]
                count += 1
        diagonal[i - start] = entry[62]
        right[i - start] = total
    begin[stop - start] = count
    columns, entries = columns[:count].copy(), entries[:count].copy()
    return begin, columns, entries, beyond[:far].copy(), diagonal, right


@kernel
def evaluate(
    rows: Any,
    coefficient: Any,
    cells: Any,
    first: Any,
    fraction: Any,
    value_out: Any,
    slope_out: Any,
    start: int,
    stop: int,
) -> None:
    """The function [s] and its gradient [3 s] at the samples of cells start to stop."""
    near = np.zeros(9, np.int64)
    corner, value, slope = np.empty(27), np.empty(9), np.empty(9)
    for c in range(start, stop):
        for line in range(9):
            low = (
                cells[c] + (np.int64(line // 3 - 1) << 40) + (np.int64(line % 3 - 1) << 20) - 1
            )
            at = seek(rows, low, near[line])
            near[line] = at
            for k in range(3):
                corner[3 * line + k] = 0.0
                if at < len(rows) and rows[at] == low + k:
                    corner[3 * line + k] = coefficient[at]
                    at += 1
        for s in range(first[c], first[c + 1]):
            for axis in range(3):
                splines(np.float64(fraction[3 * s + axis]), value, slope, 3 * axis)
            f, gx, gy, gz = 0.0, 0.0, 0.0, 0.0
            for i in range(3):
                for j in range(3):
                    a = 9 * i + 3 * j
                    plain, steep = 0.0, 0.0
                    for k in range(3):
                        plain += corner[a + k] * value[6 + k]
                        steep += corner[a + k] * slope[6 + k]
                    f += value[i] * value[3 + j] * plain
                    gx += slope[i] * value[3 + j] * plain
                    gy += value[i] * slope[3 + j] * plain
                    gz += value[i] * value[3 + j] * steep
            value_out[s] = f
            slope_out[3 * s], slope_out[3 * s + 1], slope_out[3 * s + 2] = gx, gy, gz
