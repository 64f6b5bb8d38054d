"""Surfaces from point clouds: ours beside Open3D's screened Poisson, on the same clouds.

    python benchmarks/points.py --out out/points [--data DATA] [--open3d COMMAND]
    python benchmarks/points.py --out out/points --quick
    python benchmarks/points.py --out out/points --real --data DATA
    python benchmarks/points.py --out out/points --only 'knot/*/open3d*' --resume

DATA holds meshes/{geometry,spot,bob} and pointclouds;
without it the shapes by formula run alone.
COMMAND starts a Python with open3d (the extra `bench`); the environment variable ISOLUX_OPEN3D
says the same, and without either it is this interpreter. Each measurement is a process of its
own: user CPU seconds of fitting and meshing, after a warm-up on a tiny cloud that compiling
goes to, and the peak of memory. What is measured goes to OUT/points.json after each cell, and
`--resume` goes on from there, trying failed cells again; `--peer` takes over what an earlier
run measured of the peer. The tables are in OUT/points.md as well, short ones in
points_digest.md, the pictures of `--pictures` beside them; `--real` writes points_real*.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from points_clouds import Sampling, cloud_of
from points_digest import digest, scans
from points_metrics import SAMPLES, Truth, connectedness, surface_errors, truth_of
from points_shapes import FILES, PROCEDURAL, Shape, load
from points_systems import System, open3d_command, reconstruct, systems_for
from points_table import markdown, text

__all__ = ["Cell", "cells", "measure"]

NOISES = (0.0, 0.25, 0.5, 1.0)
SIZES = (3_000, 10_000, 100_000, 1_000_000)
# An octree's depth wants points to fill it: about one cell for a few points.
DEPTHS = {3_000: (7,), 10_000: (7, 8), 100_000: (8, 9), 1_000_000: (8, 9, 10)}
QUICK = ("ripples", "gear", "rings")


@dataclass(frozen=True)
class Cell:
    """One cloud and one system."""

    shape: str
    sampling: Sampling
    system: System

    @property
    def key(self) -> str:
        """Its name in the file of results."""
        return f"{self.shape}/{self.sampling.name}/{self.system.name}"


def cells(
    shapes: Sequence[str],
    sizes: Sequence[int],
    noises: Sequence[float],
    depths: Sequence[int] | None,
    normals: Sequence[str],
) -> Iterator[Cell]:
    """All measurements, small clouds first. Graded clouds: clean and of half a percent."""
    for size in sorted(sizes):
        chosen = depths or DEPTHS.get(size) or (8,)
        for shape in shapes:
            for spread in ("even", "graded"):
                for noise in noises:
                    if spread == "graded" and noise not in (0.0, 0.5):
                        continue
                    for kind in normals:
                        sampling = Sampling(size, noise, spread, kind)  # type: ignore[arg-type]
                        for system in systems_for(size, 1.0, chosen, kind == "pca"):
                            yield Cell(shape, sampling, system)


@lru_cache(maxsize=1)
def _truth(name: str, meshes: Path | None, samples: int) -> Truth:
    return truth_of(_shape(name, meshes), samples)


@lru_cache(maxsize=2)
def _shape(name: str, meshes: Path | None) -> Shape:
    return load(name, meshes)


def measure(
    cell: Cell, meshes: Path | None, open3d: Sequence[str], samples: int = SAMPLES
) -> dict[str, Any]:
    """A row of the table, or `{"failed": why}`."""
    truth = _truth(cell.shape, meshes, samples)
    try:
        mesh, numbers = reconstruct(cell.system, cloud_of(truth.shape, cell.sampling), open3d)
    except RuntimeError as error:
        return {"failed": str(error)}
    return connectedness(mesh) | surface_errors(mesh, truth) | numbers


def _chosen(key: str, only: Sequence[str]) -> bool:
    """Whether a cell's name matches one of the patterns of `--only`, or there is none."""
    return not only or any(fnmatchcase(key, pattern) for pattern in only)


