"""Tasks of tiles, a few at a time: failed ones again, finished ones not."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isolux.failure import Failure as TilesFailed
from isolux.geometry.points.tiled import store
from isolux.geometry.points.tiled.runners import Failure, Lost, Runner

__all__ = ["Schedule", "Task"]

_log = logging.getLogger(__name__)
Tell = Callable[[str, float], None]


@dataclass(frozen=True)
class Task:
    """Something to be done for a tile, whose result is a file."""

    name: str
    function: Any  # of a module
    arguments: tuple[Any, ...]
    result: Path
    points: int  # that it works on


@dataclass(frozen=True)
class Schedule:
    """How tasks are run.

    Attributes:
        runner: who does them.
        retries: how often one that failed is tried again.
        made_from: fingerprint that results carry.
        tell: told what is being done, and its share.
    """

    runner: Runner
    retries: int
    made_from: str
    tell: Tell

    def run(self, what: str, tasks: list[Task], shares: tuple[float, float]) -> None:
        """Do the tasks whose results are not there.

        Args:
            what: is done to tiles, for those who wait.
            tasks: in any order.
            shares: of the whole work, where these tasks begin and end.

        Raises:
            RuntimeError: a task failed too often. Those that were running are finished first,
                and nothing finished is lost.
        """
        left = [task for task in tasks if not store.is_made(task.result, self.made_from)]
        if left:
            _Round(self, what, tasks, left, shares).run()


class _Round:
    """Tasks on their way. After a death that several tasks may have caused, these go alone."""

    def __init__(
        self,
        schedule: Schedule,
        what: str,
        tasks: list[Task],
        left: list[Task],
        shares: tuple[float, float],
    ) -> None:
        self.schedule, self.what, self.shares = schedule, what, shares
        self.tasks, self.total = left, len(tasks)
        # Large ones first, so that none is left over at the end.
        self.waiting = sorted(range(len(left)), key=lambda i: -left[i].points)
        self.suspects: list[int] = []
        self.running: set[int] = set()
        self.failed: dict[int, int] = {}
        self.done, self.points = len(tasks) - len(left), 0
        self.began = time.monotonic()
        self.verdict: str | None = None

    def run(self) -> None:
        self._report()
        while self.running or self._more():
            while self._more() and len(self.running) < self._slots():
                self._submit()
            for number, outcome in self.schedule.runner.finished():
                self.running.discard(number)
                self._ended(number, outcome)
        if self.verdict is not None:
            raise TilesFailed(self.verdict)

    def _more(self) -> bool:
        return self.verdict is None and bool(self.waiting or self.suspects)

    def _slots(self) -> int:
        return 1 if self.suspects else self.schedule.runner.slots

    def _submit(self) -> None:
        number = self.suspects[0] if self.suspects else self.waiting.pop(0)
        task = self.tasks[number]
        self.running.add(number)
        self.schedule.runner.submit(number, task.function, task.arguments)

    def _ended(self, number: int, outcome: Any) -> None:
        task = self.tasks[number]
        was_alone = number in self.suspects
        if was_alone:
            self.suspects.remove(number)
        if outcome is None and not store.is_made(task.result, self.schedule.made_from):
            outcome = Failure(
                f"{task.result} is not there: is the folder shared by all workers?"
            )
        if outcome is None:
            self.done += 1
            self.points += task.points
            self._report()
            return
        if isinstance(outcome, Lost) and not was_alone:
            self.suspects.append(number)
            return
        times = self.failed[number] = self.failed.get(number, 0) + 1
        if times <= self.schedule.retries:
            _log.warning("%s: %s; once more", task.name, outcome.cause)
            (self.suspects if isinstance(outcome, Lost) else self.waiting).insert(0, number)
        elif self.verdict is None:
            self.verdict = (
                f"{task.name} failed {times} times: {outcome.cause}; {self.done} of "
                f"{self.total} tiles are finished and kept: the same command does the rest"
            )

    def _report(self) -> None:
        first, last = self.shares
        share = self.done / self.total
        text = f"{self.what}: tile {self.done} of {self.total}"
        seconds = time.monotonic() - self.began
        if self.points and seconds > 0:
            left = sum(self.tasks[i].points for i in {*self.waiting, *self.running})
            speed = self.points / seconds
            text += f", {speed:,.0f} points/s, {_duration(left / speed)} left"
        self.schedule.tell(text, first + share * (last - first))


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes} min"
