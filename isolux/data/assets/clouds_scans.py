"""Several range scans with their poses, after the `bun.conf` files of Stanford's repository."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from isolux.data.assets.clouds_parts import cut
from isolux.geometry.points.cloud import PointCloud

__all__ = ["scan_poses", "scanned"]

_AWAY = 10.0  # the scanner's distance, in extents of the scan


def scan_poses(path: Path, text: str) -> list[tuple[Path, Tensor]]:
    """The files of `bmesh FILE tx ty tz qx qy qz qw` lines, with `world_from_scan` [4, 4].

    A line means world = R(q)^T x + t: the rotation is the transpose of the usual one.

    Raises:
        FileNotFoundError: a scan that is named is absent, plain and gzip'd.
        ValueError: a line that cannot be read, a name outside the folder, or no scan at all.
    """
    scans: list[tuple[Path, Tensor]] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#") or words[0] == "camera":
            continue
        try:
            if words[0] != "bmesh" or len(words) != 9:
                raise ValueError
            values = np.array([float(word) for word in words[2:]])
            if not np.isfinite(values).all() or not values[3:].any():
                raise ValueError
        except ValueError:
            raise ValueError(
                f"{path}, line {number}: '{cut(line)}', expected"
                " 'bmesh FILE tx ty tz qx qy qz qw'"
            ) from None
        name = words[1]
        if Path(name).name != name or "\\" in name:
            raise ValueError(f"{path}, line {number}: '{cut(name)}' is not beside it")
        file = path.parent / name
        file = file if file.is_file() else path.parent / f"{name}.gz"
        if not file.is_file():
            raise FileNotFoundError(f"{path}, line {number}: no scan {cut(name)} beside it")
        scans.append((file, _pose(values)))
    if not scans:
        raise ValueError(f"{path}: names no scan (bmesh FILE tx ty tz qx qy qz qw)")
    return scans


def _pose(values: np.ndarray) -> Tensor:
    x, y, z, w = values[3:] / np.linalg.norm(values[3:])
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3], pose[:3, 3] = torch.from_numpy(turn.T.copy()), torch.from_numpy(values[:3])
    return pose


def scanned(scans: list[tuple[Path, Tensor]], read: Callable[[Path], PointCloud]) -> PointCloud:
    """All scans in the world, one after the other, each point with its sensor.

    Such a scanner passes by: it looks along -z of the scan's frame at every point, so a
    point's sensor lies straight in front of it, far outside the scan.
    """
    parts = []
    for file, pose in scans:
        cloud = read(file)
        turn, shift = pose[:3, :3], pose[:3, 3]
        xyz = cloud.xyz @ turn.T + shift
        inside = cloud.xyz[cloud.xyz.isfinite().all(1)]
        away = _AWAY * float((inside.amax(0) - inside.amin(0)).norm().clamp_min(1e-12))
        normals = None if cloud.normals is None else (cloud.normals.double() @ turn.T).float()
        parts.append(PointCloud(xyz, normals, xyz + away * turn[:, 2], cloud.colors))

    def joined(name: str) -> Tensor | None:
        found = [getattr(part, name) for part in parts]
        return None if any(item is None for item in found) else torch.cat(found)

    xyz = torch.cat([part.xyz for part in parts])
    return PointCloud(xyz, joined("normals"), joined("sensor"), joined("colors"))
