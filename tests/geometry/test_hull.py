"""The hull of drawn spheres is a sphere, and that of photographs covers their masks."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from isolux.geometry.cameras import Cameras, look_at
from isolux.geometry.hull import fit_box, visual_hull
from isolux.geometry.hull_kernels import distance_to_silhouette
from isolux.geometry.lattice import tet_lattice

SHARED = Path(__file__).parents[3] / "shared" / "data" / "nerf_synthetic"
CENTRE, RADIUS = torch.tensor([0.3, -0.2, 0.5]), 0.6


def cameras_around(count: int = 24, size: int = 96, focal: float = 110.0) -> Cameras:
    """Spread evenly over a sphere of radius 3 about the origin."""
    k = torch.arange(count) + 0.5
    height, turn = 1 - 2 * k / count, k * 2.399963
    flat = (1 - height**2).sqrt()
    at = 3 * torch.stack([flat * turn.cos(), height, flat * turn.sin()], -1)
    return Cameras(
        look_at(at, torch.zeros(3), torch.tensor([0.0, 1, 0])),
        torch.full((count, 2), focal),
        torch.full((count, 2), size / 2),
        size,
        size,
    )


def masks_of_sphere(cameras: Cameras) -> Tensor:
    steps = torch.arange(cameras.height) + 0.5
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    ray = torch.stack([x, y, torch.ones_like(x)], -1)
    ray[..., :2] = (ray[..., :2] - cameras.centre_px[0]) / cameras.focal_px[0]
    ray = torch.einsum("vij,hwj->vhwi", cameras.world_from_camera[:, :3, :3], ray)
    ray = torch.nn.functional.normalize(ray, dim=-1)
    to = (CENTRE - cameras.positions)[:, None, None]
    along = (to * ray).sum(-1, keepdim=True)
    return ((to - along * ray).norm(dim=-1) < RADIUS).float()


def test_distance_is_that_of_scipy() -> None:
    mask = (np.random.default_rng(0).random((37, 53)) > 0.7).astype(np.float32)
    distance = np.empty_like(mask)
    distance_to_silhouette(mask, distance)
    inside, outside = distance_transform_edt(mask > 0), distance_transform_edt(mask == 0)
    expected = np.where(mask > 0, 0.5 - inside, outside - 0.5)
    np.testing.assert_allclose(distance, expected, atol=1e-5)


def test_soft_edges_say_where_the_edge_is() -> None:
    mask = np.tile(np.array([0, 0, 0.25, 1, 1], np.float32), (4, 1))
    distance = np.empty_like(mask)
    distance_to_silhouette(mask, distance)
    np.testing.assert_allclose(distance[1], [2.5, 1.5, 0.25, -0.5, -1.5], atol=1e-6)


def test_hull_of_a_sphere_is_the_sphere() -> None:
    cameras = cameras_around()
    masks = masks_of_sphere(cameras)
    centre, extent = fit_box(masks, cameras)
    assert (centre - CENTRE).abs().max() < 0.08
    assert 2 * RADIUS < extent < 2 * RADIUS * 1.35
    points = centre + extent * tet_lattice(20).vertices
    values = visual_hull(masks, cameras)(points)
    exact = (points - CENTRE).norm(dim=-1) - RADIUS
    near = exact.abs() < 0.1
    assert (values - exact)[near].abs().max() < 0.07  # 24 views leave corners
    # A hull holds its shape: two pixels of doubt.
    assert (values[exact < -0.05] < 0).all()
    assert (values[exact > 0.15] > 0).all()


def test_hull_turns_with_the_world() -> None:
    cameras = cameras_around(12)
    masks = masks_of_sphere(cameras)
    turn = torch.tensor([[0.0, 0, 2, 5], [2, 0, 0, -1], [0, 2, 0, 3], [0, 0, 0, 1]])
    pose = cameras.world_from_camera.clone()
    moved = turn @ pose
    moved[:, :3, :3] /= 2  # rotations stay rotations; the world is twice as large
    other = Cameras(moved, cameras.focal_px, cameras.centre_px, 96, 96)
    points = 2 * torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) - 1
    there = points @ turn[:3, :3].T + turn[:3, 3]
    torch.testing.assert_close(
        visual_hull(masks, other)(there), 2 * visual_hull(masks, cameras)(points),
        atol=1e-3, rtol=1e-3,
    )  # fmt: skip


def test_a_point_that_no_view_sees_is_outside() -> None:
    cameras = cameras_around(1)
    behind = cameras.positions - 5 * cameras.world_from_camera[:, :3, 2]
    assert (visual_hull(masks_of_sphere(cameras), cameras)(behind) > 0).all()


def test_an_object_cut_off_by_the_picture_goes_on_beyond_it() -> None:
    cameras = cameras_around(1)
    mask = torch.zeros(1, 96, 96)
    mask[:, 30:60, 40:] = 1  # touches the right border
    pose = cameras.world_from_camera[0]
    right = pose[:3, 3] + pose[:3, :3] @ torch.tensor([2.2, 0, 3])
    left = pose[:3, 3] + pose[:3, :3] @ torch.tensor([-2.2, 0, 3])
    both = torch.stack([right, left])
    other = cameras_around(2)[1]
    seen = Cameras(
        torch.cat([cameras.world_from_camera, other.world_from_camera]),
        cameras.focal_px.repeat(2, 1), cameras.centre_px.repeat(2, 1), 96, 96,
    )  # fmt: skip
    values = visual_hull(torch.cat([mask, torch.ones(1, 96, 96)]), seen)(both)
    assert values[1] > 0
    alone = visual_hull(mask, cameras)(both)
    assert alone[1] > 0


def test_empty_masks_are_said(caplog: pytest.LogCaptureFixture) -> None:
    cameras = cameras_around(6)
    masks = masks_of_sphere(cameras)
    with pytest.raises(ValueError, match="all 6 masks are empty"):
        visual_hull(torch.zeros_like(masks), cameras)
    masks[2] = 0
    with caplog.at_level(logging.WARNING):
        fit_box(masks, cameras)
    assert "1 of 6 masks are empty" in caplog.text


def test_full_masks_are_said(caplog: pytest.LogCaptureFixture) -> None:
    cameras = cameras_around(12)
    with caplog.at_level(logging.WARNING):
        _, extent = fit_box(torch.ones(12, 96, 96), cameras)
    assert "all masks are full" in caplog.text
    assert 0 < extent < 20


def test_cameras_that_look_away_are_said() -> None:
    cameras = cameras_around(8)
    pose = cameras.world_from_camera.clone()
    pose[:, :3, 1:3] *= -1  # half a turn about their x axis
    away = Cameras(pose, cameras.focal_px, cameras.centre_px, 96, 96)
    with pytest.raises(ValueError, match=r"look away|no point of space"):
        fit_box(masks_of_sphere(cameras), away)


def test_one_view_fits_no_box() -> None:
    cameras = cameras_around(1)
    with pytest.raises(ValueError, match="one direction"):
        fit_box(masks_of_sphere(cameras), cameras)


def photographs(name: str, views: int = 24, size: int = 100) -> tuple[Tensor, Cameras]:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    meta = json.loads((folder / "transforms_train.json").read_text())
    masks, poses = [], []
    for frame in meta["frames"][:views]:
        picture = Image.open(folder / f"{frame['file_path']}.png").convert("RGBA")
        alpha = np.array(picture.resize((size, size), Image.Resampling.BOX))[..., 3]
        masks.append(torch.tensor(alpha) / 255)
        pose = torch.tensor(frame["transform_matrix"])
        poses.append(pose @ torch.diag(torch.tensor([1.0, -1, -1, 1])))
    focal = 0.5 * size / np.tan(0.5 * meta["camera_angle_x"])
    return torch.stack(masks), Cameras(
        torch.stack(poses),
        torch.full((len(poses), 2), float(focal)),
        torch.full((len(poses), 2), size / 2),
        size,
        size,
    )


@pytest.mark.parametrize("name", ["lego_400", "chair_800"])
def test_hull_of_photographs_covers_their_masks(name: str) -> None:
    masks, cameras = photographs(name)
    centre, extent = fit_box(masks, cameras)
    assert 1.5 < extent < 3.5
    points = centre + extent * tet_lattice(64).vertices
    inside = points[visual_hull(masks, cameras)(points) < 0]
    inverse = torch.linalg.inv(cameras.world_from_camera)
    for view in range(0, len(masks), 6):
        local = inside @ inverse[view, :3, :3].T + inverse[view, :3, 3]
        pixel = local[:, :2] / local[:, 2:] * cameras.focal_px[view] + cameras.centre_px[view]
        x, y = pixel.long().clamp(0, 99).unbind(-1)
        drawn = torch.zeros(100, 100)
        drawn[y, x] = 1
        grown = torch.nn.functional.max_pool2d(drawn[None], 5, 1, 2)[0]
        mask = masks[view] > 0.5
        assert (masks[view][y, x] > 0.1).float().mean() > 0.99  # no point outside
        assert grown[mask].mean() > 0.97  # and none missing, but for the sampling
