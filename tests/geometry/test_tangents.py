"""Tangents point where u grows, for drawing and in the glTF sense."""

import dataclasses

import pytest
import torch

from isolux.geometry.mesh import Mesh, vertex_normals
from isolux.geometry.tangents import split_at_seams, vertex_tangents


def test_square(square: Mesh) -> None:
    assert square.uvs is not None
    assert square.uv_faces is not None
    normals = vertex_normals(square.vertices, square.faces)
    tangents = vertex_tangents(
        square.vertices, square.faces, square.uvs, square.uv_faces, normals
    )
    torch.testing.assert_close(tangents, torch.tensor([[1.0, 0, 0]]).expand(4, 3))


def test_perpendicular_unit_and_differentiable() -> None:
    generator = torch.Generator().manual_seed(0)
    vertices = torch.randn(6, 3, generator=generator, dtype=torch.float64).requires_grad_()
    uvs = torch.rand(9, 2, generator=generator, dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2], [2, 1, 3], [3, 4, 5]])
    uv_faces = torch.arange(9).reshape(3, 3)

    def tangents(v: torch.Tensor) -> torch.Tensor:
        return vertex_tangents(v, faces, uvs, uv_faces, vertex_normals(v, faces))

    made = tangents(vertices)
    torch.testing.assert_close(made.norm(dim=-1), torch.ones(6).double())
    across = (made * vertex_normals(vertices, faces)).sum(-1)
    torch.testing.assert_close(across, torch.zeros(6).double())
    assert torch.autograd.gradcheck(tangents, (vertices,))


def test_degenerate_charts_stay_finite(square: Mesh) -> None:
    vertices = square.vertices.clone().requires_grad_()
    assert square.uv_faces is not None
    tangents = vertex_tangents(
        vertices, square.faces, torch.zeros(4, 2), square.uv_faces, torch.zeros(4, 3)
    )
    tangents.sum().backward()
    assert tangents.isfinite().all()
    assert vertices.grad is not None
    assert vertices.grad.isfinite().all()


def test_handedness(square: Mesh) -> None:
    """w * normal x tangent is where the picture's up lies: against growing v."""
    split, tangents = split_at_seams(square)
    assert len(split.vertices) == 4
    torch.testing.assert_close(tangents, torch.tensor([[1.0, 0, 0, 1]]).expand(4, 4))
    assert square.uvs is not None
    mirror = dataclasses.replace(square, uvs=square.uvs * torch.tensor([-1.0, 1.0]) + 1)
    _, tangents = split_at_seams(mirror)
    torch.testing.assert_close(tangents, torch.tensor([[-1.0, 0, 0, -1]]).expand(4, 4))


def test_seams_and_mirrors_are_doubled(square: Mesh) -> None:
    apart = dataclasses.replace(
        square,
        uvs=torch.cat([square.uvs, square.uvs]),
        uv_faces=torch.tensor([[0, 1, 2], [4, 6, 7]], dtype=torch.int32),
    )
    split, _ = split_at_seams(apart)
    assert len(split.vertices) == 6
    assert split.faces is split.uv_faces
    mirrored = dataclasses.replace(square, uvs=torch.tensor([[0.0, 1], [1, 1], [1, 0], [1, 1]]))
    split, tangents = split_at_seams(mirrored)
    assert len(split.vertices) == 6
    assert sorted(tangents[:, 3].tolist()) == [-1.0] * 3 + [1.0] * 3
    torch.testing.assert_close(
        split.vertices[split.faces.long()], square.vertices[square.faces.long()]
    )


def test_needs_texture_coordinates(square: Mesh) -> None:
    with pytest.raises(ValueError, match="texture coordinates"):
        split_at_seams(Mesh(square.vertices, square.faces))


def test_no_faces() -> None:
    nothing = torch.zeros(0, 3, dtype=torch.int32)
    mesh = Mesh(torch.zeros(3, 3), nothing, torch.zeros(0, 2), nothing)
    split, tangents = split_at_seams(mesh)
    assert len(split.vertices) == len(tangents) == 0
