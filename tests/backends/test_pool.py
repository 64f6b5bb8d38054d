"""The thread pool and the kernel decorator."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from isolux.backends.cpu import jit, pool
from isolux.backends.cpu.pool import chunks, parallel_for

Threads = Callable[[int | None], None]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_results_come_in_task_order(with_threads: Threads, count: int) -> None:
    with_threads(count)
    assert parallel_for(lambda a, b: a * b, [(k, 2) for k in range(50)]) == list(
        range(0, 100, 2)
    )
    assert parallel_for(lambda: 1, []) == []


def test_tasks_run_side_by_side(with_threads: Threads) -> None:
    """Two tasks that wait for each other end only if both run."""
    with_threads(2)
    meeting = threading.Barrier(2, timeout=20)
    parallel_for(meeting.wait, [(), ()])


def test_one_thread_stays_in_place(with_threads: Threads) -> None:
    with_threads(1)
    assert set(parallel_for(threading.get_ident, [()] * 9)) == {threading.get_ident()}
    with_threads(4)
    assert set(parallel_for(threading.get_ident, [()] * 9, inline=True)) == {
        threading.get_ident()
    }


@pytest.mark.parametrize("count", [1, 3])
def test_the_first_error_is_raised(with_threads: Threads, count: int) -> None:
    with_threads(count)

    def fail(k: int) -> None:
        if k in (3, 7):
            time.sleep(0.01 * (8 - k))
            raise ValueError(f"task {k}")

    with pytest.raises(ValueError, match=r"task [37]"):
        parallel_for(fail, [(k,) for k in range(10)])
    assert parallel_for(lambda k: k, [(1,), (2,)]) == [1, 2]  # and the pool lives on


def test_a_task_may_start_tasks(with_threads: Threads) -> None:
    with_threads(2)

    def outer(k: int) -> int:
        return sum(parallel_for(lambda j: j, [(j,) for j in range(k)]))

    assert parallel_for(outer, [(k,) for k in range(6)]) == [0, 0, 1, 3, 6, 10]


@pytest.mark.parametrize("count", [1, 2])
def test_no_graph_is_built(with_threads: Threads, count: int) -> None:
    with_threads(count)
    assert not any(parallel_for(torch.is_grad_enabled, [()] * 8))
    assert torch.is_grad_enabled()


def test_the_number_of_threads(with_threads: Threads) -> None:
    assert pool.threads() == torch.get_num_threads()
    with_threads(3)
    assert pool.threads() == 3
    with_threads(None)
    assert pool.threads() == torch.get_num_threads()
    with pytest.raises(ValueError, match="0"):
        pool.set_threads(0)


def test_chunks_cover_everything_once() -> None:
    assert chunks(0, 4) == []
    assert chunks(9, 4) == [(0, 4), (4, 8), (8, 9)]
    assert chunks(8, 4) == [(0, 4), (4, 8)]


def _child(answer: Any) -> None:
    answer.put(parallel_for(lambda a: a + 1, [(k,) for k in range(20)]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_pool_of_its_own(with_threads: Threads) -> None:
    with_threads(2)
    parallel_for(lambda a: a, [(1,), (2,)])
    context = multiprocessing.get_context("fork")
    answer = context.Queue()
    child = context.Process(target=_child, args=(answer,))
    child.start()
    assert answer.get(timeout=30) == list(range(1, 21))
    child.join(timeout=30)
    assert child.exitcode == 0


def test_a_kernel_is_compiled_and_keeps_its_name() -> None:
    @jit.kernel
    def add(values: Any, amount: float) -> None:
        for i in range(values.size):
            values[i] += amount

    values = np.zeros(3)
    add(values, 2.0)
    assert values.tolist() == [2.0, 2.0, 2.0]
    assert add.__name__ == "add"
    assert hasattr(add, "signatures")


def test_without_any_folder_to_write_kernels_still_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "a file, not a folder"
    file.write_text("")
    monkeypatch.setattr(jit, "_candidates", lambda: [file / "cache"])
    monkeypatch.setattr(jit, "_chosen", [])
    assert jit.cache_directory() is None

    @jit.kernel(fastmath=jit.SHADING_MATH)
    def twice(x: float) -> float:
        return x + x

    assert twice(2.0) == 4.0


def test_the_cache_folder_can_be_chosen(tmp_path: Path) -> None:
    """In a process of its own: the choice is made once, and kernels land there."""
    program = (
        "import numpy as np\n"
        "from isolux.backends.cpu import adjacency, jit\n"
        "adjacency._pair(np.zeros(3, np.int32), np.full(8, -1), np.zeros(16, np.int32),"
        " np.zeros(3, np.int32))\n"
        "print(jit.cache_directory())\n"
    )
    root = Path(jit.__file__).parents[3]
    environment = os.environ | {"ISOLUX_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(root)}
    out = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    folder = Path(out.stdout.strip())
    assert folder.parent == tmp_path
    assert list(folder.rglob("*.nbi"))
