"""How far a sweep is, for people: a line for each event, and on a terminal a bar below them."""

import sys
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from isolux.sweep.drive import Result

__all__ = ["SweepProgress", "duration", "time_left"]


def time_left(done: list[float], waiting: int, running: int, slots: int) -> float | None:
    """Seconds until the end, should trials go on as those that are done.

    Args:
        done: seconds that each finished trial took.
        waiting: trials that have not begun.
        running: trials that are under way, half way through on average.
        slots: how many run at once.

    Returns:
        None before the first trial is done.

    >>> time_left([60.0, 120.0], 4, 2, 2)
    225.0
    """
    if not done:
        return None
    mean = sum(done) / len(done)
    return mean * (waiting + 0.5 * running) / max(min(slots, waiting + running), 1)


def duration(seconds: float) -> str:
    """Seconds as people say them: `42 s`, `3 min 5 s`, `2 h 10 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


class SweepProgress:
    """Told of each event, it says what happened, how many are done, and how long it takes yet.

    Args:
        results: where every trial stands, those of earlier sessions among them.
        slots: trials at once.
        console: none is standard error.
    """

    def __init__(
        self, results: Mapping[str, Result], slots: int, console: Console | None = None
    ) -> None:
        self._results = dict(results)
        self._slots = slots
        self._console = console or Console(file=sys.stderr, highlight=False)
        self._done: list[float] = []
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> "SweepProgress":
        """The bar appears, on a terminal."""
        if self._console.is_terminal:
            self._bar = Progress(
                BarColumn(), TextColumn("{task.description}", markup=False),
                console=self._console,
            )  # fmt: skip
            self._task = self._bar.add_task(self.status, total=len(self._results))
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """And goes."""
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, name: str, result: Result) -> None:
        """Told of a trial that began or ended."""
        self._results[name] = result
        if result.state == "done":
            self._done.append(result.seconds)
        if line := self._event(name, result):
            self.say(f"{self._counts()}  {name}: {line}")
        if self._bar is not None:
            ended = sum(r.state not in ("waiting", "running") for r in self._results.values())
            self._bar.update(self._task, completed=ended, description=self.status)

    def say(self, text: str) -> None:
        """A line above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _counts(self) -> str:
        total = len(self._results)
        return f"[{self._count('done'):{len(str(total))}}/{total}]"

    def _event(self, name: str, result: Result) -> str:
        left = self._left()
        rest = f", about {duration(left)} left" if left else ""
        match result.state:
            case "running":
                return "begins" if result.attempts == 0 else f"attempt {result.attempts + 1}"
            case "waiting":
                return f"{result.reason}; it will be tried again"
            case "done":
                return f"done in {duration(result.seconds)}{rest}"
            case "interrupted":
                return "interrupted" if result.attempts else ""
        return f"{result.state}: {result.reason}{rest}"

    def _left(self) -> float | None:
        return time_left(
            self._done, self._count("waiting"), self._count("running"), self._slots
        )

    def _count(self, state: str) -> int:
        return sum(result.state == state for result in self._results.values())

    @property
    def status(self) -> str:
        """Counts and the time left, in a line."""
        failed = sum(result.failed for result in self._results.values())
        parts = [f"{self._count('done')} of {len(self._results)} done"]
        parts += [f"{self._count('running')} running"]
        parts += [f"{failed} failed"] if failed else []
        left = self._left()
        return ", ".join(parts + ([f"about {duration(left)} left"] if left else []))
