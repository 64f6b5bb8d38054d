"""Gauss's formula at few points: its sums, and the side that it gives to small shapes."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from isolux.backends.cpu import pool
from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.gauss import gauss_normals, witnesses
from isolux.geometry.points.gauss_kernels import flux_of, lengths_of, pull_of
from isolux.geometry.points.neighbours import Neighbours
from isolux.geometry.points.normals import estimate_normals

Cloud = tuple[np.ndarray, np.ndarray]


def ball(rng: np.random.Generator, count: int) -> Cloud:
    normals = rng.normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return 0.5 * normals, normals


def box(
    rng: np.random.Generator, count: int, size: tuple[float, ...] = (1.0, 0.7, 0.5)
) -> Cloud:
    edges = np.array(size)
    area = edges.prod() / edges
    rows, axis = np.arange(count), rng.choice(3, count, p=area / area.sum())
    xyz, normals = (rng.random((count, 3)) - 0.5) * edges, np.zeros((count, 3))
    normals[rows, axis] = rng.choice([-1.0, 1.0], count)
    xyz[rows, axis] = 0.5 * normals[rows, axis] * edges[axis]
    return xyz, normals


def plate(rng: np.random.Generator, count: int) -> Cloud:
    return box(rng, count, (1.0, 1.0, 0.15))


def torus(rng: np.random.Generator, count: int) -> Cloud:
    a, b = 2 * math.pi * rng.random((2, count))
    ring = np.stack([np.cos(a), np.sin(a), 0 * a], 1)
    normals = ring * np.cos(b)[:, None] + np.array([0, 0, 1]) * np.sin(b)[:, None]
    return 0.35 * ring + 0.15 * normals, normals


def pair(rng: np.random.Generator, count: int) -> Cloud:
    one, two = ball(rng, count // 2), torus(rng, count - count // 2)
    return np.r_[one[0], two[0] + [1.2, 0, 0]], np.r_[one[1], two[1]]


def shell(rng: np.random.Generator, count: int) -> Cloud:
    """The wall of the cavity faces into it."""
    one, two = ball(rng, count - count // 5), ball(rng, count // 5)
    return np.r_[one[0], 0.45 * two[0]], np.r_[one[1], -two[1]]


def right(xyz: np.ndarray, truth: np.ndarray) -> float:
    normals = estimate_normals(PointCloud(torch.from_numpy(xyz)))[0].normals
    assert normals is not None
    return float(((normals.numpy() * truth).sum(1) > 0).mean())


@pytest.mark.parametrize("noise", [0.0, 0.005, 0.01])
@pytest.mark.parametrize("count", [60, 100, 300])
@pytest.mark.parametrize("shape", [ball, box, plate, torus, pair, shell])
def test_sides_of_small_clouds(shape: Callable[..., Cloud], count: int, noise: float) -> None:
    shares = []
    for seed in range(3):
        rng = np.random.default_rng([seed, count])
        xyz, truth = shape(rng, count)
        shares.append(right(xyz + noise * np.ptp(xyz) * rng.normal(size=xyz.shape), truth))
    assert np.mean(shares) > (0.95 if count < 100 else 0.98)


def test_thirty_points_of_a_ball() -> None:
    assert right(*ball(np.random.default_rng(0), 30)) == 1.0


def test_a_cavity_of_a_large_cloud_faces_inward() -> None:
    assert right(*shell(np.random.default_rng(0), 8000)) == 1.0


def test_the_two_sums_are_each_others_transpose() -> None:
    rng = np.random.default_rng(0)
    x, y, z, square, weight = rng.random((5, 40))
    square *= 0.05
    vectors, out, back = rng.normal(size=(3, 40)), np.empty(40), np.empty((3, 40))
    flux_of(x, y, z, square, *vectors, out, 0, 40)
    pull_of(x, y, z, square, weight, *back, 0, 40)
    assert (out * weight).sum() == pytest.approx((back * vectors).sum(), rel=1e-12)
    # The length of a row is what its unit vectors give.
    lengths, row = np.empty(40), np.zeros(40)
    lengths_of(x, y, z, square, lengths, 0, 40)
    row[7] = 1.0
    pull_of(x, y, z, square, row, *back, 0, 40)
    assert lengths[7] == pytest.approx((back**2).sum(), rel=1e-12)


def test_the_formula_is_one_inside_and_zero_outside() -> None:
    rng = np.random.default_rng(0)
    source, normals = ball(rng, 4000)
    points = np.concatenate([[[0.1, 0.0, 0.2], [0.9, 0.3, 0.1]], source])
    area = np.concatenate([np.zeros((2, 3)), normals * (math.pi / 4000)])
    out = np.empty(len(points))
    flux_of(*points.T.copy(), np.full(len(points), 1e-12), *area.T.copy(), out, 0, 2)
    assert out[:2] == pytest.approx([1.0, 0.0], abs=0.03)


def test_scale_place_order_and_threads_do_not_matter() -> None:
    xyz, _ = torus(np.random.default_rng(0), 200)
    tree = Neighbours(xyz)
    base = np.empty_like(xyz)
    base[tree.order] = gauss_normals(tree)
    for moved in (1e-9 * xyz, 1e9 * xyz + 5e8):
        other = Neighbours(moved)
        np.testing.assert_allclose(gauss_normals(other), base[other.order], atol=1e-4)
    found = []
    for threads in (1, 3):
        pool.set_threads(threads)
        found.append(gauss_normals(tree))
    pool.set_threads(None)
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_few_points_in_any_place(count: int) -> None:
    assert gauss_normals(Neighbours(np.ones((count, 3)))).shape == (count, 3)
    line = np.linspace(0, 1, max(count, 1))[:count, None] * np.ones(3)
    assert np.isfinite(gauss_normals(Neighbours(line))).all()


def test_a_large_cloud_is_spoken_for_by_some() -> None:
    tree = Neighbours(ball(np.random.default_rng(0), 5000)[0])
    found = witnesses(tree)
    assert found.shape == (5000, 3)
    assert ((found * tree.points).sum(1) > 0).all()
