"""One thread pool for the CPU kernels.

Work is cut by the data (a view's band of rows, a level, a chunk of fixed size) and never by the
number of threads, and every task writes to places of its own. So results are the same, bit
for bit, for any number of threads; this module only decides who does which task.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock, local
from typing import Any

import torch

__all__ = ["chunks", "parallel_for", "set_threads", "threads"]

_LOCK = Lock()
_HERE = local()  # .inside: this thread is at work on a task already
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}  # by process and size
_chosen: list[int] = []  # at most one entry: what set_threads() was given


def set_threads(count: int | None) -> None:
    """Say how many threads run kernels; None goes back to torch's own number.

    Raises:
        ValueError: when `count` is less than one.
    """
    if count is not None and count < 1:
        raise ValueError(f"threads: need at least 1, got {count}")
    _chosen[:] = [] if count is None else [count]


def threads() -> int:
    """How many threads run kernels: as set, or else `torch.get_num_threads()`."""
    return _chosen[0] if _chosen else torch.get_num_threads()


def chunks(count: int, size: int) -> list[tuple[int, int]]:
    """Ranges `(start, stop)` of `size` items, the last one shorter, that cover `count`."""
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def _pool(size: int) -> ThreadPoolExecutor:
    """The pool of this process: threads do not survive a fork, so a child makes its own."""
    key = (os.getpid(), size)
    with _LOCK:
        if key not in _pools:
            for other in [k for k in _pools if k[0] == key[0]]:
                _pools.pop(other).shutdown(wait=False)
            # Asked for its number of threads, torch takes over the caller's in a new thread;
            # otherwise each would start as many again for its own products.
            _pools[key] = ThreadPoolExecutor(
                size, thread_name_prefix="isolux", initializer=torch.get_num_threads
            )
        return _pools[key]


class _Tasks:
    """Tasks that several threads draw from, each taken once."""

    def __init__(self, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> None:
        self.function = function
        self.tasks = tasks
        self.results: list[Any] = [None] * len(tasks)
        self.errors: dict[int, BaseException] = {}
        self.next = iter(range(len(tasks)))  # next() on a range iterator is atomic

    def drain(self) -> None:
        """Do tasks until none is left. The first error ends it for all threads."""
        _HERE.inside = True
        try:
            with torch.no_grad():  # a thread of its own does not inherit the caller's mode
                for index in self.next:
                    if self.errors:
                        return
                    try:
                        self.results[index] = self.function(*self.tasks[index])
                    except BaseException as error:
                        self.errors[index] = error
        finally:
            _HERE.inside = False


def parallel_for(
    function: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    *,
    inline: bool = False,
) -> list[Any]:
    """Call `function(*task)` for every task, on the pool; return the results in task order.

    The caller takes part in the work. One thread, one task, `inline=True` (for work too small
    to share) or a call from inside another task run in place, in order. No task may depend on
    another, and none builds an autograd graph.

    Raises:
        Exception: the error of the first task, in task order, among those that failed.
    """
    helpers = min(threads(), len(tasks)) - 1
    if inline or helpers < 1 or getattr(_HERE, "inside", False):
        with torch.no_grad():
            return [function(*task) for task in tasks]
    work = _Tasks(function, tasks)
    pool = _pool(threads() - 1)
    waiting = [pool.submit(work.drain) for _ in range(helpers)]
    work.drain()
    for future in waiting:
        future.result()
    if work.errors:
        raise work.errors[min(work.errors)]
    return work.results
