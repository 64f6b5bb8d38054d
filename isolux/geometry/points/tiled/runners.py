"""Who works on tiles: this process, processes of this machine, or Ray."""

import io
import multiprocessing
from abc import ABC, abstractmethod
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from isolux import ray_session
from isolux.backends.cpu import pool
from isolux.geometry.points.tiled.options import TileOptions

__all__ = ["Failure", "Lost", "Runner", "runner_for"]


@dataclass(frozen=True)
class Failure:
    """A task that raised: what it said."""

    cause: str


@dataclass(frozen=True)
class Lost:
    """A task whose worker died, perhaps because of another task of the same worker."""

    cause: str


Outcome = Failure | Lost | None  # None: it went well


class Runner(ABC):
    """Takes tasks (a function of a module, and its arguments) and says how they ended."""

    slots = 1  # tasks at a time

    @abstractmethod
    def submit(self, number: int, function: Any, arguments: tuple[Any, ...]) -> None:
        """Begin a task; `number` is what it is called by."""

    @abstractmethod
    def finished(self) -> list[tuple[int, Outcome]]:
        """Wait until at least one task has ended."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what was started."""


class Here(Runner):
    """One after the other, in this process, with its threads."""

    def __init__(self) -> None:
        self._ended: list[tuple[int, Outcome]] = []

    def submit(self, number: int, function: Any, arguments: tuple[Any, ...]) -> None:
        """As Runner.submit, which takes as long as the task."""
        self._ended.append((number, attempt(function, arguments)))

    def finished(self) -> list[tuple[int, Outcome]]:
        """As Runner.finished."""
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        """As Runner.close: nothing was started."""


class Processes(Runner):
    """Fresh processes of this machine, one thread each."""

    def __init__(self, workers: int) -> None:
        self.slots = workers
        self._running: dict[Future[Any], int] = {}
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, number: int, function: Any, arguments: tuple[Any, ...]) -> None:
        """As Runner.submit."""
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.slots, context, initializer=one_thread)
        try:
            future = self._pool.submit(attempt, function, arguments)
        except BrokenProcessPool as error:  # noticed before the running tasks were
            future = Future()
            future.set_exception(error)
        self._running[future] = number

    def finished(self) -> list[tuple[int, Outcome]]:
        """As Runner.finished. When one process dies, all that were running are lost."""
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
            done, _ = wait(self._running)
            self.close()
        return [(self._running.pop(future), _outcome(future)) for future in done]

    def close(self) -> None:
        """As Runner.close; what runs is left to end."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


class OnRay(Runner):
    """Tasks of Ray, here or on a cluster whose machines share the work folder."""

    def __init__(self, workers: int, address: str | None) -> None:
        self.slots = workers
        ray_session.configure(bool(address))
        try:
            self._ray: Any = import_module("ray")
        except ImportError:
            raise ValueError(
                "tiles.runner=ray: Ray is not installed: pip install 'isolux[cluster]'"
            ) from None
        self._stack = ExitStack()
        self._stack.enter_context(redirect_stdout(io.StringIO()))
        self._stack.callback(self._ray.shutdown)
        try:
            if address:
                ray_session.connect(self._ray, address)
            else:
                ray_session.start(self._ray, cpus=workers, gpus=0)
        except BaseException as error:
            self._stack.close()
            if isinstance(error, ConnectionError):
                raise ValueError(f"tiles.address={address}: {error}") from None
            raise
        self._task = self._ray.remote(alone).options(num_cpus=1, max_retries=0)
        self._running: dict[Any, int] = {}

    def submit(self, number: int, function: Any, arguments: tuple[Any, ...]) -> None:
        """As Runner.submit."""
        self._running[self._task.remote(function, arguments)] = number

    def finished(self) -> list[tuple[int, Outcome]]:
        """As Runner.finished. A worker has one task: whose it was is known."""
        done, _ = self._ray.wait(list(self._running), num_returns=1)
        return [(self._running.pop(task), self._outcome(task)) for task in done]

    def _outcome(self, task: Any) -> Outcome:
        try:
            outcome: Outcome = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            return Failure(f"its worker died: {ray_session.first_words(error)}")
        return outcome

    def close(self) -> None:
        """As Runner.close."""
        self._stack.close()


def runner_for(tiles: TileOptions) -> Runner:
    """The one that the options ask for."""
    match tiles.runner:
        case "processes":
            return Processes(tiles.workers)
        case "ray":
            return OnRay(tiles.workers, tiles.address)
        case _:
            return Here()


def one_thread() -> None:
    """A worker is one of several: it has one thread."""
    torch.set_num_threads(1)
    pool.set_threads(1)


def attempt(function: Any, arguments: tuple[Any, ...]) -> Outcome:
    """Run a task; an error comes back as words, which travel everywhere."""
    try:
        function(*arguments)
    except Exception as error:
        words = str(error).strip().splitlines()
        return Failure(words[0] if words else type(error).__name__)
    return None


def alone(function: Any, arguments: tuple[Any, ...]) -> Outcome:
    """`attempt` with one thread."""
    one_thread()
    return attempt(function, arguments)


def _outcome(future: "Future[Any]") -> Outcome:
    error = future.exception()
    if isinstance(error, BrokenProcessPool):
        return Lost("its process died")
    if error is not None:  # could not be sent, or its answer could not
        return Failure(str(error).splitlines()[0] if str(error) else type(error).__name__)
    outcome: Outcome = future.result()
    return outcome
