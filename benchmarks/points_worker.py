"""Our reconstruction of one cloud, measured. A worker of points.py.

    python points_worker.py CLOUD.npz MESH.npz '{"engine": "hierarchy", "voxel_size": 0.01}'

All options but `engine` go to the engine's record of options. A tiny cloud is fitted first, so
that compiling kernels is not counted.
"""

import importlib
import sys
from typing import Any

import numpy as np
import torch
from points_measure import Clock, answer, asked, peak_rss, tiny_sphere

from isolux.geometry.points.cloud import PointCloud

_ENGINES = {
    "hierarchy": ("isolux.geometry.points.hierarchy", "fit_hierarchy", "HierarchyOptions"),
    "splines": ("isolux.geometry.points.splines", "fit_splines", "SplineOptions"),
}


def engine(name: str) -> tuple[Any, Any]:
    """The function that fits, and its record of options.

    Raises:
        ImportError: when this version has no such engine.
    """
    module, fit, options = _ENGINES[name]
    loaded = importlib.import_module(module)
    return getattr(loaded, fit), getattr(loaded, options)


def _cloud(xyz: Any, normals: Any) -> PointCloud:
    return PointCloud(
        torch.from_numpy(np.asarray(xyz, np.float64)),
        torch.from_numpy(np.asarray(normals, np.float32)),
    )


def main() -> int:
    """Warm up, fit, extract, answer."""
    arrays, out, options = asked(sys.argv[1:])
    torch.set_num_threads(1)
    fit, record = engine(options.pop("engine"))
    sphere = tiny_sphere()
    fit(_cloud(sphere, sphere), record()).extract_mesh()
    cloud = _cloud(**arrays)
    before, clock = peak_rss(), Clock()
    with clock.part("fit"):
        field = fit(cloud, record(**options))
    with clock.part("mesh"):
        mesh = field.extract_mesh()
    answer(out, mesh.vertices.numpy(), mesh.faces.numpy(), clock, before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
