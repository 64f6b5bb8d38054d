"""What watches the loop: progress, log, checkpoints, pictures, validation, and Ctrl-C.

An observer is told of every step after it is done. It changes nothing of the run.
"""

import logging
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as _RichProgress
from torch import Tensor

from isolux.optimize.log import append_line

__all__ = [
    "CheckpointObserver",
    "Every",
    "Interrupt",
    "LogLines",
    "Observer",
    "PictureObserver",
    "Progress",
    "StepInfo",
    "ValidationObserver",
    "catch_interrupts",
    "shares",
]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepInfo:
    """A step that is done."""

    stage: str
    step: int  # from 0
    steps: int  # of the stage, as far as is known: a time budget makes it an estimate
    raw_terms: Mapping[str, Tensor]  # unweighted scalars; observers read `terms`
    raw_total: Tensor  # their weighted sum; observers read `total`
    seconds: float  # of the run so far, over all its sessions
    progress: float  # of the stage, this step included, in [0, 1]

    @property
    def done(self) -> int:
        """Steps of the stage that are done, this one included."""
        return self.step + 1

    @property
    def last(self) -> bool:
        """Whether the stage ends with this step."""
        return self.progress >= 1.0

    @cached_property
    def terms(self) -> dict[str, float]:
        """The unweighted terms. Read when asked for: on a GPU that waits for it."""
        return {name: float(term.detach()) for name, term in self.raw_terms.items()}

    @cached_property
    def total(self) -> float:
        """The weighted sum. Read when asked for, as `terms`."""
        return float(self.raw_total.detach())


Observer = Callable[[StepInfo], None]


@dataclass(frozen=True)
class Every:
    """Calls something after every so many steps of a stage, and after its last one.

    Zero is never, not even at the end.
    """

    every: int
    callback: Callable[[StepInfo], object]
    at_end: bool = True

    def due(self, info: StepInfo) -> bool:
        """Whether this step is one of them."""
        if self.every <= 0:
            return False
        return info.done % self.every == 0 or (self.at_end and info.last)

    def __call__(self, info: StepInfo) -> None:
        """Told of a step."""
        if self.due(info):
            self.callback(info)


class CheckpointObserver(Every):
    """Writes the state of the run after every so many steps; `callback` does the writing."""


class PictureObserver(Every):
    """Draws and writes a picture after every so many steps."""


class ValidationObserver:
    """Measures after every so many steps and logs what it found.

    Args:
        every: steps; zero is never.
        measure: gives metrics by name, e.g. `psnr`.
        log: `log.jsonl`, which gets a line of kind `validation`; none logs nothing.
    """

    def __init__(
        self, every: int, measure: Callable[[StepInfo], Mapping[str, float]], log: Path | None
    ) -> None:
        self._log = log
        self._measure = measure
        self._every = Every(every, self._run)

    def __call__(self, info: StepInfo) -> None:
        """Told of a step."""
        self._every(info)

    def _run(self, info: StepInfo) -> None:
        metrics = dict(self._measure(info))
        if self._log is not None:
            append_line(self._log, _place(info) | {"kind": "validation"} | metrics)


class LogLines:
    """A line of `log.jsonl` after every so many steps: terms, total, time and rate.

    Before resuming call `isolux.optimize.log.cut_log`.

    Args:
        path: `log.jsonl`.
        every: steps; zero is never.
    """

    def __init__(self, path: Path, every: int = 10) -> None:
        self._path = path
        self._every = Every(every, self._write)
        self._rate = _Rate()

    def __call__(self, info: StepInfo) -> None:
        """Told of a step."""
        self._rate.tick(info.stage)
        self._every(info)

    def _write(self, info: StepInfo) -> None:
        line = _place(info) | {
            "progress": round(info.progress, 6),
            "steps_per_second": round(self._rate.value, 4),
            "total": info.total,
            "terms": info.terms,
        }
        append_line(self._path, line)


def _place(info: StepInfo) -> dict[str, Any]:
    return {
        "kind": "step",
        "stage": info.stage,
        "step": info.done,
        "seconds": round(info.seconds, 6),
    }


