"""Points of PCD files (Point Cloud Library, version 0.7): ascii, binary, binary_compressed."""

import io
import logging
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isolux.data.assets.clouds_parts import cloud_of_columns, cut, cut_reason, whole
from isolux.data.assets.lzf import decompress
from isolux.geometry.points.cloud import PointCloud

__all__ = ["read_pcd"]

_log = logging.getLogger(__name__)
_KEYS = (
    "VERSION", "FIELDS", "COLUMNS", "SIZE", "TYPE", "COUNT",
    "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA",
)  # fmt: skip
_KINDS = {"I": "i", "U": "u", "F": "f"}
_SIZES = {"i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (4, 8)}
_UNSET = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]  # what writers put when they know nothing


@dataclass(frozen=True)
class _Header:
    names: list[str]
    kinds: list[str]  # numpy's types, little-endian
    counts: list[int]
    points: int
    organised: bool
    viewpoint: list[float]
    data: str
    start: int

    @property
    def row(self) -> int:
        """Bytes of a point."""
        return sum(
            int(kind[2]) * count for kind, count in zip(self.kinds, self.counts, strict=True)
        )


def read_pcd(path: Path, data: bytes) -> PointCloud:
    """All points, those without a return (NaN) included.

    The sensor is at the viewpoint. Most writers leave that at its default, the origin without
    a turn, so the default says nothing, except of a picture of depths (HEIGHT over 1).

    Raises:
        ValueError: a header or body that is damaged; one line that says what was expected.
    """
    head = _header(path, data)
    body = memoryview(data)[head.start :]
    match head.data:
        case "ascii":
            columns = _ascii(path, body, head)
        case "binary":
            columns = _binary(path, body, head)
        case _:
            columns = _compressed(path, body, head)
    known = head.organised or head.viewpoint != _UNSET
    if not known:
        _log.info("%s: its VIEWPOINT is the default, so the sensor is not known", path)
    return cloud_of_columns(path, _unpacked(columns), head.viewpoint[:3] if known else None)


def _header(path: Path, data: bytes) -> _Header:
    found: dict[str, list[str]] = {}
    at = 0
    while "DATA" not in found:
        end = data.find(b"\n", at, at + (1 << 16))
        if end < 0:
            raise ValueError(f"{path}: the PCD header has no DATA line")
        line = data[at:end].decode("latin-1").strip()
        at = end + 1
        if not line or line.startswith("#"):
            continue
        key, *words = line.split()
        if key not in _KEYS:
            raise ValueError(f"{path}: cannot read the PCD header line '{cut(line)}'")
        found["FIELDS" if key == "COLUMNS" else key] = words
    names = found.get("FIELDS", [])
    if not names:
        raise ValueError(f"{path}: the PCD header has no FIELDS")
    each = [found.get(key, ["1"] * len(names)) for key in ("SIZE", "TYPE", "COUNT")]
    for key, words in zip(("SIZE", "TYPE", "COUNT"), each, strict=True):
        if len(words) != len(names):
            raise ValueError(f"{path}: {key} has {len(words)} entries for {len(names)} fields")
    kinds = [_kind(path, *item) for item in zip(names, each[0], each[1], strict=True)]
    counts = [
        whole(path, word, f"COUNT of {cut(name)}", 1 << 16)
        for name, word in zip(names, each[2], strict=True)
    ]
    points, height = _points(path, found, len(data))
    method = (found["DATA"] or [""])[0].lower()
    if method not in ("ascii", "binary", "binary_compressed"):
        raise ValueError(
            f"{path}: DATA is '{cut(method)}', expected ascii, binary or binary_compressed"
        )
    view = _viewpoint(path, found.get("VIEWPOINT"))
    return _Header(names, kinds, counts, points, height > 1, view, method, at)


def _kind(path: Path, name: str, size: str, kind: str) -> str:
    letter = _KINDS.get(kind)
    if letter is None or not size.isdigit() or int(size[:3]) not in _SIZES[letter]:
        raise ValueError(
            f"{path}: field {cut(name)} has TYPE {cut(kind)} and SIZE {cut(size)}, expected"
            " I or U of 1, 2, 4, 8 or F of 4, 8"
        )
    return f"<{letter}{size}"


