"""Kernels that evaluate a hierarchy of quadratic B-splines at points."""

from typing import Any

import numpy as np

from isolux.backends.cpu.jit import kernel
from isolux.geometry.points.octree_kernels import seek

__all__ = ["add_level"]


@kernel
def add_level(
    local: Any,
    size: float,
    rows: Any,
    coefficient: Any,
    addition: Any,
    done: Any,
    value: Any,
    gradient: Any,
    start: int,
    stop: int,
) -> None:
    """Add what one level knows of the field at points; to be called from the finest level up.

    Where all 27 coefficients about a point exist, they are the whole field but for what finer
    levels have added: the point is done. Elsewhere the level adds its part.
    """
    near = np.zeros(9, np.int64)
    whole, part = np.empty(27), np.empty(27)
    basis = np.empty(18)
    for i in range(start, stop):
        if done[i]:
            continue
        key = 0
        for axis in range(3):
            at = local[3 * i + axis] / size
            cell = int(np.floor(at))
            key = key << 20 | cell
            t = at - cell
            basis[3 * axis] = 0.5 * (1 - t) * (1 - t)
            basis[3 * axis + 1] = 0.5 + t - t * t
            basis[3 * axis + 2] = 0.5 * t * t
            basis[9 + 3 * axis] = t - 1
            basis[9 + 3 * axis + 1] = 1 - 2 * t
            basis[9 + 3 * axis + 2] = t
        found = 0
        for line in range(9):
            low = key + (line // 3 - 1) * (1 << 40) + (line % 3 - 1) * (1 << 20) - 1
            row = seek(rows, low, near[line])
            near[line] = row
            for k in range(3):
                part[3 * line + k] = 0.0
                if row < len(rows) and rows[row] == low + k:
                    whole[3 * line + k] = coefficient[row]
                    part[3 * line + k] = addition[row]
                    found += 1
                    row += 1
        if found == 0:
            continue
        done[i] = found == 27
        c = whole if found == 27 else part
        for j in range(3):
            for k in range(3):
                a = 9 * j + 3 * k
                plain = c[a] * basis[6] + c[a + 1] * basis[7] + c[a + 2] * basis[8]
                steep = c[a] * basis[15] + c[a + 1] * basis[16] + c[a + 2] * basis[17]
                value[i] += basis[j] * basis[3 + k] * plain
                gradient[3 * i] += basis[9 + j] * basis[3 + k] * plain / size
                gradient[3 * i + 1] += basis[j] * basis[12 + k] * plain / size
                gradient[3 * i + 2] += basis[j] * basis[3 + k] * steep / size
