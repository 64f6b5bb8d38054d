"""What a worker of points.py measures of itself, and how it answers.

Needs numpy alone, so that it also runs where only the peer is installed. Times are user CPU
seconds of all threads, since wall time depends on what else the machine does.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Clock", "answer", "asked", "peak_rss", "tiny_sphere"]


class Clock:
    """User and wall seconds of named parts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds what the block takes to `NAME_user_s` and `NAME_wall_s`."""
        user, wall = _user(), time.perf_counter()
        yield
        self.seconds[f"{name}_user_s"] = _user() - user
        self.seconds[f"{name}_wall_s"] = time.perf_counter() - wall


def _user() -> float:
    times = os.times()
    return times.user + times.children_user


def peak_rss() -> int:
    """Most bytes this process held in memory since it was started.

    The kernel's VmHWM, where there is one: `ru_maxrss` begins at what the parent held.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text("ascii", "replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def asked(arguments: list[str]) -> tuple[dict[str, Any], Path, dict[str, Any]]:
    """A worker's arguments: the cloud's arrays, where the mesh goes, the options."""
    cloud, mesh, options = arguments
    with np.load(cloud) as arrays:
        return dict(arrays), Path(mesh), json.loads(options)


def answer(path: Path, vertices: Any, faces: Any, clock: Clock, before: int) -> None:
    """Writes the mesh, and prints the measurements as the last line.

    Args:
        path: of the .npz.
        vertices: [n, 3].
        faces: [f, 3].
        clock: what was spent.
        before: `peak_rss` when everything was imported and warm.
    """
    np.savez(path, vertices=np.asarray(vertices), faces=np.asarray(faces, np.int32))
    numbers = clock.seconds | {"peak_rss_bytes": peak_rss(), "rss_before_bytes": before}
    sys.stdout.write(json.dumps(numbers) + "\n")


def tiny_sphere() -> Any:
    """Points [600, 3] on the unit sphere, their own normals: to warm up on."""
    k = np.arange(600) + 0.5
    z, angle = 1.0 - k / 300.0, k * (np.pi * (3.0 - 5.0**0.5))
    ring = np.sqrt(1.0 - z * z)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)
