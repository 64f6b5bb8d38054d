"""A preconditioner for a level's equations: their diagonal, and that of the next coarser cells.

What is smooth over several cells is nearly invisible to the equations' own diagonal. Splines of
twice the width see it: z = D^-1 r + P Dc^-1 P^T r, with P their weights on the fine ones
(1/4, 3/4, 3/4, 1/4 along each axis) and Dc the diagonal of P^T A P (Bramble, Pasciak and Xu
1990, of two levels). Letters: m rows, c coarse rows.
"""

from typing import Any

import numpy as np

from isolux.backends.cpu.jit import SUM_MATH, kernel
from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.geometry.points.assembly import System
from isolux.geometry.points.octree import above, dilated
from isolux.geometry.points.octree_kernels import seek

__all__ = ["TwoLevels"]

_CHUNK = 8192

# What the two splines over a fine one, the near and the far, give to its neighbour -2 to 2
# away, for even cells and for odd ones: [2, 5, 2].
_SHARES = np.array(
    [
        [[0, 0.75], [0.25, 0.75], [0.75, 0.25], [0.75, 0], [0.25, 0]],
        [[0.25, 0], [0.75, 0], [0.75, 0.25], [0.25, 0.75], [0, 0.75]],
    ],
    np.float32,
)


class TwoLevels:
    """The preconditioner of a system.

    Args:
        system: its matrix.
        rows: its cells, sorted, int64 [m].
    """

    def __init__(self, system: System, rows: Any) -> None:
        coarse = dilated(np.unique(above(rows, 1)))
        self.ranges, self.coarse_ranges = system.ranges, chunks(len(coarse), _CHUNK)
        self.inverse = 1 / system.diagonal
        self.above = np.empty((len(rows), 8), np.int32)  # splines over a row; c: none
        parallel_for(_splines_over, [(rows, coarse, self.above, *r) for r in self.ranges])
        self.first, self.below = _turned_round(self.above, len(coarse))
        energy = np.empty((len(rows), 8), np.float32)
        parallel_for(
            _energies,
            [
                (*block, system.diagonal, rows, _SHARES, energy, *part)
                for block, part in zip(system.blocks, system.ranges, strict=True)
            ],
        )
        self.coarse_inverse = np.empty(len(coarse), np.float32)
        self.each(_inverses, energy.reshape(-1), self.first, self.below, self.coarse_inverse)
        self.coarse = np.zeros(len(coarse) + 1, np.float32)  # and one of none

    def each(self, function: Any, *arguments: Any) -> None:
        """Run a kernel over the coarse rows."""
        parallel_for(function, [(*arguments, *part) for part in self.coarse_ranges])

    def __call__(self, residual: Any, out: Any) -> float:
        """The preconditioned residual (float32 [m]) to `out`; returns their scalar product."""
        self.each(_restrict, residual, self.first, self.below, self.coarse_inverse, self.coarse)
        arguments = residual, self.inverse, self.above, self.coarse, out
        parts = parallel_for(_correct, [(*arguments, *part) for part in self.ranges])
        return float(sum(parts))


@kernel
def _splines_over(rows: Any, coarse: Any, above: Any, start: int, stop: int) -> None:
    """The eight coarse rows over each; the bits of 0 to 7 say along which axes they are far."""
    mask = (1 << 20) - 1
    near = np.zeros(8, np.int64)
    for i in range(start, stop):
        key = rows[i]
        x, y, z = key >> 40, key >> 20 & mask, key & mask
        own = (x >> 1) << 40 | (y >> 1) << 20 | z >> 1
        sx = (1 if x & 1 else -1) << 40
        sy = (1 if y & 1 else -1) << 20
        sz = 1 if z & 1 else -1
        for k in range(8):
            target = own + (sx if k & 4 else 0) + (sy if k & 2 else 0) + (sz if k & 1 else 0)
            at = seek(coarse, target, near[k])
            near[k] = at
            above[i, k] = at if at < len(coarse) and coarse[at] == target else len(coarse)


@kernel
def _turned_round(above: Any, count: int) -> tuple[Any, Any]:
    """For each coarse row the places in `above` that name it."""
    first = np.zeros(count + 1, np.int32)
    for i in range(len(above)):
        for k in range(8):
            if above[i, k] < count:
                first[above[i, k] + 1] += 1
    for j in range(count):
        first[j + 1] += first[j]
    free, below = first.copy(), np.empty(first[count], np.int32)
    for i in range(len(above)):
        for k in range(8):
            if above[i, k] < count:
                below[free[above[i, k]]] = 8 * i + k
                free[above[i, k]] += 1
    return first, below


@kernel
def _weight(k: int) -> Any:
    """Of a coarse spline on a fine one."""
    weight = np.float32(0.421875)
    for bit in range(3):
        weight = weight / np.float32(3) if k >> bit & 1 else weight
    return weight


@kernel
def _energies(
    begin: Any,
    columns: Any,
    entries: Any,
    beyond: Any,
    diagonal: Any,
    rows: Any,
    shares: Any,
    out: Any,
    start: int,
    stop: int,
) -> None:
    """What each row, with the entries right of its diagonal, adds to its eight splines'."""
    mask, size = (1 << 20) - 1, stop - start
    corner = (2 << 40) + (2 << 20) + 2
    total = np.empty(8, np.float32)
    for row in range(size):
        key = rows[start + row]
        x, y, z = shares[key >> 40 & 1], shares[key >> 20 & 1], shares[key & 1]
        total[:] = 0
        for at in range(begin[row], begin[row + 1]):
            column = columns[at]
            other = start + column if column < size else beyond[column - size]
            step = rows[other] - key + corner
            dx, dy, dz = step >> 40, step >> 20 & mask, step & mask
            for k in range(8):
                share = x[dx, k >> 2] * y[dy, k >> 1 & 1] * z[dz, k & 1]
                total[k] += 2 * entries[at] * share
        for k in range(8):
            weight = _weight(k)
            out[start + row, k] = weight * (total[k] + weight * diagonal[start + row])


@kernel
def _inverses(energy: Any, first: Any, below: Any, out: Any, start: int, stop: int) -> None:
    for j in range(start, stop):
        total = 0.0
        for at in range(first[j], first[j + 1]):
            total += energy[below[at]]
        out[j] = 1 / total if total > 0 else 0.0


@kernel(fastmath=SUM_MATH)
def _restrict(
    residual: Any, first: Any, below: Any, inverse: Any, out: Any, start: int, stop: int
) -> None:
    weights = np.empty(8, np.float32)
    for k in range(8):
        weights[k] = _weight(k)
    for j in range(start, stop):
        total = np.float32(0)
        for at in range(first[j], first[j + 1]):
            total += weights[below[at] & 7] * residual[below[at] >> 3]
        out[j] = inverse[j] * total


@kernel(fastmath=SUM_MATH)
def _correct(
    residual: Any, inverse: Any, above: Any, coarse: Any, out: Any, start: int, stop: int
) -> float:
    weights = np.empty(8, np.float32)
    for k in range(8):
        weights[k] = _weight(k)
    product = 0.0
    for i in range(start, stop):
        total = residual[i] * inverse[i]
        for k in range(8):
            total += weights[k] * coarse[above[i, k]]
        out[i] = total
        product += np.float64(residual[i]) * np.float64(total)
    return product
