"""The kernels of Neural Splines in closed form, their gradients, and blocks of them.

Letters: n points, m centres. Points are lifted to X = (x, 1) in R^4, and a kernel is a function
of the two lengths and of the angle t between X and Z. It is written in q = sin(t / 2)^2, a
quarter of the squared chord of the unit vectors, which is exact for neighbours where an arc
cosine has lost half its digits. Values of `neural-spline` leave out the part (1 + v) X . Z, a
matrix of rank four: what remains is small between neighbours, and single precision keeps it.

Williams et al. 2021, "Neural Splines: Fitting 3D Surfaces with Infinitely-Wide Neural
Networks".
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from isolux.geometry.points import spline_rows

__all__ = ["KernelName", "Lifted", "SplineKernel", "gradient_sums", "rows", "value_sums"]

KernelName = Literal["neural-spline", "spherical-laplace", "linear-angle"]

_SERIES = 70  # terms before economisation; what is left out is below 1e-21
_HEAD = 8  # numbers that stand before the coefficients in a kernel's table
_TERMS = {np.float64: 18, np.float32: 10}  # errors of 1e-15 and 1e-8
_BOX = 0.5  # the series run over q in [0, 1/2]; beyond, 1 - q takes its place


@dataclass(frozen=True)
class SplineKernel:
    """Which kernel, with its parameters.

    `neural-spline`: r_x r_z / pi [sin t + (1 + v)(pi - t) cos t] with v = `variance`, which is
    2 E[relu(w.X) relu(w.Z)] + 2 v X.Z P(w.X > 0, w.Z > 0) for a normal w. v > 0 puts a cusp at
    the centre, as r has; with v = 0 the first odd term is r^3.
    `spherical-laplace`: r_x r_z exp(`decay` (1 - cos t)^`power`).
    `linear-angle`: (pi - t) / pi.
    """

    name: KernelName = "neural-spline"
    variance: float = 0.001
    decay: float = -0.5
    power: float = 0.5

    @property
    def linear(self) -> float:
        """The factor of X . Z that `rows` and the sums leave out."""
        return 1.0 + self.variance if self.name == "neural-spline" else 0.0

    def matrix(
        self, points: Float[Tensor, "n 3"], centres: Float[Tensor, "m 3"]
    ) -> Float[Tensor, "n m"]:
        """All of the kernel, float64: for systems that are solved densely, and for tests."""
        out = torch.empty(len(points), len(centres), dtype=torch.float64)
        x, z = Lifted(points), Lifted(centres)
        rows(self, x, z, False, out.numpy().reshape(-1), 0, len(points))
        return out if self.linear == 0 else out + self.linear * (x.whole @ z.whole.T)

    def slopes(
        self, points: Float[Tensor, "n 3"], centres: Float[Tensor, "m 3"]
    ) -> Float[Tensor, "n 3 m"]:
        """Gradients of the whole kernel in the points, float64."""
        out = torch.empty(len(points), 3, len(centres), dtype=torch.float64)
        x, z = Lifted(points), Lifted(centres)
        rows(self, x, z, True, out.numpy().reshape(-1), 0, len(points))
        return out if self.linear == 0 else out + self.linear * z.whole.T[None, :3]


class Lifted:
    """Points as unit vectors of R^4 with their lengths, in arrays that kernels read."""

    def __init__(self, points: Float[Tensor, "n 3"], dtype: Any = np.float64) -> None:
        wide = points.detach().double()
        self.whole = torch.cat([wide, torch.ones_like(wide[:, :1])], 1)  # [n, 4]
        length = self.whole.norm(dim=1)
        unit = self.whole / length[:, None]
        self.length: Any = length.numpy().astype(dtype)
        self.flat: Any = np.ascontiguousarray(unit.numpy().astype(dtype)).reshape(-1)
        self.axes: Any = np.ascontiguousarray(unit.T.numpy().astype(dtype)).reshape(-1)

    def __len__(self) -> int:
        """The number of points."""
        return len(self.length)


def rows(
    spec: SplineKernel, x: Lifted, z: Lifted, slope: bool, out: Any, start: int, stop: int
) -> None:
    """Values [stop - start, m], or gradients in x [stop - start, 3, m], of what is not linear.

    At a centre itself the gradient of a cusp has no direction; it counts as zero there.
    """
    dtype = x.length.dtype.type
    normed = spec.name != "linear-angle"
    table, poly = _table(spec, dtype, slope), spec.name != "spherical-laplace"
    values = _table(spec, dtype, False)
    if slope:
        spline_rows.slope_rows(
            *(x.flat, x.length, z.axes, z.length, values, table, poly, normed),
            *(out, start, stop),
        )
    else:
        spline_rows.value_rows(
            *(x.flat, x.length, z.axes, z.length, values, poly, normed, out, start, stop)
        )


def value_sums(
    spec: SplineKernel, x: Lifted, z: Lifted, weight: Any, out: Any, start: int, stop: int
) -> None:
    """sum_j K(x, z_j) weight_j of what is not linear, into out[start:stop]."""
    table, normed = _table(spec, x.length.dtype.type, False), spec.name != "linear-angle"
    scaled = weight * z.length if normed else weight
    poly = spec.name != "spherical-laplace"
    spline_rows.value_sums(
        x.flat, x.length, z.axes, scaled, table, poly, normed, out, start, stop
    )


def gradient_sums(
    spec: SplineKernel, x: Lifted, z: Lifted, weight: Any, out: Any, start: int, stop: int
) -> None:
    """The gradient of `value_sums` in x, into out[3 * start : 3 * stop]."""
    dtype, normed = x.length.dtype.type, spec.name != "linear-angle"
    scaled = weight * z.length if normed else weight
    values, slopes = _table(spec, dtype, False), _table(spec, dtype, True)
    poly = spec.name != "spherical-laplace"
    spline_rows.gradient_sums(
        x.flat, x.length, z.axes, scaled, values, slopes, poly, normed, out, start, stop
    )


# How the tables come about. With h(q) = t / sqrt(q) = 2 asin(sqrt q) / sqrt(q) and
# k(q) = sin t / sqrt(q) = 2 sqrt(1 - q), both analytic within |q| < 1,
#     sin t - (1 + v) t cos t = sqrt(q) [ (k - h (1 - 2 q)) - v h (1 - 2 q) ].
# Beyond a right angle q' = 1 - q takes q's place: t' = pi - t, so that the same series serves
# with (1 + v) pi (1 - 2 q') added to it. Nothing cancels for small angles.


def _economised(series: list[Fraction], terms: int) -> list[float]:
    """A power series cut to `terms` with next to the least error over [0, 1/2] (Lanczos)."""
    half = Fraction(1, 2)
    cut = [value * half**i for i, value in enumerate(series)]
    shifted = _chebyshev(len(cut))
    while len(cut) > terms:
        polynomial = shifted[len(cut) - 1]
        ratio = cut[-1] / polynomial[-1]
        cut = [a - ratio * b for a, b in zip(cut[:-1], polynomial[:-1], strict=True)]
    return [float(value / half**i) for i, value in enumerate(cut)]


@cache
def _chebyshev(count: int) -> list[list[Fraction]]:
    """Chebyshev's polynomials on [0, 1], exactly."""
    found = [[Fraction(1)], [Fraction(-1), Fraction(2)]]
    while len(found) < count:
        last, before = found[-1], [*found[-2], Fraction(0), Fraction(0)]
        up, same = [Fraction(0), *(4 * c for c in last)], [*(2 * c for c in last), Fraction(0)]
        found.append([a - b - c for a, b, c in zip(up, same, before, strict=True)])
    return found


