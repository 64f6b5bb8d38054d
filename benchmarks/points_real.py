"""The real scans of points.py: the bunny against its published mesh, others by held-out points.

Without a truth, a tenth of the points is kept from both systems and measured against their
meshes (points_held_out.py). Lengths are in units of the file; the bunny's in longest sides,
like those of other shapes.

Letters: n points.
"""

import argparse
import gzip
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from points_held_out import held_out, split
from points_metrics import Truth, connectedness, surface_errors, truth_of
from points_pictures import Eye, panels, splatted
from points_shapes import Shape, normalised
from points_systems import System, open3d_command, reconstruct, systems_for
from scipy.spatial import cKDTree
from torch import Tensor

from isolux.data.assets.clouds import read_cloud, read_scans
from isolux.data.assets.ply import read_ply
from isolux.geometry.mesh import Mesh
from isolux.geometry.points.clean import cleaned
from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.normals import estimate_normals
from isolux.render.picture import Panel, grid, write_png

__all__ = ["SCENES", "Scene", "run"]

_BUNNY = "stanford_bunny_scans"
_FRAMED = 0.02  # of the points may lie outside a picture, at each side


@dataclass(frozen=True)
class Scene:
    """A file of points, and how it is looked at."""

    file: str  # below pointclouds
    depths: tuple[int, ...]
    eye: Eye  # in the frame of a box of most of the points: middle 0, longest side 1
    sensor: tuple[float, float, float] | None = None  # where the file does not say
    above: float | None = None  # or every point is seen from as far above it
    truth: str | None = None  # a mesh of the same frame


_ORIGIN = (0.0, 0.0, 0.0)
_FROM_ABOVE = Eye((0.7, -0.9, 0.9), up=(0.0, 0.0, 1.0), focal=1.3)
_INTO_A_ROOM = Eye((0.5, -0.7, 0.9), up=(0.0, 0.0, 1.0), focal=1.2, inward=True)
_ALONG_THE_SENSOR = Eye((0.15, 0.1, -1.3), up=(0.0, -1.0, 0.0), focal=1.2)
SCENES = {
    "bunny scans": Scene(
        f"{_BUNNY}/bun.conf",
        (8, 9),
        Eye((-0.3, 0.3, 1.75)),
        truth=f"{_BUNNY}/bun_zipper.ply.gz",
    ),
    "room": Scene("pcl/room_scan1.pcd", (8, 9), _INTO_A_ROOM, sensor=_ORIGIN),
    "kinect 1": Scene("pcl/capture0001.pcd", (8, 9), _ALONG_THE_SENSOR, sensor=_ORIGIN),
    "kinect 2": Scene("pcl/capture0002.pcd", (8, 9), _ALONG_THE_SENSOR, sensor=_ORIGIN),
    "terrain": Scene("isprs_terrain/samp11-utm.pcd", (8, 9), _FROM_ABOVE, above=1000.0),
    "kitti": Scene("kitti/000000.bin", (9, 10), _FROM_ABOVE, sensor=_ORIGIN),
}


def cloud_of(scene: Scene, folder: Path) -> PointCloud:
    """The scene's points, cleaned, without normals, and where they were seen from."""
    path = folder / scene.file
    cloud = read_scans(path) if path.suffix == ".conf" else read_cloud(path, scene.sensor)
    if scene.above is not None:
        up = torch.tensor([0.0, 0.0, scene.above], dtype=torch.float64)
        cloud = PointCloud(cloud.xyz, sensor=cloud.xyz + up)
    return cleaned(cloud)


def _truth(scene: Scene, folder: Path, samples: int) -> Truth | None:
    """The published mesh in its own frame."""
    if scene.truth is None:
        return None
    path = folder / scene.truth
    with tempfile.TemporaryDirectory() as place:
        plain = Path(place, "truth.ply")
        plain.write_bytes(gzip.decompress(path.read_bytes()))
        mesh = read_ply(plain).mesh
    return truth_of(Shape("truth", Mesh(mesh.vertices.double(), mesh.faces)), samples)


@dataclass(frozen=True)
class _Loaded:
    scene: Scene
    cloud: PointCloud  # in units of the longest side about the origin, where there is a truth
    truth: Truth | None
    held: PointCloud | None = None  # points that are kept from the systems


