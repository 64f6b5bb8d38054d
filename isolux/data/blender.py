"""The NeRF-synthetic layout: `transforms_<split>.json` beside RGBA pictures.

The border of the project: whatever is odd about the format (Blender's axes, names without a
suffix, the field of view in place of a focal length) ends here. Blender's world has z up and
becomes ours by (x, y, z) -> (x, z, -y).
"""

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from isolux.data.assets.image import load_image
from isolux.data.views import Size, StoredViews, check_cameras
from isolux.geometry.cameras import Cameras

__all__ = ["nerf_synthetic_views"]

Split = Literal["train", "val", "test"]

_log = logging.getLogger(__name__)
_SUFFIXES = (".png", ".jpg", ".jpeg", ".exr", ".hdr", ".webp", ".PNG", ".JPG", ".JPEG")
_MOST = 1e12  # of any number of a camera, so that squares stay in single precision
_LENS = ("k1", "k2", "k3", "k4", "p1", "p2")
# Blender's camera looks along -z with +y up; ours along +z with +y down.
FLIP_YZ = np.diag([1.0, -1.0, -1.0, 1.0])
OURS_FROM_BLENDER = np.array([[1.0, 0, 0, 0], [0, 0, 1.0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1.0]])
BLENDER_FROM_OURS = OURS_FROM_BLENDER.T


@dataclass(frozen=True)
class _Frame:
    file: Path
    label: str  # for messages
    world_from_camera: np.ndarray  # ours
    numbers: dict[str, float]  # intrinsics: the frame's own, else the file's


def nerf_synthetic_views(
    folder: Path, split: Split = "train", size: Size = None, limit: int | None = None
) -> StoredViews:
    """Views of one split, in memory.

    Args:
        folder: holds `transforms_<split>.json`.
        split: which part.
        size: pixels to bring the pictures to; None keeps them.
        limit: only so many views, evenly spread over the file; None takes all.

    Raises:
        FileNotFoundError, NotADirectoryError: the index or pictures are absent.
        ValueError: malformed JSON, missing or bad numbers, poses that are not rigid motions,
            pictures that are damaged, of different sizes, or without masks.
    """
    index = Path(folder) / f"transforms_{split}.json"
    frames = _frames(index)
    if limit is not None and limit < len(frames):
        if limit < 1:
            raise ValueError(f"{index}: at least one view is needed, asked for {limit}")
        step = (len(frames) - 1) / max(limit - 1, 1)
        frames = [frames[round(i * step)] for i in range(limit)]
    files = [frame.file for frame in frames]
    if missing := [str(file) for file in files if not file.is_file()]:
        raise FileNotFoundError(
            f"{index}: names {len(missing)} absent pictures of {len(files)}: {missing[:3]}"
        )
    height, width = _picture_size(files[0])
    cameras = _cameras(frames, height, width)
    check_cameras(cameras, index)
    return StoredViews.from_files(files, cameras, size, index)


def _picture_size(file: Path) -> tuple[int, int]:
    try:
        with Image.open(file) as image:  # reads the header only
            return image.height, image.width
    except OSError:  # floats, or damaged: the reader says what
        height, width, _ = load_image(file).shape
        return height, width


