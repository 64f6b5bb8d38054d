"""The demo's scene: one closed surface with a hole, materials in range, always the same."""

import torch

from isolux.data.procedural import demo_asset, demo_scene, demo_sky
from isolux.geometry.mesh import Mesh


def edges_of(mesh: Mesh) -> torch.Tensor:
    """Directed edges, [3f, 2]."""
    return torch.cat([mesh.faces[:, [i, (i + 1) % 3]] for i in range(3)]).long()


def test_the_surface_is_closed_with_one_hole() -> None:
    mesh = demo_asset(48, 24, 16).mesh
    edges = edges_of(mesh)
    forward = {tuple(edge) for edge in edges.tolist()}
    assert len(forward) == len(edges)
    assert forward == {(b, a) for a, b in forward}
    assert len(mesh.vertices) - len(edges) // 2 + len(mesh.faces) == 0  # a torus


def test_triangles_face_outwards_and_none_is_flat() -> None:
    corners = (mesh := demo_asset().mesh).vertices[mesh.faces.long()].double()
    assert torch.linalg.det(corners).sum() > 0
    area = torch.linalg.cross(
        corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    ).norm(dim=-1)
    assert area.min() > 1e-8


def test_charts_are_not_mirrored_and_fill_the_square() -> None:
    mesh = demo_asset(48, 24, 16).mesh
    assert mesh.uvs is not None
    assert mesh.uv_faces is not None
    corners = mesh.uvs[mesh.uv_faces.long()].double()
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    assert (area < 0).all()  # rows of a texture run downwards
    torch.testing.assert_close(area.sum(), torch.tensor(-2.0, dtype=torch.float64))


def test_it_fits_the_cameras_and_is_the_same_every_time() -> None:
    asset, sky = demo_scene()
    again, sky_again = demo_scene()
    assert asset.mesh.vertices.abs().max() < 1.0
    assert (asset.mesh.vertices == again.mesh.vertices).all()
    assert asset.material is not None
    assert again.material is not None
    assert (asset.material.albedo == again.material.albedo).all()
    assert (sky == sky_again).all()


def test_materials_differ_and_stay_in_range() -> None:
    material = demo_asset(16, 16, 128).material
    assert material is not None
    for texture in (material.albedo, material.orm):
        assert texture.min() >= 0
        assert texture.max() <= 1
    assert material.albedo.std(dim=(0, 1)).min() > 0.1
    metal = material.orm[..., 2]
    assert 0.2 < metal.mean() < 0.8
    assert material.orm[..., 1].min() > 0.08
    assert material.orm[..., 1].std() > 0.05


def test_the_sun_stands_where_it_should() -> None:
    """Row 0 is up, the middle column looks to -z, columns grow towards +x."""
    sky = demo_sky(64)
    assert sky.shape == (64, 128, 3)
    assert sky.min() > 0
    row, column = divmod(int(sky.sum(-1).argmax()), 128)
    theta, phi = (row + 0.5) / 64 * torch.pi, ((column + 0.5) / 64 - 1) * torch.pi
    theta, phi = torch.tensor(theta), torch.tensor(phi)
    direction = torch.stack([theta.sin() * phi.sin(), theta.cos(), -theta.sin() * phi.cos()])
    toward = torch.nn.functional.normalize(torch.tensor([0.55, 0.60, 0.58]), dim=0)
    assert direction @ toward > 0.99
    assert sky[:20].mean(dim=(0, 1))[2] > sky[-20:].mean(dim=(0, 1))[2]
