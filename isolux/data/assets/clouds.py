"""Point clouds of whatever format."""

from collections.abc import Sequence
from pathlib import Path

import torch

from isolux.data.assets.clouds_binary import read_kitti, read_npy, read_npz
from isolux.data.assets.clouds_colmap import read_colmap
from isolux.data.assets.clouds_las import read_las
from isolux.data.assets.clouds_parts import read_file
from isolux.data.assets.clouds_pcd import read_pcd
from isolux.data.assets.clouds_ply import read_ply_cloud
from isolux.data.assets.clouds_scans import scan_poses, scanned
from isolux.data.assets.clouds_text import read_obj_cloud, read_text
from isolux.geometry.points.cloud import PointCloud

__all__ = ["CLOUDS", "read_cloud", "read_scans"]

_READERS = {
    ".ply": read_ply_cloud,
    ".pcd": read_pcd,
    ".las": read_las,
    ".laz": read_las,
    ".npz": read_npz,
    ".npy": read_npy,
    ".obj": read_obj_cloud,
    ".bin": read_kitti,
    **dict.fromkeys((".xyz", ".txt", ".csv", ".asc", ".pts", ".xyzn", ".xyzrgb"), read_text),
}
CLOUDS = (*_READERS, ".conf")
"""The suffixes of clouds; each may be followed by `.gz`."""

# What a file begins with says more than its name.
_BEGINNINGS = (
    (b"ply\n", read_ply_cloud),
    (b"ply\r", read_ply_cloud),
    (b"# .PCD", read_pcd),
    (b"LASF", read_las),
    (b"\x93NUMPY", read_npy),
    (b"PK\x03\x04", read_npz),
)
_COLMAP = ("points3D.bin", "points3D.txt")
_LOOKED_FOR = (
    "a cloud (.ply .pcd .las .laz .npz .npy .obj .bin .xyz .txt .csv .asc .pts, also .gz),"
    " scans with poses (.conf) or a folder of COLMAP (points3D.bin)"
)


def read_cloud(path: Path, sensor: Sequence[float] | None = None) -> PointCloud:
    """The points of a file, by its content and its suffix, or of a folder of COLMAP.

    Rows that are not finite stay in (`geometry.points.clean` drops them), and so do the
    file's units and axes.

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
    cloud = _read(path)
    if sensor is None:
        return cloud
    place = torch.tensor([float(value) for value in sensor], dtype=torch.float64)
    if place.shape != (3,) or not bool(place.isfinite().all()):
        raise ValueError(f"sensor: need 3 finite numbers, got {list(sensor)}")
    return PointCloud(cloud.xyz, cloud.normals, place.repeat(len(cloud), 1), cloud.colors)


def _read(path: Path) -> PointCloud:
    if path.is_dir():
        places = [path / inner for inner in ("", "0", "sparse/0", "sparse")]
        found = [p / name for p in places for name in _COLMAP if (p / name).is_file()]
        if not found:
            raise ValueError(f"{path}: is a folder without points; looked for {_LOOKED_FOR}")
        return read_colmap(found[0])
    names = [suffix.lower() for suffix in path.suffixes]
    suffix = next((name for name in reversed(names) if name != ".gz"), "")
    if path.name in _COLMAP:
        return read_colmap(path)
    if suffix == ".conf":
        return read_scans(path)
    data = read_file(path)
    for beginning, reader in _BEGINNINGS:
        if data.startswith(beginning):
            return reader(path, data)
    if suffix not in _READERS:
        raise ValueError(f"{path}: is no cloud; looked for {_LOOKED_FOR}")
    return _READERS[suffix](path, data)


def read_scans(conf: Path) -> PointCloud:
    """The range scans that a `bmesh` file names, in one world, with a sensor per point.

    Raises:
        FileNotFoundError: no such file, or a scan of it is absent.
        ValueError: a line or a scan that cannot be read.
    """
    conf = Path(conf)
    text = read_file(conf).decode("utf-8", "replace")
    return scanned(scan_poses(conf, text), read_cloud)
