"""Shapes and clouds to train on: samples lie on the surface, distances are exact."""

from typing import Any

import numpy as np
import pytest
from scipy.spatial import cKDTree

from isolux.geometry.points.learned import shapes
from isolux.geometry.points.learned.clouds import Scan, queries, random_scan
from isolux.geometry.points.learned.shapes import Implicit, Surface, surface_of

KINDS = (
    shapes._solids,
    shapes._blobs,
    shapes._tube,
    shapes._extrusion,
    shapes._shell,
    shapes._superquadric,
)


def ball(p: Any) -> Any:
    return np.linalg.norm(p, axis=1) - 0.8


def sampled(shape: Implicit, count: int = 3000) -> Surface:
    found = surface_of(shape, count, np.random.default_rng(0))
    assert found is not None
    return found


def test_samples_lie_on_the_surface_evenly() -> None:
    surface = sampled(ball)
    assert np.ptp(surface.points, axis=0).max() == pytest.approx(1)
    radius = np.linalg.norm(surface.points, axis=1)
    assert np.abs(radius - 0.5).max() < 2e-3  # the middle is that of the samples' box
    direction = surface.points / radius[:, None]
    assert (direction * surface.normals).sum(1).min() > 0.99999
    # Archimedes: heights on a sphere are as even as its area.
    counts = np.histogram(surface.points[:, 2], bins=5)[0] / len(surface.points)
    assert np.abs(counts - 0.2).max() < 0.03


def test_what_has_no_surface_gives_none() -> None:
    rng = np.random.default_rng(0)
    assert surface_of(lambda p: np.ones(len(p)), 100, rng) is None


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__.strip("_"))
def test_each_kind_has_surfaces_whose_normals_point_out(kind: Any) -> None:
    rng = np.random.default_rng(3)
    found = [surface_of(shape := kind(rng), 1500, rng) for _ in range(3)]
    surfaces = [surface for surface in found if surface is not None]
    assert surfaces
    for surface in surfaces:
        assert np.allclose(np.linalg.norm(surface.normals, axis=1), 1)
        assert np.isfinite(surface.points).all()
    # A closed surface's normals cancel.
    assert min(np.linalg.norm(s.normals.mean(0)) for s in surfaces) < 0.2
    assert callable(shape)


def test_queries_are_signed_distances() -> None:
    surface = sampled(ball, 8000)
    xyz, normals = surface.points[:500], surface.normals[:500].astype(np.float32)
    places, away, towards = queries(
        Scan(xyz, normals, surface, 0.0), 0.02, 600, np.random.default_rng(1)
    )
    assert len(places) > 500
    radius = np.linalg.norm(places, axis=1)
    assert np.abs(radius - 0.5 - away).max() < 2e-3
    assert away.min() < -0.01 < 0.01 < away.max()
    assert (places * towards).sum(1) == pytest.approx(radius, abs=1e-5)


def test_a_query_nearer_to_another_sheet_is_left_out() -> None:
    def wall(p: Any) -> Any:  # 0.04 thick after scaling
        return np.maximum(np.abs(p[:, 2]) - 0.02, np.abs(p[:, :2]).max(1) - 0.5)

    surface = sampled(wall, 8000)
    xyz, normals = surface.points[:500], surface.normals[:500].astype(np.float32)
    places, away, _ = queries(
        Scan(xyz, normals, surface, 0.0), 0.1, 3000, np.random.default_rng(1)
    )
    assert away.min() < 0
    inner = (np.abs(places[:, 2]) < 0.02) & (np.abs(places[:, :2]).max(1) < 0.4)
    assert np.abs(away[inner]).max() < 0.03  # never deeper than the middle, and some slack


def test_a_scan_is_a_matter_of_its_seed() -> None:
    surface = sampled(ball, 8000)
    one, two, other = (
        random_scan(surface, 600, 1200, 0.016, np.random.default_rng(seed))
        for seed in (5, 5, 6)
    )
    assert np.array_equal(one.xyz, two.xyz)
    assert np.array_equal(one.normals, two.normals)
    assert not np.array_equal(one.xyz[:100], other.xyz[:100])
    assert len(one.xyz) == len(one.normals)


@pytest.mark.parametrize("seed", range(6))
def test_noise_is_what_a_scan_says(seed: int) -> None:
    surface = sampled(ball, 8000)
    scan = random_scan(surface, 600, 1200, 0.016, np.random.default_rng(seed))
    off = cKDTree(surface.points).query(scan.xyz)[0]
    assert np.median(off) < 0.01 + 3 * scan.noise
    assert np.abs(np.linalg.norm(scan.normals, axis=1) - 1).max() < 1e-4
