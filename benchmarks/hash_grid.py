"""Times the hash grid's kernels on one thread: forward, and backward to table and points.

Process CPU time in milliseconds, the best of several runs, for 16 levels of 2 features and
200 000 points of a surface in the order of an image's pixels.

    python benchmarks/hash_grid.py [--points 200000] [--runs 7] [--json]
"""

import argparse
import json
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from isolux.backends.cpu import hashgrid, pool
from isolux.backends.encode import HashGridSpec


def surface_points(count: int) -> Tensor:
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


def best_of(runs: int, function: Callable[[], object]) -> float:
    """Least CPU milliseconds; the first call, which compiles, does not count."""
    function()
    times = []
    for _ in range(runs):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def measure(log2_rows: int, points: Tensor, runs: int) -> dict[str, float]:
    """One row of the table."""
    spec = HashGridSpec(levels=16, features=2, log2_rows=log2_rows, coarsest=16, finest=4096)
    generator = torch.Generator().manual_seed(0)
    table = torch.rand(spec.rows, spec.features, generator=generator)
    grad = torch.rand(spec.out_dim, len(points), generator=generator).T

    def backward(need_points: bool, need_table: bool) -> object:
        return hashgrid.backward(
            points, table, grad, spec, spec.levels, need_points, need_table
        )

    return {
        "log2_rows": log2_rows,
        "forward_ms": best_of(runs, lambda: hashgrid.forward(points, table, spec, spec.levels)),
        "to_table_ms": best_of(runs, lambda: backward(False, True)),
        "to_points_ms": best_of(runs, lambda: backward(True, False)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pool.set_threads(1)
    points = surface_points(arguments.points)
    rows = [measure(log2_rows, points, arguments.runs) for log2_rows in (16, 19)]
    if arguments.json:
        sys.stdout.write(json.dumps({"points": len(points), "rows": rows}) + "\n")
        return
    sys.stdout.write(f"{len(points)} points, 16 x 2, one thread, CPU ms\n")
    for row in rows:
        sys.stdout.write("  ".join(f"{key} {value:.4g}" for key, value in row.items()) + "\n")


if __name__ == "__main__":
    main()
