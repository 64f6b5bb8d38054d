"""Textures from fields."""

from collections.abc import Callable

import torch
from torch import Tensor

from isolux.backends import Backend
from isolux.backends.sample import texture2d
from isolux.geometry.atlas import unwrap
from isolux.geometry.mesh import Mesh
from isolux.render.bake import bake, dilate, texel_positions


def linear(points: Tensor) -> Tensor:
    return points @ torch.tensor([[0.1, 0.0], [0.2, -0.3], [0.0, 0.1]]) + 0.5


def test_a_linear_field_comes_back_on_the_surface(backend: Backend, sphere: Mesh) -> None:
    """Between texels too, well inside of charts: bilinear filtering keeps linear functions."""
    mesh = unwrap(sphere, 256)
    assert mesh.uvs is not None
    assert mesh.uv_faces is not None
    texture, covered = bake(
        backend, linear, mesh.vertices, mesh.faces, mesh.uvs, mesh.uv_faces, 256
    )
    assert 0.3 < float(covered.float().mean()) < 1.0
    weights = torch.rand(len(mesh.faces), 3, 1, generator=torch.Generator().manual_seed(0))
    weights = weights / weights.sum(1, keepdim=True)
    points = (mesh.vertices[mesh.faces.long()] * weights).sum(1)
    at = (mesh.uvs[mesh.uv_faces.long()] * weights).sum(1)
    looked_up = texture2d(backend, [texture], at, None, "clamp")
    gap = (looked_up - linear(points)).abs().amax(-1)
    assert float(gap.max()) < 0.01  # at the seams a neighbour outside of the chart counts
    assert float(gap.median()) < 1e-3


def test_each_texel_centre_knows_its_place(backend: Backend, quad: Callable[..., Mesh]) -> None:
    """On a square that fills the texture: rows go down, as v does."""
    mesh = quad()
    assert mesh.uvs is not None
    assert mesh.uv_faces is not None
    texels, points = texel_positions(
        backend, mesh.vertices, mesh.faces, mesh.uvs, mesh.uv_faces, 8
    )
    assert texels.tolist() == list(range(64))
    centre = (torch.arange(8) + 0.5) / 4 - 1
    y, x = torch.meshgrid(-centre, centre, indexing="ij")
    torch.testing.assert_close(points[:, 0], x.reshape(-1))
    torch.testing.assert_close(points[:, 1], y.reshape(-1))


def test_dilation_fills_with_the_nearest() -> None:
    texture, covered = torch.zeros(5, 9, 2), torch.zeros(5, 9, dtype=torch.bool)
    texture[2, 1], texture[2, 7] = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    covered[2, 1] = covered[2, 7] = True
    filled = dilate(texture, covered)
    assert bool((filled[:, :4] == texture[2, 1]).all())
    assert bool((filled[:, 5:] == texture[2, 7]).all())
    assert torch.equal(dilate(filled, torch.ones_like(covered)), filled)


def test_nothing_to_bake(backend: Backend) -> None:
    nothing, none = torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int32)
    texture, covered = bake(backend, linear, nothing, none, torch.zeros(0, 2), none, 8)
    assert texture.shape == (8, 8, 2)
    assert float(texture.abs().sum()) == 0.0
    assert not covered.any()
