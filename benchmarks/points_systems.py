"""The systems that points.py compares, each run in a process of its own."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isolux.geometry.mesh import Mesh
from isolux.geometry.points.cloud import PointCloud

__all__ = ["System", "open3d_command", "reconstruct", "systems_for"]

_HERE = Path(__file__).parent
_ROOM = 1.1  # the peer's cube about a cloud, in longest sides
_SPLINES_AT_MOST = 10_000  # points
_TIMEOUT = 3600.0  # seconds


@dataclass(frozen=True)
class System:
    """A way from a cloud to a mesh."""

    name: str  # of the table
    script: str
    options: Mapping[str, Any]

    @property
    def peer(self) -> bool:
        """Whether it is not ours."""
        return self.script == "points_peer.py"


def systems_for(
    points: int, side: float, depths: Sequence[int], estimated: bool = False
) -> list[System]:
    """The peer and ours at each depth, and ours with sizes of its own.

    Args:
        points: of the cloud.
        side: its longest; a depth of d means cells of 1.1 * side / 2^d.
        depths: of the octree.
        estimated: the cloud's normals are our estimates, so the peer also runs with its own.
    """
    found = []
    for depth in depths:
        size = _ROOM * side / 2**depth
        ours = {"engine": "hierarchy", "voxel_size": size}
        found.append(System(f"open3d d{depth}", "points_peer.py", {"depth": depth}))
        if estimated:
            own = {"depth": depth, "estimate": True}
            found.append(System(f"open3d own d{depth}", "points_peer.py", own))
        found.append(System(f"hierarchy d{depth}", "points_worker.py", ours))
    found.append(System("hierarchy auto", "points_worker.py", {"engine": "hierarchy"}))
    if points <= _SPLINES_AT_MOST:
        found.append(System("splines", "points_worker.py", {"engine": "splines"}))
    return found


def open3d_command(text: str | None) -> list[str]:
    """The command that starts a Python with open3d.

    Args:
        text: what was asked for, with arguments quoted as a shell would; else the environment
            variable ISOLUX_OPEN3D; else this interpreter.
    """
    return shlex.split(text or os.environ.get("ISOLUX_OPEN3D", "")) or [sys.executable]


def reconstruct(
    system: System, cloud: PointCloud, open3d: Sequence[str]
) -> tuple[Mesh, dict[str, float]]:
    """The mesh (float64 vertices) and what its making took.

    Raises:
        RuntimeError: with the last line of what the worker said, when it failed.
    """
    start = list(open3d) if system.peer else [sys.executable]
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "cloud.npz"), Path(folder, "mesh.npz")
        assert cloud.normals is not None
        arrays = {"xyz": cloud.xyz.numpy(), "normals": cloud.normals.numpy()}
        if system.options.get("estimate") and cloud.sensor is not None:
            arrays["sensor"] = cloud.sensor.numpy()
        np.savez(given, **arrays)
        command = [
            *start,
            str(_HERE / system.script),
            *(str(given), str(made), json.dumps(dict(system.options))),
        ]
        try:
            said = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=_TIMEOUT
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RuntimeError(str(error)) from error
        if said.returncode:
            words = said.stderr.strip().splitlines() or ["no word"]
            raise RuntimeError(f"exit code {said.returncode}: {words[-1]}")
        numbers = json.loads(said.stdout.strip().splitlines()[-1])
        with np.load(made) as mesh:
            vertices = torch.from_numpy(mesh["vertices"].astype(np.float64))
            faces = torch.from_numpy(mesh["faces"].astype(np.int64))
    return Mesh(vertices, faces), numbers
