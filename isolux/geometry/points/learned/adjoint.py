"""A level's fit as a function that can be differentiated, by its adjoint.

With coefficients a = A^-1 b and lambda = A^-1 dL/da, what the loss owes to the weights needs
two fields' values only. At a sample with target t and normal n

    dL/dw_v = -f_lambda (f_a - t)        dL/dt = w_v f_lambda
    dL/dw_g = -grad f_lambda . (grad f_a - n)    dL/dn = w_g grad f_lambda

and at a row, with D its second differences, dL/dsmoothness = -(D lambda) . (D a).

Letters: m rows, s samples.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.geometry.points.assembly import System, assemble, field_at
from isolux.geometry.points.conjugate_gradients import solve
from isolux.geometry.points.learned import kernels
from isolux.geometry.points.octree import Samples

__all__ = ["Band", "evaluated", "fitted"]

_TASK = 8192


@dataclass(frozen=True)
class Band:
    """What of a level's equations no weight changes."""

    rows: Any  # int64 [m]
    samples: Samples
    extra: Any  # float32 [m]
    start: Any  # float32 [m]: what the coarser levels say
    tolerance: float = 1e-3
    steps: int = 300


def _to_rows(rows: Any, samples: Samples, of_value: Any, of_slope: Any) -> Any:
    out = np.empty(len(rows), of_value.dtype)
    parallel_for(
        kernels.transposed,
        [
            (
                *(rows, samples.cells, samples.first, samples.fraction),
                *(of_value, of_slope, out, *part),
            )
            for part in chunks(len(rows), _TASK)
        ],
    )
    return out


def _bends(rows: Any, one: Any, two: Any) -> Any:
    out = np.empty(len(rows), one.dtype)
    parallel_for(kernels.bends, [(rows, one, two, out, *p) for p in chunks(len(rows), _TASK)])
    return out


def fitted(
    band: Band, value: Tensor, slope: Tensor, normal: Tensor, target: Tensor, smoothness: Tensor
) -> Tensor:
    """The coefficients [m] that fit samples best.

    Args:
        band: rows and samples.
        value: weights [s] of the function's distance from its target.
        slope: weights [s] of the gradient's distance from the normal.
        normal: [s, 3].
        target: [s], in cells.
        smoothness: [m], positive.
    """
    result: Tensor = _Fit.apply(band, value, slope, normal, target, smoothness)  # type: ignore[no-untyped-call]
    return result


class _Fit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, band: Band, *given: Tensor) -> Tensor:
        value, slope, normal, target, smoothness = (x.detach().numpy() for x in given)
        samples = replace(band.samples, normal=np.ascontiguousarray(normal).reshape(-1))
        system = assemble(
            *(band.rows, samples, value, slope, smoothness),
            *(band.extra, band.start, target),
        )
        solution, _, _ = solve(system, band.start, band.tolerance, band.steps)
        ctx.band, ctx.system, ctx.samples = band, system, samples
        ctx.given, ctx.solution = (value, slope, target), solution
        return torch.from_numpy(solution)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        band: Band = ctx.band
        system: System = replace(ctx.system, right=grad.contiguous().numpy())
        nothing = np.zeros_like(system.right)
        adjoint, _, _ = solve(system, nothing, band.tolerance, band.steps)
        value, slope, target = ctx.given
        f, g = field_at(band.rows, ctx.solution, ctx.samples)
        p, q = field_at(band.rows, adjoint, ctx.samples)
        off = g - ctx.samples.normal.reshape(-1, 3)
        parts = (
            -p * (f - target),
            -(q * off).sum(-1),
            slope[:, None] * q,
            value * p,
            -_bends(band.rows, adjoint, ctx.solution),
        )
        return None, *(torch.from_numpy(np.ascontiguousarray(part)) for part in parts)


def evaluated(rows: Any, coefficient: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
    """`field_at` as a function of the coefficients that can be differentiated."""
    value, slope = _Evaluate.apply(coefficient, rows, samples)  # type: ignore[no-untyped-call]
    return value, slope


class _Evaluate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, coefficient: Tensor, rows: Any, samples: Samples) -> Any:
        ctx.rows, ctx.samples = rows, samples
        value, slope = field_at(rows, coefficient.detach().numpy(), samples)
        return torch.from_numpy(value), torch.from_numpy(slope)

    @staticmethod
    def backward(ctx: Any, value: Tensor, slope: Tensor) -> Any:
        of_value = value.contiguous().numpy()
        of_slope = slope.contiguous().numpy().reshape(-1)
        out = _to_rows(ctx.rows, ctx.samples, of_value, of_slope)
        return torch.from_numpy(out), None, None
