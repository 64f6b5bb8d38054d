"""Meshes of tiled fields: the same triangles as of the whole field, and no seam."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from surfaces import euler, fans, open_edges, parts
from tiled_clouds import in_blocks, ring, triangles, wave

from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.colors import vertex_colors
from isolux.geometry.points.hierarchy_field import HierarchyField
from isolux.geometry.points.hierarchy_options import HierarchyOptions
from isolux.geometry.points.tiled import mesh_tiles
from isolux.geometry.points.tiled.field import TiledField
from isolux.geometry.points.tiled.fit import fit_tiles
from isolux.geometry.points.tiled.options import TileOptions

TILES = TileOptions(points=600)


def fitted(
    cloud: PointCloud, folder: Path, **options: Any
) -> tuple[TiledField, HierarchyField]:
    """A field by tiles, and all of it in memory."""
    field = fit_tiles(in_blocks(cloud), folder, HierarchyOptions(**options), TILES)
    return field, field.load()


@pytest.fixture(scope="module")
def rings(tmp_path_factory: pytest.TempPathFactory) -> tuple[TiledField, HierarchyField]:
    return fitted(ring(2500), tmp_path_factory.mktemp("ring"))


@pytest.fixture(scope="module")
def waves(tmp_path_factory: pytest.TempPathFactory) -> tuple[TiledField, HierarchyField]:
    return fitted(wave(2000), tmp_path_factory.mktemp("wave"), depth=6)


@pytest.fixture(autouse=True)
def small_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many boxes to draw in."""
    monkeypatch.setattr(mesh_tiles, "_CELLS", 1500)


def check_equal(field: TiledField, whole: HierarchyField, **how: Any) -> tuple[Any, Any]:
    """Both draw the same triangles, bit for bit; those of the tiles come back."""
    found, expected = field.extract_mesh(**how), whole.extract_mesh(**how)
    assert found.vertices.dtype == expected.vertices.dtype
    vertices, faces = found.vertices.double().numpy(), found.faces.numpy()
    assert np.array_equal(np.unique(faces), np.arange(len(vertices)))
    theirs = triangles(expected.vertices.double().numpy(), expected.faces.numpy())
    assert len(theirs) > 100
    assert triangles(vertices, faces) == theirs
    return vertices, faces


def test_a_closed_surface_stays_closed(rings: tuple[TiledField, HierarchyField]) -> None:
    vertices, faces = check_equal(*rings)
    assert open_edges(faces) == 0
    assert fans(faces) == len(vertices)
    assert parts(faces) == 1
    assert euler(faces) == 0


@pytest.mark.parametrize(
    "how",
    [
        {"refine": 1},
        {"resolution": 12},  # a level that all tiles share
        {"resolution": 40},
        {"voxel_size": 0.04},
        {"watertight": True},
    ],
)
def test_other_levels_are_drawn_alike(
    rings: tuple[TiledField, HierarchyField], how: dict[str, Any]
) -> None:
    vertices, faces = check_equal(*rings, **how)
    assert open_edges(faces) == 0
    assert fans(faces) == len(vertices)


@pytest.mark.parametrize("trim", [None, 0.01, 0.05, 1.0])
def test_an_open_sheet_is_trimmed_alike(
    waves: tuple[TiledField, HierarchyField], trim: float | None
) -> None:
    _, faces = check_equal(*waves, trim=trim)
    assert (open_edges(faces) > 0) == (trim != 1.0)


def test_an_open_sheet_is_closed_on_request(
    waves: tuple[TiledField, HierarchyField],
) -> None:
    _, faces = check_equal(*waves, watertight=True)
    assert open_edges(faces) == 0


def test_levels_that_points_speak_against_are_drawn_finer(tmp_path: Path) -> None:
    field, whole = fitted(ring(2500, noise=0.03), tmp_path)
    assert field.plan.unused == 1
    check_equal(field, whole)


def test_parts_without_points_are_left_out(tmp_path: Path) -> None:
    """Two plates with a gap: beyond their edges the field makes up sheets of its own."""
    one = wave(1500)
    assert one.normals is not None
    below = PointCloud(one.xyz - torch.tensor([0.0, 0.0, 0.06]), -one.normals)
    cloud = PointCloud(torch.cat([one.xyz, below.xyz]), torch.cat([one.normals, -one.normals]))
    field, whole = fitted(cloud, tmp_path, depth=6)
    _, faces = check_equal(field, whole, watertight=True)
    assert open_edges(faces) == 0


def test_parts_are_read_block_by_block(rings: tuple[TiledField, HierarchyField]) -> None:
    field, _ = rings
    with field.mesh_parts() as found:
        vertices, faces = list(found.vertex_blocks()), list(found.face_blocks())
        assert len(vertices) > 3
        assert sum(len(places) for places, _ in vertices) == found.vertices
        assert sum(len(block) for block in faces) == found.faces
        assert len(list(found)) == len(vertices) + len(faces)
        used = np.unique(np.concatenate(faces))
        assert np.array_equal(used, np.arange(found.vertices))


def test_colors_are_those_of_the_cloud(rings: tuple[TiledField, HierarchyField]) -> None:
    field, whole = rings
    with field.mesh_parts() as found:
        places = torch.from_numpy(np.concatenate([at for at, _ in found.vertex_blocks()]))
        colors = torch.from_numpy(np.concatenate([paint for _, paint in found.vertex_blocks()]))
    mesh = whole.extract_mesh()
    order = torch.cdist(places, mesh.vertices.double()).argmin(1)
    cloud = ring(2500)
    torch.testing.assert_close(colors, vertex_colors(mesh, cloud)[order], atol=2e-3, rtol=0)
    torch.testing.assert_close(field.colors_at(places), colors, atol=1e-6, rtol=0)
    far = torch.tensor([[40.0, 3.0, 2.0]], dtype=torch.float64)
    assert bool(field.colors_at(far).isfinite().all())
    with field.mesh_parts(colors=False) as plain:
        assert all(paint is None for _, paint in plain.vertex_blocks())


def test_where_nothing_is_near_there_are_no_faces(
    waves: tuple[TiledField, HierarchyField],
) -> None:
    mesh = waves[0].extract_mesh(trim=1e-9)
    assert mesh.vertices.shape == mesh.faces.shape == (0, 3)


@pytest.mark.parametrize("wrong", [{"refine": -1}, {"trim": 0.0}, {"resolution": 0}])
def test_settings_say_what_is_wrong(
    rings: tuple[TiledField, HierarchyField], wrong: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        rings[0].extract_mesh(**wrong)
