"""Cells of several sizes beside cells of one: triangles, errors, seconds, and a picture.

    python benchmarks/points_adaptive.py [--data DATA] [--out TABLE.md]
    python benchmarks/points_adaptive.py --picture docs/pictures/points_adaptive.png

DATA holds pointclouds/pcl/room_scan1.pcd, a room; without it the shapes by formula run alone.
Each shape is fitted once and drawn in each of the ways, so that only the drawing differs.
Errors are in units of the longest side; of the room, whose truth is not known, the distance
from the points.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from points_clouds import Sampling, cloud_of
from points_metrics import surface_errors, truth_of
from points_pictures import Eye, shaded
from points_shapes import load

from isolux import backends
from isolux.data.assets.clouds import read_cloud
from isolux.geometry.bvh import TriangleTree
from isolux.geometry.mesh import Mesh
from isolux.geometry.points.hierarchy import fit_hierarchy
from isolux.geometry.points.hierarchy_field import HierarchyField
from isolux.geometry.points.normals import estimate_normals
from isolux.render.gbuffer import Surface, draw_surface
from isolux.render.picture import Panel, grid, write_png

SHAPES = (
    ("gear", Sampling(100_000)),
    ("gear", Sampling(100_000, 0.25)),
    ("knot", Sampling(100_000)),
    ("knot", Sampling(100_000, 0.5)),
)
WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"adaptive": 0.02},
    {"adaptive": 0.05},
    {"adaptive": 0.1},
    {"refine": 1},
    {"refine": 1, "adaptive": 0.02},
)
ROOM = "pointclouds/pcl/room_scan1.pcd"
HEAD = (
    "| cloud | cells | triangles | error | largest | normals | s |\n"
    "|---|---|--:|--:|--:|--:|--:|"
)
_LINE, _INK = 1.1, (20.0, 40.0, 90.0)  # an edge's half width in pixels of the drawing, colour
_FINER = 3  # pixels of the drawing along one of the picture
_SHOWN = ("gear", Sampling(100_000), 0.05)


def name_of(way: dict[str, Any]) -> str:
    """In a table's words."""
    words = ["halved"] if "refine" in way else []
    words += [f"adaptive {way['adaptive']:g}" if "adaptive" in way else "of one size"]
    return ", ".join(words)


def drawn(field: HierarchyField, way: dict[str, Any]) -> tuple[Mesh, float]:
    """A mesh and the user CPU seconds that it took, the second time."""
    for _ in range(2):
        start = os.times().user
        mesh = field.extract_mesh(**way)
        taken = os.times().user - start
    return mesh, taken


def shape_rows() -> Iterator[str]:
    """Of the shapes by formula."""
    for name, sampling in SHAPES:
        shape = load(name, None)
        truth = truth_of(shape)
        field = fit_hierarchy(cloud_of(shape, sampling))
        for way in WAYS:
            mesh, taken = drawn(field, way)
            e = surface_errors(mesh, truth)
            yield (
                f"| {name}, {sampling.noise:g} % | {name_of(way)} | {len(mesh.faces):,} "
                f"| {1e5 * e['cd']:.2f}e-5 | {1e5 * e['hausdorff']:.1f}e-5 "
                f"| {e['nc']:.4f} | {taken:.2f} |"
            )


def room_rows(path: Path) -> Iterator[str]:
    """Of a scan."""
    cloud = read_cloud(path)
    field = fit_hierarchy(estimate_normals(cloud)[0])
    extent = float((cloud.xyz.amax(0) - cloud.xyz.amin(0)).max())
    for way in WAYS:
        mesh, taken = drawn(field, way)
        away, _ = TriangleTree(mesh.vertices.double(), mesh.faces).closest(cloud.xyz.double())
        mean, most = float(away.mean()) / extent, float(away.quantile(0.999)) / extent
        yield (
            f"| room | {name_of(way)} | {len(mesh.faces):,} | {1e5 * mean:.1f}e-5 "
            f"| {1e5 * most:.0f}e-5 | | {taken:.2f} |"
        )


def wired(mesh: Mesh, eye: Eye) -> torch.Tensor:
    """A shaded picture [h, w, 3] with the triangles' edges, half as large as the eye's."""
    backend = backends.select("cpu")
    vertices, faces = mesh.vertices.float(), mesh.faces
    corner = vertices[faces.long()]
    side = corner.roll(-1, 1) - corner.roll(-2, 1)  # [f, 3, 3], across from each corner
    area = torch.linalg.cross(side[:, 0], side[:, 1]).norm(dim=1)
    height = area[:, None] / side.norm(dim=2)
    buffer = draw_surface(
        backend, Surface.of(backend, vertices, faces), eye.camera(), 0.01, 9.0
    )
    triangle = buffer.triangle.long()
    weight = torch.cat([buffer.uv, 1 - buffer.uv.sum(1, keepdim=True)], 1)
    depth = (buffer.position - torch.tensor(eye.place)).norm(dim=1)
    pixels = (weight * height[triangle]).amin(1) * eye.focal * eye.size / depth
    picture = shaded(mesh, eye).reshape(-1, 3).float()
    ink = (_LINE - pixels).clamp(0, 1)[:, None]
    picture[buffer.pixels] = picture[buffer.pixels] * (1 - ink) + ink * torch.tensor(_INK)
    pooled = picture.reshape(eye.size, eye.size, 3).permute(2, 0, 1)
    fewer = torch.nn.functional.avg_pool2d(pooled, _FINER)
    return fewer.permute(1, 2, 0).round().to(torch.uint8)


def picture(size: int) -> torch.Tensor:
    """Triangles of both kinds, side by side."""
    eye = Eye((0.9, 1.05, 0.6), (0.06, 0.12, 0.14), focal=3.2, size=_FINER * size)
    name, sampling, tolerance = _SHOWN
    field = fit_hierarchy(cloud_of(load(name, None), sampling))
    panels = []
    for way in ({}, {"adaptive": tolerance}):
        mesh = field.extract_mesh(**way)
        panels.append(Panel(f"{name_of(way)}: {len(mesh.faces):,}", wired(mesh, eye)))
    return grid([panels])


def main() -> None:
    """Measure, or draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--size", type=int, default=380, help="pixels of a panel")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.picture is not None:
        write_png(options.picture, picture(options.size))
        return
    lines = [HEAD]
    for row in chain(shape_rows(), room_rows(options.data / ROOM) if options.data else ()):
        sys.stdout.write(f"{row}\n")
        lines.append(row)
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
