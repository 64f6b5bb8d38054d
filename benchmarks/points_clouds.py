"""Clouds to reconstruct from: samples of a shape, evenly or not, with noise, with normals.

Letters: n points. The same arguments give the same cloud on any machine.
"""

import math
import zlib
from dataclasses import dataclass
from typing import Literal

import torch
from points_shapes import Shape
from torch import Tensor
from torch.nn import functional

from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.normals import estimate_normals

__all__ = ["Sampling", "cloud_of", "count_text"]

_DENSER = 20.0  # the densest part of a graded cloud against the thinnest
_SENSORS = 14  # places about the shape that points are seen from


@dataclass(frozen=True)
class Sampling:
    """How a shape is sampled."""

    points: int
    noise: float = 0.0  # standard deviation, percent of the longest side
    spread: Literal["even", "graded"] = "even"
    normals: Literal["true", "pca"] = "true"

    @property
    def name(self) -> str:
        """Short words that say all of it."""
        return f"{self.spread}/{self.noise:g}%/{count_text(self.points)}/{self.normals}"


def count_text(count: int) -> str:
    """1500 as 1.5k, 1000000 as 1M."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if count >= size:
            return f"{count / size:g}{unit}"
    return str(count)


def cloud_of(shape: Shape, sampling: Sampling) -> PointCloud:
    """A cloud of a shape. Noise moves points, not true normals; estimated ones (`pca`, turned
    to where each point is seen from) see it."""
    seed = zlib.crc32(f"{shape.name} {sampling.spread} {sampling.points}".encode())
    if sampling.spread == "even":
        xyz, normals = shape.sample(sampling.points, seed)
    else:
        xyz, normals = _graded(shape, sampling.points, seed)
    sensor = _sensors(xyz, normals)
    generator = torch.Generator().manual_seed(seed + 1)
    noise = torch.randn(xyz.shape, generator=generator, dtype=torch.float64)
    xyz = xyz + 0.01 * sampling.noise * noise
    if sampling.normals == "pca":
        return estimate_normals(PointCloud(xyz, sensor=sensor))[0]
    return PointCloud(xyz, normals.float(), sensor)


def _graded(shape: Shape, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Samples whose density grows from one end of the shape to the other, by `_DENSER`."""
    generator = torch.Generator().manual_seed(seed + 2)
    along = functional.normalize(torch.tensor([1.0, -2.0, 1.5], dtype=torch.float64), dim=0)
    reach = shape.mesh.vertices @ along
    low, high = float(reach.min()), float(reach.max())
    parts: list[tuple[Tensor, Tensor]] = []
    found = 0
    while found < count:
        xyz, normals = shape.sample(4 * count, seed + 3 + len(parts))
        share = ((xyz @ along - low) / (high - low)).clamp(0.0, 1.0)
        kept = torch.rand(len(xyz), generator=generator, dtype=torch.float64)
        rows = (kept < _DENSER ** (share - 1.0)).nonzero().squeeze(-1)
        rows = rows[torch.randperm(len(rows), generator=generator)]
        parts.append((xyz[rows], normals[rows]))
        found += len(rows)
    xyz, normals = (torch.cat(part)[:count] for part in zip(*parts, strict=True))
    return xyz, normals


def _sensors(xyz: Tensor, normals: Tensor) -> Tensor:
    """For each point the one, of a few places about the shape, that its surface faces most."""
    k = torch.arange(_SENSORS, dtype=torch.float64) + 0.5
    z, angle = 1.0 - 2.0 * k / _SENSORS, k * math.pi * (3.0 - math.sqrt(5.0))
    ring = (1.0 - z * z).sqrt()
    places = 2.0 * torch.stack([ring * torch.cos(angle), ring * torch.sin(angle), z], -1)
    toward = functional.normalize(places[None] - xyz[:, None], dim=-1)
    return places[(toward * normals[:, None].double()).sum(-1).argmax(-1)]
