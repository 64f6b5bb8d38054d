"""Points of NumPy files (NPZ, NPY) and of KITTI's Velodyne sweeps (.bin)."""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isolux.data.assets.clouds_parts import cut, make_cloud, part_of_table
from isolux.data.assets.clouds_source import CloudSource, pieces
from isolux.data.assets.clouds_survey import Part
from isolux.geometry.points.cloud import PointCloud

__all__ = ["kitti_count", "kitti_parts", "npy_count", "npy_parts", "read_npz"]

_HEADER = 1 << 17  # bytes: numpy's own headers are far shorter

_KEYS = {
    "points": ("points", "xyz", "x", "pos", "positions", "vertices"),
    "normals": ("normals", "normal", "n"),
    "colors": ("colors", "color", "colours", "rgb"),
    "sensor": ("sensor", "sensors", "viewpoint"),
}
_RATIO = 1100  # deflate's own limit: a constant sensor comes near it


@dataclass(frozen=True)
class _Header:
    """Of an NPY file, whose header and length agree."""

    shape: tuple[int, ...]
    fortran: bool
    kind: Any
    start: int


def read_npz(path: Path, data: bytes) -> PointCloud:
    """Arrays under `points`, `xyz` or `x`; `normals` or `n`; `colors`; `sensor` [3] or [n, 3].

    Raises:
        ValueError: no zip file, no such array, shapes or counts that do not fit.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as box:
            names = {Path(name).stem.lower(): name for name in box.namelist()}
            found: dict[str, Any] = {}
            for part, keys in _KEYS.items():
                key = next((key for key in keys if key in names), None)
                if key is not None:
                    found[part] = _member(path, box, names[key])
    except (zipfile.BadZipFile, zipfile.LargeZipFile, RuntimeError) as error:
        # RuntimeError: made by a version of the format that zipfile does not know.
        raise ValueError(f"{path}: cannot be read as NPZ ({cut(str(error))})") from None
    if "points" not in found:
        there = ", ".join(list(names)[:6]) or "nothing"
        raise ValueError(f"{path}: has no array 'points', 'xyz' or 'x'; it has {cut(there)}")
    for part, array in found.items():
        one = part == "sensor" and array.shape == (3,)
        if not one and (array.ndim != 2 or array.shape[1] != 3):
            raise ValueError(f"{path}: '{part}' has shape {list(array.shape)}, expected [n, 3]")
    return make_cloud(
        path, *(found.get(part) for part in ("points", "normals", "sensor", "colors"))
    )


def npy_parts(source: CloudSource, rows: int | None) -> Iterator[Part]:
    """One array [n, 3], or with the further columns of a text file; at most `rows` at a time.

    Raises:
        ValueError: damaged, or of another shape.
    """
    path = source.path
    head = _header(path, io.BytesIO(source.head(_HEADER)), source.size, "its array")
    if len(head.shape) != 2:
        raise ValueError(f"{path}: has shape {list(head.shape)}, expected [n, 3]")
    if not (count := head.shape[0]):
        raise ValueError(f"{path}: has no points")
    if head.fortran:
        read = _by_columns(source, head, rows)
    else:
        row = head.shape[1] * head.kind.itemsize
        read = pieces(source, head.start, row, count, rows, lambda has: _short(path, row, has))
    for data, number in read:
        table = np.frombuffer(data, head.kind).reshape(number, head.shape[1])
        yield part_of_table(path, table.astype(np.float64))


def npy_count(source: CloudSource) -> int:
    """The number of points that the header says. Raises as `npy_parts`."""
    head = io.BytesIO(source.head(_HEADER))
    return (*_header(source.path, head, source.size, "its array").shape, 0)[0]


def _short(path: Path, row: int, has: int) -> ValueError:
    return ValueError(f"{path}: truncated: {has} bytes of rows of {row}")


def _by_columns(
    source: CloudSource, head: _Header, rows: int | None
) -> Iterator[tuple[Any, int]]:
    """As `pieces`, where column follows column."""
    count, width = head.shape
    if rows is None or source.packed:
        columns = np.frombuffer(source.whole(), head.kind, count * width, head.start)
        table = columns.reshape(width, count)
        for first in range(0, count, rows or count):
            part = np.ascontiguousarray(table[:, first : first + (rows or count)].T)
            yield part, len(part)
        return
    for first in range(0, count, rows):
        number = min(rows, count - first)
        table = np.empty((number, width), head.kind)
        for column in range(width):
            place = head.start + (column * count + first) * head.kind.itemsize
            with source.open(place) as stream:
                data = stream.read(number * head.kind.itemsize)
            table[:, column] = np.frombuffer(data, head.kind, number)
        yield table, number


def _member(path: Path, box: zipfile.ZipFile, name: str) -> Any:
    info = box.getinfo(name)
    if info.file_size > _RATIO * max(info.compress_size, 1):
        raise ValueError(
            f"{path}: '{cut(name)}' says that it unpacks to {info.file_size} bytes"
        )
    if info.flag_bits & 1:
        raise ValueError(f"{path}: '{cut(name)}' is encrypted; unpack and pack it plainly")
    try:
        data = box.read(info)
    except Exception as error:  # zlib's, a wrong checksum, a compression that is not known
        raise ValueError(f"{path}: '{cut(name)}' is damaged ({cut(str(error))})") from None
    return _array(path, data, f"'{cut(name)}'")


def _array(path: Path, data: bytes, what: str) -> Any:
    head = _header(path, io.BytesIO(data), len(data), what)
    flat = np.frombuffer(data, head.kind, offset=head.start)
    return flat.reshape(head.shape, order="F" if head.fortran else "C")


def _header(path: Path, stream: io.BytesIO, length: int, what: str) -> _Header:
    try:
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran, kind = read(stream)
    except (ValueError, OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"{path}: {what} is no NPY array ({cut(str(error))})") from None
    if kind.hasobject or kind.kind not in "fiub":
        raise ValueError(f"{path}: {what} holds {cut(str(kind))}, expected numbers")
    size = 1
    for side in shape:
        size *= side
    if size * kind.itemsize != (has := length - stream.tell()):
        raise ValueError(
            f"{path}: {what} of shape {list(shape)} needs {size * kind.itemsize} bytes, it has"
            f" {has}"
        )
    return _Header(shape, fortran, kind, stream.tell())


def kitti_parts(source: CloudSource, rows: int | None) -> Iterator[Part]:
    """float32 x, y, z and reflectance, at most `rows` at a time; the sensor is at the origin.

    Raises:
        ValueError: no whole number of points, or values that are no coordinates.
    """
    path = source.path
    for data, number in pieces(
        source, 0, 16, kitti_count(source), rows, lambda has: _short(path, 16, has)
    ):
        points = np.frombuffer(data, "<f4").reshape(number, 4)[:, :3]
        if not bool((np.abs(points) < 1e6).all()):  # false for NaN too
            raise ValueError(
                f"{path}: is no sweep of float32 x y z intensity: values beyond 1e6"
            )
        yield Part(points, sensor=np.zeros(3))


def kitti_count(source: CloudSource) -> int:
    """The number of points that the file has room for. Raises as `kitti_parts`."""
    if source.size % 16:
        raise ValueError(
            f"{source.path}: {source.size} bytes are no whole number of points"
            " (float32 x y z intensity)"
        )
    return source.size // 16
