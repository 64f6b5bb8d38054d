"""Spot, from pictures to a GLB, by the command line; and the device's memory meanwhile.

`python -m isolux.bench.gpu.whole_run REPORT train ...` runs the command and writes to REPORT
what torch says of the device's memory when it is done.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from isolux.bench.gpu import smi
from isolux.bench.gpu.cells import Cell, Job, Plan
from isolux.bench.gpu.clock import Sample
from isolux.bench.gpu.training import settings_of
from isolux.bench.measure import Figure

__all__ = ["jobs"]

GROUP = "run"
_STEPS = (500, 700)  # the preset's
_EVERY = 0.2  # seconds between looks at the memory


def jobs(plan: Plan) -> Iterator[Job]:
    """The whole command."""
    yield Job(GROUP, "spot at 512x512, pictures to GLB", partial(_measure, plan))


def _settings(plan: Plan) -> list[str]:
    """As a person types them: the preset at 512, the light known."""
    steps = (3, 3) if plan.dry_run else _STEPS
    preset, settings = settings_of(plan, "spot", steps)
    settings["optimize.coarse_to_fine"] = True
    settings["data.train_views"], settings["data.test_views"] = 200, 50
    settings["optimize.batch"] = 4
    if plan.dry_run:
        settings |= {"data.train_views": 4, "data.test_views": 1, "optimize.batch": 1}
    elif preset == "spot":
        settings["light.learn"] = False
        settings["light.envmap"] = settings["data.envmap"]
    return ["--conf", preset, *(f"{k}={_text(v)}" for k, v in settings.items())]


def _text(value: Any) -> str:
    return str(value) if isinstance(value, Path) else json.dumps(value)


def _measure(plan: Plan) -> list[Cell]:
    with tempfile.TemporaryDirectory() as folder:
        out, report = Path(folder, "run"), Path(folder, "memory.json")
        command = [sys.executable, "-m", __name__, str(report), "train", *_settings(plan)]
        began = time.perf_counter()
        with _memory_in_use(plan) as used:
            answer = subprocess.run(
                [*command, f"out={out}"], capture_output=True, text=True, check=False
            )
        seconds = time.perf_counter() - began
        if answer.returncode:
            said = (answer.stderr or answer.stdout).strip().splitlines() or ["no word"]
            raise RuntimeError(f"exit code {answer.returncode}: {said[-1]}")
        metrics = json.loads((out / "metrics.json").read_text("utf-8"))
        memory = json.loads(report.read_text("utf-8"))
        if not (out / "mesh" / "mesh.glb").is_file():
            raise RuntimeError("the run left no mesh.glb")
    real = plan.data is not None and not plan.dry_run
    return _cells(seconds, metrics, memory, used, real)


def _cells(
    seconds: float,
    metrics: dict[str, Any],
    memory: dict[str, int],
    used: list[int],
    real: bool,
) -> list[Cell]:
    note = "" if real else "the scene that ships; --data DIR takes spot"
    name = "spot" if real else "demo"

    def cell(
        what: str, unit: str, value: float | None, figure: Figure | None, said: str = ""
    ) -> Cell:
        found = "not known" if value is None else Sample.one(value)
        bound = figure if real else None  # figures are for spot
        return Cell(GROUP, f"{name}, {what}", unit, {"isolux": found}, bound, note=said or note)

    surface, percent = metrics.get("surface", {}), None
    if surface.get("reference_diagonal"):
        both = surface["to_reference_mean"], surface["from_reference_mean"]
        percent = 100.0 * max(both) / surface["reference_diagonal"]
    inside = f"{metrics['time_s']['total']:.1f} s by its own clock; exports and evaluation too"
    gib = {key: value / 2**30 if value else None for key, value in memory.items()}
    most = (max(used) - used[0]) / 2**30 if len(used) > 1 else None
    cells = [
        cell("the whole command", "s", seconds, ("<=", 60.0), inside),
        cell("PSNR of held-out views", "dB", metrics["test"]["psnr"], (">=", 33.0)),
        cell("surface error, of the diagonal", "%", percent, ("<=", 0.3)),
        cell("memory, torch's tensors", "GiB", gib["allocated"], ("<=", 4.0)),
        cell("memory, torch's reserve", "GiB", gib["reserved"], None),
        cell("memory, more than before by nvidia-smi", "GiB", most, None),
    ]
    return [each for each in cells if each.ours is not None]


@contextmanager
def _memory_in_use(plan: Plan) -> Iterator[list[int]]:
    """Bytes of the device that are in use, looked at now and again; the first is before."""
    used: list[int] = []
    done = threading.Event()

    def look() -> None:
        while (now := _used()) is not None:
            used.append(now)
            if done.wait(_EVERY):
                return

    if plan.device == "cpu" or (before := _used()) is None:
        yield used
        return
    used.append(before)
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield used
    finally:
        done.set()
        thread.join()


def _used() -> int | None:
    """What nvidia-smi says; none where it says nothing."""
    said = smi.asked("memory.used")
    return int(said) << 20 if said is not None and said.isdigit() else None


def _run(report: Path, arguments: list[str]) -> int:
    """`python -m isolux ARGUMENTS` in this process; its exit code."""
    import runpy

    import torch

    sys.argv = ["isolux", *arguments]
    code = 0
    try:
        runpy.run_module("isolux", run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    peak = {"allocated": 0, "reserved": 0}
    if torch.cuda.is_available():
        peak["allocated"] = torch.cuda.max_memory_allocated()
        peak["reserved"] = torch.cuda.max_memory_reserved()
    report.write_text(json.dumps(peak), "utf-8")
    return code


if __name__ == "__main__":
    sys.exit(_run(Path(sys.argv[1]), sys.argv[2:]))
