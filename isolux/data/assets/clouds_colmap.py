"""COLMAP's sparse points, with the place each was seen from.

Letters: n points, i images, t entries of tracks (an image that saw a point).
"""

import logging
import struct
from pathlib import Path
from typing import Any

import numpy as np

from isolux.backends.cpu.jit import kernel
from isolux.data.assets.clouds_parts import cut, make_cloud, read_file
from isolux.geometry.points.cloud import PointCloud

__all__ = ["read_colmap"]

_log = logging.getLogger(__name__)
_HEAD = 51  # bytes of a point before its track: id, position, colour, error, length


def read_colmap(points: Path) -> PointCloud:
    """The points of `points3D.bin` or `points3D.txt`, in the reconstruction's own world.

    Of the cameras that saw a point, its sensor is the one nearest to their mean direction:
    the surface there faces all of them. Without `images.bin` or `images.txt` beside the file
    the sensor is not known.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, or without points.
    """
    data = read_file(points)
    binary = points.suffix.lower() == ".bin"
    xyz, rgb, length, track = (_points_bin if binary else _points_txt)(points, data)
    images = next(
        (
            file
            for end in (".bin", ".txt")
            if (file := points.parent / f"images{end}").is_file()
        ),
        None,
    )
    if not len(xyz):
        raise ValueError(f"{points}: has no points")
    if images is None:
        _log.warning("%s: no images.bin or images.txt beside it, so no sensors", points)
        return make_cloud(points, xyz, None, None, rgb)
    if blind := int((length == 0).sum()):  # made by another program, which had no tracks
        _log.warning("%s: %d points were seen by no image, so no sensors", points, blind)
        return make_cloud(points, xyz, None, None, rgb)
    read = _centres_bin if images.suffix == ".bin" else _centres_txt
    centres = read(images, read_file(images))
    return make_cloud(points, xyz, None, _sensors(points, xyz, length, track, centres), rgb)


def _sensors(path: Path, xyz: Any, length: Any, track: Any, centres: dict[int, Any]) -> Any:
    """Positions [n, 3]."""
    numbers = np.array(sorted(centres), dtype=np.int64)
    if not len(numbers):
        raise ValueError(f"{path}: no image beside it has a pose")
    place = np.minimum(np.searchsorted(numbers, track), len(numbers) - 1)
    if (lost := numbers[place] != track).any():
        raise ValueError(f"{path}: image {int(track[lost][0])} saw a point but has no pose")
    table = np.array([centres[int(number)] for number in numbers])
    owner = np.repeat(np.arange(len(xyz)), length)
    rays = table[place] - xyz[owner]
    rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-300)
    start = np.concatenate([[0], np.cumsum(length)[:-1]])
    mean = np.add.reduceat(rays, start, axis=0)
    score = (rays * mean[owner]).sum(1)
    # The first entry of each point after a stable sort by falling score is its best.
    order = np.lexsort((-score, owner))
    return table[place[order[start]]]


def _points_bin(path: Path, data: bytes) -> tuple[Any, Any, Any, Any]:
    count = _count(path, data, _HEAD, "points")
    if not count:
        raise ValueError(f"{path}: has no points")
    raw = np.frombuffer(data, np.uint8)
    starts = np.empty(count, np.int64)
    if _walk_points(raw, starts) != len(raw):
        raise ValueError(f"{path}: truncated or damaged: {count} points do not fill the file")
    rows = raw[starts[:, None] + np.arange(_HEAD)]
    xyz = np.ascontiguousarray(rows[:, 8:32]).view("<f8")
    length = np.ascontiguousarray(rows[:, 43:51]).view("<u8")[:, 0].astype(np.int64)
    # Entries are pairs of 4 bytes; the first is the image's number.
    first = np.concatenate([[0], np.cumsum(length)[:-1]])
    inner = np.arange(int(length.sum())) - np.repeat(first, length)
    at = np.repeat(starts + _HEAD, length) + 8 * inner
    track = raw[at[:, None] + np.arange(4)].view("<u4")[:, 0].astype(np.int64)
    return xyz, rows[:, 32:35], length, track


@kernel
def _walk_points(raw: Any, starts: Any) -> int:
    """Where each point's record begins; returns where the last one ends, or -1."""
    at = 8
    for i in range(len(starts)):
        if at + 51 > len(raw):
            return -1
        starts[i] = at
        length = 0
        for byte in range(7, -1, -1):
            if length > 1 << 40:
                return -1
            length = length * 256 + int(raw[at + 43 + byte])
        at += 51 + 8 * length
        if at > len(raw):
            return -1
    return at


def _count(path: Path, data: bytes, least: int, what: str) -> int:
    if len(data) < 8:
        raise ValueError(f"{path}: truncated: {len(data)} bytes")
    (count,) = struct.unpack_from("<Q", data)
    if count * least > len(data):
        raise ValueError(f"{path}: says {count} {what}, it has {len(data)} bytes")
    return int(count)


def _centre(path: Path, number: int, values: Any) -> Any:
    """Where a camera stands, of w, x, y, z of its rotation and of its translation."""
    w, x, y, z = np.asarray(values[:4]) / max(float(np.linalg.norm(values[:4])), 1e-300)
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    centre = -turn.T @ np.asarray(values[4:7])
    if not np.isfinite(centre).all():
        raise ValueError(f"{path}: the pose of image {number} is not finite")
    return centre


def _centres_bin(path: Path, data: bytes) -> dict[int, Any]:
    count = _count(path, data, 73, "images")
    centres: dict[int, Any] = {}
    at = 8
    for _ in range(count):
        end = data.find(b"\0", at + 64, at + 64 + 4096)  # of the file's name
        if end < 0 or end + 9 > len(data):
            raise ValueError(f"{path}: truncated or damaged after {len(centres)} images")
        number, *pose = struct.unpack_from("<I7d", data, at)
        centres[number] = _centre(path, number, pose)
        at = end + 9 + 24 * struct.unpack_from("<Q", data, end + 1)[0]
        if at > len(data):
            raise ValueError(f"{path}: truncated after {len(centres)} images")
    return centres


def _centres_txt(path: Path, data: bytes) -> dict[int, Any]:
    lines = data.decode("utf-8", "replace").splitlines()
    rows = [line for line in lines if not line.startswith("#")]
    centres: dict[int, Any] = {}
    for line in rows[::2]:  # every second line holds an image's points, or nothing
        words = line.split()
        if not words and line is rows[-1]:
            continue
        try:
            number, pose = int(words[0]), [float(word) for word in words[1:8]]
            if len(pose) != 7:
                raise ValueError
        except (ValueError, IndexError):
            raise ValueError(f"{path}: cannot read the image '{cut(line)}'") from None
        centres[number] = _centre(path, number, pose)
    return centres


def _points_txt(path: Path, data: bytes) -> tuple[Any, Any, Any, Any]:
    rows, colors, length = [], [], []
    track: list[int] = []
    for line in data.decode("utf-8", "replace").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            if len(words) < 8 or len(words) % 2:
                raise ValueError
            rows.append([float(word) for word in words[1:4]])
            colors.append([min(max(int(word), 0), 255) for word in words[4:7]])
            seen = [int(word) for word in words[8::2]]
        except ValueError:
            raise ValueError(f"{path}: cannot read the point '{cut(line)}'") from None
        length.append(len(seen))
        track += seen
    return (
        np.array(rows, dtype=np.float64).reshape(-1, 3),
        np.array(colors, dtype=np.uint8).reshape(-1, 3),
        np.array(length, dtype=np.int64),
        np.array(track, dtype=np.int64),
    )