def _shapes(args: argparse.Namespace) -> tuple[str, ...]:
    return QUICK if args.quick else (*PROCEDURAL, *(FILES if args.data else ()))


def _run(args: argparse.Namespace, found: dict[str, Any], results: Path) -> int:
    meshes = args.data / "meshes" if args.data else None
    shapes = _shapes(args)
    sizes = (10_000,) if args.quick else args.sizes
    noises = (0.0, 0.5) if args.quick else NOISES
    open3d, failed = open3d_command(args.open3d), 0
    kinds = ("true", "pca") if args.pca else ("true",)
    plan = [
        c for c in cells(shapes, sizes, noises, args.depths, kinds) if _chosen(c.key, args.only)
    ]
    for number, cell in enumerate(plan):
        if "failed" not in found.get(cell.key, {"failed": ""}):
            continue
        sys.stderr.write(f"{number + 1}/{len(plan)} {cell.key} ...\n")
        row = measure(cell, meshes, open3d, args.samples)
        failed |= "failed" in row
        found[cell.key] = row
        _store(results, found)
    return int(failed)


def _of_the_peer(files: Sequence[Path]) -> dict[str, Any]:
    """The peer's rows of earlier results; a later file goes before an earlier one."""
    rows: dict[str, Any] = {}
    for file in files:
        rows |= json.loads(file.read_text("utf-8"))
    return {
        key: row
        for key, row in rows.items()
        if key.rpartition("/")[2].startswith("open3d") and "failed" not in row
    }


def _store(path: Path, found: dict[str, Any]) -> None:
    """Writes beside the file and renames, so that a stop leaves a whole file."""
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(found, indent=1), "utf-8")
    beside.replace(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    parser.add_argument("--data", type=Path, help="folder with meshes and pointclouds")
    parser.add_argument("--open3d", metavar="COMMAND", help="starts a Python with open3d")
    parser.add_argument("--only", nargs="+", default=(), metavar="PATTERN",
                        help="cells whose name matches one, e.g. 'knot/*/open3d*'")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="3 shapes, 10k points, 2 noises")
    parser.add_argument("--real", action="store_true", help="the scans of DATA/pointclouds")
    parser.add_argument("--pca", action="store_true", help="estimated normals as well")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="points of clouds")
    parser.add_argument("--depths", type=int, nargs="+", help="instead of those of each size")
    parser.add_argument("--peer", type=Path, nargs="+", default=(), metavar="FILE",
                        help="earlier results, whose rows of the peer are kept")  # fmt: skip
    parser.add_argument("--samples", type=int, default=SAMPLES, help="of each surface")
    parser.add_argument("--pictures", action="store_true", help="draw a row for each shape")
    parser.add_argument("--resume", action="store_true", help="go on with OUT's results")
    return parser


def main() -> int:
    """Run the cells and print the tables; 1 when a cell failed."""
    parser = _parser()
    args = parser.parse_args()
    if args.real and not args.data:
        parser.error("--real needs --data")
    results = args.out / ("points_real.json" if args.real else "points.json")
    args.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    if results.is_file():
        if not args.resume:
            parser.error(f"{results} is there; add --resume or name another --out")
        found = json.loads(results.read_text("utf-8"))
    found = _of_the_peer(args.peer) | found
    if args.real:
        from points_real import run

        failed = run(
            args, found, lambda: _store(results, found), lambda key: _chosen(key, args.only)
        )
        (args.out / "points_real_digest.md").write_text(scans(found), "utf-8")
    else:
        failed = _run(args, found, results)
        (args.out / "points_digest.md").write_text(digest(found), "utf-8")
        if args.pictures:
            from points_pictures import draw_all

            draw_all(args, _shapes(args))
    results.with_suffix(".md").write_text(markdown(found) + "\n", "utf-8")
    sys.stdout.write(text(found) + "\n")
    return failed


if __name__ == "__main__":
    sys.exit(main())
