"""Clouds for tests of the fit by tiles, and tasks that fail as they are told."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.normals import estimate_normals
from isolux.geometry.points.tiled import store


def ring(count: int = 5000, noise: float = 0.0, seed: int = 0) -> PointCloud:
    """Points on a torus about the z axis, colours by place."""
    draw = torch.Generator().manual_seed(seed)
    u, v = 2 * torch.pi * torch.rand(2, count, generator=draw, dtype=torch.float64)
    normal = torch.stack([u.cos() * v.cos(), u.sin() * v.cos(), v.sin()], -1)
    middle = torch.stack([u.cos(), u.sin(), torch.zeros_like(u)], -1)
    xyz = middle + 0.35 * normal
    xyz = xyz + noise * torch.randn(count, 3, generator=draw, dtype=torch.float64)
    return PointCloud(xyz, normal.float(), colors=(0.3 * xyz + 0.5).float())


def wave(count: int = 8000, seed: int = 0) -> PointCloud:
    """Points on an open sheet with a wave in it, over the square from 0 to 1."""
    draw = torch.Generator().manual_seed(seed)
    x, y = torch.rand(2, count, generator=draw, dtype=torch.float64)
    normal = torch.stack([-0.6 * (6 * x).cos(), torch.zeros_like(x), torch.ones_like(x)], -1)
    normal = torch.nn.functional.normalize(normal, dim=-1)
    return PointCloud(torch.stack([x, y, 0.1 * (6 * x).sin()], -1), normal.float())


def in_blocks(cloud: PointCloud, size: int = 2500) -> Callable[[], Iterator[PointCloud]]:
    """The cloud as a fresh iterator over parts."""
    return lambda: (cloud[start : start + size] for start in range(0, len(cloud), size))


def without(cloud: PointCloud, *names: str) -> PointCloud:
    """The cloud, less some of what is known of it."""
    known = vars(cloud) | dict.fromkeys(names)
    return PointCloud(**known)


HALVED: list[int] = []
"""The sizes of the clouds that were halved."""


def halved(cloud: PointCloud) -> PointCloud:
    """The part of a cloud with x above zero: a cleaning that can be sent to a process."""
    HALVED.append(len(cloud))
    return cloud[cloud.xyz[:, 0] > 0]


def with_some_side(cloud: PointCloud) -> PointCloud:
    """Normals of planes, outward in the whole ring of 4000 points, inward in parts of it."""
    found = estimate_normals(cloud)[0]
    assert found.normals is not None
    side = 1.0 if len(cloud) == 4000 else -1.0
    return PointCloud(found.xyz, side * found.normals, found.sensor, found.colors)


def triangles(vertices: Any, faces: Any) -> set[bytes]:
    """Triangles as bits of their corners' places, each from its lowest corner on."""
    places = np.ascontiguousarray(vertices, np.float64)[faces]  # [f, 3, 3]
    names = [[corner.tobytes() for corner in face] for face in places]
    turned = (face.index(min(face)) for face in names)
    return {b"".join(face[at:] + face[:at]) for face, at in zip(names, turned, strict=True)}


def noted(path: Path, made_from: str, log: Path, trouble: str = "", times: int = 0) -> None:
    """A task that writes its file, after it has raised or died some times."""
    with log.open("a") as file:
        file.write(path.name + "\n")
    before = log.read_text().splitlines().count(path.name)
    if before <= times and trouble == "raise":
        raise ValueError("no luck")
    if before <= times and trouble == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    store.write(path, made_from, {"numbers": np.arange(3)})
