"""How long the kernels take to be ready: compiled anew, and taken from the cache.

Each is a process of its own, `python -m isolux.bench.gpu.first_use DEVICE [FILE ...]`, whose
clock starts when torch and the device are ready. DEVICE is `cuda`, or an architecture that is
compiled for and not loaded.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial

import torch

from isolux.backends.cuda import driver, launch, nvrtc
from isolux.bench.gpu.cells import Cell, Job, Plan
from isolux.bench.gpu.clock import Sample
from isolux.bench.measure import Figure

__all__ = ["jobs"]

GROUP = "start"
_FIRST, _CACHED = 3.0, 0.2  # seconds


def jobs(plan: Plan) -> Iterator[Job]:
    """With an empty cache, and again with what that left there."""
    yield Job(GROUP, "kernels", partial(_measure, plan))


def _measure(plan: Plan) -> list[Cell]:
    if problem := nvrtc.available():
        raise RuntimeError(problem)
    wanted = ["sm_90", "interpolate"] if plan.dry_run else ["cuda"]
    with tempfile.TemporaryDirectory() as folder:
        first, cached = (_timed(wanted, folder) for _ in range(2))
    note = f"{'1 file' if plan.dry_run else f'all {len(launch.DEFAULT)} files'}, on the host"

    def cell(case: str, seconds: float, most: float) -> Cell:
        figure: Figure | None = None if plan.dry_run else ("<=", most)
        return Cell(GROUP, case, "s", {"isolux": Sample.one(seconds)}, figure, note=note)

    return [
        cell("kernels compiled, empty cache", first, _FIRST),
        cell("kernels from the cache", cached, _CACHED),
    ]


def _timed(wanted: Sequence[str], folder: str) -> float:
    command = [sys.executable, "-m", "isolux.bench.gpu.first_use", *wanted]
    answer = subprocess.run(
        command,
        env={**os.environ, "ISOLUX_CACHE_DIR": folder},
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        said = answer.stderr.strip().splitlines() or ["no word"]
        raise RuntimeError(f"exit code {answer.returncode}: {said[-1]}")
    return float(json.loads(answer.stdout)["seconds"])


def _seconds(device: str, files: Sequence[str]) -> float:
    """Until all kernels are there."""
    if device == "cuda":
        torch.zeros(1, device="cuda").add_(1.0)
        torch.cuda.synchronize()
        driver.use(torch.cuda.current_device())
    nvrtc.version()  # loads the compiler
    began = time.perf_counter()
    launch.prepare(None if device == "cuda" else device, tuple(files))
    if device == "cuda":
        for file in files:
            launch._module(file, "float", torch.cuda.current_device())
    return time.perf_counter() - began


if __name__ == "__main__":
    _seconds_ = _seconds(sys.argv[1], sys.argv[2:] or launch.DEFAULT)
    sys.stdout.write(json.dumps({"seconds": _seconds_}))
