"""Surfaces followed from a few points on them, whatever the function."""

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor
from torch.nn.functional import grid_sample

from isolux.geometry.mesh import Mesh
from isolux.geometry.points.narrow_band import coarse_seeds, extract_narrow_band, project


def sphere(x: Tensor) -> Tensor:
    return x.norm(dim=1) - 1.0


def outwards(x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True)


def as_trimesh(mesh: Mesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False)


POLE = torch.tensor([[0.0, 0.0, 1.0]])


def test_one_seed_finds_a_whole_sphere() -> None:
    asked: list[int] = []

    def counted(x: Tensor) -> Tensor:
        asked.append(len(x))
        return sphere(x)

    found = as_trimesh(extract_narrow_band(counted, POLE, 0.05))
    assert found.is_watertight
    assert found.euler_number == 2
    assert found.volume == pytest.approx(4 / 3 * np.pi, rel=5e-3)  # positive: faces outwards
    # Nodes of the cubes on the surface, and not the 80,000 of a box about it.
    assert sum(asked) < 3.2 * 4 * np.pi / 0.05**2


def test_newton_brings_vertices_onto_the_surface() -> None:
    rough = extract_narrow_band(sphere, POLE, 0.1)
    fine = extract_narrow_band(sphere, POLE, 0.1, gradient=outwards)
    assert torch.equal(rough.faces, fine.faces)
    assert float(sphere(rough.vertices).abs().max()) > 1e-3
    assert float(sphere(fine.vertices).abs().max()) < 1e-6


def test_a_noise_of_all_cases_is_a_closed_manifold() -> None:
    """Every edge has two faces, also where cubes are ambiguous."""
    noise = torch.randn(1, 1, 20, 20, 20, generator=torch.Generator().manual_seed(0)).double()

    def rough(x: Tensor) -> Tensor:
        inner = grid_sample(noise, x[None, None, None].double(), align_corners=True)
        return torch.maximum(inner[0, 0, 0, 0], x.abs().amax(1) - 0.9)

    box = torch.tensor([[-1.0] * 3, [1.0] * 3])
    mesh = extract_narrow_band(rough, coarse_seeds(rough, box, 38), 2 / 19)
    assert len(mesh.faces) > 5000
    ends = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).sort(1).values
    assert torch.unique(torch.unique(ends, dim=0, return_counts=True)[1]).tolist() == [2]
    assert as_trimesh(mesh).is_winding_consistent


def test_order_and_number_of_seeds_do_not_matter() -> None:
    seeds = outwards(torch.randn(40, 3, generator=torch.Generator().manual_seed(1)))
    origin = torch.zeros(3)
    first = extract_narrow_band(sphere, seeds, 0.1, origin=origin)
    other = extract_narrow_band(sphere, seeds.flip(0)[:7], 0.1, origin=origin)
    assert torch.equal(first.vertices, other.vertices)
    assert torch.equal(first.faces, other.faces)


def test_the_surface_ends_where_it_is_told_to() -> None:
    half = extract_narrow_band(sphere, POLE, 0.1, keep=lambda x: x[:, 2] > 0)
    assert -0.1 < float(half.vertices[:, 2].min()) < 0.3
    box = torch.tensor([[-2.0, -2, -2], [2, 2, 0.5]])
    lower = extract_narrow_band(sphere, -POLE, 0.1, bounds=box)
    assert 0.3 < float(lower.vertices[:, 2].max()) < 0.7
    assert float(lower.vertices[:, 2].min()) < -0.9


def test_two_parts_need_two_seeds() -> None:
    def two(x: Tensor) -> Tensor:
        shift = x.new_tensor([3.0, 0.0, 0.0])
        return torch.minimum(sphere(x), sphere(x - shift))

    one = extract_narrow_band(two, POLE, 0.1)
    both = extract_narrow_band(two, torch.cat([POLE, POLE + torch.tensor([3.0, 0, 0])]), 0.1)
    assert as_trimesh(one).body_count == 1
    assert as_trimesh(both).body_count == 2


@pytest.mark.parametrize("gap", [0.0, 0.12, 0.19])
def test_seeds_beside_the_surface(gap: float) -> None:
    mesh = extract_narrow_band(sphere, POLE * (1 + gap), 0.1, reach=2)
    assert as_trimesh(mesh).is_watertight


def test_seeds_far_from_the_surface_find_nothing() -> None:
    for seeds in (5 * POLE, torch.zeros(0, 3)):
        mesh = extract_narrow_band(sphere, seeds, 0.1, gradient=outwards)
        assert mesh.vertices.shape == (0, 3)
        assert mesh.faces.shape == (0, 3)


def test_large_coordinates_keep_double_precision() -> None:
    shift = torch.tensor([500_000.0, 5_000_000.0, 100.0]).double()
    mesh = extract_narrow_band(lambda x: sphere(x - shift), POLE + shift, 0.1)
    assert mesh.vertices.dtype == torch.float64
    assert float(sphere(mesh.vertices - shift).abs().max()) < 0.01
    assert extract_narrow_band(sphere, POLE, 0.2).vertices.dtype == torch.float32


def test_values_that_are_no_numbers_are_outside() -> None:
    def broken(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 0.5, torch.nan, sphere(x))

    mesh = extract_narrow_band(broken, -POLE, 0.1, gradient=outwards)
    assert len(mesh.faces) > 0
    assert bool(mesh.vertices.isfinite().all())


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_sizes(size: float) -> None:
    with pytest.raises(ValueError, match="voxel_size: must be positive"):
        extract_narrow_band(sphere, POLE, size)


def test_a_size_that_cannot_be_numbered() -> None:
    with pytest.raises(ValueError, match="voxel_size: 1e-08 is too small"):
        extract_narrow_band(sphere, torch.cat([POLE, -POLE]), 1e-8)


def test_projection_takes_bounded_steps() -> None:
    start = torch.tensor([[3.0, 0, 0], [1.1, 0, 0]]).double()
    moved = project(start, sphere, outwards, 1, 0.5)
    torch.testing.assert_close(moved[:, 0], torch.tensor([2.5, 1.0]).double())
