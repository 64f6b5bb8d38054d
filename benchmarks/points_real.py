"""The real scans of points.py: the bunny against its published mesh, others by themselves.

Without a truth, two one-sided numbers stand side by side: `residual_*` from the points to the
mesh, and `excess_95` from the mesh to the points, which tells sheets that no point asked for.
Both are in units of the file. The bunny is measured in longest sides, like the other shapes.
"""

import argparse
import gzip
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from points_metrics import Truth, connectedness, surface_errors, truth_of
from points_pictures import Eye, panels
from points_shapes import Shape, normalised
from points_systems import System, open3d_command, reconstruct, systems_for
from scipy.spatial import cKDTree
from torch import Tensor

from isolux.data.assets.clouds import read_cloud, read_scans
from isolux.data.assets.ply import read_ply
from isolux.geometry.bvh import TriangleTree
from isolux.geometry.distance import sample_surface
from isolux.geometry.mesh import Mesh
from isolux.geometry.points.clean import cleaned
from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.normals import estimate_normals
from isolux.render.picture import Panel, grid, write_png

__all__ = ["SCENES", "Scene", "residuals", "run"]

_BUNNY = "stanford_bunny_scans"
_EXCESS_SAMPLES = 50_000


@dataclass(frozen=True)
class Scene:
    """A file of points, and how it is looked at."""

    file: str  # below pointclouds
    depths: tuple[int, ...]
    eye: Eye  # in the frame of the cloud's box: middle 0, longest side 1
    sensor: tuple[float, float, float] | None = None  # where the file does not say
    above: float | None = None  # or every point is seen from as far above it
    truth: str | None = None  # a mesh of the same frame


_SEEN_FROM_ABOVE = Eye((0.9, -1.2, 1.0), up=(0.0, 0.0, 1.0))
_INTO_A_ROOM = Eye((0.5, -0.7, 0.9), up=(0.0, 0.0, 1.0), inward=True)
SCENES = {
    "bunny scans": Scene(
        f"{_BUNNY}/bun.conf",
        (8, 9),
        Eye((-0.3, 0.3, 1.75)),
        truth=f"{_BUNNY}/bun_zipper.ply.gz",
    ),
    "room": Scene("pcl/room_scan1.pcd", (8, 9), _INTO_A_ROOM, sensor=(0.0, 0.0, 0.0)),
    "kinect": Scene(
        "pcl/capture0001.pcd",
        (8, 9),
        Eye((0.15, 0.1, -1.3), up=(0.0, -1.0, 0.0)),
        sensor=(0.0, 0.0, 0.0),
    ),
    "terrain": Scene("isprs_terrain/samp11-utm.pcd", (8, 9), _SEEN_FROM_ABOVE, above=1000.0),
    "kitti": Scene("kitti/000000.bin", (9, 10), _SEEN_FROM_ABOVE, sensor=(0.0, 0.0, 0.0)),
}


def cloud_of(scene: Scene, folder: Path) -> PointCloud:
    """The scene's points, cleaned, with normals turned to where they were seen from."""
    path = folder / scene.file
    cloud = read_scans(path) if path.suffix == ".conf" else read_cloud(path, scene.sensor)
    if scene.above is not None:
        up = torch.tensor([0.0, 0.0, scene.above], dtype=torch.float64)
        cloud = PointCloud(cloud.xyz, sensor=cloud.xyz + up)
    return estimate_normals(cleaned(cloud))[0]


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


def residuals(mesh: Mesh, xyz: Tensor) -> dict[str, float]:
    """How far points [n, 3] are from the mesh, and samples of the mesh from the points."""
    distance, _ = TriangleTree(mesh.vertices, mesh.faces).closest(xyz)
    points, _ = sample_surface(mesh, _EXCESS_SAMPLES, torch.Generator().manual_seed(779))
    away = torch.from_numpy(cKDTree(xyz.numpy()).query(points.numpy(), workers=-1)[0])
    return {
        "residual_median": float(distance.median()),
        "residual_95": float(torch.quantile(distance, 0.95)),
        "excess_95": float(torch.quantile(away, 0.95)),
    }


@dataclass(frozen=True)
class _Loaded:
    scene: Scene
    cloud: PointCloud  # in units of the longest side about the origin, where there is a truth
    truth: Truth | None


def _load(scene: Scene, folder: Path, samples: int) -> _Loaded:
    cloud, truth = cloud_of(scene, folder), _truth(scene, folder, samples)
    if truth is None:
        return _Loaded(scene, cloud, None)
    placed, middle, scale = normalised(truth.shape.mesh.vertices)
    shape = Shape("truth", Mesh(placed, truth.shape.mesh.faces))
    moved = PointCloud((cloud.xyz - middle) * scale, cloud.normals)
    return _Loaded(scene, moved, truth_of(shape, samples))


def _measure(loaded: _Loaded, system: System, open3d: list[str]) -> tuple[dict[str, Any], Mesh]:
    mesh, numbers = reconstruct(system, loaded.cloud, open3d)
    if not len(mesh.faces):
        raise RuntimeError("no triangles")
    row = connectedness(mesh) | residuals(mesh, loaded.cloud.xyz) | numbers
    if loaded.truth is not None:
        row |= surface_errors(mesh, loaded.truth)
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


def _draw(out: Path, name: str, loaded: _Loaded, results: list[tuple[System, Mesh]]) -> None:
    """The meshes, and how far they are from the truth or else from the points."""
    if not results:
        return
    _, middle, scale = normalised(loaded.cloud.xyz)
    placed = [
        (system, Mesh((mesh.vertices - middle) * scale, mesh.faces)) for system, mesh in results
    ]
    tree = cKDTree(loaded.cloud.xyz.numpy())

    def error(points: Tensor) -> Tensor:
        world = points / scale + middle
        if loaded.truth is not None:
            return loaded.truth.shape.nearest(world)[0]
        return torch.from_numpy(tree.query(world.numpy())[0]) * scale

    drawn: list[Panel] = panels(placed, loaded.scene.eye, error, 0.01)
    half = len(drawn) // 2
    picture = grid([drawn[:half], drawn[half:]], title=f"{name}: {len(loaded.cloud)} points")
    write_png(out / f"points_{name.replace(' ', '_')}.png", picture)