def _points(path: Path, found: dict[str, list[str]], most: int) -> tuple[int, int]:
    """The number of points, and the rows that they stand in."""
    # LZF makes 88 bytes of one.
    size = {
        key: whole(path, " ".join(found[key]), key, 88 * most)
        for key in ("WIDTH", "HEIGHT", "POINTS")
        if key in found
    }
    if "WIDTH" not in size and "POINTS" not in size:
        raise ValueError(f"{path}: the PCD header has neither WIDTH nor POINTS")
    height = size.get("HEIGHT", 1)
    area = size["WIDTH"] * height if "WIDTH" in size else size["POINTS"]
    if (points := size.get("POINTS", area)) != area:
        raise ValueError(f"{path}: POINTS is {points}, but WIDTH times HEIGHT is {area}")
    if not points:
        raise ValueError(f"{path}: has no points (POINTS 0)")
    return points, height


def _viewpoint(path: Path, words: list[str] | None) -> list[float]:
    if words is None:
        return _UNSET
    try:
        view = [float(word) for word in words]
    except ValueError:
        view = []
    if len(view) != 7 or not np.isfinite(view).all():
        raise ValueError(f"{path}: VIEWPOINT is '{cut(' '.join(words))}', expected 7 numbers")
    return view


def _ascii(path: Path, body: memoryview, head: _Header) -> dict[str, Any]:
    width = sum(head.counts)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a body without lines
            table = np.loadtxt(io.BytesIO(body), ndmin=2, max_rows=head.points, comments="#")
        if len(table) < head.points:
            raise ValueError(f"truncated, it has {len(table)} rows")
        if table.shape[1] != width:
            raise ValueError(f"a row has {table.shape[1]} numbers, the header says {width}")
    except ValueError as error:
        raise ValueError(f"{path}: in its {head.points} points: {cut_reason(error)}") from None
    columns: dict[str, Any] = {}
    at = 0
    for name, kind, count in zip(head.names, head.kinds, head.counts, strict=True):
        column = table[:, at]
        at += count
        if count != 1 or name == "_":
            continue
        if kind[1] == "f" or not np.isfinite(column).all():
            columns[name] = column.astype(kind) if name in ("rgb", "rgba") else column
        else:
            columns[name] = np.rint(column).astype(np.int64).astype(kind)
    return columns


def _binary(path: Path, body: memoryview, head: _Header) -> dict[str, Any]:
    if len(body) < (needs := head.row * head.points):
        raise ValueError(
            f"{path}: truncated: {head.points} points of {head.row} bytes need {needs} bytes,"
            f" it has {len(body)}"
        )
    places = np.cumsum(
        [0] + [int(k[2]) * c for k, c in zip(head.kinds, head.counts, strict=True)]
    )
    rows = np.frombuffer(body, np.uint8, needs).reshape(head.points, head.row)
    return {
        name: np.ascontiguousarray(rows[:, place : place + int(kind[2])]).view(kind)[:, 0]
        for name, kind, count, place in zip(
            head.names, head.kinds, head.counts, places[:-1], strict=True
        )
        if count == 1 and name != "_"
    }


def _compressed(path: Path, body: memoryview, head: _Header) -> dict[str, Any]:
    """Field after field, each for all points."""
    if len(body) < 8:
        raise ValueError(f"{path}: truncated: the sizes of the compressed data are absent")
    packed, size = struct.unpack("<II", body[:8])
    if size != head.row * head.points:
        raise ValueError(
            f"{path}: {head.points} points of {head.row} bytes are {head.row * head.points}"
            f" bytes, the compressed data says {size}"
        )
    if len(body) < 8 + packed:
        raise ValueError(
            f"{path}: truncated: {packed} bytes of compressed data, it has {len(body) - 8}"
        )
    try:
        plain = decompress(bytes(body[8 : 8 + packed]), size)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    columns, at = {}, 0
    for name, kind, count in zip(head.names, head.kinds, head.counts, strict=True):
        if count == 1 and name != "_":
            columns[name] = np.frombuffer(plain, kind, head.points, at)
        at += int(kind[2]) * count * head.points
    return columns


def _unpacked(columns: dict[str, Any]) -> dict[str, Any]:
    """Colours out of the four bytes that they are packed in, a float's or an integer's."""
    for name in ("rgb", "rgba"):
        packed = columns.get(name)
        if packed is not None and packed.dtype.itemsize == 4:
            bits = np.ascontiguousarray(packed).view(np.uint32)
            shifted = {"red": 16, "green": 8, "blue": 0}
            return columns | {
                key: ((bits >> np.uint32(shift)) & np.uint32(255)).astype(np.uint8)
                for key, shift in shifted.items()
            }
    return columns
