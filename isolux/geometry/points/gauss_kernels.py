"""Sums over all pairs of points, of Gauss's formula for the inside of a shape.

The formula's kernel of a point x and a source y is K(x, y) = (y - x) / (4 pi |y - x|^3), a
vector. Close to x it is held at what it is at the distance `width` of x, divided by the
distance once more.
"""

from typing import Any

import numpy as np

from isolux.backends.cpu.jit import SUM_MATH, kernel

__all__ = ["flux_of", "lengths_of", "pull_of"]


@kernel(fastmath=SUM_MATH)
def flux_of(
    x: Any, y: Any, z: Any, square: Any, mx: Any, my: Any, mz: Any, out: Any,
    start: int, stop: int,
) -> None:  # fmt: skip
    """out_i = sum over j of K(i, j) . m_j.

    Args:
        square: the width of each point, squared.
        mx, my, mz: a vector at each source.
    """
    for i in range(start, stop):
        total = 0.0
        for j in range(len(x)):
            ex, ey, ez = x[j] - x[i], y[j] - y[i], z[j] - z[i]
            r = max(ex * ex + ey * ey + ez * ez, square[i])
            total += (ex * mx[j] + ey * my[j] + ez * mz[j]) / (r * np.sqrt(r))
        out[i] = total / (4.0 * np.pi)


@kernel(fastmath=SUM_MATH)
def pull_of(
    x: Any, y: Any, z: Any, square: Any, weight: Any, mx: Any, my: Any, mz: Any,
    start: int, stop: int,
) -> None:  # fmt: skip
    """m_j = sum over i of K(i, j) weight_i, the transpose of `flux_of`."""
    for j in range(start, stop):
        tx, ty, tz = 0.0, 0.0, 0.0
        for i in range(len(x)):
            ex, ey, ez = x[j] - x[i], y[j] - y[i], z[j] - z[i]
            r = max(ex * ex + ey * ey + ez * ez, square[i])
            share = weight[i] / (r * np.sqrt(r))
            tx += ex * share
            ty += ey * share
            tz += ez * share
        mx[j], my[j], mz[j] = (
            tx / (4.0 * np.pi),
            ty / (4.0 * np.pi),
            tz / (4.0 * np.pi),
        )


@kernel(fastmath=SUM_MATH)
def lengths_of(x: Any, y: Any, z: Any, square: Any, out: Any, start: int, stop: int) -> None:
    """out_i = sum over j of |K(i, j)|^2."""
    for i in range(start, stop):
        total = 0.0
        for j in range(len(x)):
            ex, ey, ez = x[j] - x[i], y[j] - y[i], z[j] - z[i]
            e = ex * ex + ey * ey + ez * ez
            r = max(e, square[i])
            total += e / (r * r * r)
        out[i] = total / (16.0 * np.pi * np.pi)