class _Rate:
    """Steps a second over the last steps of a stage."""

    def __init__(self, window: int = 50) -> None:
        self._times: deque[float] = deque(maxlen=window)
        self._stage = ""

    def tick(self, stage: str) -> None:
        if stage != self._stage:
            self._times.clear()
            self._stage = stage
        self._times.append(time.monotonic())

    @property
    def value(self) -> float:
        """Zero until two steps are known."""
        if len(self._times) < 2:
            return 0.0
        return (len(self._times) - 1) / max(self._times[-1] - self._times[0], 1e-9)


class Progress:
    """A bar with rate and time left on a terminal; elsewhere a plain line now and then.

    Use it as a context manager, so that the bar is taken down before anything else prints.

    Args:
        console: where; standard error unless given, so that results can be piped.
        seconds: between plain lines.
    """

    def __init__(self, console: Console | None = None, seconds: float = 10.0) -> None:
        self._console = console or Console(stderr=True)
        self._seconds = seconds
        self._rate = _Rate()
        self._bar: _RichProgress | None = None
        self._task: tuple[str, Any] = ("", None)
        self._next = 0.0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Takes the bar down. May be called twice."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            self._task = ("", None)

    def __call__(self, info: StepInfo) -> None:
        """Told of a step."""
        self._rate.tick(info.stage)
        now = time.monotonic()
        if not info.last and now < self._next:
            return
        if self._console.is_terminal:
            self._next = now + 0.1
            self._draw(info)
        else:
            self._next = now + self._seconds
            line = f"{info.stage} {info.done}/{info.steps}  {self._status(info)}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _draw(self, info: StepInfo) -> None:
        if self._bar is None:
            self._bar = _RichProgress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[status]}", markup=False),
                console=self._console,
            )
            self._bar.start()
        if self._task[0] != info.stage:
            number = self._bar.add_task(info.stage, total=info.steps, status="")
            self._task = (info.stage, number)
        self._bar.update(
            self._task[1], completed=info.done, total=info.steps, status=self._status(info)
        )

    def _status(self, info: StepInfo) -> str:
        rate = self._rate.value
        parts = [f"loss {info.total:.4g}"]
        if rate > 0:
            parts.insert(0, f"{rate:.2f} steps/s" if rate < 10 else f"{rate:.0f} steps/s")
            parts.insert(1, f"{_duration(max(info.steps - info.done, 0) / rate)} left")
        return "  ".join(parts)


@contextmanager
def shares(console: Console | None = None) -> Iterator[Callable[[str, float], None]]:
    """Shows work of one go: gives what is told of it, a text and the share that is done."""
    console = console or Console(stderr=True)
    began, said = time.monotonic(), [""]
    bar = _RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[status]}", markup=False),
        console=console,
        disable=not console.is_terminal,
    )
    task = bar.add_task("", total=1.0, status="")

    def tell(text: str, share: float) -> None:
        spent = time.monotonic() - began
        left = f"{_duration(spent * (1 - share) / share)} left" if share > 0.02 else ""
        bar.update(task, description=text, completed=share, status=left)
        if not console.is_terminal and text != said[0]:
            said[0] = text
            line = f"{share:4.0%}  {text}  {left}".rstrip()
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    with bar:
        yield tell


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Interrupt:
    """Whether a person, or the machine's manager, has asked the run to end.

    Args:
        agree: from what this process was asked to what all processes of the run do.
    """

    def __init__(self, agree: Callable[[bool], bool] = bool) -> None:
        self.requested = False
        self._agree = agree

    def agreed(self) -> bool:
        """Whether any process of the run was asked; all of them must call it."""
        return self._agree(self.requested)

    def raise_if_requested(self) -> None:
        """Raises KeyboardInterrupt if so; call it when the checkpoint is written."""
        if self.agreed():
            raise KeyboardInterrupt


@contextmanager
def catch_interrupts(agree: Callable[[bool], bool] = bool) -> Iterator[Interrupt]:
    """Ctrl-C (and SIGTERM) sets a flag, so that the loop can finish its step and save.

    A second one raises KeyboardInterrupt at once. Outside the main thread signals cannot be
    caught, and the flag stays down. The handlers from before are put back at the end.

    Args:
        agree: as `Interrupt` takes it.
    """
    interrupt = Interrupt(agree)

    def handle(number: int, frame: FrameType | None) -> None:
        if interrupt.requested:
            raise KeyboardInterrupt
        interrupt.requested = True
        _log.warning("stopping after this step, with a checkpoint; Ctrl-C again stops at once")

    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    numbers: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
