"""Conjugate gradients on blocks of a symmetric matrix, preconditioned.

With the diagonal, and once that has shown to be slow, with coarser splines as well.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from isolux.backends.cpu.jit import SUM_MATH, kernel
from isolux.backends.cpu.pool import parallel_for
from isolux.geometry.points.assembly import System
from isolux.geometry.points.two_levels import TwoLevels

__all__ = ["solve"]

_PATIENCE = 20  # steps with the diagonal alone, where coarser splines would help


def solve(
    system: System, start: Any, tolerance: float, most: int, rows: Any = None
) -> tuple[Any, int, float]:
    """Improve `start` until the residual is `tolerance` times the right side, or `most` steps.

    Args:
        system: positive definite.
        start: float32 [m].
        tolerance: of the norms of residual and right side, both in the diagonal's metric.
        most: number of steps.
        rows: the cells of the coefficients, sorted, int64 [m]: many steps become fewer.

    Returns:
        The solution (float32), the steps taken, the relative residual that is left: NaN where
        the equations hold one, infinite where the right side is zero and the start is not it.
    """
    x = start.astype(np.float32, copy=True)
    inverse = 1.0 / system.diagonal
    residual, image = np.empty(len(x), np.float32), np.empty(len(x), np.float32)
    _multiply(system, x, image)
    parts = _each(system, _begin, system.right, image, inverse, residual)
    square, scale = sum(p[0] for p in parts), sum(p[1] for p in parts)
    goal = tolerance * tolerance * scale
    state = x, residual, image, inverse

    def by_diagonal(residual: Any, out: Any) -> float:
        return float(sum(_each(system, _scale, residual, inverse, out)))

    first = most if rows is None else min(most, _PATIENCE)
    steps, square, stuck = _descend(system, state, by_diagonal, square, goal, first)
    if steps < most and square > goal and not stuck:
        two = TwoLevels(system, rows)
        more, square, _ = _descend(system, state, two, square, goal, most - steps)
        steps += more
    if square == 0:  # nothing is asked for, and nothing is left
        return x, steps, 0.0
    return x, steps, float(np.sqrt(square / scale)) if scale != 0 else np.inf


def _descend(
    system: System,
    state: tuple[Any, Any, Any, Any],
    precondition: Callable[[Any, Any], float],
    square: float,
    goal: float,
    most: int,
) -> tuple[int, float, bool]:
    """Conjugate gradients in place: the steps, what is left, whether no direction was."""
    x, residual, image, inverse = state
    along, turned = np.zeros(len(x), np.float32), np.empty(len(x), np.float32)
    steps, previous = 0, np.inf
    while square > goal and steps < most:
        product = precondition(residual, turned)
        _each(system, _turn, turned, along, np.float32(product / previous))
        curvature = _multiply(system, along, image)
        if not curvature > 0:
            return steps, square, True  # rounding has eaten the direction
        previous, length = product, np.float32(product / curvature)
        square = sum(_each(system, _step, length, along, image, inverse, x, residual))
        steps += 1
    return steps, square, False


def _multiply(system: System, x: Any, out: Any) -> float:
    """The product, into `out`; returns its scalar product with x."""
    parts = parallel_for(
        _block_times,
        [
            (*block, system.diagonal, x, out, *part)
            for block, part in zip(system.blocks, system.ranges, strict=True)
        ],
    )
    # What blocks add to later rows is added in their order, whoever worked it out.
    for block, (_, late) in zip(system.blocks, parts, strict=True):
        _add_at(out, block[3], late)
    return sum(float(product) for product, _ in parts)


def _each(system: System, function: Any, *arguments: Any) -> list[Any]:
    return parallel_for(function, [(*arguments, *part) for part in system.ranges])


@kernel(fastmath=SUM_MATH)
def _gather(columns: Any, entries: Any, x: Any, first: int, last: int) -> Any:
    total = np.float32(0.0)
    for k in range(np.uint32(first), np.uint32(last)):
        total += entries[k] * x[np.uint32(columns[k])]
    return total


@kernel
def _scatter(
    columns: Any, entries: Any, factor: float, out: Any, first: int, last: int
) -> None:
    for k in range(np.uint32(first), np.uint32(last)):
        out[np.uint32(columns[k])] += entries[k] * factor


@kernel
def _block_times(
    begin: Any,
    columns: Any,
    entries: Any,
    beyond: Any,
    diagonal: Any,
    x: Any,
    out: Any,
    start: int,
    stop: int,
) -> tuple[float, Any]:
    """A block's part of the product, written to its own rows.

    Returns its part of the scalar product with x, and what it adds to the rows `beyond`.
    """
    size = stop - start
    here, sums = (
        np.empty(size + len(beyond), np.float32),
        np.zeros(len(beyond) + size, np.float32),
    )
    here[:size] = x[start:stop]
    for k in range(len(beyond)):
        here[size + k] = x[beyond[k]]
    product = 0.0
    for row in range(size):
        first, last = begin[row], begin[row + 1]
        right = _gather(columns, entries, here, first, last)
        own = diagonal[start + row] * here[row]
        sums[row] += own + right
        product += np.float64(here[row]) * (np.float64(own) + 2 * np.float64(right))
        _scatter(columns, entries, here[row], sums, first, last)
    out[start:stop] = sums[:size]
    return product, sums[size:]


@kernel
def _add_at(out: Any, places: Any, values: Any) -> None:
    for k in range(len(places)):
        out[places[k]] += values[k]


@kernel
def _begin(
    right: Any, image: Any, inverse: Any, residual: Any, start: int, stop: int
) -> tuple[float, float]:
    square, scale = 0.0, 0.0
    for i in range(start, stop):
        residual[i] = right[i] - image[i]
        square += np.float64(residual[i]) * np.float64(residual[i] * inverse[i])
        scale += np.float64(right[i]) * np.float64(right[i] * inverse[i])
    return square, scale


@kernel
def _scale(residual: Any, inverse: Any, out: Any, start: int, stop: int) -> float:
    product = 0.0
    for i in range(start, stop):
        out[i] = residual[i] * inverse[i]
        product += np.float64(residual[i]) * np.float64(out[i])
    return product


@kernel
def _turn(turned: Any, along: Any, share: float, start: int, stop: int) -> None:
    for i in range(start, stop):
        along[i] = turned[i] + share * along[i]


@kernel
def _step(
    length: float,
    along: Any,
    image: Any,
    inverse: Any,
    x: Any,
    residual: Any,
    start: int,
    stop: int,
) -> float:
    square = 0.0
    for i in range(start, stop):
        x[i] += length * along[i]
        residual[i] -= length * image[i]
        square += np.float64(residual[i]) * np.float64(residual[i] * inverse[i])
    return square
