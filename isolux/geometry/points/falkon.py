"""Kernel ridge regression on few centres, by preconditioned conjugate gradients.

Letters: n points with a value, s points with a slope, m centres, k rows of a block. Sought are
weights a of the centres that minimise

    1/N |K_nm a - y|^2 + penalty a^T K_mm a,      N rows,

Rudi, Carratino and Rosasco 2017, "FALKON: An Optimal Large Scale Kernel Method". With
T^T T = K_mm and A^T A = T T^T / m + penalty I the unknown is b = A T a, in which the matrix is
next to the identity. Rows are kept in single precision while they fit into the memory allowed,
and made anew in every step otherwise; sums, and all that is m by m, are in double precision.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from isolux.backends.cpu.jit import SUM_MATH, kernel
from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.geometry.points.spline_kernels import Lifted, SplineKernel, rows

__all__ = ["Equations", "Solution", "solve"]

_BLOCK = 2**20  # entries of a block: what a core's cache holds, whatever the memory allows
_PANEL = 512  # columns
_REFRESH = 10  # steps between two residuals that are computed, not updated
_JITTER = (1e-15, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6)


@dataclass(frozen=True)
class Equations:
    """What the function shall be at some points, and its gradient at others."""

    points: Float[Tensor, "n 3"]
    values: Float[Tensor, " n"]
    slope_points: Float[Tensor, "s 3"]
    slopes: Float[Tensor, "s 3"]
    slope_weight: float = 1.0  # a length: a slope counts as a value at that distance

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.points) + 3 * len(self.slope_points)


@dataclass(frozen=True)
class Solution:
    """Weights of the centres, and how they were found."""

    weights: Float[Tensor, " m"]
    residual: float  # of the preconditioned equations, relative to the right side
    iterations: int
    jitter: float  # what the diagonal needed, relative to its mean
    cached: bool  # whether the rows were kept


def solve(
    spec: SplineKernel,
    equations: Equations,
    centres: Float[Tensor, "m 3"],
    penalty: float,
    tolerance: float = 1e-5,
    iterations: int = 50,
    memory: int = 2**30,
    single: bool = True,
    progress: Callable[[float], None] | None = None,
) -> Solution:
    """The weights.

    Args:
        spec: the kernel.
        equations: what is asked.
        centres: of the kernel functions.
        penalty: as above; not negative.
        tolerance: relative to the right side.
        iterations: at most.
        memory: bytes that matrices may take; the m by m ones are taken in any case.
        single: rows in single precision.
        progress: told the share that is done.
    """
    told = progress or (lambda share: None)
    kernel_matrix = spec.matrix(centres, centres)
    factor, jitter = _factor(kernel_matrix)
    del kernel_matrix
    told(0.15)
    inner = _gram(factor)
    inner *= 1.0 / len(centres)
    inner.diagonal().add_(penalty)
    second, _ = _factor(inner)
    del inner
    told(0.3)
    system = _Rows(spec, equations, centres, memory, single)
    told(0.5)

    def outwards(b: Tensor) -> Tensor:  # A^-T T^-T
        return _lower(second, _lower(factor, b))

    def inwards(b: Tensor) -> tuple[Tensor, Tensor]:  # A^-1, then T^-1 of it
        half = _upper(second, b)
        return half, _upper(factor, half)

    def apply(b: Tensor) -> Tensor:
        half, weights = inwards(b)
        wide = _lower(factor, system.squared(weights) / len(equations))
        return _lower(second, wide + penalty * half)

    right = outwards(system.against_targets() / len(equations))
    b, residual, steps = _conjugate_gradients(
        apply, right, tolerance, iterations, lambda share: told(0.5 + 0.5 * share)
    )
    return Solution(inwards(b)[1], residual, steps, jitter, system.cached)


def _conjugate_gradients(
    apply: Callable[[Tensor], Tensor],
    right: Tensor,
    tolerance: float,
    iterations: int,
    told: Callable[[float], None],
) -> tuple[Tensor, float, int]:
    """Solution, relative residual, steps. It stops where a step no longer finds a direction."""
    x, r = torch.zeros_like(right), right.clone()
    p, rho = r.clone(), float(r @ r)
    aim = tolerance**2 * rho
    whole, step = rho, 0
    while step < iterations and rho > aim:
        q = apply(p)
        curvature = float(p @ q)
        if not curvature > 0:
            break
        x = x + (rho / curvature) * p
        step += 1
        r = right - apply(x) if step % _REFRESH == 0 else r - (rho / curvature) * q
        rho, before = float(r @ r), rho
        p = r + (rho / before) * p
        told(step / iterations)
    return x, (rho / whole) ** 0.5 if whole > 0 else 0.0, step


def _factor(matrix: Tensor) -> tuple[Tensor, float]:
    """The lower triangle of Cholesky's, with as little on the diagonal as it needs."""
    mean = float(matrix.diagonal().mean())
    diagonal = matrix.diagonal().clone()
    for jitter in _JITTER:
        matrix.diagonal().copy_(diagonal + jitter * mean)
        lower, wrong = torch.linalg.cholesky_ex(matrix)
        if int(wrong) == 0 and bool(lower.diagonal().isfinite().all()):
            return lower, jitter
    raise ArithmeticError("the kernel matrix is not positive definite; are all points finite?")


