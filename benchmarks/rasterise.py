"""Cost of drawing noisy icospheres: processor time, one thread, the least of several runs.

    python benchmarks/rasterise.py [--repeats 7] [--size 512] [--views 4] [--backend cpu]

The spheres cover about half of each picture. Process CPU time is used rather than the clock,
so that other work on the machine counts as little as possible.
"""

import argparse
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import trimesh
from torch import Tensor

from isolux import backends
from isolux.backends.cpu.pool import set_threads
from isolux.backends.rasterize import (
    antialias,
    edge_adjacency,
    interpolate,
    rasterize,
)

ROWS = {"5k": 4, "20k": 5, "80k": 6, "300k": 7}  # subdivisions of an icosahedron


def scene(subdivisions: int, views: int) -> tuple[Tensor, Tensor]:
    """Clip positions and faces of a noisy sphere seen from `views` sides."""
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions)
    vertices = torch.tensor(sphere.vertices, dtype=torch.float32)
    noise = torch.randn(len(vertices), 1, generator=torch.Generator().manual_seed(0))
    edge = float(sphere.edges_unique_length.mean())
    vertices = vertices * (1.0 + 0.15 * edge * noise)
    clip = []
    for k in range(views):
        turn = torch.tensor(6.2832 * (k + 0.37) / views)
        c, s = turn.cos(), turn.sin()
        x = c * vertices[:, 0] + s * vertices[:, 2]
        z = -s * vertices[:, 0] + c * vertices[:, 2]
        w = z + 3.0
        scale, near, far = 2.29, 0.1, 10.0
        depth = (w * (far + near) - 2.0 * far * near) / (far - near)
        clip.append(torch.stack([scale * x, scale * vertices[:, 1], depth, w], dim=-1))
    return torch.stack(clip), torch.tensor(sphere.faces, dtype=torch.int32)


def least(function: Callable[[], Any], repeats: int) -> float:
    """Milliseconds of processor time: the least of `repeats` calls, after one to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def row(name: str, args: SimpleNamespace) -> str:
    """One line of the table."""
    backend = backends.select(args.backend)
    clip, faces = scene(ROWS[name], args.views)
    raster = rasterize(backend, clip, faces, args.size, args.size)
    pixels = raster.triangle.reshape(-1).nonzero().squeeze(-1)
    triangle = raster.triangle.reshape(-1)[pixels] - 1
    uv = raster.uv.reshape(-1, 2)[pixels].contiguous().requires_grad_()
    attributes = torch.randn(clip.shape[1], 6).requires_grad_()
    mixed = interpolate(backend, attributes, faces, triangle, uv)
    opposite = edge_adjacency(backend, faces)
    color = torch.rand(args.views, args.size, args.size, 4).requires_grad_()
    moving = clip.clone().requires_grad_()
    smooth = antialias(backend, color, raster, moving, faces, opposite)
    drawn = rasterize(backend, moving, faces, args.size, args.size)
    grad_mixed, grad_smooth = torch.rand_like(mixed), torch.rand_like(smooth)
    grad_uv = torch.rand_like(drawn.uv)
    grad = torch.autograd.grad
    jobs = {
        "rasterise": lambda: rasterize(backend, clip, faces, args.size, args.size),
        "its backward": lambda: grad(drawn.uv, moving, grad_uv, retain_graph=True),
        "interpolate": lambda: interpolate(backend, attributes, faces, triangle, uv),
        "int. back": lambda: grad(mixed, (attributes, uv), grad_mixed, retain_graph=True),
        "antialias": lambda: antialias(backend, color, raster, clip, faces, opposite),
        "aa. back": lambda: grad(smooth, (color, moving), grad_smooth, retain_graph=True),
        "adjacency": lambda: edge_adjacency(backend, faces),
    }
    if name == next(iter(ROWS)):
        sys.stdout.write(f"{'':>6}{'covered':>14}" + "".join(f"{j:>14}" for j in jobs) + "\n")
    covered = len(pixels) / raster.triangle.numel()
    costs = "".join(f"{least(job, args.repeats):14.2f}" for job in jobs.values())
    return f"{name:>6}{covered:14.1%}{costs}\n"


def main() -> None:
    """Print the table, in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--backend", default="cpu")
    args = SimpleNamespace(**vars(parser.parse_args()))
    torch.set_num_threads(1)
    set_threads(1)
    for name in ROWS:
        sys.stdout.write(row(name, args))


if __name__ == "__main__":
    main()
