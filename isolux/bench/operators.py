"""Processor time of single operators, on one thread.

The inputs are those of the measurements that the figures come from: noisy spheres that cover
half of each picture, points on a surface in the order of its pixels.
"""

from itertools import pairwise
from typing import Literal

import numpy as np
import torch
import trimesh
from jaxtyping import Float, Int
from torch import Tensor

from isolux import backends
from isolux.backends import Backend
from isolux.backends.encode import HashGridSpec, hash_grid, mlp
from isolux.backends.rasterize import (
    Raster,
    antialias,
    edge_adjacency,
    interpolate,
    rasterize,
)
from isolux.bench.measure import Figure, Row, timed_rows
from isolux.geometry.sdf_grid import SdfGrid

__all__ = [
    "extract",
    "hash_grid_rows",
    "mlp_rows",
    "noisy_spheres",
    "rasterise",
    "surface_points",
    "turned",
]

_SPHERES = {"5k": 4, "20k": 5, "80k": 6, "300k": 7}  # subdivisions of an icosahedron
_GRID_FIGURES: dict[str, Figure] = {
    "forward": ("<=", 70.0),
    "backward to the table": ("<=", 80.0),
}
_RASTER_FIGURES: dict[str, Figure] = {"20k": ("<=", 20.0), "300k": ("<=", 160.0)}


def noisy_spheres(
    subdivisions: int, views: int
) -> tuple[Float[Tensor, "v n 4"], Int[Tensor, "f 3"]]:
    """Clip positions and faces of a noisy sphere seen from `views` sides."""
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions)
    vertices = torch.tensor(np.asarray(sphere.vertices), dtype=torch.float32)
    noise = torch.randn(len(vertices), 1, generator=torch.Generator().manual_seed(0))
    vertices = vertices * (1.0 + 0.15 * float(sphere.edges_unique_length.mean()) * noise)
    return turned(vertices, views), torch.tensor(np.asarray(sphere.faces), dtype=torch.int32)


def turned(vertices: Float[Tensor, "n 3"], views: int) -> Float[Tensor, "v n 4"]:
    """Clip positions of a body of radius 1 seen from `views` sides."""
    clip = []
    for k in range(views):
        turn = torch.tensor(6.2832 * (k + 0.37) / views)
        c, s = turn.cos(), turn.sin()
        x, z = c * vertices[:, 0] + s * vertices[:, 2], c * vertices[:, 2] - s * vertices[:, 0]
        w = z + 3.0
        scale, near, far = 2.29, 0.1, 10.0
        depth = (w * (far + near) - 2.0 * far * near) / (far - near)
        clip.append(torch.stack([scale * x, scale * vertices[:, 1], depth, w], dim=-1))
    return torch.stack(clip)


def rasterise(
    sizes: tuple[str, ...] = ("20k", "300k"),
    size: int = 512,
    views: int = 4,
    repeats: int = 12,
    backend: str = "cpu",
) -> list[Row]:
    """Rasterise, interpolate and antialias, forward and backward.

    Args:
        sizes: numbers of triangles: 5k, 20k, 80k, 300k.
        size: edge of the pictures, pixels.
        views: pictures at once.
        repeats: of which the least counts.
        backend: what draws.
    """
    rows = []
    for name in sizes:
        rows += _rasterise_row(backends.select(backend), name, size, views, repeats)
    return rows


def _rasterise_row(
    backend: Backend, name: str, size: int, views: int, repeats: int
) -> list[Row]:
    clip, faces = noisy_spheres(_SPHERES[name], views)
    moving = clip.clone().requires_grad_()
    raster = rasterize(backend, moving, faces, size, size)
    still = Raster(raster.triangle, raster.uv.detach(), raster.depth)
    pixels = raster.triangle.reshape(-1).nonzero().squeeze(-1)
    triangle = raster.triangle.reshape(-1)[pixels] - 1
    uv = still.uv.reshape(-1, 2)[pixels].contiguous().requires_grad_()
    attributes = torch.randn(clip.shape[1], 6).requires_grad_()
    mixed = interpolate(backend, attributes, faces, triangle, uv)
    opposite = edge_adjacency(backend, faces)
    color = torch.rand(views, size, size, 4).requires_grad_()
    smooth = antialias(backend, color, still, moving, faces, opposite)
    above = [torch.rand_like(x) for x in (raster.uv, mixed, smooth)]
    grad = torch.autograd.grad
    jobs = {
        "rasterise": lambda: rasterize(backend, clip, faces, size, size),
        "its backward": lambda: grad(raster.uv, moving, above[0], retain_graph=True),
        "interpolate": lambda: interpolate(backend, attributes, faces, triangle, uv),
        "interpolate backward": lambda: grad(
            mixed, (attributes, uv), above[1], retain_graph=True
        ),
        "antialias": lambda: antialias(backend, color, still, clip, faces, opposite),
        "antialias backward": lambda: grad(
            smooth, (color, moving), above[2], retain_graph=True
        ),
        "adjacency": lambda: edge_adjacency(backend, faces),
    }
    design = name in _RASTER_FIGURES and (size, views) == (512, 4)
    figures = {"rasterise": _RASTER_FIGURES[name]} if design else None
    return timed_rows(f"{name} triangles, {views} x {size}x{size}", jobs, repeats, figures)


