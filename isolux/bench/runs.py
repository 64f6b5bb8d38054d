"""Whole runs of the command in a process of their own."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from isolux.bench.measure import Row

__all__ = ["memory"]


def memory(size: int = 256, resolution: int = 64, steps: int = 15) -> list[Row]:
    """Peak resident memory of a short training with charts, exports and evaluation.

    Raises:
        RuntimeError: with what the run said, when it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "run")
        settings = [
            f"out={out}",
            "backend=cpu",
            f"data.size={size}",
            "data.train_views=32",
            "data.test_views=2",
            f"geometry.resolution={resolution}",
            "material.texture_size=1024",
            f"optimize.steps={steps}",
            "optimize.coarse_to_fine=false",
        ]
        command = [sys.executable, "-m", "isolux", "train", "--conf", "demo", *settings]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode != 0:
            said = (answer.stderr or answer.stdout).strip().splitlines() or ["no word"]
            raise RuntimeError(f"the run failed with exit code {answer.returncode}: {said[-1]}")
        peak = json.loads((out / "metrics.json").read_text("utf-8"))["peak_rss_bytes"]
    design = size == 256
    case = f"training at {size}x{size}, lattice {resolution}, 2 x {steps} steps"
    return [Row(case, peak / 2**30, "GiB resident", ("<=", 2.5) if design else None)]