def _frames(index: Path) -> list[_Frame]:
    if index.parent.is_file():
        raise NotADirectoryError(
            f"{index.parent}: is a file; give the folder with {index.name}"
        )
    if not index.is_file():
        raise FileNotFoundError(f"{index}: no such file; a NeRF-synthetic scene has one")
    try:
        meta = json.loads(index.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, a number too long
        raise ValueError(f"{index}: is not valid JSON ({error})") from None
    frames = meta.get("frames") if isinstance(meta, dict) else None
    if not isinstance(frames, list) or not frames:
        raise ValueError(f"{index}: needs a list 'frames' with at least one view")
    if bent := [key for key in _LENS if meta.get(key)]:
        _log.warning("%s: lens distortion %s is ignored; undistort the pictures", index, bent)
    return [_frame(index, number, frame, meta) for number, frame in enumerate(frames)]


def _frame(index: Path, number: int, frame: Any, meta: dict[str, Any]) -> _Frame:
    label = f"{index}: frame {number}"
    if not isinstance(frame, dict):
        raise ValueError(f"{label}: is not an object but {type(frame).__name__}")
    for key in ("file_path", "transform_matrix"):
        if key not in frame:
            raise ValueError(f"{label}: has no '{key}'; it has {sorted(frame)[:6]}")
    if not isinstance(frame["file_path"], str):
        raise ValueError(f"{label}: 'file_path' must be text, got {frame['file_path']!r}")
    label = f"{label} ({frame['file_path']})"
    numbers = {}
    for key in ("camera_angle_x", "camera_angle_y", "fl_x", "fl_y", "cx", "cy", "w", "h"):
        value = frame.get(key, meta.get(key))
        if value is None:
            continue
        if type(value) not in (int, float) or not abs(value) < _MOST:
            raise ValueError(f"{label}: '{key}' must be a number, got {str(value)[:40]!r}")
        numbers[key] = float(value)
    if min(numbers.get("w", 1.0), numbers.get("h", 1.0)) <= 0:
        raise ValueError(f"{label}: 'w' and 'h' must be above zero")
    file = _find(index.parent, frame["file_path"].replace("\\", "/"))
    pose = OURS_FROM_BLENDER @ _rigid(frame["transform_matrix"], label) @ FLIP_YZ
    return _Frame(file, label, pose, numbers)


def _find(folder: Path, name: str) -> Path:
    """The picture; with the first known suffix when the name has none."""
    path = folder / name
    if path.suffix.lower() in _SUFFIXES and path.is_file():
        return path
    for suffix in _SUFFIXES:  # not with_suffix: 'r_0.5' has none
        if (found := path.with_name(path.name + suffix)).is_file():
            return found
    return path if path.suffix.lower() in _SUFFIXES else path.with_name(path.name + ".png")


def _rigid(rows: Any, label: str) -> np.ndarray:
    """A 4x4 rigid motion, checked."""
    try:
        pose = np.array(rows, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        pose = np.zeros(0)
    if pose.shape == (3, 4):
        pose = np.vstack([pose, [0.0, 0.0, 0.0, 1.0]])
    if pose.shape != (4, 4):
        raise ValueError(f"{label}: transform_matrix must be 4 rows of 4 numbers")
    if not (np.abs(pose) < _MOST).all():  # nor is NaN smaller
        raise ValueError(f"{label}: transform_matrix has numbers that are not finite")
    turn = pose[:3, :3]
    off = float(np.abs(turn.T @ turn - np.eye(3)).max())
    if off > 1e-2 or not np.allclose(pose[3], [0, 0, 0, 1]):
        lengths = ", ".join(f"{length:.4g}" for length in np.linalg.norm(turn, axis=0))
        raise ValueError(
            f"{label}: transform_matrix is not a rigid motion (axes of length {lengths});"
            " apply the scale to the scene and export poses without it"
        )
    if np.linalg.det(turn) < 0:
        raise ValueError(f"{label}: transform_matrix mirrors; a camera's axes are right-handed")
    u, _, vt = np.linalg.svd(turn)  # the nearest rotation: files carry few digits
    return np.block([[u @ vt, pose[:3, 3:]], [np.zeros((1, 3)), np.ones((1, 1))]])


def _cameras(frames: list[_Frame], height: int, width: int) -> Cameras:
    focal, centre = [], []
    for frame in frames:
        given = frame.numbers
        # Intrinsics in pixels belong to the stated size, which need not be the file's.
        scale_x, scale_y = width / given.get("w", width), height / given.get("h", height)
        if "fl_x" in given:
            x = given["fl_x"] * scale_x
            y = given["fl_y"] * scale_y if "fl_y" in given else x
        elif "camera_angle_x" in given:
            x = y = _focal(given["camera_angle_x"], width, frame.label)
            if "camera_angle_y" in given and "fl_y" not in given:
                y = _focal(given["camera_angle_y"], height, frame.label)
        else:
            raise ValueError(
                f"{frame.label}: no focal length; give 'camera_angle_x' (radians) or 'fl_x'"
                " (pixels), for the file or for the frame"
            )
        if min(x, y) <= 0:
            raise ValueError(f"{frame.label}: focal length must be above zero, got {x}, {y}")
        focal.append([x, y])
        centre.append(
            [given.get("cx", 0.5 * width / scale_x) * scale_x,
             given.get("cy", 0.5 * height / scale_y) * scale_y]
        )  # fmt: skip
    pose = np.stack([frame.world_from_camera for frame in frames])
    return Cameras(
        torch.tensor(pose, dtype=torch.float32),
        torch.tensor(focal, dtype=torch.float32),
        torch.tensor(centre, dtype=torch.float32),
        height,
        width,
    )


def _focal(angle: float, pixels: int, label: str) -> float:
    if not 0.0 < angle < math.pi:
        raise ValueError(f"{label}: field of view must be in (0, pi) radians, got {angle}")
    return 0.5 * pixels / math.tan(0.5 * angle)