def hash_grid_rows(
    points: int = 200_000, log2_rows: tuple[int, ...] = (19, 16), repeats: int = 12
) -> list[Row]:
    """The 16 x 2 grid at points of a surface: forward, and backward to table and points."""
    backend = backends.select("cpu")
    at = surface_points(points)
    rows = []
    for log2 in log2_rows:
        design = log2 == 19 and points == 200_000
        rows += _hash_grid_row(backend, at, log2, repeats, _GRID_FIGURES if design else None)
    return rows


def _hash_grid_row(
    backend: Backend,
    at: Float[Tensor, "p 3"],
    log2: int,
    repeats: int,
    figures: dict[str, Figure] | None,
) -> list[Row]:
    spec = HashGridSpec(16, 2, log2, 16, 4096)
    table = (torch.rand(spec.rows, 2) - 0.5).requires_grad_()
    moving = at.clone().requires_grad_()
    to_table = hash_grid(backend, at, table, spec)
    to_points = hash_grid(backend, moving, table.detach(), spec)
    above = torch.rand_like(to_table)
    grad = torch.autograd.grad
    jobs = {
        "forward": lambda: hash_grid(backend, at, table, spec),
        "backward to the table": lambda: grad(to_table, table, above, retain_graph=True),
        "backward to the points": lambda: grad(to_points, moving, above, retain_graph=True),
    }
    return timed_rows(f"16 x 2, T = 2^{log2}, {len(at)} points", jobs, repeats, figures)


def surface_points(count: int) -> Float[Tensor, "p 3"]:
    """Points of a bumpy ball as four cameras see it, row after row, in the unit cube."""
    size = int((count / 4 / 0.5) ** 0.5) + 2  # half of a picture's pixels show the ball
    y, x = np.meshgrid(np.linspace(1, -1, size), np.linspace(-1, 1, size), indexing="ij")
    seen = x * x + y * y < 0.64
    x, y = x[seen], y[seen]
    views = []
    for angle in (0.0, 1.3, 2.6, 3.9):
        bumpy = np.stack([x, y, np.sqrt(0.64 - x * x - y * y)], axis=1)
        bumpy *= 1.0 + 0.05 * np.sin(9.0 * x)[:, None]
        c, s = np.cos(angle), np.sin(angle)
        views.append(bumpy @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]))
    return torch.tensor((np.concatenate(views)[:count] + 1.0) / 2.0, dtype=torch.float32)


def mlp_rows(points: int = 134_768, repeats: int = 12) -> list[Row]:
    """The material's network 32-32-32-9, forward and backward."""
    backend, widths = backends.select("cpu"), (32, 32, 32, 9)
    x = torch.randn(points, 32).requires_grad_()
    pairs = list(pairwise(widths))
    weights = [torch.randn(o, i).mul_(0.2).requires_grad_() for i, o in pairs]
    biases = [torch.zeros(o).requires_grad_() for _, o in pairs]
    y = mlp(backend, x, weights, biases)
    above, inputs = torch.rand_like(y), (x, *weights, *biases)
    jobs = {
        "forward": lambda: mlp(backend, x, weights, biases),
        "backward": lambda: torch.autograd.grad(y, inputs, above, retain_graph=True),
    }
    return timed_rows(f"32-32-32-9, {points} points", jobs, repeats)


def extract(resolution: int = 64, repeats: int = 12) -> list[Row]:
    """A wavy sphere taken out of a lattice, forward and backward."""
    kinds: tuple[Literal["tets", "flexicubes"], ...] = ("tets", "flexicubes")
    rows = []
    for kind in kinds:
        rows += _extract_rows(kind, resolution, repeats)
    return rows


def _extract_rows(
    kind: Literal["tets", "flexicubes"], resolution: int, repeats: int
) -> list[Row]:
    backend, generator = backends.select("cpu"), torch.Generator().manual_seed(0)

    def wavy(points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        value: Tensor = points.norm(dim=-1) - 0.7 - 0.05 * (12.0 * points).sin().prod(dim=-1)
        return value

    grid = SdfGrid.start(wavy, resolution, torch.zeros(3), 2.0, kind, True, backend, generator)
    found = grid.surface(backend)
    above = torch.rand_like(found.vertices)
    parameters = [p for p in grid.parameters() if p.requires_grad]
    jobs = {
        "forward": lambda: grid.surface(backend),
        "backward": lambda: torch.autograd.grad(
            found.vertices, parameters, above, retain_graph=True, allow_unused=True
        ),
    }
    case = f"{kind} at {resolution}, {len(found.faces)} triangles"
    return timed_rows(case, jobs, repeats)
