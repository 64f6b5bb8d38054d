"""What no view sees is left out, and nothing else."""

import pytest
import torch
import trimesh

from isolux import backends
from isolux.data.assets.textures import MeshAsset
from isolux.data.rendered import RenderedViews
from isolux.geometry.mesh import Mesh
from isolux.geometry.statistics import mesh_statistics
from isolux.optimize.hidden import without_hidden
from isolux.render.draw import Lens

BACKEND = backends.cpu()


def balls(*radii_and_places: tuple[float, float]) -> Mesh:
    """Spheres of such radii, shifted along x."""
    parts = []
    for radius, place in radii_and_places:
        ball = trimesh.creation.icosphere(subdivisions=2, radius=radius)
        parts.append(ball.apply_translation([place, 0.0, 0.0]))
    whole = trimesh.util.concatenate(parts)
    return Mesh(
        torch.tensor(whole.vertices, dtype=torch.float32),
        torch.tensor(whole.faces.copy(), dtype=torch.int32),
    )


def left(mesh: Mesh) -> Mesh:
    views = RenderedViews(
        MeshAsset(mesh, None, "balls"), torch.ones(8, 16, 3), BACKEND, (48, 48), count=6
    )
    return without_hidden(mesh, views, Lens(), BACKEND)


def test_what_lies_inside_goes() -> None:
    outer = balls((0.6, 0.0))
    found = left(balls((0.6, 0.0), (0.2, 0.1), (0.1, -0.3)))
    assert torch.equal(found.vertices, outer.vertices)
    assert torch.equal(found.faces, outer.faces)


@pytest.mark.parametrize("parts", [((0.6, 0.0),), ((0.3, -0.5), (0.3, 0.5))])
def test_what_is_seen_stays(parts: tuple[tuple[float, float], ...]) -> None:
    mesh = balls(*parts)
    assert left(mesh) is mesh
    assert mesh_statistics(mesh)["components"] == len(parts)


def test_without_faces_or_out_of_sight_it_is_the_mesh() -> None:
    empty = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int32))
    seen, away = balls((0.5, 0.0)), balls((0.5, 100.0))
    views = RenderedViews(
        MeshAsset(seen, None, "ball"), torch.ones(8, 16, 3), BACKEND, (16, 16), count=3
    )
    assert without_hidden(empty, views, Lens(), BACKEND) is empty
    assert without_hidden(away, views, Lens(), BACKEND) is away
