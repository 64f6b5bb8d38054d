"""The loop of a sweep: submit, hear how it ended, try again what is worth it."""

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Literal

from isolux.sweep.attempt import NOW, Attempt, Outcome
from isolux.sweep.engines import Engine

__all__ = ["Asked", "Result", "catch_stops", "drive"]

_EVERY = 0.5  # seconds that an engine may keep the loop waiting
_GIVE_UP = 180.0  # seconds after a stop until workers that do not answer are given up


@dataclass(frozen=True)
class Result:
    """Where a trial stands."""

    state: Literal[
        "waiting", "running", "done", "crashed", "failed", "mistake", "out of time",
        "interrupted",
    ] = "waiting"  # fmt: skip
    attempts: int = 0  # in this session
    seconds: float = 0.0  # of its attempts in this session, queues left out
    code: int | None = None
    reason: str = ""

    @property
    def failed(self) -> bool:
        """Whether it has ended, and not well."""
        return self.state in ("crashed", "failed", "mistake", "out of time")


class Asked:
    """Whether somebody has asked for the end, and how urgently. Tells the workers by a file."""

    def __init__(self, stop: Path) -> None:
        self.times = 0
        self._stop = stop

    def again(self) -> None:
        """Once asks for checkpoints; twice ends everything at once."""
        self.times += 1
        self._stop.write_text("stop" if self.times == 1 else NOW, encoding="utf-8")


@contextmanager
def catch_stops(stop: Path) -> Iterator[Asked]:
    """While this holds, Ctrl-C and SIGTERM ask the workers to end with a checkpoint.

    The handlers from before are put back, and the file that asks is removed.
    """
    asked = Asked(stop)

    def handle(number: int, frame: FrameType | None) -> None:
        asked.again()

    stop.unlink(missing_ok=True)  # of a session that was killed
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, handle)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.unlink(missing_ok=True)


def drive(
    attempts: Sequence[Attempt],
    engine: Engine,
    retries: int,
    asked: Asked,
    tell: Callable[[str, Result], None],
) -> dict[str, Result]:
    """Run first attempts, and those that follow them, until every trial has ended.

    Args:
        attempts: the first of each trial.
        retries: new starts that a trial has after crashes; a new one goes to the end of the
            queue, by when whatever took its memory may have ended.
        asked: whether to stop; then nothing new is started.
        tell: is called with the name of a trial and its result whenever one begins or ends.

    Returns:
        By name of the trial, in the order of `attempts`.
    """
    results = {attempt.name: Result() for attempt in attempts}
    waiting, running = deque(attempts), 0
    given_up = float("inf")

    def note(name: str, result: Result) -> None:
        results[name] = result
        tell(name, result)

    while waiting or running:
        if asked.times and given_up == float("inf"):
            given_up = time.monotonic() + _GIVE_UP
            engine.withdraw()
            for attempt in waiting:
                note(attempt.name, replace(results[attempt.name], state="interrupted"))
            waiting.clear()
        while waiting and running < engine.slots and not asked.times:
            attempt = waiting.popleft()
            engine.submit(attempt)
            running += 1
            note(attempt.name, replace(results[attempt.name], state="running"))
        for attempt, outcome in engine.finished(_EVERY):
            running -= 1
            result = _after(results[attempt.name], outcome)
            if outcome.state == "crashed" and attempt.number <= retries and not asked.times:
                waiting.append(replace(attempt, number=attempt.number + 1))
                result = replace(result, state="waiting")
            note(attempt.name, result)
        if time.monotonic() > given_up:
            break
    return {
        name: replace(result, state="interrupted") if result.state == "running" else result
        for name, result in results.items()
    }


def _after(before: Result, outcome: Outcome) -> Result:
    return Result(
        state=outcome.state,
        attempts=before.attempts + 1,
        seconds=before.seconds + outcome.seconds,
        code=outcome.code,
        reason=outcome.reason,
    )
