"""A point cloud in, a mesh out."""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isolux.backends.cpu import pool
from isolux.confs.points import PointsConf
from isolux.data.assets.cloud_blocks import CloudBlocks
from isolux.data.assets.clouds import read_cloud
from isolux.failure import Failure
from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.tiled.field import TiledField
from isolux.geometry.statistics import mesh_statistics
from isolux.optimize.points import PointsField, Tell, field_of, fitted, mesh_of, strays
from isolux.optimize.points_prepare import prepared
from isolux.optimize.points_tiles import field_of_tiles, is_large, work_folder
from isolux.optimize.points_write import write_mesh, write_npz, write_parts

__all__ = ["Files", "fit_points", "reconstruct"]

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


@dataclass(frozen=True)
class Files:
    """Where things are written beside the mesh; what is None is not."""

    grid: Path | None = None
    """The field's values: `grid` [x, y, z] at the middles of voxels (`mesh.resolution` of them
    along the longest side, or 128) and `bbox`, the box's origin and size."""
    points: Path | None = None
    """The points that were used: `x`, `n`."""
    work: Path | None = None
    """A folder that tiles are worked out in, to be kept. Without one it is beside the mesh,
    and removed when the mesh is written."""
    resume: bool = False
    """Go on in that folder."""


def reconstruct(
    cloud_path: Path,
    mesh_path: Path,
    conf: PointsConf,
    tell: Tell = lambda text, share: None,
    files: Files | None = None,
) -> dict[str, Any]:
    """Read a cloud, fit its field, write its mesh.

    Args:
        cloud_path: a file or folder that `read_cloud` knows.
        mesh_path: to be written: .ply (with colours; doubles where a survey's coordinates
            need them), .obj or .glb.
        conf: the settings.
        tell: told what is being done.
        files: what is written beside it.

    Returns:
        What was read and made: points, cell size, the mesh's statistics, seconds.

    Raises:
        ValueError, OSError: what is wrong with file or settings, in one line.
        Failure: a tile failed more often than it may.
        KeyboardInterrupt: on Ctrl-C; with tiles, it says how to go on.
    """
    began = time.monotonic()
    files = files or Files()
    _set_threads(conf)
    tell("reading", 0.0)
    large, read = is_large(cloud_path, conf), None
    if large is None:
        read = read_cloud(cloud_path)
        large = len(read) > conf.tiles.above
    if large:
        del read
        return _by_tiles(cloud_path, mesh_path, conf, tell, files, began)
    if files.resume:
        raise ValueError(
            f"--resume: {cloud_path} is not cut into tiles, so there is nothing to go on with "
            "(solver=hierarchy and tiles.above=0 cut up every cloud)"
        )
    read = read_cloud(cloud_path) if read is None else read
    tell(f"{len(read)} points: cleaning, normals", 0.05)
    field, cloud = fitted(
        cloud_path, read, conf, lambda text, share: tell(text, 0.2 + 0.6 * share)
    )
    until_mesh = time.monotonic() - began
    tell("drawing the surface", 0.8)
    drawn = mesh_of(field, cloud, conf)
    _check_drawn(cloud_path, len(drawn.mesh.faces), len(cloud), cloud)
    write_mesh(mesh_path, drawn.mesh, drawn.colors)
    if files.grid is not None:
        _write_grid(files.grid, field, conf)
    if files.points is not None:
        assert cloud.normals is not None
        write_npz(files.points, {"x": cloud.xyz.numpy(), "n": cloud.normals.numpy()})
    tell("done", 1.0)
    return {
        "points": {"read": len(read), "used": len(cloud)},
        "voxel_size": field.voxel_size,
        "mesh": mesh_statistics(drawn.mesh),
        "time_s": {"total": time.monotonic() - began, "until_mesh": until_mesh},
    }


def _by_tiles(
    cloud_path: Path, mesh_path: Path, conf: PointsConf, tell: Tell, files: Files, began: float
) -> dict[str, Any]:
    """The same, in the memory of a few tiles."""
    if files.points is not None:
        raise ValueError(
            "--save-points: the points of a cloud that is cut into tiles are never in memory; "
            "leave it out, or raise tiles.above"
        )
    if conf.mesh.adaptive is not None:
        raise ValueError(
            "mesh.adaptive: a cloud that is cut into tiles is drawn in cells of one size; "
            "leave it out, or raise tiles.above"
        )
    folder = files.work or mesh_path.with_name(f"{mesh_path.name}.work")
    with work_folder(folder, files.resume), _told_how_to_go_on(folder):
        cloud = CloudBlocks(cloud_path)
        try:
            field = field_of_tiles(
                cloud, folder, conf, lambda text, share: tell(text, 0.7 * share)
            )
        except ValueError:  # nothing that a corrected command could go on with
            if not (files.work or files.resume):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        fitted = time.monotonic()
        try:
            counts = _drawn_in_parts(cloud_path, mesh_path, field, conf, tell)
            if files.grid is not None:
                _write_grid(files.grid, field, conf)
        except ValueError as error:
            raise ValueError(
                f"{error}; the fit is kept: --work {folder} --resume goes on with it"
            ) from None
        if files.work is None:
            shutil.rmtree(folder, ignore_errors=True)
    tell("done", 1.0)
    return {
        "points": {"read": cloud.points, "used": field.plan.points},
        "tiles": len(field.work.tiles),
        "voxel_size": field.voxel_size,
        "mesh": counts,
        "time_s": {"total": time.monotonic() - began, "until_mesh": fitted - began},
    }


def _drawn_in_parts(
    cloud_path: Path, mesh_path: Path, field: TiledField, conf: PointsConf, tell: Tell
) -> dict[str, int]:
    """Draw and write the field's surface; says how large it is."""
    how = conf.mesh
    with field.mesh_parts(
        how.resolution,
        voxel_size=how.voxel_size,
        refine=how.refine,
        trim=how.trim,
        watertight=how.watertight,
        colors=how.colors,
        progress=lambda text, share: tell(text, 0.7 + 0.25 * share),
    ) as parts:
        _check_drawn(cloud_path, parts.faces, field.plan.points)
        tell(f"writing {parts.faces} triangles", 0.95)
        write_parts(mesh_path, parts, field)
        return {"vertices": parts.vertices, "triangles": parts.faces}


@contextmanager
def _told_how_to_go_on(folder: Path) -> Iterator[None]:
    """What ends a fit of tiles, with a word on how it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted: what is finished stays in {folder}; the same command with --resume "
            "goes on with it"
        ) from None
    except Failure as error:
        raise Failure(f"{error}, with --resume") from error


def _check_drawn(path: Path, faces: int, points: int, cloud: PointCloud | None = None) -> None:
    if not faces:
        more = "" if cloud is None else strays(cloud)
        raise ValueError(
            f"{path}: no surface came out of {points} points; give another "
            f"voxel_size, mesh.watertight=true, or look at the normals (normals.source){more}"
        )


def _write_grid(path: Path, field: PointsField | TiledField, conf: PointsConf) -> None:
    low, high = field.bounds.double().numpy()
    grid = field.sample_grid(conf.mesh.resolution or 128).float().numpy()
    write_npz(path, {"grid": grid, "bbox": np.stack([low, high - low])})


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
