"""One scene on several processes, as `torchrun` starts them. No other module knows of ranks.

Each process draws its part of a step's views, gradients are averaged, and the first process
alone writes (the semantics of PyTorch's DistributedDataParallel). Terms are weighed so that
the average is what one process with all the views would have found. What a `Group` does
costs nothing where a process is alone.
"""

import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from isolux.confs.describe import flat

__all__ = ["ALONE", "Group", "ProcessLost", "Share", "is_first", "joined", "local_threads"]

T = TypeVar("T")
S = TypeVar("S", Tensor, list[int])

# A process that ends is noticed at once, as its connections close. One that hangs is waited
# for so long: the first process may make charts, draw pictures or validate meanwhile.
_PATIENCE = 1800.0  # seconds
_CPU = torch.device("cpu")


class ProcessLost(ConnectionError):
    """Another process of the run has ended, or does not answer."""


@dataclass(frozen=True)
class Share:
    """Where a process's items stand in the list of all processes' items."""

    before: int  # items of the processes before this one
    total: int  # items of all


class Group:
    """The processes that train one scene. This class is for one that is alone.

    All of them call the same methods in the same order. Every method raises `ProcessLost` if
    another process is gone.
    """

    rank = 0
    world = 1

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files and speaks."""
        return self.rank == 0

    def part(self, whole: S) -> S:
        """This process's rows of what is shared out evenly, in the processes' order."""
        size = len(whole) // self.world
        return whole[self.rank * size : (self.rank + 1) * size]

    def first(self, make: Callable[[], T]) -> T:
        """What `make` gives, or raises, in the first process; it is called there only."""
        return make()

    def same(self, value: float) -> float:
        """The first process's value."""
        return value

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process."""
        return flag

    def share(self, count: int) -> Share:
        """The place of this process's `count` items among all."""
        return Share(0, count)

    def means(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Scalars averaged over the processes, without their graphs."""
        return [value.detach() for value in values]

    def average(self, parameters: Sequence[Tensor]) -> None:
        """Put the mean of the processes' gradients in the place of this one's.

        A process without a gradient counts as zero; where none has one, there is none.
        """

    def union(self, names: Sequence[str]) -> list[str]:
        """The names of all processes, each once."""
        return list(names)


ALONE = Group()


class _Joined(Group):
    """One of several processes, joined by torch.distributed's default group."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world
        self._lost = ""  # how another process was found to be gone

    def first(self, make: Callable[[], T]) -> T:
        box: list[Any] = [None]
        if self.writes:
            try:
                box = [(make(), None)]
            except Exception as error:  # the others must end with it, not wait
                box = [(None, error)]
        self._do(dist.broadcast_object_list, box, src=0, device=_CPU)
        value, failure = box[0]
        if failure is not None:
            raise failure
        result: T = value
        return result

    def same(self, value: float) -> float:
        box = torch.tensor([value], dtype=torch.float64)
        self._do(dist.broadcast, box, src=0)
        return float(box.item())

    def any(self, flag: bool) -> bool:
        return bool(self._added(torch.tensor([int(flag)])).item())

    def share(self, count: int) -> Share:
        counts = torch.zeros(self.world, dtype=torch.int64)
        counts[self.rank] = count
        all_counts = self._added(counts).tolist()
        return Share(sum(all_counts[: self.rank]), sum(all_counts))

    def means(self, values: Sequence[Tensor]) -> list[Tensor]:
        whole = self._added(torch.stack([value.detach() for value in values]))
        return list(whole.div_(self.world).unbind())

    def average(self, parameters: Sequence[Tensor]) -> None:
        gradients = [p.grad for p in parameters]
        there = torch.tensor([float(g is not None) for g in gradients])
        pieces = [
            torch.zeros_like(p).reshape(-1) if g is None else g.reshape(-1)
            for p, g in zip(parameters, gradients, strict=True)
        ]
        # One message for all of them. Whether anyone has a gradient travels behind.
        flat = torch.cat([*pieces, there.to(pieces[0])]) if pieces else there
        mean = self._added(flat).div_(self.world)
        *averages, counts = torch.split(mean, [*(p.numel() for p in parameters), len(pieces)])
        for parameter, average, count in zip(
            parameters, averages, counts.tolist(), strict=True
        ):
            parameter.grad = average.view_as(parameter) if count else None

    def union(self, names: Sequence[str]) -> list[str]:
        return list(dict.fromkeys(name for each in self.gathered(names) for name in each))

    def gathered(self, value: object) -> list[Any]:
        """Every process's value."""
        values: list[Any] = [None] * self.world
        self._do(dist.all_gather_object, values, value)
        return values

    def wait(self) -> None:
        """Until all processes are here."""
        self.any(False)

    def _added(self, value: Tensor) -> Tensor:
        self._do(dist.all_reduce, value)
        return value

    def _do(self, collective: Callable[..., object], *arguments: Any, **named: Any) -> None:
        if self._lost:  # a second call could wait for what will never come
            raise ProcessLost(self._lost)
        try:
            collective(*arguments, **named)
        except RuntimeError as error:
            self._lost = self._told(str(error))
            raise ProcessLost(self._lost) from error

    def _told(self, reason: str) -> str:
        # Gloo begins with the place in its source, and goes on about what that may mean.
        short = reason.strip().partition("\n")[0].partition(".cc:")[2] or reason
        short = short.partition("] ")[2].partition(". ")[0] or reason
        return (
            f"process {self.rank} of {self.world}: another process has ended or does not "
            f"answer ({short[:90]}); go on from the last checkpoint with --resume"
        )


@dataclass(frozen=True)
class _Place:
    """Where `torchrun` has put this process."""

    rank: int
    world: int
    local_rank: int
    local_world: int

    @classmethod
    def read(cls) -> "_Place | None":
        """From the environment; none for a process that is alone.

        Raises:
            ValueError: one line, for numbers that are none or do not go together.
        """
        text = os.environ.get
        if "MASTER_ADDR" not in os.environ or "MASTER_PORT" not in os.environ:
            return None
        try:
            world = int(text("WORLD_SIZE", "1"))
            rank = int(text("RANK", "0"))
            place = cls(
                rank, world, int(text("LOCAL_RANK", rank)), int(text("LOCAL_WORLD_SIZE", world))
            )
        except ValueError as error:
            raise ValueError(f"RANK, WORLD_SIZE: {error}; torchrun sets them") from None
        if not 0 <= place.rank < max(world, 1) or place.local_world < 1:
            raise ValueError(f"RANK={rank} does not fit WORLD_SIZE={world}; torchrun sets them")
        return place if world > 1 else None


def is_first() -> bool:
    """Whether this process is alone, or the first one of its group: the one that speaks."""
    place = _Place.read()
    return place is None or place.rank == 0


def local_threads(threads: int) -> int:
    """Threads of this process: those given; else its part of the processors, zero if alone."""
    place = None if threads else _Place.read()
    return threads if place is None else max(1, (os.cpu_count() or 1) // place.local_world)


@contextmanager
def joined(
    settings: Mapping[str, Any], cuda: bool = False, patience: float = _PATIENCE
) -> Iterator[Group]:
    """The group of processes that this one was started in; `ALONE` outside of `torchrun`.

    Args:
        settings: what all must have been started with.
        cuda: gradients are on a GPU: they go by NCCL where each process has one of its own.
        patience: seconds that another process may take to come to the same place.

    Raises:
        ValueError: in all processes, if their settings differ: which, in one line.
        ProcessLost: the others are not there, or were gone before all came to the end.
    """
    place = _Place.read()
    if place is None:
        yield ALONE
        return
    group = _Joined(place.rank, place.world)
    spoke = logging.root.manager.disable
    if not group.writes:
        logging.disable(logging.WARNING)
    try:
        backend = _backend(place) if cuda and torch.cuda.is_available() else "gloo"
        group._do(dist.init_process_group, backend, timeout=timedelta(seconds=patience))
        _check_same(group, settings)
        yield group
        # torch 2.13 may abort when it exits while others are still at work, or with what
        # refers to the group still alive.
        gc.collect()
        group.wait()
    except ProcessLost:
        # torchrun ends the others now, and would cut off what this one has to say.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        logging.disable(spoke)


def _backend(place: _Place) -> str:
    devices = torch.cuda.device_count()
    torch.cuda.set_device(place.local_rank % devices)
    own = place.local_world <= devices and dist.is_nccl_available()
    return "cpu:gloo,cuda:nccl" if own else "gloo"


def _check_same(group: _Joined, settings: Mapping[str, Any]) -> None:
    everyone = [dict(flat(each)) for each in group.gathered(settings)]
    for rank, theirs in enumerate(everyone):
        for key in everyone[0] | theirs:
            one, other = everyone[0].get(key), theirs.get(key)
            if one != other:
                group.wait()  # so that all have heard
                raise ValueError(
                    f"processes disagree: {key} is {one} in process 0 and {other} in "
                    f"process {rank}; start all of them with the same settings"
                )
