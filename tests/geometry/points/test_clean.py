"""What is dropped, what is averaged, and that nothing else changes."""

import logging

import pytest
import torch

from isolux.geometry.points.clean import cleaned, downsampled
from isolux.geometry.points.cloud import PointCloud


def cloud_of(count: int, seed: int = 0) -> PointCloud:
    generator = torch.Generator().manual_seed(seed)
    normals = torch.randn(count, 3, generator=generator)
    return PointCloud(
        torch.rand(count, 3, generator=generator, dtype=torch.float64),
        normals / normals.norm(dim=1, keepdim=True).clamp_min(1e-9),
        torch.rand(count, 3, generator=generator, dtype=torch.float64),
        torch.rand(count, 3, generator=generator),
    )


def same(a: PointCloud, b: PointCloud) -> None:
    for name in ("xyz", "normals", "sensor", "colors"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=1e-7)


def test_a_sound_cloud_stays_as_it_is() -> None:
    cloud = cloud_of(500)
    same(cleaned(cloud), cloud)
    assert cleaned(cloud).xyz.equal(cloud.xyz)
    far = PointCloud(cloud.xyz + 5e6)
    assert cleaned(far).xyz.equal(far.xyz)


@pytest.mark.parametrize("part", ["xyz", "normals", "sensor", "colors"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_rows_with_anything_not_finite_go(
    part: str, value: float, caplog: pytest.LogCaptureFixture
) -> None:
    cloud = cloud_of(20)
    getattr(cloud, part)[[3, 11], 1] = value
    with caplog.at_level(logging.INFO):
        got = cleaned(cloud)
    keep = torch.tensor([i not in (3, 11) for i in range(20)])
    same(got, cleaned(cloud[keep]))
    assert "dropped 2 of 20 points that are not finite" in caplog.text


def test_duplicates_go_and_the_first_stays() -> None:
    cloud = cloud_of(300)
    rows = torch.cat([torch.arange(300), torch.arange(0, 300, 3)])
    near = cloud[rows]
    near.xyz[300:350] += 3e-13
    same(cleaned(near), cloud)
    near.xyz[300:350] += 1e-9
    assert len(cleaned(near)) == 350


def test_near_duplicates_on_both_sides_of_a_cells_border() -> None:
    """Cells of any kind miss pairs that a border divides."""
    generator = torch.Generator().manual_seed(0)
    xyz = torch.rand(2000, 3, generator=generator, dtype=torch.float64)
    xyz[0], xyz[1] = 0.0, 1.0
    shift = (torch.rand(2000, 3, generator=generator, dtype=torch.float64) - 0.5) * 9e-13
    assert len(cleaned(PointCloud(torch.cat([xyz, (xyz + shift)[2:]])))) == 2000


def test_a_million_points_in_one_place_are_one() -> None:
    cloud = cleaned(PointCloud(torch.full((1_000_000, 3), 5e6, dtype=torch.float64)))
    assert cloud.xyz.tolist() == [[5e6, 5e6, 5e6]]


def test_zero_normals_go_and_others_get_unit_length() -> None:
    cloud = cloud_of(10)
    assert cloud.normals is not None
    cloud.normals[4] = 0
    cloud.normals[5] *= 7
    got = cleaned(cloud)
    assert len(got) == 9
    assert got.normals is not None
    torch.testing.assert_close(got.normals.norm(dim=1), torch.ones(9))


def test_outliers_go_whatever_the_density() -> None:
    """A sheet whose density changes a hundredfold, and twenty strays."""
    generator = torch.Generator().manual_seed(0)
    place = torch.rand(4000, 2, generator=generator, dtype=torch.float64)
    sheet = torch.stack([place[:, 0] ** 3, place[:, 1], 0 * place[:, 0]], dim=1)
    stray = torch.rand(20, 3, generator=generator, dtype=torch.float64)
    stray[:, 2] = stray[:, 2] * 0.3 + 0.1
    cloud = PointCloud(torch.cat([sheet, stray]))
    got = cleaned(cloud, outliers=4.0)
    assert int((got.xyz[:, 2] > 0).sum()) == 0
    assert len(got) > 3900


def test_a_perfect_grid_has_no_outliers() -> None:
    axis = torch.arange(12, dtype=torch.float64)
    inner = torch.cartesian_prod(axis, axis, axis)
    assert len(cleaned(PointCloud(inner), outliers=2.0)) > 0.9 * len(inner)


def test_cells_average_everything() -> None:
    cloud = cloud_of(5000)
    cloud = PointCloud(cloud.xyz + 5e6, cloud.normals, cloud.sensor, cloud.colors)
    got = downsampled(cloud, 0.1)
    assert 900 < len(got) <= 1000
    low = cloud.xyz.amin(0)
    cell = ((cloud.xyz - low) / 0.1).floor().long()
    mine = ((got.xyz - low) / 0.1).floor().long()
    for row in (0, 100, 700):
        inside = (cell == mine[row]).all(1)
        torch.testing.assert_close(got.xyz[row], cloud.xyz[inside].mean(0), rtol=0, atol=1e-8)
        assert got.sensor is not None
        assert got.colors is not None
        assert got.normals is not None
        torch.testing.assert_close(got.sensor[row], cloud.sensor[inside].mean(0))
        torch.testing.assert_close(got.colors[row], cloud.colors[inside].mean(0))
        mean = cloud.normals[inside].mean(0)
        torch.testing.assert_close(got.normals[row], mean / mean.norm())


def test_averaging_does_not_depend_on_the_order_or_the_place() -> None:
    cloud = cloud_of(3000)
    shuffled = cloud[torch.randperm(3000, generator=torch.Generator().manual_seed(1))]
    same(downsampled(cloud, 0.2), downsampled(shuffled, 0.2))
    once = downsampled(cloud, 0.2)
    assert downsampled(cloud, 0.2).xyz.equal(once.xyz)
    moved = PointCloud(cloud.xyz + 1024.0, cloud.normals, cloud.sensor, cloud.colors)
    torch.testing.assert_close(downsampled(moved, 0.2).xyz, once.xyz + 1024.0)


def test_cells_whose_normals_cancel_are_left_out() -> None:
    xyz = torch.tensor([[0.0, 0, 0], [0, 0, 0.1], [5, 5, 5]], dtype=torch.float64)
    normals = torch.tensor([[0.0, 0, -1], [0, 0, 1], [0, 0, 1]])
    assert downsampled(PointCloud(xyz, normals), 1.0).xyz.tolist() == [[5, 5, 5]]


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_points(count: int) -> None:
    cloud = cloud_of(count)
    assert len(cleaned(cloud, outliers=2.0, voxel=1e-3)) == count
    bad = PointCloud(torch.full((count, 3), float("nan"), dtype=torch.float64))
    assert len(cleaned(bad)) == 0


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_thresholds_are_positive(value: float) -> None:
    with pytest.raises(ValueError, match="outliers: need"):
        cleaned(cloud_of(3), outliers=value)
    with pytest.raises(ValueError, match="voxel: need"):
        cleaned(cloud_of(3), voxel=value)
    with pytest.raises(ValueError, match="voxel: need"):
        downsampled(cloud_of(3), value)


def test_cells_too_small_to_count() -> None:
    with pytest.raises(ValueError, match="too small"):
        downsampled(cloud_of(3), 1e-300)
