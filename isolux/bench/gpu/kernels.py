"""The most expensive kernels of a step, and how near they come to what the device can do."""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from isolux.backends import Backend, Operator
from isolux.backends.cuda import launch as home
from isolux.bench.gpu.ceilings import Ceilings, ceilings
from isolux.bench.gpu.cells import Cell, Job, Plan
from isolux.bench.gpu.clock import Clock, Sample
from isolux.bench.gpu.traffic import bytes_of, flops_of, names_of
from isolux.bench.gpu.training import settings_of, train, watched_updates

__all__ = ["Watch", "jobs", "watched_launches", "watched_network"]

GROUP = "kernel"
_STAGES = ("topology stage", "mesh stage")
_MOST = 5  # kernels of a stage that are listed
_STEPS, _WARM_UP = 20, 12  # reference views are all drawn by then


@dataclass
class _Work:
    """What one kernel did in the steps that count."""

    spans: list[Any] = field(default_factory=list)
    bytes: float = 0.0
    flops: float | None = 0.0


Started = tuple[str, tuple[Any, Any], float, float | None]


class Watch:
    """Collects what is started between updates; the first steps of a stage do not count."""

    def __init__(self, clock: Clock, warm_up: int) -> None:
        self._clock, self._warm_up = clock, warm_up
        self._pending: list[Started] = []
        self._optimizers: list[torch.optim.Optimizer] = []  # one a stage
        self._updates = 0
        self.steps: list[int] = []  # that count, by stage
        self.work: list[dict[str, _Work]] = []

    def updated(self, optimizer: torch.optim.Optimizer) -> None:
        """Of an update: what was started since the last one belongs to its step."""
        if not self._optimizers or self._optimizers[-1] is not optimizer:
            self._optimizers.append(optimizer)
            self._updates = 0
            self.steps.append(0)
            self.work.append(defaultdict(_Work))
        self._updates += 1
        if self._updates > self._warm_up:
            self.steps[-1] += 1
            for name, span, size, operations in self._pending:
                work = self.work[-1][name]
                work.spans.append(span)
                work.bytes += size
                known = work.flops is not None and operations is not None
                work.flops = work.flops + operations if known else None  # type: ignore[operator]
        self._pending = []

    def timed(
        self, name: str, action: Callable[[], Any], size: float, operations: float | None
    ) -> Any:
        """Start something between two marks."""
        first = self._clock.mark()
        result = action()
        self._pending.append((name, (first, self._clock.mark()), size, operations))
        return result


@contextmanager
def watched_launches(watch: Watch) -> Iterator[None]:
    """Every start of a kernel goes through `watch`."""
    original = home.launch

    def watching(file: str, kernel: str, count: int, *arguments: Any, **rest: Any) -> None:
        names = names_of(file).get(kernel, ())
        given = dict(zip(names, arguments, strict=False))
        watch.timed(
            kernel,
            partial(original, file, kernel, count, *arguments, **rest),
            bytes_of(kernel, given) if count > 0 else 0.0,
            flops_of(kernel, given) if count > 0 else 0.0,
        )

    changed: list[ModuleType] = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith(f"{home.__package__}.") and vars(module).get("launch") is original
    ]
    for module in changed:
        vars(module)["launch"] = watching
    try:
        yield
    finally:
        for module in changed:
            vars(module)["launch"] = original


@contextmanager
def watched_network(backend: Backend, watch: Watch) -> Iterator[None]:
    """The network is torch's matrix products, so it is watched as an operator of the record."""
    original = backend.mlp

    def forward(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Any:
        size, operations = _network(x, weights)
        return watch.timed(
            "mlp forward", lambda: original.forward(x, weights, biases), size, operations
        )

    def backward(
        x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], *rest: Any
    ) -> Any:
        size, operations = _network(x, weights)
        # Hidden layers once more, and two products for each layer.
        return watch.timed(
            "mlp backward",
            lambda: original.backward(x, weights, biases, *rest),
            2 * size,
            3 * operations,
        )

    # The record is shared and frozen, and who trains takes it by its name.
    object.__setattr__(backend, "mlp", Operator(forward, backward))
    try:
        yield
    finally:
        object.__setattr__(backend, "mlp", original)


def _network(x: Tensor, weights: Sequence[Tensor]) -> tuple[float, float]:
    """Bytes of inputs, hidden layers (written and read) and outputs; operations."""
    widths = [len(weight) for weight in weights]
    columns = x.shape[1] + 2 * sum(widths[:-1]) + widths[-1]
    operations = 2.0 * len(x) * sum(weight.numel() for weight in weights)
    return float(len(x) * columns * x.element_size()), operations


def jobs(plan: Plan) -> Iterator[Job]:
    """Of bob's step."""
    yield Job(GROUP, "bob, 4 x 512x512, grid 64", partial(_measure, plan))


def _measure(plan: Plan) -> list[Cell]:
    watch = Watch(plan.clock, 1 if plan.dry_run else _WARM_UP)
    steps = 3 if plan.dry_run else _STEPS
    preset, settings = settings_of(plan, "bob", (steps, steps))
    with (
        watched_updates(watch.updated),
        watched_launches(watch),
        watched_network(plan.backend, watch),
    ):
        train(preset, settings)
    found = ceilings(plan)
    cells = []
    for stage, work, count in zip(_STAGES, watch.work, watch.steps, strict=True):
        cells += _stage(plan.clock, stage, work, count, found)
    return cells


def _stage(
    clock: Clock, stage: str, work: dict[str, _Work], steps: int, best: Ceilings
) -> list[Cell]:
    """The most expensive kernels of a stage, a step."""
    times = {name: sum(clock.milliseconds(done.spans)) / steps for name, done in work.items()}
    total, cells = sum(times.values()), []
    for name in sorted(times, key=times.__getitem__, reverse=True)[:_MOST]:
        done, ms, case = work[name], times[name], f"{stage}, {name}"

        def cell(unit: str, value: float, note: str, case: str = case) -> Cell:
            return Cell(GROUP, case, unit, {"isolux": Sample.one(value)}, note=note)

        starts = len(done.spans) / steps
        note = f"{starts:g} starts, {ms / max(total, 1e-9):.0%} of all that are watched"
        cells.append(cell("ms a step", ms, note))
        seconds = max(1e-3 * ms * steps, 1e-12)
        rate = done.bytes / seconds
        cells.append(cell("GB/s", rate / 1e9, f"{rate / best.bytes_per_s:.0%} of the copy"))
        if done.flops:
            rate = done.flops / seconds
            share = f"{rate / best.flops_per_s:.1%} of the float32 product"
            cells.append(cell("GFLOP/s", rate / 1e9, share))
    return cells
