"""Everything that is to be known of a device, by one command; see `docs/benchmarks.md`."""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch

from isolux import __version__, backends
from isolux.backends import adapters
from isolux.backends.cuda import nvrtc
from isolux.bench.gpu import (
    ceilings,
    draw,
    encode,
    first_use,
    kernels,
    smi,
    tables,
    training,
    whole_run,
)
from isolux.bench.gpu.cells import FAILURES, Cell, Job, Plan, first_line
from isolux.bench.gpu.clock import DeviceClock, ProcessorClock

__all__ = ["jobs_of", "machine", "main", "measure"]

_GROUPS = (ceilings, draw, encode, first_use, training, kernels, whole_run)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write.

    Args:
        arguments: without the program's name; none takes those of the process.

    Returns:
        The exit code: 1 when there is no device, or when a case failed.
    """
    options = _parser().parse_args(arguments)
    try:
        plan = _plan(options)
    except (ImportError, ValueError) as error:
        sys.stderr.write(f"nothing is measured: {first_line(error)}\n")
        sys.stderr.write("--dry-run tries the cases out on the processor, at tiny sizes\n")
        return 1
    chosen = [job for job in jobs_of(plan) if _wanted(job, options.only)]
    if options.list:
        sys.stdout.writelines(f"{job.name}\n" for job in chosen)
        return 0
    if not chosen:
        names = ", ".join(sorted({job.group for job in jobs_of(plan)}))
        sys.stderr.write(f"no case is like {options.only}; groups are {names}\n")
        return 1
    # As in trainings: cuBLAS reads it when it starts, and gives one result then.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    result = measure(plan, chosen, options.json)
    _write(options.markdown, tables.markdown(result))
    sys.stdout.write(f"{tables.text(result)}\n")
    return int(any("isolux" in cell["absent"] for cell in result["cells"]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gpu.py",
        description="Measure isolux on a CUDA device, beside nvdiffrast and tiny-cuda-nn.",
    )
    add = parser.add_argument
    add(
        "--only",
        metavar="PATTERN",
        action="append",
        default=[],
        help="cases like this one, e.g. draw or '*1024*'; may be given more than once",
    )
    add("--list", action="store_true", help="say which cases there are, and measure none")
    add("--quick", action="store_true", help="fewer repeats, no case of a million triangles")
    add("--data", type=Path, metavar="DIR", help="meshes/{spot,bob} and envmaps, see the page")
    add("--json", type=Path, metavar="FILE", help="write all numbers there, case by case")
    add("--markdown", type=Path, metavar="FILE", help="write the table of the page there")
    add("--dry-run", action="store_true", help="tiny sizes on the processor: no measurement")
    return parser


def _plan(options: argparse.Namespace) -> Plan:
    """How to measure what is asked for.

    Raises:
        ValueError: there is no device, or its backend cannot run; in one line.
    """
    if options.data is not None and not (options.data / "meshes").is_dir():
        raise ValueError(f"--data {options.data}: there is no folder 'meshes' in it")
    common = {"dry_run": options.dry_run, "quick": options.quick, "data": options.data}
    if options.dry_run:
        return Plan(backends.select("cpu"), "cpu", ProcessorClock(), **common)
    return Plan(backends.select("cuda"), "cuda", DeviceClock(), **common)


def jobs_of(plan: Plan) -> Iterator[Job]:
    """All cases, in the order in which they are measured."""
    for module in _GROUPS:
        yield from module.jobs(plan)


def _wanted(job: Job, patterns: Sequence[str]) -> bool:
    name, likes = job.name.lower(), [pattern.lower() for pattern in patterns]
    return not likes or any(like in name or fnmatchcase(name, like) for like in likes)


def measure(plan: Plan, jobs: Sequence[Job], file: Path | None = None) -> dict[str, Any]:
    """Measure the cases one after the other, a line each on the error stream.

    A case that fails says why in its cell, and the others go on. What is known is written
    after each case: a fault of the device ends the process.

    Args:
        plan: how.
        jobs: what.
        file: for the result as JSON.
    """
    result: dict[str, Any] = {
        "dry_run": plan.dry_run,
        "clock": plan.clock.name,
        "repeats": plan.repeats,
        "machine": machine(plan),
        "cells": [],
    }
    for number, job in enumerate(jobs, 1):
        sys.stderr.write(f"[{number}/{len(jobs)}] {job.name} ... ")
        sys.stderr.flush()
        began = time.monotonic()
        try:
            cells, word = job.measure(), "done"
        except FAILURES as error:
            word = f"failed: {first_line(error)}"
            cells = [Cell(job.group, job.case, "", {"isolux": word})]
        sys.stderr.write(f"{word}, {time.monotonic() - began:.1f} s\n")
        result["cells"] += [_marked(cell, plan).as_tree() for cell in cells]
        _write(file, json.dumps(result, indent=2))
        if plan.device == "cuda":
            torch.cuda.empty_cache()
    return result


def _marked(cell: Cell, plan: Plan) -> Cell:
    """A cell of a dry run says so by itself."""
    if not plan.dry_run:
        return cell
    return replace(cell, note="; ".join(part for part in ("dry run", cell.note) if part))


def _write(file: Path | None, words: str) -> None:
    if file is not None:
        file.write_text(words + "\n", "utf-8")


def machine(plan: Plan) -> dict[str, Any]:
    """Device, driver, compilers, packages."""
    found: dict[str, Any] = {"GPU": None, "driver": None}
    if plan.device == "cuda":
        device = torch.cuda.get_device_properties(0)
        found["GPU"] = (
            f"{device.name} ({device.total_memory / 2**30:.0f} GiB, "
            f"sm_{device.major}{device.minor}, {device.multi_processor_count} processors)"
        )
        found["driver"] = smi.asked("driver_version")
    found |= {
        "isolux": __version__,
        "backend": plan.backend.name,
        "torch": torch.__version__,
        "CUDA": torch.version.cuda,
        "NVRTC": _nvrtc(),
        "Python": platform.python_version(),
        "host": f"{os.cpu_count()} cores",
        "date": time.strftime("%Y-%m-%d"),
    }
    for name in ("nvdiffrast", "tinycudann"):
        found[name] = adapters.version(name)
    return found


def _nvrtc() -> str | None:
    return None if nvrtc.available() else ".".join(map(str, nvrtc.version()))
