"""Distances between surfaces whose distance is known."""

import math

import pytest
import torch
from torch import Tensor

from isolux.geometry.bvh import TriangleTree
from isolux.geometry.distance import diagonal, sample_surface, surface_metrics
from isolux.geometry.fields import SphereField
from isolux.geometry.mesh import Mesh


def soup(count: int = 60) -> Mesh:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(3 * count, 3, generator=generator).double()
    points[:3] = points[0]  # a triangle that is a point
    points[5] = 0.5 * (points[3] + points[4])  # and one that is a segment
    return Mesh(points, torch.arange(3 * count).reshape(-1, 3))


def densest(mesh: Mesh, at: Tensor) -> Tensor:
    """Distances to many points on each triangle: an upper bound, and a close one."""
    steps = torch.linspace(0, 1, 40).double()
    u, v = torch.meshgrid(steps, steps, indexing="ij")
    weight = torch.stack([u, v, 1 - u - v], -1)[u + v <= 1 + 1e-9]
    points = torch.einsum("wk,fkc->fwc", weight, mesh.vertices[mesh.faces]).reshape(-1, 3)
    return torch.cdist(at, points).amin(-1)


def test_closest_points_on_a_soup() -> None:
    mesh = soup()
    at = 2 * torch.rand(100, 3, generator=torch.Generator().manual_seed(1)).double() - 0.5
    distance, face = TriangleTree(mesh.vertices, mesh.faces).closest(at)
    bound = densest(mesh, at)
    assert (distance <= bound + 1e-12).all()
    assert (bound - distance).max() < 0.02
    for i in range(0, 100, 9):
        alone = Mesh(mesh.vertices, mesh.faces[face[i : i + 1]])
        found, _ = TriangleTree(alone.vertices, alone.faces).closest(at[i : i + 1])
        torch.testing.assert_close(found, distance[i : i + 1])


def test_winding_of_a_sphere(sphere: Mesh) -> None:
    at = 2 * torch.randn(500, 3, generator=torch.Generator().manual_seed(1))
    number = TriangleTree(sphere.vertices, sphere.faces).winding(at)
    radius = at.norm(dim=-1)
    inside = (radius < 0.99).double()
    clear = (radius - 1).abs() > 0.02
    torch.testing.assert_close(number[clear], inside[clear], atol=0.02, rtol=0)


def test_two_spheres_are_apart_by_their_radii(sphere: Mesh) -> None:
    other = Mesh(1.1 * sphere.vertices, sphere.faces)
    metrics = surface_metrics(other, sphere, count=20_000)
    for name in ("to_reference_mean", "from_reference_mean", "chamfer_l1"):
        assert metrics[name] == pytest.approx(0.1, rel=0.02)
    assert metrics["reference_diagonal"] == pytest.approx(2 * math.sqrt(3), rel=0.01)
    assert metrics["normal_consistency"] > 0.99
    assert metrics["f_score"] == 0
    assert surface_metrics(other, sphere, 5000, threshold=0.2)["f_score"] == 1


def test_a_mesh_is_at_no_distance_from_itself(sphere: Mesh) -> None:
    metrics = surface_metrics(sphere, sphere, count=5000)
    assert metrics["chamfer_l1"] < 1e-7
    assert metrics["f_score"] == 1


def test_half_a_sphere_misses_half(sphere: Mesh) -> None:
    corner = sphere.vertices[sphere.faces.long()]
    half = Mesh(sphere.vertices, sphere.faces[(corner[..., 2] > 0).all(-1)])
    metrics = surface_metrics(half, sphere, count=20_000)
    assert metrics["to_reference_mean"] < 1e-6
    assert metrics["from_reference_mean"] > 0.1
    assert metrics["f_score"] == pytest.approx(2 / 3, abs=0.03)


def test_samples_are_even_and_seeded(sphere: Mesh) -> None:
    points, face = sample_surface(sphere, 20_000, torch.Generator().manual_seed(0))
    again, _ = sample_surface(sphere, 20_000, torch.Generator().manual_seed(0))
    assert torch.equal(points, again)
    assert points.mean(0).abs().max() < 0.02
    assert (points[:, 2] > 0.5).double().mean() == pytest.approx(0.25, abs=0.01)
    distance, _ = TriangleTree(sphere.vertices, sphere.faces).closest(points[:200])
    assert distance.max() < 1e-7
    assert len(face) == 20_000


def test_metrics_scale_with_the_scene(sphere: Mesh) -> None:
    big = SphereField(torch.zeros(3), 1.2).extract_mesh(20)
    one = surface_metrics(big, sphere, 5000)
    ten = surface_metrics(
        Mesh(10 * big.vertices, big.faces), Mesh(10 * sphere.vertices, sphere.faces), 5000
    )
    assert ten["chamfer_l1"] == pytest.approx(10 * one["chamfer_l1"], rel=1e-4)
    assert ten["f_score"] == pytest.approx(one["f_score"], abs=1e-3)


def test_nothing(sphere: Mesh) -> None:
    nothing = Mesh(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.int32))
    metrics = surface_metrics(nothing, sphere)
    assert metrics["chamfer_l1"] == math.inf
    assert metrics["f_score"] == 0
    assert diagonal(nothing) == 0
    with pytest.raises(ValueError, match="cannot sample"):
        sample_surface(nothing, 5, torch.Generator())
