"""Surfaces of clouds larger than memory: seconds and memory of the fit by tiles.

    python points_tiles.py --points 1000000 3000000 10000000

Clouds are made block by block on disk, and each is fitted by a process of its own. Up to
`--compare` points the fit in memory runs as well, and the two meshes are compared. Times are
user CPU seconds, memory is the most that the process held. Letters: n points, v vertices.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from points_clouds import count_text
from points_measure import Clock, peak_rss, tiny_sphere
from points_shapes import PROCEDURAL, load
from scipy.spatial import cKDTree

from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.hierarchy import fit_hierarchy
from isolux.geometry.points.tiled.fit import fit_tiles
from isolux.geometry.points.tiled.options import TileOptions

_BLOCK = 250_000  # points that are in memory at once
_WIDTH = 6  # numbers of a point: place and normal


def make_cloud(path: Path, shape: str, count: int, noise: float) -> None:
    """Write points of a shape (float64 [n, 6], place and normal), noise in percent of it."""
    truth = load(shape, None)
    with path.open("wb") as file:
        for number, start in enumerate(range(0, count, _BLOCK)):
            size = min(_BLOCK, count - start)
            xyz, normals = truth.sample(size, 1000 + number)
            draw = torch.Generator().manual_seed(5000 + number)
            xyz = xyz + 0.01 * noise * torch.randn(size, 3, generator=draw).double()
            file.write(torch.cat([xyz, normals.double()], 1).numpy().tobytes())


def read_blocks(path: Path) -> Iterator[PointCloud]:
    """The cloud of a file, a block at a time."""
    with path.open("rb") as file:
        while len(rows := np.fromfile(file, np.float64, _BLOCK * _WIDTH)):
            xyz, normals = torch.from_numpy(rows.reshape(-1, _WIDTH)).split(3, dim=1)
            yield PointCloud(xyz, normals.float())


def measure(cloud: Path, folder: Path, tile: int, mesh: Path | None) -> dict[str, Any]:
    """Fit a cloud and draw its surface; the numbers of this process. Tile 0: in memory."""
    sphere = torch.from_numpy(tiny_sphere())
    fit_hierarchy(PointCloud(sphere, sphere.float())).extract_mesh()  # compiles the kernels
    before, clock = peak_rss(), Clock()
    places: list[Any] = []
    if tile:
        with clock.part("fit"):
            field = fit_tiles(lambda: read_blocks(cloud), folder, None, TileOptions(tile))
        with clock.part("mesh"):
            parts = field.mesh_parts(progress=None)
            for vertices, _ in parts.vertex_blocks():
                if mesh is not None:
                    places.append(vertices)
            faces = sum(len(block) for block in parts.face_blocks())
        numbers = {"tiles": len(field.work.tiles), "voxel_size": field.voxel_size}
    else:
        blocks = list(read_blocks(cloud))
        whole = PointCloud(
            torch.cat([block.xyz for block in blocks]),
            torch.cat([block.normals for block in blocks if block.normals is not None]),
        )
        with clock.part("fit"):
            in_memory = fit_hierarchy(whole)
        with clock.part("mesh"):
            drawn = in_memory.extract_mesh()
        places, faces = [drawn.vertices.numpy()], len(drawn.faces)
        numbers = {"tiles": 0, "voxel_size": in_memory.voxel_size}
    if mesh is not None:
        np.save(mesh, np.concatenate(places))
    memory = {"peak_rss_bytes": peak_rss(), "rss_before_bytes": before}
    return numbers | clock.seconds | memory | {"faces": faces}


def measured(cloud: Path, folder: Path, tile: int, mesh: Path | None) -> dict[str, Any]:
    """`measure` in a process of its own."""
    words = [str(cloud), str(folder), str(tile), str(mesh or "")]
    command = [sys.executable, __file__, "--worker", *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    numbers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def difference(one: Path, two: Path, size: float) -> dict[str, float]:
    """Distances from one mesh's vertices to the other's, in cells."""
    distance, _ = cKDTree(np.load(two)).query(np.load(one))
    return {
        "mean": float(distance.mean() / size),
        "most_999": float(np.quantile(distance, 0.999) / size),
        "most": float(distance.max() / size),
    }


def row(name: str, count: int, numbers: dict[str, Any]) -> str:
    """A line of the table."""
    fit, mesh = numbers["fit_user_s"], numbers["mesh_user_s"]
    gib = numbers["peak_rss_bytes"] / 2**30
    million = 1e6 * (fit + mesh) / count
    return (
        f"| {count_text(count)} | {name} | {numbers['tiles'] or ''} | {fit:.1f} | {mesh:.1f} "
        f"| {million:.1f} | {gib:.2f} | {numbers['faces']:,} |"
    )


def say(text: str) -> None:
    """A line of the report, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Make clouds, measure, print the table."""
    if sys.argv[1:2] == ["--worker"]:
        cloud, folder, tile, mesh = sys.argv[2:]
        torch.set_num_threads(1)
        say(
            json.dumps(
                measure(Path(cloud), Path(folder), int(tile), Path(mesh) if mesh else None)
            )
        )
        return 0
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--points", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--shape", choices=[*PROCEDURAL], default="ripples")
    parser.add_argument("--noise", type=float, default=0.0, help="percent of the size")
    parser.add_argument("--tile", type=int, default=500_000, help="points of a tile")
    parser.add_argument("--compare", type=int, default=1_000_000, help="with the fit in memory")
    asked = parser.parse_args()
    say("| points | fit | tiles | fit, user s | mesh, user s | both, a million | GiB | faces |")
    say("|---|---|---|---|---|---|---|---|")
    for count in asked.points:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            cloud = folder / "cloud"
            make_cloud(cloud, asked.shape, count, asked.noise)
            both = count <= asked.compare
            ours, theirs = folder / "tiles.npy", folder / "memory.npy"
            numbers = measured(cloud, folder / "work", asked.tile, ours if both else None)
            say(row("by tiles", count, numbers))
            if both:
                say(row("in memory", count, measured(cloud, folder, 0, theirs)))
                found = difference(ours, theirs, numbers["voxel_size"])
                words = ", ".join(f"{name} {value:.2g}" for name, value in found.items())
                say(f"\nvertices differ by (cells): {words}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