@cache
def _series(terms: int) -> tuple[list[float], list[float], list[float]]:
    """Coefficients of h, h (1 - 2 q) and k - h (1 - 2 q), the last without its factor q."""
    angle, sine = [Fraction(2)], [Fraction(2)]
    term = Fraction(2)
    for i in range(1, _SERIES):
        term *= Fraction(2 * i - 1, 2 * i)
        angle.append(term / (2 * i + 1))
        sine.append(sine[-1] * Fraction(2 * i - 3, 2 * i))
    turned = [angle[i] - 2 * (angle[i - 1] if i else Fraction(0)) for i in range(_SERIES)]
    rest = [a - b for a, b in zip(sine, turned, strict=True)]
    return (
        _economised(angle, terms),
        _economised(turned, terms),
        _economised(rest[1:], terms - 1),
    )


@cache
def _table(spec: SplineKernel, dtype: Any, slope: bool) -> Any:
    """1/4, 1/2, 1, 0; the constant near; constant, slope and sign far; then the series.

    With `slope` the series is that of the derivative by u = 1 - cos t, over sqrt(q).
    """
    head = [0.25, _BOX, 1.0, 0.0]
    if spec.name == "spherical-laplace":
        numbers = [*head, spec.decay, spec.power, 0.0, 0.0]
        return tuple(dtype(value) for value in numbers)
    terms = _TERMS[dtype]
    angle, turned, rest = _series(terms)
    if spec.name == "linear-angle":
        ends, series = [1.0, 0.0, 0.0, -1.0], [-value / math.pi for value in angle]
    else:
        v = spec.variance
        ends = [0.0, 1.0 + v, -2.0 * (1.0 + v), 1.0]
        pairs = zip([0.0, *rest], turned, strict=True)
        series = [(a - v * b) / math.pi for a, b in pairs]
    if slope:
        series = [0.5 * (0.5 + i) * value for i, value in enumerate(series)]
    return tuple(dtype(value) for value in [*head, *ends, *series])
