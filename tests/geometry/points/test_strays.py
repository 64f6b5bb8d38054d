"""Strays are found, and nothing of a surface is."""

import numpy as np
import pytest
import torch

from isolux.geometry.points.clean import cleaned
from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.hierarchy import fit_hierarchy
from isolux.geometry.points.strays import strays


def torus(count: int, noise: float = 0.0, graded: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Points of a torus of radii 1 and 0.3, denser to one side by e^graded, and normals."""
    rng = np.random.default_rng(3)
    u, v = rng.uniform(0, 2 * np.pi, (2, 60 * count))
    kept = rng.uniform(size=len(u)) < (1 + 0.3 * np.cos(v)) / 1.3
    kept &= rng.uniform(size=len(u)) < np.exp(graded * 0.5 * (np.cos(u) - 1))
    u, v = u[kept][:count], v[kept][:count]
    normals = np.stack([np.cos(u) * np.cos(v), np.sin(u) * np.cos(v), np.sin(v)], 1)
    ring = np.stack([np.cos(u), np.sin(u), 0 * u], 1)
    return ring + 0.3 * normals + noise * rng.normal(size=(len(u), 3)), normals


def with_strays(xyz: np.ndarray, share: float) -> np.ndarray:
    rng = np.random.default_rng(4)
    return np.concatenate(
        [xyz, rng.uniform(xyz.min(0), xyz.max(0), (int(share * len(xyz)), 3))]
    )


def off(xyz: np.ndarray) -> np.ndarray:
    ring = np.hypot(xyz[:, 0], xyz[:, 1]) - 1
    return np.abs(np.hypot(ring, xyz[:, 2]) - 0.3)


@pytest.mark.parametrize("count", [50, 300, 3000, 20000])
@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize("graded", [0.0, 3.0])
def test_a_surface_keeps_its_points(count: int, noise: float, graded: float) -> None:
    assert strays(torus(count, noise, graded)[0]).mean() <= 1e-3


@pytest.mark.parametrize("share", [0.02, 0.05])
def test_strays_go(share: float) -> None:
    xyz, _ = torus(10000)
    all_of_them = with_strays(xyz, share)
    found = strays(all_of_them)
    assert found[: len(xyz)].mean() <= 1e-3
    far = off(all_of_them[len(xyz) :]) > 0.08
    assert found[len(xyz) :][far].mean() > 0.85


def test_an_uneven_cloud_keeps_all() -> None:
    """A scene: lines of a scanner on a floor, thinning out, and things that stand on it."""
    rng = np.random.default_rng(0)
    r = 2.0 * 1.15 ** rng.integers(0, 20, 8000)
    angle = rng.uniform(0, 2 * np.pi, 8000)
    floor = np.stack([r * np.cos(angle), r * np.sin(angle), 0.002 * rng.normal(size=8000)], 1)
    assert strays(with_strays(floor, 0.001)).sum() <= 8


def test_strays_move_the_surface_by_little() -> None:
    xyz, normals = torus(5000)
    every = with_strays(xyz, 0.02)
    rng = np.random.default_rng(1)
    wild = rng.normal(size=(len(every) - len(xyz), 3))
    wild /= np.linalg.norm(wild, axis=1, keepdims=True)
    cloud = PointCloud(
        torch.from_numpy(every), torch.from_numpy(np.concatenate([normals, wild])).float()
    )

    def error(cloud: PointCloud) -> float:
        return float(off(fit_hierarchy(cloud).extract_mesh().vertices.double().numpy()).mean())

    assert error(cleaned(cloud, outliers="auto")) < 0.3 * error(cloud)
