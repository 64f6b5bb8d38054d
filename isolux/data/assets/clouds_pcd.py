"""Points of PCD files (Point Cloud Library, version 0.7): ascii, binary, binary_compressed."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isolux.data.assets.clouds_lines import lines_of, tables
from isolux.data.assets.clouds_parts import cut, cut_reason, part_of_columns, whole
from isolux.data.assets.clouds_source import CloudSource, pieces
from isolux.data.assets.clouds_survey import Part
from isolux.data.assets.lzf import decompress

__all__ = ["pcd_count", "pcd_parts"]

_KEYS = (
    "VERSION", "FIELDS", "COLUMNS", "SIZE", "TYPE", "COUNT",
    "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA",
)  # fmt: skip
_KINDS = {"I": "i", "U": "u", "F": "f"}
_SIZES = {"i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (4, 8)}
_HEADER = 1 << 20  # bytes: no honest header is longer
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


def pcd_parts(source: CloudSource, rows: int | None) -> Iterator[Part]:
    """All points, those without a return (NaN) included, at most `rows` at a time.

    The sensor is at the viewpoint. Most writers leave that at its default, the origin without
    a turn, so the default says nothing, except of a picture of depths (HEIGHT over 1).

    Raises:
        ValueError: a header or body that is damaged; one line that says what was expected.
    """
    head = _head(source)
    known = head.organised or head.viewpoint != _UNSET
    if not known:
        source.say("its VIEWPOINT is the default, so the sensor is not known")
    sensor = head.viewpoint[:3] if known else None
    read = {"ascii": _ascii, "binary": _binary}.get(head.data, _compressed)
    for columns in read(source, head, rows):
        yield part_of_columns(source.path, _unpacked(columns), sensor)


def pcd_count(source: CloudSource) -> int:
    """The number of points that the header says. Raises as `pcd_parts`."""
    return _head(source).points


def _head(source: CloudSource) -> _Header:
    return _header(source.path, source.head(_HEADER), source.size)


def _header(path: Path, data: bytes, size: int) -> _Header:
    """Of a file of `size` bytes that begins with `data`."""
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
    points, height = _points(path, found, size)
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


def _ascii(source: CloudSource, head: _Header, rows: int | None) -> Iterator[dict[str, Any]]:
    width, done = sum(head.counts), 0
    with lines_of(source, head.start) as lines:
        try:
            for table in tables(lines, rows, head.points, ["#"]):
                done += len(table)
                if rows is None and done < head.points:
                    break
                if table.shape[1] != width:
                    raise ValueError(
                        f"a row has {table.shape[1]} numbers, the header says {width}"
                    )
                yield _columns(table, head)
            if done < head.points:
                raise ValueError(f"truncated, it has {done} rows")
        except ValueError as error:
            raise ValueError(
                f"{source.path}: in its {head.points} points: {cut_reason(error)}"
            ) from None


def _columns(table: Any, head: _Header) -> dict[str, Any]:
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


def _binary(source: CloudSource, head: _Header, rows: int | None) -> Iterator[dict[str, Any]]:
    def short(has: int) -> ValueError:
        return ValueError(
            f"{source.path}: truncated: {head.points} points of {head.row} bytes need"
            f" {head.row * head.points} bytes, it has {has}"
        )

    places = np.cumsum(
        [0] + [int(k[2]) * c for k, c in zip(head.kinds, head.counts, strict=True)]
    )
    fields = [
        (name, kind, place)
        for name, kind, count, place in zip(
            head.names, head.kinds, head.counts, places[:-1], strict=True
        )
        if count == 1 and name != "_"
    ]
    for data, number in pieces(source, head.start, head.row, head.points, rows, short):
        table = np.frombuffer(data, np.uint8).reshape(number, head.row)
        yield {
            name: np.ascontiguousarray(table[:, place : place + int(kind[2])]).view(kind)[:, 0]
            for name, kind, place in fields
        }


def _compressed(
    source: CloudSource, head: _Header, rows: int | None
) -> Iterator[dict[str, Any]]:
    """Field after field, each for all points."""
    path, body = source.path, memoryview(source.whole())[head.start :]
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
    for first in range(0, head.points, rows or head.points):
        part = slice(first, first + (rows or head.points))
        yield {name: column[part] for name, column in columns.items()}


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
