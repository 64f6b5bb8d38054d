"""What the readers of clouds share: the bytes of a file, and columns made into a cloud.

Letters: n points.
"""

import logging
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from isolux.geometry.points.cloud import PointCloud
from isolux.render.colour import linear_from_srgb

__all__ = [
    "cloud_of_columns",
    "cut",
    "cut_reason",
    "linear_colors",
    "make_cloud",
    "read_file",
    "whole",
]

_log = logging.getLogger(__name__)

_GZIP = b"\x1f\x8b"
_RATIO = 200  # deflate reaches 1032; coordinates never come near this

# The names that a quantity goes by, in the order of preference.
_XYZ = (("x", "y", "z"),)
_NORMAL = (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z"))
_COLOR = (
    ("red", "green", "blue"),
    ("r", "g", "b"),
    ("diffuse_red", "diffuse_green", "diffuse_blue"),
)
_SENSOR = (("sensor_x", "sensor_y", "sensor_z"), ("vp_x", "vp_y", "vp_z"))


def read_file(path: Path) -> bytes:
    """The bytes of a file, unpacked if gzip'd.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder, empty, damaged gzip, or one that grows beyond all measure.
        OSError: it cannot be read; one line.
    """
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, expected a file with points")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such cloud")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise type(error)(f"{path}: cannot be read: {error.strerror}") from None
    if data.startswith(_GZIP):
        data = _unpacked(path, data)
    if not data:
        raise ValueError(f"{path}: is empty, expected points")
    return data


def _unpacked(path: Path, data: bytes) -> bytes:
    """All members of a gzip file."""
    room = _RATIO * len(data) + (1 << 20)
    parts: list[bytes] = []
    while data.startswith(_GZIP):
        stream = zlib.decompressobj(wbits=31)
        try:
            parts.append(stream.decompress(data, max(room, 1)))
        except zlib.error as error:
            raise ValueError(f"{path}: damaged gzip ({error})") from None
        room -= len(parts[-1])
        if room <= 0:
            raise ValueError(f"{path}: unpacks to more than {_RATIO} times its size, refused")
        if not stream.eof:
            raise ValueError(f"{path}: truncated gzip, ends after {sum(map(len, parts))} bytes")
        data = stream.unused_data
    return b"".join(parts)


def cut(text: str | bytes) -> str:
    """What a message shows of a text: one short line."""
    if isinstance(text, bytes):
        text = text[:80].decode("latin-1")
    text = " ".join("".join(c if c.isprintable() else " " for c in text[:80]).split())
    return text if len(text) <= 40 else f"{text[:37]}..."


def cut_reason(error: Exception) -> str:
    """What numpy says of a table, without its advice."""
    return str(error).split(";")[0].split("\n")[0].rstrip(".")


def whole(path: Path, text: str, what: str, most: int) -> int:
    """A count in a header.

    Raises:
        ValueError: no number, negative, or more than the file could hold.
    """
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise ValueError(f"{path}: {what} is '{cut(text)}', expected a whole number")
    if (value := int(text)) > most:
        raise ValueError(f"{path}: {what} is {value}, but the file has room for {most} at most")
    return value


def cloud_of_columns(path: Path, columns: Mapping[str, Any], sensor: Any = None) -> PointCloud:
    """The cloud of named columns [n], by the usual names; other columns are left out.

    Raises:
        ValueError: a coordinate is absent, or what `make_cloud` refuses.
    """
    named = {name.lower(): column for name, column in columns.items()}
    xyz = _triple(path, named, _XYZ)
    if xyz is None:
        there = ", ".join(list(columns)[:8]) or "nothing"
        raise ValueError(f"{path}: has no x, y, z; it has {cut(there)}")
    given = _triple(path, named, _SENSOR)
    return make_cloud(
        path,
        xyz,
        _triple(path, named, _NORMAL),
        sensor if given is None else given,
        _triple(path, named, _COLOR),
    )


def _triple(
    path: Path, columns: Mapping[str, Any], choices: tuple[tuple[str, ...], ...]
) -> Any:
    """Three columns as [n, 3], of their common type; None when none of them is there."""
    for names in choices:
        found = [name for name in names if name in columns]
        if len(found) == 3:
            return np.stack([columns[name] for name in names], axis=1)
        # A lone r may be a range, a lone b anything: only x, y, z must be whole.
        if found and choices is _XYZ:
            lost = ", ".join(sorted(set(names) - set(found)))
            raise ValueError(f"{path}: has {', '.join(found)} but no {lost}")
    return None


def make_cloud(path: Path, xyz: Any, normals: Any, sensor: Any, colors: Any) -> PointCloud:
    """A cloud of arrays [n, 3] as files have them; what is not known is None.

    Args:
        path: named by messages.
        xyz: positions of any number type.
        normals: directions of any length; lengths under 1e-5 become zero vectors.
        sensor: positions [n, 3], or one [3].
        colors: sRGB, scaled as their type and values tell (bytes, 16 bits, or [0, 1]).

    Raises:
        ValueError: no point, none that is finite, or a count that differs.
    """
    points = torch.from_numpy(np.require(xyz, np.float64, ("C", "W")))
    if not len(points):
        raise ValueError(f"{path}: has no points")
    if not bool(points.isfinite().all(1).any()):
        raise ValueError(f"{path}: none of its {len(points)} points is finite")
    for name, part in (("normals", normals), ("colours", colors)):
        if part is not None and len(part) != len(points):
            raise ValueError(f"{path}: {len(part)} {name} for {len(points)} points")
    return PointCloud(
        points,
        None if normals is None else _unit(path, normals),
        None if sensor is None else _seen_from(path, sensor, len(points)),
        None if colors is None else linear_colors(colors),
    )


def _unit(path: Path, normals: Any) -> Float[Tensor, "n 3"] | None:
    values = torch.from_numpy(np.require(normals, np.float64, ("C", "W")))
    length = values.norm(dim=1, keepdim=True)
    if not bool((length > 1e-5).any()):
        _log.warning("%s: its normals are all zero, so they are left out", path)
        return None
    # NaN stays NaN: such a row is dropped by cleaning, and told of.
    return torch.where(length <= 1e-5, 0.0, values / length.clamp_min(1e-5)).float()


def _seen_from(path: Path, sensor: Any, count: int) -> Float[Tensor, "n 3"]:
    place = np.asarray(sensor, dtype=np.float64)
    if place.shape == (3,):
        place = np.broadcast_to(place, (count, 3))
    if place.shape != (count, 3):
        raise ValueError(
            f"{path}: the sensor has shape {list(place.shape)}, expected [3] or [{count}, 3]"
        )
    return torch.from_numpy(np.require(place, np.float64, ("C", "W")))


def linear_colors(srgb: Any) -> Float[Tensor, "n 3"]:
    """Linear colours in [0, 1], float32, of sRGB ones [n, 3] of any number type."""
    values = np.asarray(srgb)
    most = (
        0.0 if not values.size else float(np.nanmax(np.where(np.isfinite(values), values, 0)))
    )
    if values.dtype.kind == "f" and most <= 1.0:
        scale = 1.0
    elif values.dtype.itemsize == 1 or most <= 255:  # some write bytes into wider types
        scale = 255.0
    else:
        scale = 65535.0
    unit = np.nan_to_num(values.astype(np.float32) / np.float32(scale), nan=0.0).clip(0.0, 1.0)
    return linear_from_srgb(torch.from_numpy(np.ascontiguousarray(unit)))
