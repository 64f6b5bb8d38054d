"""A point cloud in, a mesh out."""

import io
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isolux.backends.cpu import pool
from isolux.confs.points import PointsConf
from isolux.data.assets.clouds import read_cloud
from isolux.data.assets.gltf_write import write_glb
from isolux.data.assets.obj_write import write_obj
from isolux.data.assets.ply import write_ply
from isolux.data.assets.textures import MeshAsset
from isolux.geometry.mesh import Mesh
from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.statistics import mesh_statistics
from isolux.optimize.points import PointsField, Tell, field_of, mesh_of, prepared
from isolux.render.files import write_bytes

__all__ = ["fit_points", "reconstruct"]

Array = Tensor | np.ndarray | Sequence[Sequence[float]]
Places = Array | Sequence[float]  # one for all points, or one for each


def fit_points(
    xyz: Array,
    normals: Array | None,
    sensor: Places | None,
    colors: Array | None,
    conf: PointsConf,
) -> PointsField:
    """As `isolux.fit_points` says."""
    _set_threads(conf)
    points = _rows("xyz", xyz, None, torch.float64)
    cloud = PointCloud(
        points,
        _rows("normals", normals, len(points), torch.float32),
        _places(sensor, len(points)),
        _rows("colors", colors, len(points), torch.float32),
    )
    cloud = prepared(cloud, conf)
    field = field_of(cloud, conf)
    if cloud.colors is not None:
        field.set_colors(cloud.xyz, cloud.colors)
    return field


def reconstruct(
    cloud_path: Path,
    mesh_path: Path,
    conf: PointsConf,
    tell: Tell = lambda text, share: None,
    grid_path: Path | None = None,
    points_path: Path | None = None,
) -> dict[str, Any]:
    """Read a cloud, fit its field, write its mesh.

    Args:
        cloud_path: a file that `read_cloud` knows.
        mesh_path: to be written: .ply (with colours; doubles where a survey's coordinates
            need them), .obj or .glb.
        conf: the settings.
        tell: told what is being done.
        grid_path: for the field's values on a grid: `grid` [x, y, z] at the middles of voxels
            (`mesh.resolution` of them along the longest side, or 128) and `bbox`, the box's
            origin and size.
        points_path: for the points that were used: `x`, `n`.

    Returns:
        What was read and made: points, cell size, the mesh's statistics, seconds.

    Raises:
        ValueError, OSError: what is wrong with file or settings, in one line.
    """
    began = time.monotonic()
    _set_threads(conf)
    tell("reading", 0.0)
    read = read_cloud(cloud_path)
    tell(f"{len(read)} points: cleaning, normals", 0.05)
    cloud = prepared(read, conf)
    field = field_of(cloud, conf, lambda text, share: tell(text, 0.2 + 0.6 * share))
    fitted = time.monotonic()
    tell("drawing the surface", 0.8)
    drawn = mesh_of(field, cloud, conf)
    if not len(drawn.mesh.faces):
        raise ValueError(
            f"{cloud_path}: no surface came out of {len(cloud)} points; give another "
            "voxel_size, mesh.watertight=true, or look at the normals (normals.source)"
        )
    write_mesh(mesh_path, drawn.mesh, drawn.colors)
    if grid_path is not None:
        low, high = field.bounds.double().numpy()
        grid = field.sample_grid(conf.mesh.resolution or 128).float().numpy()
        write_npz(grid_path, {"grid": grid, "bbox": np.stack([low, high - low])})
    if points_path is not None:
        assert cloud.normals is not None
        write_npz(points_path, {"x": cloud.xyz.numpy(), "n": cloud.normals.numpy()})
    tell("done", 1.0)
    return {
        "points": {"read": len(read), "used": len(cloud)},
        "voxel_size": field.voxel_size,
        "mesh": mesh_statistics(drawn.mesh),
        "time_s": {"total": time.monotonic() - began, "until_mesh": fitted - began},
    }


def write_mesh(path: Path, mesh: Mesh, colors: Tensor | None) -> None:
    """A mesh by the suffix of its file."""
    asset = MeshAsset(mesh, None, path.stem, colors)
    match path.suffix.lower():
        case ".ply":
            write_ply(path, mesh, colors)
        case ".obj":
            write_obj(path, asset)
        case ".glb":
            write_glb(path, asset)
        case other:
            raise ValueError(f"{path}: meshes are written as .ply, .obj or .glb, not '{other}'")


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Arrays by name, as numpy reads them."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def _set_threads(conf: PointsConf) -> None:
    torch.set_num_threads(1)  # its sums depend on their number, ours do not
    pool.set_threads(conf.threads or os.cpu_count() or 1)


def _rows(name: str, value: Array | None, count: int | None, dtype: torch.dtype) -> Any:
    """An argument as a tensor [n, 3]."""
    if value is None:
        return None
    tensor = torch.as_tensor(np.asarray(value) if not isinstance(value, Tensor) else value)
    if (
        tensor.dim() != 2
        or tensor.shape[1] != 3
        or (count is not None and len(tensor) != count)
    ):
        need = "[n, 3]" if count is None else f"[{count}, 3]"
        raise ValueError(f"{name}: need an array {need}, got {list(tensor.shape)}")
    return tensor.detach().cpu().to(dtype)


def _places(sensor: Places | None, count: int) -> Tensor | None:
    """One place for all points, or one for each."""
    if sensor is None:
        return None
    tensor = torch.as_tensor(np.asarray(sensor) if not isinstance(sensor, Tensor) else sensor)
    if tensor.dim() == 1:
        tensor = tensor[None].expand(count, -1)
    return _rows("sensor", tensor, count, torch.float64)  # type: ignore[no-any-return]
