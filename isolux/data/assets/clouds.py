"""Point clouds of whatever format."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from isolux.data.assets.clouds_binary import (
    kitti_count,
    kitti_parts,
    npy_count,
    npy_parts,
    read_npz,
)
from isolux.data.assets.clouds_colmap import read_colmap
from isolux.data.assets.clouds_las import las_count, las_parts
from isolux.data.assets.clouds_parts import cloud_of, read_file
from isolux.data.assets.clouds_pcd import pcd_count, pcd_parts
from isolux.data.assets.clouds_ply import ply_count, ply_parts
from isolux.data.assets.clouds_scans import scan_poses, scanned
from isolux.data.assets.clouds_source import CloudSource
from isolux.data.assets.clouds_survey import Part
from isolux.data.assets.clouds_text import read_obj_cloud, text_lines, text_parts
from isolux.geometry.points.cloud import PointCloud

__all__ = [
    "CLOUDS",
    "Format",
    "files_of",
    "format_of",
    "joined",
    "read_cloud",
    "read_scans",
    "seen_from",
]


@dataclass(frozen=True)
class Format:
    """How the points of a kind of file are read."""

    parts: Callable[[CloudSource, int | None], Iterator[Part]] | None = None
    """At most so many rows at a time, or all at once."""
    count: Callable[[CloudSource], int] | None = None
    """How many they are, without reading them; of text, the number of lines."""
    most: Callable[[CloudSource], int] | None = None
    """No more are there, where counting takes longer."""
    whole: Callable[[Path], PointCloud] | None = None
    """Of what cannot be read in parts."""


_PLY, _PCD = Format(ply_parts, ply_count), Format(pcd_parts, pcd_count)
_LAS, _NPY = Format(las_parts, las_count), Format(npy_parts, npy_count)
_NPZ = Format(whole=lambda path: read_npz(path, read_file(path)))
_OBJ = Format(whole=lambda path: read_obj_cloud(path, read_file(path)))
_TEXT = Format(text_parts, text_lines, lambda source: source.size // 6)  # bytes of "0 0 0"
_TEXTS = (".xyz", ".txt", ".csv", ".asc", ".pts", ".xyzn", ".xyzrgb")
_FORMATS = {
    ".ply": _PLY,
    ".pcd": _PCD,
    ".las": _LAS,
    ".laz": _LAS,
    ".npz": _NPZ,
    ".npy": _NPY,
    ".obj": _OBJ,
    ".bin": Format(kitti_parts, kitti_count),
    **dict.fromkeys(_TEXTS, _TEXT),
}
CLOUDS = (*_FORMATS, ".conf")
"""The suffixes of clouds; each may be followed by `.gz`."""

# What a file begins with says more than its name.
_BEGINNINGS = (
    (b"ply\n", _PLY),
    (b"ply\r", _PLY),
    (b"# .PCD", _PCD),
    (b"LASF", _LAS),
    (b"\x93NUMPY", _NPY),
    (b"PK\x03\x04", _NPZ),
)
_COLMAP = ("points3D.bin", "points3D.txt")
_ASIDE = (".txt", ".csv", ".conf")  # beside clouds of another kind, what is said of them
_LOOKED_FOR = (
    "a cloud (.ply .pcd .las .laz .npz .npy .obj .bin .xyz .txt .csv .asc .pts, also .gz),"
    " scans with poses (.conf), a folder of COLMAP (points3D.bin) or a folder of clouds"
)


def read_cloud(path: Path, sensor: Sequence[float] | None = None) -> PointCloud:
    """The points of a file, by its content and its suffix, or of a folder.

    A folder is COLMAP's, or holds clouds, which are taken one after the other. Rows that are
    not finite stay in (`geometry.points.clean` drops them), and so do the file's units and
    axes.

    Args:
        path: the file or folder.
        sensor: where all points were seen from, in place of what the file says.

    Raises:
        FileNotFoundError: no such file.
        ValueError: what is wrong with it and what was expected, in one line.
        ImportError: the format needs a package that is not installed.
        OSError: it cannot be read.
    """
    path = Path(path)
    cloud = joined([_read(file) for file in files_of(path)])
    return cloud if sensor is None else seen_from(cloud, sensor)


def seen_from(cloud: PointCloud, sensor: Sequence[float]) -> PointCloud:
    """The cloud with one sensor for all points.

    Raises:
        ValueError: no 3 finite numbers.
    """
    place = torch.tensor([float(value) for value in sensor], dtype=torch.float64)
    if place.shape != (3,) or not bool(place.isfinite().all()):
        raise ValueError(f"sensor: need 3 finite numbers, got {list(sensor)}")
    return PointCloud(cloud.xyz, cloud.normals, place.repeat(len(cloud), 1), cloud.colors)


def joined(parts: Sequence[PointCloud]) -> PointCloud:
    """Several clouds as one, with what is known of all of them."""
    if len(parts) == 1:
        return parts[0]

    def all_of(name: str) -> Tensor | None:
        found = [getattr(part, name) for part in parts]
        return None if any(item is None for item in found) else torch.cat(found)

    xyz = torch.cat([part.xyz for part in parts])
    return PointCloud(xyz, all_of("normals"), all_of("sensor"), all_of("colors"))


def files_of(path: Path) -> list[Path]:
    """The files that a path stands for, in the order that they are read in.

    Raises:
        ValueError: a folder without clouds.
    """
    if not path.is_dir():
        return [path]
    places = [path / inner for inner in ("", "0", "sparse/0", "sparse")]
    for place in places:
        for name in _COLMAP:
            if (place / name).is_file():
                return [place / name]
    found = sorted(
        file
        for file in path.iterdir()
        if file.is_file() and not file.name.startswith(".") and _suffix(file) in CLOUDS
    )
    files = [file for file in found if _suffix(file) not in _ASIDE]
    files = files or [file for file in found if _suffix(file) != ".conf"]
    if not files:
        raise ValueError(f"{path}: is a folder without points; looked for {_LOOKED_FOR}")
    return files


def format_of(path: Path) -> tuple[Format, CloudSource | None]:
    """How a file is read, and its bytes, if it can be read in parts.

    Raises:
        ValueError, OSError: as `read_cloud`.
    """
    if path.name in _COLMAP:
        return Format(whole=read_colmap), None
    if (suffix := _suffix(path)) == ".conf":
        return Format(whole=read_scans), None
    source = CloudSource(path)
    head = source.head(8)
    found = next((form for start, form in _BEGINNINGS if head.startswith(start)), None)
    found = found or _FORMATS.get(suffix)
    if found is None:
        raise ValueError(f"{path}: is no cloud; looked for {_LOOKED_FOR}")
    return found, source if found.parts else None


def _suffix(path: Path) -> str:
    names = [suffix.lower() for suffix in path.suffixes]
    return next((name for name in reversed(names) if name != ".gz"), "")


def _read(path: Path) -> PointCloud:
    form, source = format_of(path)
    if form.whole is not None:
        return form.whole(path)
    assert form.parts is not None
    assert source is not None
    return cloud_of(path, form.parts(source, None))


def read_scans(conf: Path) -> PointCloud:
    """The range scans that a `bmesh` file names, in one world, with a sensor per point.

    Raises:
        FileNotFoundError: no such file, or a scan of it is absent.
        ValueError: a line or a scan that cannot be read.
    """
    conf = Path(conf)
    text = read_file(conf).decode("utf-8", "replace")
    return scanned(scan_poses(conf, text), read_cloud)
