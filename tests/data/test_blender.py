"""NeRF-synthetic folders: axes, intrinsics, names, mistakes."""

import math
from pathlib import Path

import pytest
import torch

from isolux.data.blender import nerf_synthetic_views
from isolux.geometry.cameras import clip_from_world


def test_blenders_axes_become_ours(make_scene) -> None:
    """What Blender calls z is up; the camera at (4, 0, 0) looks at the origin."""
    views = nerf_synthetic_views(make_scene(count=1))
    pose = views.cameras.world_from_camera[0]
    torch.testing.assert_close(pose[:3, 3], torch.tensor([4.0, 0.0, 0.0]))
    torch.testing.assert_close(pose[:3, 2], torch.tensor([-1.0, 0.0, 0.0]))  # forward
    torch.testing.assert_close(pose[:3, 1], torch.tensor([0.0, -1.0, 0.0]))  # down
    # (x, y, z) -> (x, z, -y): Blender's +y is to the right of that camera, ours -z.
    torch.testing.assert_close(pose[:3, 0], torch.tensor([0.0, 0.0, -1.0]))
    point = clip_from_world(views.cameras, 0.1, 10.0)[0] @ torch.tensor([0.0, 0.0, -0.5, 1.0])
    assert point[0] / point[3] > 0.1
    assert abs(point[1]) < 1e-5


def test_field_of_view(make_scene) -> None:
    views = nerf_synthetic_views(make_scene(), size=4)
    torch.testing.assert_close(views.cameras.focal_px, torch.full((3, 2), 2.0 / math.tan(0.4)))
    torch.testing.assert_close(views.cameras.centre_px, torch.full((3, 2), 2.0))
    assert views.names == ("r_0", "r_1", "r_2")
    assert views.batch([2]).alpha.shape == (1, 4, 4, 1)


def test_a_frame_may_have_its_own_lens(make_scene) -> None:
    def change(tree) -> None:
        tree.update(fl_x=10.0, fl_y=12.0, cx=3.0, cy=5.0)
        tree["frames"][1].update(fl_x=20.0, cx=4.5)
        tree["frames"][2].update(w=16, h=16)  # pixels of a larger original

    cameras = nerf_synthetic_views(make_scene(change)).cameras
    assert cameras.focal_px.tolist() == [[10, 12], [20, 12], [5, 6]]
    assert cameras.centre_px.tolist() == [[3, 5], [4.5, 5], [1.5, 2.5]]


def test_per_frame_angles(make_scene) -> None:
    def change(tree) -> None:
        del tree["camera_angle_x"]
        for number, frame in enumerate(tree["frames"]):
            frame["camera_angle_x"] = 0.5 + 0.1 * number

    focal = nerf_synthetic_views(make_scene(change)).cameras.focal_px[:, 0]
    torch.testing.assert_close(focal[2], torch.tensor(4.0 / math.tan(0.35)))


def test_names_with_and_without_suffix(make_scene) -> None:
    def change(tree) -> None:
        tree["frames"][0]["file_path"] = "train/r_0.png"
        tree["frames"][1]["file_path"] = ".\\train\\r_1"

    assert len(nerf_synthetic_views(make_scene(change))) == 3


def test_limit_spreads_evenly(make_scene) -> None:
    folder = make_scene(count=9)
    assert nerf_synthetic_views(folder, limit=3).names == ("r_0", "r_4", "r_8")
    assert nerf_synthetic_views(folder, limit=1).names == ("r_0",)
    assert len(nerf_synthetic_views(folder, limit=99)) == 9


def set_matrix(row: int, column: int, value: float):
    def change(tree) -> None:
        tree["frames"][1]["transform_matrix"][row][column] = value

    return change


def scaled(tree) -> None:
    tree["frames"][1]["transform_matrix"] = [
        [2 * x for x in row[:3]] + row[3:] for row in tree["frames"][1]["transform_matrix"]
    ]


def mirrored(tree) -> None:
    for row in tree["frames"][1]["transform_matrix"]:
        row[0] = -row[0]


