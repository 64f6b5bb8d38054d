"""The benchmarks by name, and what they ran on."""

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from isolux import __version__
from isolux.backends.available import cuda_problem
from isolux.bench import operators, runs, steps
from isolux.bench.measure import Row

__all__ = ["BENCHMARKS", "NAMES", "machine", "run"]

BENCHMARKS: dict[str, Callable[..., list[Row]]] = {
    "rasterise": operators.rasterise,
    "hash_grid": operators.hash_grid_rows,
    "mlp": operators.mlp_rows,
    "extract": operators.extract,
    "step_mesh": steps.step_mesh,
    "step_topology": steps.step_topology,
    "memory": runs.memory,
    "determinism": steps.determinism,
}
NAMES = tuple(BENCHMARKS)


def run(
    names: Sequence[str] = (), options: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Run benchmarks, one progress line each on the error stream.

    A benchmark that fails says so in its row and the others go on.

    Args:
        names: of benchmarks; none runs all.
        options: arguments by benchmark, e.g. smaller sizes.

    Returns:
        `machine`, and `rows`: benchmark, case, value (the least of the repeats) and unit,
        median, the figure to reach, whether it is met (none without a figure), note.

    Raises:
        ValueError: a name that is not there.
    """
    if unknown := [name for name in names if name not in BENCHMARKS]:
        raise ValueError(f"no benchmark '{unknown[0]}'; there are {', '.join(NAMES)}")
    result: dict[str, Any] = {"machine": machine(), "rows": []}
    chosen = [name for name in NAMES if not names or name in names]
    for number, name in enumerate(chosen, 1):
        sys.stderr.write(f"[{number}/{len(chosen)}] {name} ... ")
        sys.stderr.flush()
        began = time.monotonic()
        try:
            rows = [r.as_tree() for r in BENCHMARKS[name](**(options or {}).get(name, {}))]
            word = "done"
        except RuntimeError as error:
            word = f"failed: {(str(error).splitlines() or [type(error).__name__])[0]}"
            rows = [Row("", float("nan"), "", None, None, word).as_tree() | {"value": None}]
        sys.stderr.write(f"{word}, {time.monotonic() - began:.1f} s\n")
        result["rows"] += [{"benchmark": name} | row for row in rows]
    result["machine"]["load_after"] = _load()
    sys.stderr.write(f"{_gpu_rows()}\n")
    return result


def _gpu_rows() -> str:
    """All rows are the processor's; where those of a device come from."""
    if problem := cuda_problem():
        return f"no GPU rows: {problem.partition(': ')[0]}"
    return "no GPU rows: python -m isolux.bench.gpu measures them"


def machine() -> dict[str, Any]:
    """Processor, versions, and how busy the machine is."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_before": _load(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "isolux": __version__,
        "torch": torch.__version__,
        "numba": metadata.version("numba"),
    }


def _load() -> float | None:
    """Processes that want to run, mean of the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text("utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
