"""What the trained network of `isolux points` changes, on shapes whose surface is known.

    python benchmarks/points_learned.py --out out/learned [--data DATA] [--network FILE]
    python benchmarks/points_learned.py --out out/learned --only 'bowl/*' --resume

The shapes, clouds and errors are those of points.py; none of them was trained on. Each cloud is
fitted without the network and with it in one process, after a warm-up; user CPU seconds are of
fitting and meshing. OUT/points_learned.json holds all numbers, OUT/points_learned.md the table.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from points_clouds import Sampling, cloud_of
from points_metrics import Truth, surface_errors, truth_of
from points_shapes import FILES, PROCEDURAL, load

from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.hierarchy import fit_hierarchy
from isolux.geometry.points.hierarchy_options import HierarchyOptions
from isolux.geometry.points.learned import inference

Mode = Literal["off", "on", "auto"]
MODES: tuple[Mode, ...] = ("off", "on", "auto")


def cells(shapes: list[str], sizes: list[int], kinds: list[str]) -> Iterator[tuple[str, Any]]:
    """Shapes with samplings, small clouds first."""
    for size in sizes:
        for shape in shapes:
            for kind in kinds:
                for noise in (0.0, 0.25, 0.5, 1.0):
                    yield shape, Sampling(size, noise, "even", kind)  # type: ignore[arg-type]
                yield shape, Sampling(size, 0.5, "graded", kind)  # type: ignore[arg-type]


@lru_cache(maxsize=1)
def truth(name: str, meshes: Path | None, samples: int) -> Truth:
    """A shape's samples; shapes come one after the other."""
    return truth_of(load(name, meshes), samples)


def measured(cloud: PointCloud, against: Truth, mode: Mode) -> dict[str, float]:
    """Errors of the mesh, and user seconds."""
    start = os.times().user
    mesh = fit_hierarchy(cloud, HierarchyOptions(learned=mode)).extract_mesh()
    seconds = os.times().user - start
    return surface_errors(mesh, against) | {"seconds": seconds}


def table(found: dict[str, Any]) -> str:
    """Learned over plain, a row a cloud; `nc` is what is missing to one."""
    lines = [
        "| cloud | error off, 1e-4 | on | on / off | auto / off | 1 - nc off | on | user s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key, row in found.items():
        off, on, auto = (row[mode] for mode in MODES)
        lines.append(
            f"| {key} | {1e4 * off['cd']:.2f} | {1e4 * on['cd']:.2f} "
            f"| {on['cd'] / off['cd']:.2f} | {auto['cd'] / off['cd']:.2f} "
            f"| {1 - off['nc']:.4f} | {1 - on['nc']:.4f} "
            f"| {off['seconds']:.1f} to {on['seconds']:.1f} |"
        )
    for mode in ("on", "auto"):
        ratio = [np.log(row[mode]["cd"] / row["off"]["cd"]) for row in found.values()]
        lines.append(f"\n{mode}: geometric mean of the ratios {np.exp(np.mean(ratio)):.3f}")
    return "\n".join(lines)


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    parser.add_argument("--data", type=Path, help="folder with meshes")
    parser.add_argument("--network", type=Path, help="in place of the one that ships")
    parser.add_argument("--sizes", type=int, nargs="+", default=(3_000, 10_000, 100_000))
    parser.add_argument("--samples", type=int, default=50_000, help="of each surface")
    parser.add_argument("--pca", action="store_true", help="estimated normals as well")
    parser.add_argument("--only", nargs="+", default=("*",), metavar="PATTERN")
    parser.add_argument("--resume", action="store_true", help="go on with OUT's results")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "points_learned.json"
    found = json.loads(path.read_text("utf-8")) if args.resume and path.is_file() else {}
    torch.set_num_threads(1)
    meshes = args.data / "meshes" if args.data else None
    shapes = [*PROCEDURAL, *(FILES if args.data else ())]
    network = inference.load(args.network) if args.network else inference.shipped()
    kinds = ["true", "pca"] if args.pca else ["true"]
    with inference.using(network):
        for shape, sampling in cells(shapes, list(args.sizes), kinds):
            key = f"{shape}/{sampling.name}"
            if key in found or not any(fnmatchcase(key, each) for each in args.only):
                continue
            against = truth(shape, meshes, args.samples)
            cloud = cloud_of(against.shape, sampling)
            if not found:
                measured(cloud, against, "on")  # compiles
            found[key] = {mode: measured(cloud, against, mode) for mode in MODES}
            path.write_text(json.dumps(found, indent=1), "utf-8")
            sys.stderr.write(f"{key} {found[key]['on']['cd'] / found[key]['off']['cd']:.3f}\n")
    (args.out / "points_learned.md").write_text(table(found) + "\n", "utf-8")
    sys.stdout.write(table(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
