"""Clouds that others wrote: scans, sweeps, a survey, a reconstruction from photographs."""

from pathlib import Path

import pytest
import torch
from scipy.spatial import cKDTree

from isolux.data.assets.clouds import read_cloud

SHARED = Path(__file__).parents[4] / "shared" / "data"
CLOUDS = SHARED / "pointclouds"
pytestmark = pytest.mark.skipif(not CLOUDS.is_dir(), reason="the shared clouds are not here")


@pytest.mark.parametrize(
    ("name", "count", "finite", "has"),
    [
        ("pcl/room_scan1.pcd", 112586, 112586, ""),
        ("pcl/capture0001.pcd", 307200, 249647, "s"),
        ("pcl/region_growing_rgb_tutorial.pcd", 307200, 259847, "sc"),
        ("isprs_terrain/samp11-utm.pcd", 38010, 38010, ""),
        ("cgal/kitten.xyz", 5210, 5210, "n"),
        ("cgal/hippo1.ply", 6104, 6104, "n"),
        ("cgal/ball.ply", 31374, 31374, "n"),
        ("kitti/000000.bin", 125635, 125635, "s"),
        ("stanford_bunny_scans/bun000.ply.gz", 40256, 40256, ""),
        ("stanford_bunny_scans/bun_zipper.ply.gz", 35947, 35947, ""),
    ],
)
def test_counts_and_parts(name: str, count: int, finite: int, has: str) -> None:
    cloud = read_cloud(CLOUDS / name)
    assert len(cloud) == count
    assert int(cloud.xyz.isfinite().all(1).sum()) == finite
    parts = {"n": cloud.normals, "s": cloud.sensor, "c": cloud.colors}
    assert {key for key, part in parts.items() if part is not None} == set(has)
    if cloud.normals is not None:
        length = cloud.normals.norm(dim=1)
        torch.testing.assert_close(length, torch.ones(count))


def test_a_depth_picture_is_in_rows_and_columns() -> None:
    """Its points lie where a camera of 525 pixels' focal length sees them: LZF, field order."""
    xyz = read_cloud(CLOUDS / "pcl" / "capture0001.pcd").xyz.reshape(480, 640, 3)
    row, column = torch.meshgrid(torch.arange(480.0), torch.arange(640.0), indexing="ij")
    seen = xyz.isfinite().all(-1)
    u = (xyz[..., 0] / xyz[..., 2] * 525 + 319.5)[seen]
    v = (xyz[..., 1] / xyz[..., 2] * 525 + 239.5)[seen]
    assert (u - column[seen]).abs().max() < 1
    assert (v - row[seen]).abs().max() < 1


def test_range_scans_lie_on_the_published_mesh() -> None:
    """With the transposed rotation alone do the ten scans meet."""
    scans = read_cloud(CLOUDS / "stanford_bunny_scans" / "bun.conf")
    truth = read_cloud(CLOUDS / "stanford_bunny_scans" / "bun_zipper.ply.gz")
    assert len(scans) == 362272
    assert scans.sensor is not None
    distance, _ = cKDTree(truth.xyz.numpy()).query(scans.xyz[::37].numpy())
    # To the nearest vertex, which lie a millimetre apart.
    assert sorted(distance)[int(0.95 * len(distance))] < 0.0012


def test_sparse_points_with_the_cameras_that_saw_them() -> None:
    folder = SHARED / "colmap" / "cup_800x600"
    cloud = read_cloud(folder)
    assert len(cloud) == 9262
    assert cloud.sensor is not None
    assert cloud.colors is not None
    assert len(torch.unique(cloud.sensor, dim=0)) <= 77
    again = read_cloud(folder / "sparse" / "0" / "points3D.bin")
    assert (again.sensor == cloud.sensor).all()
