"""Clouds to train on: samples of a random shape with all that goes wrong in a scan.

Letters: n points, q queries.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.learned.shapes import Surface, random_shape, surface_of
from isolux.geometry.points.normals import estimate_normals

__all__ = ["Scan", "queries", "random_scan", "random_surface"]

_DENSE = 20_000  # samples that stand for the true surface
_REACH = 1.5  # standard deviations' limit of queries off the surface
_FOOT = 0.97  # a point whose distance to the samples is less than this share has another foot


@dataclass(frozen=True)
class Scan:
    """A cloud and what it was taken from."""

    xyz: Any  # float64 [n, 3]
    normals: Any  # float32 [n, 3]
    surface: Surface
    noise: float  # standard deviation, of the longest side


def random_surface(rng: np.random.Generator) -> Surface:
    """Samples of a random shape; one that hardly has a surface is drawn again."""
    while True:
        with np.errstate(all="ignore"):
            surface = surface_of(random_shape(rng), _DENSE, rng)
        if surface is not None:
            return surface


def random_scan(
    surface: Surface, least: int, most: int, noisiest: float, rng: np.random.Generator
) -> Scan:
    """A cloud of some `least` to `most` points, with faults of random kinds and sizes.

    Args:
        surface: what is scanned.
        least: points.
        most: points.
        noisiest: standard deviation of noise at most, of the longest side.
        rng: draws it.
    """
    count = int(np.exp(rng.uniform(np.log(least), np.log(most))))
    share = np.ones(len(surface.points))
    if rng.random() < 0.4:  # denser at one end
        along = surface.points @ _direction(rng)
        share = np.exp(np.log(rng.uniform(3, 30)) * (along - along.min()) / np.ptp(along))
    if rng.random() < 0.35:  # gaps
        for _ in range(int(rng.integers(1, 5))):
            at = surface.points[rng.integers(len(surface.points))]
            far = np.linalg.norm(surface.points - at, axis=1)
            share[far < rng.uniform(0.02, 0.12)] = 0.0
    if (share > 0).sum() < least:
        share[:] = 1.0
    count = min(count, int((share > 0).sum()))
    rows = rng.choice(len(share), count, replace=False, p=share / share.sum())
    noise = 0.0
    if rng.random() < 0.8:
        noise = float(np.exp(rng.uniform(np.log(0.0008), np.log(noisiest))))
    xyz = surface.points[rows] + noise * rng.normal(size=(count, 3))
    normals = surface.normals[rows].astype(np.float32)
    xyz, normals = _with_outliers(xyz, normals, rng)
    normals = _with_faults(xyz, normals, rng)
    return Scan(xyz, normals, surface, noise)


def _direction(rng: np.random.Generator) -> Any:
    v = rng.normal(size=3)
    return v / np.linalg.norm(v)


def _with_outliers(xyz: Any, normals: Any, rng: np.random.Generator) -> tuple[Any, Any]:
    if rng.random() > 0.15:
        return xyz, normals
    count = int(rng.uniform(0.001, 0.03) * len(xyz))
    far = rng.uniform(xyz.min(0) - 0.02, xyz.max(0) + 0.02, (count, 3))
    wrong = rng.normal(size=(count, 3))
    wrong /= np.linalg.norm(wrong, axis=1, keepdims=True)
    return np.concatenate([xyz, far]), np.concatenate([normals, wrong.astype(np.float32)])


def _with_faults(xyz: Any, normals: Any, rng: np.random.Generator) -> Any:
    """Normals that are true, estimated from the points, uneven, or turned round."""
    kind = rng.choice(4, p=[0.5, 0.25, 0.15, 0.1])
    if kind == 1:
        away = torch.from_numpy(xyz + 0.3 * normals)
        cloud = PointCloud(torch.from_numpy(xyz), sensor=away)
        found = estimate_normals(cloud)[0]
        assert found.normals is not None
        if len(found) == len(xyz):
            return found.normals.numpy()
    if kind == 2:
        normals = normals + rng.uniform(0.05, 0.5) * rng.normal(size=normals.shape)
        normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    if kind == 3:
        turned = rng.random(len(normals)) < rng.uniform(0.002, 0.04)
        normals = np.where(turned[:, None], -normals, normals)
    return normals.astype(np.float32)


def queries(
    scan: Scan, size: float, count: int, rng: np.random.Generator
) -> tuple[Any, Any, Any]:
    """Places [q, 3] near the true surface, their distances [q] and normals [q, 3].

    Args:
        scan: for its surface; where the cloud is far away nothing is asked.
        size: of a cell, in the units of the surface: how far from it places lie.
        count: of places, some of which are left out.
        rng: draws them.
    """
    surface = scan.surface
    rows = rng.integers(0, len(surface.points), count)
    off = np.clip(0.6 * rng.normal(size=count), -_REACH, _REACH) * size
    off[: count // 3] = 0.0
    normals = surface.normals[rows]
    places = surface.points[rows] + off[:, None] * normals
    known = cKDTree(scan.xyz).query(surface.points[rows])[0] < 6 * size + 3 * scan.noise
    near = surface.tree.query(places)[0]
    own = (near >= _FOOT * np.abs(off)) & known
    return places[own], off[own], normals[own]
