"""Times on the device, from events that it passes; on the processor where there is none."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

import torch

__all__ = ["Clock", "DeviceClock", "ProcessorClock", "Sample", "sampled"]

T = TypeVar("T")
Span = tuple[Any, Any]  # two marks


class DeviceClock:
    """CUDA events on torch's current stream."""

    name = "CUDA events"

    def mark(self) -> Any:
        """An event that is queued now and happens when the device comes to it."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def milliseconds(self, spans: Sequence[Span]) -> list[float]:
        """The device's own times."""
        torch.cuda.synchronize()
        return [float(first.elapsed_time(last)) for first, last in spans]


class ProcessorClock:
    """Wall time of this process: for trying out the commands, no measurement."""

    name = "processor's clock, no measurement"

    def mark(self) -> float:
        """Seconds."""
        return time.perf_counter()

    def milliseconds(self, spans: Sequence[Span]) -> list[float]:
        """Differences."""
        return [1e3 * (last - first) for first, last in spans]


# Either can be read between pieces of work that are only queued.
Clock = DeviceClock | ProcessorClock


@dataclass(frozen=True)
class Sample:
    """A repeated measurement, or one single value."""

    median: float
    least: float
    count: int = 1

    @classmethod
    def of(cls, values: Sequence[float]) -> "Sample":
        """Of at least one value."""
        return cls(median(values), min(values), len(values))

    @classmethod
    def one(cls, value: float) -> "Sample":
        """Of a value that is taken once."""
        return cls(value, value)


def sampled(
    clock: Clock,
    prepare: Callable[[], T],
    job: Callable[[T], object],
    repeats: int,
    warm_up: int,
) -> Sample:
    """Times of a job, each after its own preparation, which does not count.

    Nothing waits for the device in between, so it is kept busy as far as the host can.

    Args:
        clock: what counts.
        prepare: gives what the job takes, e.g. a forward pass for its backward pass.
        job: what is timed.
        repeats: that count, at least 1.
        warm_up: repeats before these.
    """
    spans: list[Span] = []
    for number in range(warm_up + repeats):
        given = prepare()
        first = clock.mark()
        result = job(given)
        last = clock.mark()
        del given, result  # memory goes back before the next one asks for it
        if number >= warm_up:
            spans.append((first, last))
    return Sample.of(clock.milliseconds(spans))