def _load(scene: Scene, folder: Path, samples: int) -> _Loaded:
    cloud, truth = cloud_of(scene, folder), _truth(scene, folder, samples)
    if truth is None:
        kept, held = split(cloud)
        return _Loaded(scene, estimate_normals(kept)[0], None, held)
    cloud = estimate_normals(cloud)[0]
    placed, middle, scale = normalised(truth.shape.mesh.vertices)
    shape = Shape("truth", Mesh(placed, truth.shape.mesh.faces))
    moved = PointCloud((cloud.xyz - middle) * scale, cloud.normals)
    return _Loaded(scene, moved, truth_of(shape, samples))


def _measure(loaded: _Loaded, system: System, open3d: list[str]) -> tuple[dict[str, Any], Mesh]:
    mesh, numbers = reconstruct(system, loaded.cloud, open3d)
    if not len(mesh.faces):
        raise RuntimeError("no triangles")
    row = connectedness(mesh) | numbers
    if loaded.truth is not None:
        row |= surface_errors(mesh, loaded.truth)
    if loaded.held is not None:
        row |= held_out(mesh, loaded.cloud, loaded.held)
    return row, mesh


def run(
    args: argparse.Namespace,
    found: dict[str, Any],
    store: Callable[[], None],
    chosen: Callable[[str], bool],
) -> int:
    """Measure what is chosen and missing in `found`, draw each scene; 1 when a cell failed."""
    failed = 0
    for name, scene in SCENES.items():
        keys = {
            key: system
            for system in systems_for(10**9, 1.0, args.depths or scene.depths)
            if chosen(key := f"{name}/{system.name}")
            and "failed" in found.get(key, {"failed": ""})
        }
        if not keys:
            continue
        loaded = _load(scene, args.data / "pointclouds", args.samples)
        side = float((loaded.cloud.xyz.max(0).values - loaded.cloud.xyz.min(0).values).max())
        sized = {s.name: s for s in systems_for(10**9, side, args.depths or scene.depths)}
        results = []
        for key, system in keys.items():
            sys.stderr.write(f"{key} ({len(loaded.cloud)} points) ...\n")
            try:
                found[key], mesh = _measure(
                    loaded, sized[system.name], open3d_command(args.open3d)
                )
                results.append((system, mesh))
            except RuntimeError as error:
                found[key], failed = {"failed": str(error)}, 1
            store()
        _draw(args.out, name, loaded, results)
    return failed


def _frame(xyz: Tensor) -> tuple[Tensor, float]:
    """Middle [3] and scale of the box of all but the outermost points [n, 3]."""
    low, high = (
        torch.from_numpy(np.quantile(xyz.numpy(), share, axis=0))
        for share in (_FRAMED, 1 - _FRAMED)
    )
    return 0.5 * (low + high), 1.0 / float((high - low).max())


def _draw(out: Path, name: str, loaded: _Loaded, results: list[tuple[System, Mesh]]) -> None:
    """The cloud, the meshes, and how far they are from the truth or else from the points."""
    if not results:
        return
    cloud, eye = loaded.cloud, loaded.scene.eye
    middle, scale = _frame(cloud.xyz)
    placed = [
        (system, Mesh((mesh.vertices - middle) * scale, mesh.faces)) for system, mesh in results
    ]
    tree = cKDTree(cloud.xyz.numpy())

    def error(points: Tensor) -> Tensor:
        world = points / scale + middle
        if loaded.truth is not None:
            return loaded.truth.shape.nearest(world)[0]
        return torch.from_numpy(tree.query(world.numpy())[0]) * scale

    drawn: list[Panel] = panels(placed, eye, error, 0.01)
    half = len(drawn) // 2
    assert cloud.normals is not None
    points = splatted((cloud.xyz - middle) * scale, cloud.normals, eye, 1)
    title = f"{name}: {len(cloud)} points"
    blank = Panel("", torch.full_like(points, 255))
    rows = [[Panel("points", points), *drawn[:half]], [blank, *drawn[half:]]]
    write_png(out / f"points_{name.replace(' ', '_')}.png", grid(rows, title=title))
