"""How times are taken, and what a row of the table holds."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import torch

from isolux.backends.cpu import pool

__all__ = ["Figure", "Row", "Times", "on_threads", "timed", "timed_rows"]

Figure = tuple[Literal["<=", ">=", "=="], float]


@dataclass(frozen=True)
class Row:
    """One measured value, and what it should be."""

    case: str
    value: float
    unit: str
    figure: Figure | None = None  # none where the design names no figure
    median: float | None = None  # of the repeats; `value` is their least
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the figure is reached; none without one."""
        if self.figure is None:
            return None
        sign, bound = self.figure
        if sign == "<=":
            return self.value <= bound
        return self.value >= bound if sign == ">=" else self.value == bound

    def as_tree(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "case": self.case,
            "value": round(self.value, 4),
            "median": None if self.median is None else round(self.median, 4),
            "unit": self.unit,
            "figure": None if self.figure is None else f"{self.figure[0]} {self.figure[1]:g}",
            "met": self.met,
            "note": self.note,
        }


@dataclass(frozen=True)
class Times:
    """Milliseconds of a repeated call."""

    wall: list[float]
    cpu: list[float]  # of all threads of the process

    def row(
        self,
        case: str,
        kind: Literal["cpu", "wall"] = "cpu",
        figure: Figure | None = None,
        note: str = "",
    ) -> Row:
        """The least of one kind of time; without repeats it is zero."""
        times = self.cpu if kind == "cpu" else self.wall
        unit = f"ms {kind}"
        if not times:
            return Row(case, 0.0, unit, figure, 0.0, note)
        return Row(case, min(times), unit, figure, median(times), note)


def timed(function: Callable[[], Any], repeats: int) -> Times:
    """Call a function once to warm up, then `repeats` times with both clocks."""
    function()
    times = Times([], [])
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        function()
        times.cpu.append(1e3 * (time.process_time() - cpu))
        times.wall.append(1e3 * (time.perf_counter() - wall))
    return times


def timed_rows(
    case: str,
    jobs: dict[str, Callable[[], Any]],
    repeats: int,
    figures: dict[str, Figure] | None = None,
) -> list[Row]:
    """Processor time of several jobs in turn, on one thread."""
    with on_threads(1):
        return [
            timed(job, repeats).row(f"{case}, {name}", "cpu", (figures or {}).get(name))
            for name, job in jobs.items()
        ]


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Run kernels on so many threads, and torch on one as in training."""
    before, torch_before = pool.threads(), torch.get_num_threads()
    pool.set_threads(count)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(torch_before)
        pool.set_threads(before)