def _gram(lower: Tensor) -> Tensor:
    """L^T L by panels, of which only the lower triangle is computed: a sixth of the work."""
    count = len(lower)
    out = torch.zeros_like(lower)
    for start, stop in chunks(count, _PANEL):
        out[start:stop, :stop] = lower[start:, start:stop].T @ lower[start:, :stop]
    return out


def _lower(lower: Tensor, b: Tensor) -> Tensor:
    solved: Tensor = torch.linalg.solve_triangular(lower, b[:, None], upper=False)
    return solved[:, 0]


def _upper(lower: Tensor, b: Tensor) -> Tensor:
    solved: Tensor = torch.linalg.solve_triangular(lower.T, b[:, None], upper=True)
    return solved[:, 0]


class _Rows:
    """The rectangular matrix by blocks of rows: a part of rank four, and the rest.

    Which rows share a block depends on the number of centres only, and blocks are added up in
    their order.
    """

    def __init__(
        self,
        spec: SplineKernel,
        equations: Equations,
        centres: Tensor,
        memory: int,
        single: bool,
    ) -> None:
        dtype = np.float32 if single else np.float64
        self.spec, self.weight = spec, equations.slope_weight
        self.dtype, self.count = dtype, len(centres)
        self.points = Lifted(equations.points, dtype)
        self.slope_points = Lifted(equations.slope_points, dtype)
        self.centres = Lifted(centres, dtype)
        self.whole = Lifted(centres).whole  # [m, 4]
        self.targets = equations.values.double().numpy()
        self.slopes = (equations.slope_weight * equations.slopes.double()).numpy().reshape(-1)
        size = max(1, _BLOCK // max(self.count, 1))
        self.parts = [(False, *part) for part in chunks(len(self.points), size)]
        self.parts += [(True, *p) for p in chunks(len(self.slope_points), max(1, size // 3))]
        needed = len(equations) * self.count * np.dtype(dtype).itemsize
        self.cached = needed + 16 * self.count**2 <= memory
        self.blocks: list[Any] = (
            parallel_for(self._block, self.parts) if self.cached else [None] * len(self.parts)
        )

    def squared(self, weights: Tensor) -> Tensor:
        """K^T (K a)."""
        return self._sum(weights, targets=False)

    def against_targets(self) -> Tensor:
        """K^T y."""
        return self._sum(torch.zeros(self.count, dtype=torch.float64), targets=True)

    def _sum(self, weights: Tensor, targets: bool) -> Tensor:
        flat = (self.spec.linear * (self.whole.T @ weights)).numpy()
        tasks = [(number, weights.numpy(), flat, targets) for number in range(len(self.parts))]
        total = torch.zeros(self.count, dtype=torch.float64)
        linear = torch.zeros(4, dtype=torch.float64)
        for start, stop in chunks(len(tasks), 64):  # bounds what waits to be added
            for back, four in parallel_for(self._part, tasks[start:stop]):
                total += torch.from_numpy(back)
                linear += torch.from_numpy(four)
        return total + self.spec.linear * (self.whole @ linear)

    def _block(self, slope: bool, start: int, stop: int) -> Any:
        size = (stop - start) * (3 if slope else 1) * self.count
        out: Any = np.empty(size, self.dtype)
        source = self.slope_points if slope else self.points
        rows(self.spec, source, self.centres, slope, out, start, stop)
        if slope:
            out *= self.dtype(self.weight)
        return out

    def _part(self, number: int, weights: Any, flat: Any, targets: bool) -> Any:
        slope, start, stop = self.parts[number]
        block = self.blocks[number]
        block = self._block(slope, start, stop) if block is None else block
        if slope:
            front = np.tile(self.weight * np.eye(3, 4), (stop - start, 1))
            wanted = self.slopes[3 * start : 3 * stop]
        else:
            front = self.points.whole[start:stop].numpy()
            wanted = self.targets[start:stop]
        back, four = np.zeros(self.count), np.zeros(4)
        given = np.ascontiguousarray(wanted) if targets else front @ flat
        _there_and_back(block, given, weights, not targets, back)
        four = given @ front
        return back, four


@kernel(fastmath=SUM_MATH)
def _dot(row: Any, weights: Any) -> float:
    total = 0.0
    for j in range(np.uint32(len(weights))):
        total += row[j] * weights[j]
    return total


@kernel
def _there_and_back(block: Any, given: Any, weights: Any, product: bool, out: Any) -> None:
    """out += K^T t with t = given + K a, or t = given; `given` becomes t."""
    count = len(weights)
    for i in range(len(given)):
        row = block[i * count : (i + 1) * count]
        if product:
            given[i] += _dot(row, weights)
        t = given[i]
        for j in range(np.uint32(count)):
            out[j] += t * row[j]
