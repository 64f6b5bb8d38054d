"""An atlas shows what the textures showed, up to the tiles' borders."""

import torch

from isolux.data.assets.atlas import merge_materials, with_corner_uvs
from isolux.data.assets.textures import TextureSet, constant_textures
from isolux.geometry.mesh import Mesh


def bilinear(texture: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
    """Wrapped bilinear lookup, written out."""
    height, width, _ = texture.shape
    at = uv * torch.tensor([width, height]) - 0.5
    cell = at.floor()
    inside = at - cell
    total = torch.zeros(*uv.shape[:-1], 3)
    for dx in (0, 1):
        for dy in (0, 1):
            x, y = (cell[..., 0].long() + dx) % width, (cell[..., 1].long() + dy) % height
            weight = (inside[..., 0] if dx else 1 - inside[..., 0]) * (
                inside[..., 1] if dy else 1 - inside[..., 1]
            )
            total += weight[..., None] * texture[y, x]
    return total


def test_lookups_are_the_same_at_edges_and_across_periods() -> None:
    generator = torch.Generator().manual_seed(0)
    textures = [
        TextureSet(
            torch.rand(12, 20, 3, generator=generator),
            torch.rand(12, 20, 3, generator=generator),
        )
        for _ in range(3)
    ]
    material = torch.arange(30) % 3
    uvs = torch.rand(30, 3, 2, generator=generator)
    uvs[:6, 0], uvs[:6, 1] = 0.0, 1.0
    shift = torch.randint(-2, 3, (30, 1, 2), generator=generator)
    merged, moved = merge_materials(textures, uvs + shift, material)
    for face in range(30):
        source = textures[int(material[face])]
        for name in ("albedo", "orm"):
            torch.testing.assert_close(
                bilinear(getattr(merged, name), moved[face]),
                bilinear(getattr(source, name), uvs[face]),
                atol=1e-4,
                rtol=0,
            )
    assert merged.normal is None


def test_one_material_stays_as_it_is() -> None:
    only, uvs = constant_textures(), torch.rand(4, 3, 2) * 7
    merged, moved = merge_materials([only], uvs, torch.zeros(4, dtype=torch.long))
    assert merged is only
    assert moved is uvs


def test_materials_of_different_sizes_and_normals() -> None:
    tilted = torch.nn.functional.normalize(torch.tensor([0.5, 0.0, 1.0]), dim=0).expand(8, 8, 3)
    rough = TextureSet(torch.ones(4, 2, 3), torch.ones(2, 2, 3), tilted)
    uvs = torch.full((2, 3, 2), 0.5)
    merged, moved = merge_materials([rough, constant_textures()], uvs, torch.tensor([0, 1]))
    assert merged.normal is not None
    looked_up = bilinear(merged.normal, moved[:, 0])
    torch.testing.assert_close(
        looked_up, torch.stack([tilted[0, 0], torch.tensor([0.0, 0, 1])])
    )
    torch.testing.assert_close(
        bilinear(merged.albedo, moved[:, 0]), torch.tensor([[1.0] * 3, [0.5] * 3])
    )


def test_repeating_faces_are_warned_of(caplog) -> None:
    uvs = torch.tensor([[[0.0, 0.0], [3.0, 0.0], [0.0, 1.0]]])
    merge_materials([constant_textures()] * 2, uvs, torch.tensor([1]))
    assert "1 faces repeat their texture" in caplog.text


def test_equal_coordinates_are_stored_once() -> None:
    faces = torch.tensor([[0, 1, 2], [0, 2, 1]], dtype=torch.int32)
    corner = torch.rand(3, 2)[faces.long()]
    mesh = with_corner_uvs(Mesh(torch.rand(3, 3), faces), corner)
    assert mesh.uvs is not None
    assert mesh.uv_faces is not None
    assert len(mesh.uvs) == 3
    assert (mesh.uvs[mesh.uv_faces.long()] == corner).all()
