"""Points of NumPy files (NPZ, NPY) and of KITTI's Velodyne sweeps (.bin)."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from isolux.data.assets.clouds_parts import cut, make_cloud
from isolux.data.assets.clouds_text import cloud_of_table
from isolux.geometry.points.cloud import PointCloud

__all__ = ["read_kitti", "read_npy", "read_npz"]

_KEYS = {
    "points": ("points", "xyz", "x", "pos", "positions", "vertices"),
    "normals": ("normals", "normal", "n"),
    "colors": ("colors", "color", "colours", "rgb"),
    "sensor": ("sensor", "sensors", "viewpoint"),
}
_RATIO = 1100  # deflate's own limit: a constant sensor comes near it


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
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        NotImplementedError,  # zipfile's, of a compression that it does not know
        RuntimeError,
    ) as error:
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


def read_npy(path: Path, data: bytes) -> PointCloud:
    """One array [n, 3], or with the further columns of a text file.

    Raises:
        ValueError: damaged, or of another shape.
    """
    array = _array(path, data, "its array")
    if array.ndim != 2:
        raise ValueError(f"{path}: has shape {list(array.shape)}, expected [n, 3]")
    if not len(array):
        raise ValueError(f"{path}: has no points")
    return cloud_of_table(path, array.astype(np.float64))


def _member(path: Path, box: zipfile.ZipFile, name: str) -> Any:
    info = box.getinfo(name)
    if info.file_size > _RATIO * max(info.compress_size, 1):
        raise ValueError(
            f"{path}: '{cut(name)}' says that it unpacks to {info.file_size} bytes"
        )
    try:
        data = box.read(info)
    except Exception as error:  # zlib's, and a wrong checksum
        raise ValueError(f"{path}: '{cut(name)}' is damaged ({cut(str(error))})") from None
    return _array(path, data, f"'{cut(name)}'")


def _array(path: Path, data: bytes, what: str) -> Any:
    """The array of an NPY file, when its header and its length agree."""
    stream = io.BytesIO(data)
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
    if size * kind.itemsize != (has := len(data) - stream.tell()):
        raise ValueError(
            f"{path}: {what} of shape {list(shape)} needs {size * kind.itemsize} bytes, it has"
            f" {has}"
        )
    flat = np.frombuffer(data, kind, size, stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C")


def read_kitti(path: Path, data: bytes) -> PointCloud:
    """float32 x, y, z and reflectance; the sensor is at the origin.

    Raises:
        ValueError: no whole number of points, or values that are no coordinates.
    """
    if len(data) % 16:
        raise ValueError(
            f"{path}: {len(data)} bytes are no whole number of points (float32 x y z intensity)"
        )
    points = np.frombuffer(data, "<f4").reshape(-1, 4)[:, :3]
    if not bool((np.abs(points) < 1e6).all()):  # false for NaN too
        raise ValueError(f"{path}: is no sweep of float32 x y z intensity: values beyond 1e6")
    return make_cloud(path, points, None, np.zeros(3), None)
