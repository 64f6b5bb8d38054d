"""Tangents point where u grows, for drawing and in the glTF sense."""

import dataclasses

import pytest
import torch

from isolux.geometry.fixed_mesh import chart_tangents
from isolux.geometry.mesh import Mesh
from isolux.geometry.tangents import split_at_seams


def tangents_of(mesh: Mesh) -> torch.Tensor:
    assert mesh.uvs is not None
    assert mesh.uv_faces is not None
    return chart_tangents(mesh.vertices, mesh.faces, mesh.uvs, mesh.uv_faces)


def test_square(square: Mesh) -> None:
    torch.testing.assert_close(tangents_of(square), torch.tensor([[1.0, 0, 0]]).expand(4, 3))


def test_a_mirrored_chart_points_against_it(square: Mesh) -> None:
    mirror = dataclasses.replace(square, uvs=square.uvs * torch.tensor([-1.0, 1.0]) + 1)
    torch.testing.assert_close(tangents_of(mirror), torch.tensor([[-1.0, 0, 0]]).expand(4, 3))


def test_charts_that_meet_do_not_mix(square: Mesh) -> None:
    """One half is turned by a right angle in the texture."""
    assert square.uvs is not None
    turned = square.uvs @ torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    apart = dataclasses.replace(
        square,
        uvs=torch.cat([square.uvs, turned]),
        uv_faces=torch.tensor([[0, 1, 2], [4, 6, 7]], dtype=torch.int32),
    )
    tangents = tangents_of(apart)
    torch.testing.assert_close(tangents[:3], torch.tensor([[1.0, 0, 0]]).expand(3, 3))
    across = tangents[[4, 6, 7]] @ torch.tensor([1.0, 0, 0])
    torch.testing.assert_close(across, torch.zeros(3))
    assert not tangents[[3, 5]].any()  # of no face


def test_faces_without_area_in_the_texture_say_nothing(square: Mesh) -> None:
    assert square.uvs is not None
    for uvs in (torch.zeros(4, 2), square.uvs * torch.tensor([1.0, 0.0])):
        flat = dataclasses.replace(square, uvs=uvs)
        assert not tangents_of(flat).any()
        _, tangents = split_at_seams(flat)  # files must have some all the same
        torch.testing.assert_close(tangents[:, :3].norm(dim=-1), torch.ones(len(tangents)))


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
