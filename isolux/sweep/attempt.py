"""One start of a trial: a process of `isolux train`, watched until it ends.

This is what every engine runs, on whichever machine: it knows files and processes only. It is
asked to stop by a file, which reaches every machine that shares the folder.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from isolux.optimize.files import RunFolder
from isolux.optimize.lock import locked
from isolux.sweep.child import PARENT

__all__ = ["NOW", "Attempt", "Outcome", "State", "reached", "run_attempt"]

State = Literal["done", "crashed", "failed", "mistake", "out of time", "interrupted"]
NOW = "now"  # content of a stop file that grants no time for a checkpoint
_EVERY = 0.1  # seconds between looks
_GRACE = 60.0  # seconds for a checkpoint
_HANDOVER = 90.0  # seconds for the one before it, whose worker died, to let go of the folder
_NO_MEMORY = re.compile(
    r"MemoryError|out of memory|[Uu]nable to allocate|can(?:no|')t allocate memory",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Attempt:
    """What a worker needs to know. All paths are absolute, and the same on every machine."""

    name: str
    number: int  # from 1
    folder: Path  # of the run
    settings: Path  # file with all settings
    log: Path  # what the process says is added to it
    stop: Path  # when this file is there, end with a checkpoint
    minutes: float | None = None
    command: tuple[str, ...] = ()  # in the place of isolux
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended. Only what `crashed` is worth another try."""

    state: State
    code: int | None = None  # exit code, or minus the signal; none if there was no process
    reason: str = ""  # a line, empty if all went well
    seconds: float = 0.0


def run_attempt(attempt: Attempt) -> Outcome:
    """Train until it ends, is asked to stop, or its time is up."""
    if _asked(attempt.stop):
        return Outcome("interrupted", reason="stopped before it began")
    folder = RunFolder(attempt.folder)
    if not _free(attempt.folder, attempt.stop):
        return Outcome("failed", reason=f"{attempt.folder}: another run is writing here")
    if reached(folder):
        return Outcome("done", 0)
    began = time.monotonic()
    command = [
        *(attempt.command or (sys.executable, "-m", "isolux.sweep.child")),
        *("train", "--conf", str(attempt.settings)),
        *(("--resume",) if folder.begun and folder.conf.is_file() else ()),
    ]
    attempt.log.parent.mkdir(parents=True, exist_ok=True)
    with attempt.log.open("ab") as log:
        log.write(f"# attempt {attempt.number}: {' '.join(command)}\n".encode())
        log.flush()
        start = log.tell()
        code, ended = _watched(command, attempt, log)
    state, reason = _judged(code, ended, folder, _said(attempt.log, start))
    return Outcome(state, code, reason, time.monotonic() - began)


def reached(folder: RunFolder) -> dict[str, Any]:
    """What a run reached, which it writes last; empty before its end, or if it was spoilt."""
    try:
        return folder.read_json(folder.metrics)
    except (OSError, ValueError):
        return {}


def _asked(stop: Path) -> str:
    """What the stop file says; empty if there is none."""
    try:
        return stop.read_text() or "stop"
    except OSError:
        return ""


def _free(folder: Path, stop: Path) -> bool:
    """Wait until no other process writes a run folder."""
    until = time.monotonic() + _HANDOVER
    while folder.exists():
        try:
            with locked(folder):
                return True
        except BlockingIOError:
            if time.monotonic() > until or _asked(stop):
                return False
            time.sleep(_EVERY)
    return True


def _watched(
    command: list[str], attempt: Attempt, log: IO[bytes]
) -> tuple[int, Literal["", "interrupted", "out of time"]]:
    """Exit code of the process, and why it was made to end."""
    environment = {**os.environ, **attempt.environment, PARENT: str(os.getpid())}
    # A session of its own: Ctrl-C at a terminal is for the sweep, which passes it on once.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
    limit = time.monotonic() + attempt.minutes * 60 if attempt.minutes else float("inf")
    try:
        while process.poll() is None:
            if _asked(attempt.stop):
                return _ended(process, attempt.stop), "interrupted"
            if time.monotonic() > limit:
                return _ended(process, attempt.stop), "out of time"
            time.sleep(_EVERY)
    except KeyboardInterrupt:  # a scheduler takes the worker back
        return _ended(process, attempt.stop), "interrupted"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return process.returncode, ""


def _ended(process: subprocess.Popen[bytes], stop: Path) -> int:
    """Ask a process to end, and insist when it takes too long."""
    process.send_signal(signal.SIGINT)
    until = time.monotonic() + _GRACE
    while process.poll() is None and time.monotonic() < until and _asked(stop) != NOW:
        time.sleep(_EVERY)
    if process.poll() is None:
        process.kill()
    return process.wait()


def _said(log: Path, start: int) -> list[str]:
    """The last lines that this attempt said."""
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - 20_000))
        text = file.read().decode("utf-8", errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _judged(code: int, ended: str, folder: RunFolder, said: list[str]) -> tuple[State, str]:
    """What an exit code means, with a line of what was said."""
    if code == 0:
        if reached(folder):
            return "done", ""
        return "failed", "it ended well, but metrics.json is not there"
    if ended == "out of time":
        return "out of time", "its minutes were up; a checkpoint is kept"
    if ended:
        return "interrupted", "stopped; a checkpoint is kept"
    words = [line.removeprefix("isolux: ") for line in said if line.startswith("isolux: ")]
    last = (words or said or ["it said nothing"])[-1][:300]
    if code < 0 or code >= 128:
        number = -code if code < 0 else code - 128
        return "crashed", f"killed by {_signal_name(number)}"
    if code == 1 and any(_NO_MEMORY.search(line) for line in said[-30:]):
        return "crashed", f"out of memory: {last}"
    return ("mistake" if code == 2 else "failed"), last


def _signal_name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    memory = " (out of memory, or by hand)" if name == "SIGKILL" else ""
    return f"{name}{memory}"
