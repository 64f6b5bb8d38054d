"""Fields made by tiles: those of the fit in memory, whatever tiles and blocks there are."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiled_clouds import halved, in_blocks, ring, wave, with_some_side, without

from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.hierarchy import fit_hierarchy
from isolux.geometry.points.hierarchy_field import HierarchyField
from isolux.geometry.points.hierarchy_options import HierarchyOptions
from isolux.geometry.points.tiled.field import TiledField
from isolux.geometry.points.tiled.fit import fit_tiles
from isolux.geometry.points.tiled.options import TileOptions
from isolux.geometry.points.tiled.prepare import Prepare

TIGHT = HierarchyOptions(solver_tol=1e-5)
TILES = TileOptions(points=1000)
MOST = 8e-3  # cells: what the halo cuts off, and the solver leaves, of the worst coefficient


def check_same(field: TiledField, expected: HierarchyField, most: float) -> None:
    """The same lattice and levels, coefficients within `most` cells of their level."""
    found = field.load()
    assert found.voxel_size == expected.voxel_size
    assert torch.equal(found.frame.origin, expected.frame.origin)
    assert found.unused == expected.unused
    assert len(found.levels) == len(expected.levels)
    for number, (one, two) in enumerate(zip(found.levels, expected.levels, strict=True)):
        assert np.array_equal(one.rows, two.rows)
        assert np.abs(one.coefficient - two.coefficient).max() < most * 2**number
    assert np.array_equal(found.support.points, expected.support.points)
    assert found.support.spacing == pytest.approx(expected.support.spacing)
    np.testing.assert_allclose(found.support.box, expected.support.box, atol=1e-9)


@pytest.fixture(scope="module", params=[0.0, 0.01])
def fitted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PointCloud, TiledField]:
    """A ring, without noise and with it, and its field by tiles."""
    cloud = ring(noise=request.param)
    return cloud, fit_tiles(in_blocks(cloud), tmp_path_factory.mktemp("ring"), TIGHT, TILES)


def test_tiles_make_the_field_of_the_fit_in_memory(
    fitted: tuple[PointCloud, TiledField],
) -> None:
    """Weights are chosen alike, too; what is left is what the halo cuts off."""
    cloud, field = fitted
    expected = fit_hierarchy(cloud, TIGHT)
    assert len(np.flatnonzero(field.work.tiles.points)) > 8
    assert field.work.split > field.plan.unused
    check_same(field, expected, MOST)
    draw = torch.Generator().manual_seed(1)
    near = cloud.xyz[:1000] + 0.03 * torch.randn(1000, 3, generator=draw)
    far = 30 * torch.randn(200, 3, generator=draw, dtype=torch.float64)
    places = torch.cat([near, far])
    most = MOST * expected.voxel_size
    assert float((field.value(places) - expected.value(places)).abs().max()) < most
    turned = field.gradient(places) - expected.gradient(places)
    assert float(turned.abs().max()) < 10 * most / expected.voxel_size
    torch.testing.assert_close(field.bounds, expected.bounds)
    torch.testing.assert_close(field.world_from_field, expected.world_from_field)


def test_values_by_tile_are_those_of_the_whole(
    fitted: tuple[PointCloud, TiledField],
) -> None:
    """A point sees the same coefficients whichever tile answers for it."""
    cloud, field = fitted
    whole = field.load()
    places = cloud.xyz + 0.05 * torch.randn(
        len(cloud), 3, generator=torch.Generator().manual_seed(2)
    )
    assert torch.equal(field.value(places), whole.value(places))
    assert torch.equal(field.gradient(places), whole.gradient(places))


def test_blocks_do_not_matter(tmp_path: Path) -> None:
    cloud, found = ring(2000), []
    for size in (300, 2000):
        folder = tmp_path / str(size)
        field = fit_tiles(in_blocks(cloud, size), folder, None, TILES)
        found.append(field.load().levels)
    for one, two in zip(*found, strict=True):
        assert np.array_equal(one.rows, two.rows)
        assert np.array_equal(one.coefficient, two.coefficient)


def test_one_tile_is_the_fit_in_memory(tmp_path: Path) -> None:
    cloud = ring(3000)
    field = fit_tiles(in_blocks(cloud), tmp_path)
    check_same(field, fit_hierarchy(cloud), 1e-6)


def test_tiles_far_apart_with_nothing_between(tmp_path: Path) -> None:
    """Dense rings far from each other: most cubes are empty, and sizes differ."""
    one, two = ring(2500), ring(600, seed=1)
    shift = torch.tensor([30.0, 7.0, -12.0], dtype=torch.float64)
    assert one.normals is not None
    assert two.normals is not None
    cloud = PointCloud(
        torch.cat([one.xyz, 3 * two.xyz + shift]), torch.cat([one.normals, two.normals])
    )
    options = HierarchyOptions(voxel_size=0.07, solver_tol=1e-5)
    field = fit_tiles(in_blocks(cloud), tmp_path, options, TileOptions(points=700))
    assert len(np.unique(field.work.tiles.level)) > 1
    check_same(field, fit_hierarchy(cloud, options), MOST)


def test_coordinates_of_a_survey_lose_nothing(tmp_path: Path) -> None:
    cloud = ring(3000)
    shift = torch.tensor([5e5, 5.4e6, 100.0], dtype=torch.float64)
    there = PointCloud(50 * cloud.xyz + shift, cloud.normals)
    field = fit_tiles(in_blocks(there), tmp_path, TIGHT, TILES)
    check_same(field, fit_hierarchy(there, TIGHT), MOST)
    mesh = field.extract_mesh()
    assert mesh.vertices.dtype == torch.float64
    local = (mesh.vertices - shift) / 50
    off = ((local[:, :2].norm(dim=-1) - 1).square() + local[:, 2].square()).sqrt() - 0.35
    assert float(off.abs().max()) < 0.02


def test_rows_that_are_not_finite_are_dropped(tmp_path: Path) -> None:
    cloud = ring(3000)
    bad = cloud.xyz.clone()
    bad[::7, 1] = math.nan
    fine = torch.ones(3000, dtype=torch.bool)
    fine[::7] = False
    dirty = PointCloud(bad, cloud.normals, colors=cloud.colors)
    field = fit_tiles(in_blocks(dirty), tmp_path)
    check_same(field, fit_hierarchy(cloud[fine]), 1e-6)


def test_cleaning_is_done_tile_by_tile(tmp_path: Path) -> None:
    cloud = ring(4000)
    field = fit_tiles(in_blocks(cloud), tmp_path, TIGHT, TILES, halved)
    half = halved(cloud)
    assert field.plan.points == len(half)
    expected = fit_hierarchy(half, TIGHT)
    assert field.voxel_size == pytest.approx(expected.voxel_size)
    value = field.value(half.xyz) - expected.value(half.xyz)
    assert float(value.abs().max()) < 0.01 * field.voxel_size


@pytest.mark.parametrize(
    ("seen", "prepare"), [(False, None), (True, None), (False, with_some_side)]
)
def test_normals_are_estimated_and_face_outward(
    tmp_path: Path, seen: bool, prepare: Prepare | None
) -> None:
    """The whole cloud says which side is outside, where nothing else does."""
    cloud = ring(4000)
    middle = cloud.xyz * torch.tensor([1.0, 1.0, 0.0])
    middle = torch.nn.functional.normalize(middle, dim=-1)
    outside = middle + 1.8 * (cloud.xyz - middle)
    bare = PointCloud(cloud.xyz, sensor=outside if seen else None)
    field = fit_tiles(in_blocks(bare), tmp_path, None, TILES, prepare)
    assert bool((field.value(middle) < 0).all())
    assert bool((field.value(outside) > 0).all())
    assert float(field.value(cloud.xyz).abs().mean()) < 0.05 * field.voxel_size


@pytest.mark.parametrize(
    ("cloud", "message"),
    [
        (ring(3), "at least 4"),
        (without(ring(3), "normals"), "at least 4"),
        (PointCloud(torch.ones(50, 3).double()), "one place"),
        (PointCloud(torch.ones(50, 3).double(), torch.ones(50, 3)), "one place"),
        (PointCloud(torch.arange(60).double()[:, None] * torch.ones(3)), "line"),
        (PointCloud(torch.full((50, 3), math.nan).double()), "at least 4"),
        (PointCloud(torch.rand(50, 3).double(), torch.zeros(50, 3)), "zero"),
    ],
)
def test_hopeless_clouds_get_one_line(tmp_path: Path, cloud: PointCloud, message: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=message) as error:
        fit_tiles(in_blocks(cloud), tmp_path)
    assert "\n" not in str(error.value)


def test_no_blocks_and_mixed_blocks_get_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 4"):
        fit_tiles(lambda: iter(()), tmp_path)
    mixed = [ring(100), without(ring(100), "normals")]
    with pytest.raises(ValueError, match="all blocks of a cloud"):
        fit_tiles(lambda: iter(mixed), tmp_path)


@pytest.mark.parametrize("wrong", [{"points": 5}, {"workers": 0}, {"retries": -1}])
def test_options_say_what_is_wrong(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TileOptions(**wrong)  # type: ignore[arg-type]


def test_progress_rises_to_one(tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    fit_tiles(
        in_blocks(wave(2000)), tmp_path, None, TileOptions(points=500), None,
        lambda text, share: told.append((text, share)),
    )  # fmt: skip
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert any("points/s" in text and "left" in text for text, _ in told)