def opencv(tree) -> None:
    for frame in tree["frames"]:
        for row in frame["transform_matrix"]:
            row[1], row[2] = -row[1], -row[2]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("frames"), "needs a list 'frames'"),
        (lambda t: t.update(frames=[]), "needs a list 'frames'"),
        (lambda t: t["frames"].insert(0, "r_0"), "frame 0: is not an object"),
        (lambda t: t["frames"][1].pop("file_path"), "frame 1: has no 'file_path'"),
        (
            lambda t: t["frames"][1].pop("transform_matrix"),
            "frame 1: has no 'transform_matrix'",
        ),
        (lambda t: t["frames"][1].update(file_path=3), "'file_path' must be text"),
        (lambda t: t.pop("camera_angle_x"), "no focal length; give 'camera_angle_x'"),
        (lambda t: t.update(camera_angle_x="wide"), "'camera_angle_x' must be a number"),
        (lambda t: t.update(camera_angle_x=float("nan")), "'camera_angle_x' must be a number"),
        (lambda t: t.update(camera_angle_x=4.0), r"in \(0, pi\) radians, got 4"),
        (lambda t: t.update(fl_x=-1.0), "must be above zero"),
        (lambda t: t["frames"][1].update(fl_x=0), "frame 1 .*must be above zero"),
        (lambda t: t.update(fl_x=10**400), "'fl_x' must be a number"),
        (lambda t: t.update(fl_x=5.0, w=0), "'w' and 'h' must be above zero"),
        (lambda t: t["frames"][1].update(transform_matrix=[[1]]), "4 rows of 4 numbers"),
        (lambda t: t["frames"][1].update(transform_matrix="eye"), "4 rows of 4 numbers"),
        (set_matrix(0, 3, float("nan")), "not finite"),
        (set_matrix(0, 3, 1e300), "not finite"),
        (set_matrix(3, 0, 0.5), "not a rigid motion"),
        (scaled, "not a rigid motion .axes of length 2, 2, 2"),
        (mirrored, "mirrors"),
        (opencv, "3 of 3 cameras look away"),
    ],
)
def test_mistakes_are_one_clear_line(make_scene, change, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        nerf_synthetic_views(make_scene(change))
    assert "transforms_train.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_absent_things(tmp_path: Path, make_scene) -> None:
    with pytest.raises(FileNotFoundError, match=r"transforms_test\.json"):
        nerf_synthetic_views(make_scene(), "test")
    (tmp_path / "train" / "r_1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"names 1 absent pictures of 3: .*r_1\.png"):
        nerf_synthetic_views(tmp_path)


@pytest.mark.parametrize(
    "text", [b'{"frames": [', b"[" * 100_000, b'{"w": 1' + b"0" * 5000 + b"}", b"\xff\xfe{"]
)
def test_malformed_json(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "transforms_train.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"transforms_train\.json: is not valid JSON"):
        nerf_synthetic_views(tmp_path)


def test_a_byte_order_mark_is_passed_over(make_scene) -> None:
    folder = make_scene()
    index = folder / "transforms_train.json"
    index.write_bytes(b"\xef\xbb\xbf" + index.read_bytes())
    assert len(nerf_synthetic_views(folder)) == 3


def test_the_index_in_the_place_of_its_folder(make_scene) -> None:
    with pytest.raises(NotADirectoryError, match="is a file; give the folder"):
        nerf_synthetic_views(make_scene() / "transforms_train.json")


def test_few_digits_are_made_a_rotation(make_scene) -> None:
    def change(tree) -> None:
        for frame in tree["frames"]:
            frame["transform_matrix"] = [
                [round(x, 3) for x in row] for row in frame["transform_matrix"]
            ]

    turn = nerf_synthetic_views(make_scene(change)).cameras.world_from_camera[:, :3, :3]
    torch.testing.assert_close(turn.mT @ turn, torch.eye(3).expand(3, 3, 3), atol=1e-6, rtol=0)


def test_distortion_is_warned_of(make_scene, caplog) -> None:
    nerf_synthetic_views(make_scene(lambda t: t.update(k1=0.1, p2=0.0)))
    assert "lens distortion ['k1'] is ignored" in caplog.text
