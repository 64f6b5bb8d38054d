"""What trials run on. An engine starts attempts and says how they ended; it decides nothing.

`LocalEngine` needs nothing but this machine. Those of Ray and SLURM are in files of their own,
so that neither is loaded unless it is asked for.
"""

import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from queue import SimpleQueue

from isolux.confs.errors import ConfError
from isolux.sweep.attempt import Attempt, Outcome, run_attempt
from isolux.sweep.spec import Resources

__all__ = ["Engine", "LocalEngine", "gpus", "hidden_gpus", "memory_gib", "processors"]

_DEVICES = "CUDA_VISIBLE_DEVICES"
_GIB = 2**30


class Engine(ABC):
    """Where attempts run.

    Attributes:
        name: for people.
        slots: how many attempts it takes at once; more are not submitted.
    """

    name: str
    slots: int

    @abstractmethod
    def submit(self, attempt: Attempt) -> None:
        """Start an attempt, or put it in a queue. Returns at once."""

    @abstractmethod
    def finished(self, seconds: float) -> list[tuple[Attempt, Outcome]]:
        """Attempts that have ended since the last call; waits so long for one at most."""

    def withdraw(self) -> None:
        """Take back what has not begun yet. Where the stop file does that, there is no need."""
        return

    @abstractmethod
    def close(self) -> None:
        """Give back what the engine holds. What still runs is ended."""


class LocalEngine(Engine):
    """Processes of this machine, each watched by a thread.

    Threads rather than a pool of processes: such a pool is lost as a whole with the first of
    its workers that dies.

    Raises:
        ConfError: a trial asks for more than the machine has.
    """

    def __init__(self, resources: Resources) -> None:
        self.slots, devices = fitting(resources)
        each = "one trial at a time" if self.slots == 1 else f"{self.slots} trials at a time"
        self.name = f"this machine, {each}"
        self._pool = ThreadPoolExecutor(self.slots, thread_name_prefix="trial")
        self._running: dict[Future[Outcome], Attempt] = {}
        self._devices: SimpleQueue[str] = SimpleQueue()  # one entry a slot
        for place in range(self.slots):
            self._devices.put(devices[place])

    def submit(self, attempt: Attempt) -> None:
        """As Engine.submit."""
        self._running[self._pool.submit(self._run, attempt)] = attempt

    def _run(self, attempt: Attempt) -> Outcome:
        devices = self._devices.get()
        try:
            environment = {**attempt.environment, _DEVICES: devices}
            return run_attempt(replace(attempt, environment=environment))
        finally:
            self._devices.put(devices)

    def finished(self, seconds: float) -> list[tuple[Attempt, Outcome]]:
        """As Engine.finished."""
        done, _ = wait(self._running, seconds, FIRST_COMPLETED)
        return [(self._running.pop(future), future.result()) for future in done]

    def close(self) -> None:
        """As Engine.close; waits for what runs, which the stop file has told to end."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def fitting(resources: Resources) -> tuple[int, list[str]]:
    """How many trials fit on this machine, and the devices of each.

    More processors than there are only share them; GPUs and memory are never promised twice.

    Raises:
        ConfError: not even one fits.
    """
    limits = [max(processors() // resources.cpus, 1)]
    if resources.memory:
        have = memory_gib()
        if resources.memory > have:
            raise ConfError(
                f"resources.memory: {resources.memory:g} GiB asked, this machine has {have:.1f}"
            )
        limits.append(int(have // resources.memory))
    devices = [""] * limits[0]
    if resources.gpus:
        devices = _shares(gpus(), resources.gpus)
        if not devices:
            raise ConfError(
                f"resources.gpus: {resources.gpus:g} asked, this machine has {len(gpus())}"
            )
        limits.append(len(devices))
    if resources.parallel:
        limits.append(resources.parallel)
    return min(limits), devices


def _shares(names: list[str], each: float) -> list[str]:
    """Devices of every slot: whole ones together, or one that several slots share.

    >>> _shares(["0", "1", "2"], 2)
    ['0,1']
    >>> _shares(["0", "1"], 0.5)
    ['0', '1', '0', '1']
    """
    if each < 1:
        return names * int(1 / each + 1e-9)
    count = int(each)
    return [",".join(names[i : i + count]) for i in range(0, len(names) - count + 1, count)]


def processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_gib() -> float:
    """Memory of this machine [GiB]."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / _GIB


def gpus() -> list[str]:
    """GPUs of this machine, as CUDA_VISIBLE_DEVICES names them."""
    if (visible := os.environ.get(_DEVICES)) is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    try:
        listing = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = [line for line in listing.stdout.splitlines() if line.startswith("GPU ")]
    return [str(number) for number in range(len(lines))]


def hidden_gpus(resources: Resources) -> Mapping[str, str]:
    """What keeps a trial that asks for no GPU from taking one that is another's."""
    return {} if resources.gpus else {_DEVICES: ""}
