"""What the device reaches at best: a copy for bandwidth, a matrix product for arithmetic."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial

import torch

from isolux.bench.gpu.cells import Cell, Job, Plan, attempted
from isolux.bench.gpu.clock import Sample, sampled

__all__ = ["Ceilings", "ceilings", "jobs"]

GROUP = "ceiling"


@dataclass(frozen=True)
class Ceilings:
    """Measured, not taken from a data sheet."""

    bytes_per_s: float  # read and written
    flops_per_s: float  # float32, as torch multiplies matrices here


def jobs(plan: Plan) -> Iterator[Job]:
    """Copy and products."""
    yield Job(GROUP, "copy and matrix products", partial(_cells, plan))


def _numbers(plan: Plan) -> int:
    """Of the copied buffer."""
    return 1 << (12 if plan.dry_run else 28)


def _edge(plan: Plan) -> int:
    """Of the multiplied matrices."""
    return 16 if plan.dry_run else 8192


@cache
def _ms_of_copy(plan: Plan) -> tuple[Sample, int]:
    """Of a buffer far larger than any cache, and the bytes that go over the bus."""
    count = _numbers(plan)
    a = torch.zeros(count, device=plan.device)
    b = torch.empty_like(a)
    time = sampled(plan.clock, lambda: None, lambda _: b.copy_(a), plan.repeats, plan.warm_up)
    return time, 2 * a.element_size() * count


@cache
def _ms_of_product(plan: Plan, dtype: torch.dtype) -> tuple[Sample, int]:
    """Of square matrices, and the operations of their product."""
    edge = _edge(plan)
    a = torch.ones(edge, edge, device=plan.device, dtype=dtype)
    out = torch.empty_like(a)
    repeats = min(plan.repeats, 20)
    time = sampled(
        plan.clock, lambda: None, lambda _: torch.mm(a, a, out=out), repeats, plan.warm_up
    )
    return time, 2 * edge**3


def ceilings(plan: Plan) -> Ceilings:
    """Both, measured once."""
    copy, size = _ms_of_copy(plan)
    product, operations = _ms_of_product(plan, torch.float32)
    return Ceilings(1e3 * size / copy.median, 1e3 * operations / product.median)


def _cells(plan: Plan) -> list[Cell]:
    def rate(found: tuple[Sample, int], scale: float) -> Sample:
        time, amount = found
        return Sample(
            1e3 * amount / time.median / scale, 1e3 * amount / time.least / scale, time.count
        )

    tf32 = " by TF32" if torch.backends.cuda.matmul.allow_tf32 else ""
    edge, length = _edge(plan), 4 * _numbers(plan) / 2**20
    rows = {
        f"copy of {length:g} MiB, read and written": (
            "GB/s",
            lambda: rate(_ms_of_copy(plan), 1e9),
        ),
        f"{edge} x {edge} matrices, float32{tf32}": (
            "TFLOP/s",
            lambda: rate(_ms_of_product(plan, torch.float32), 1e12),
        ),
        f"{edge} x {edge} matrices, half": (
            "TFLOP/s",
            lambda: rate(_ms_of_product(plan, torch.float16), 1e12),
        ),
    }
    return [
        Cell(GROUP, case, unit, {"device": attempted(measure)})
        for case, (unit, measure) in rows.items()
    ]
