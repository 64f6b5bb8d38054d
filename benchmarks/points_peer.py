"""Open3D's screened Poisson reconstruction of one cloud, measured. A worker of points.py.

    python points_peer.py CLOUD.npz MESH.npz '{"depth": 8, "estimate": false}'

Runs under the interpreter that has open3d, which need not have isolux. All other parameters are
Open3D's defaults. Fit and mesh are one call there. With `estimate` normals are its own.
"""

import sys
from typing import Any

import numpy as np
import open3d
from points_measure import Clock, answer, asked, peak_rss, tiny_sphere


def poisson(xyz: Any, normals: Any, depth: int, threads: int) -> Any:
    """The mesh of points [n, 3] with outward normals [n, 3]."""
    cloud = open3d.geometry.PointCloud()
    cloud.points = open3d.utility.Vector3dVector(np.asarray(xyz, np.float64))
    cloud.normals = open3d.utility.Vector3dVector(np.asarray(normals, np.float64))
    mesh, _ = open3d.geometry.TriangleMesh.create_from_point_cloud_poisson(
        cloud, depth=depth, n_threads=threads
    )
    return mesh


def own_normals(xyz: Any, sensor: Any) -> Any:
    """Open3D's normals [n, 3] of points [n, 3], turned to where each was seen from [n, 3]."""
    cloud = open3d.geometry.PointCloud()
    cloud.points = open3d.utility.Vector3dVector(np.asarray(xyz, np.float64))
    cloud.estimate_normals()
    normals = np.asarray(cloud.normals)
    away = np.einsum("ij,ij->i", normals, sensor - xyz) < 0.0
    return np.where(away[:, None], -normals, normals)


def main() -> int:
    """Fit, answer."""
    cloud, out, options = asked(sys.argv[1:])
    threads = int(options.get("threads", -1))
    sphere = tiny_sphere()
    poisson(sphere, sphere, 4, threads)
    before, clock, normals = peak_rss(), Clock(), cloud["normals"]
    if options.get("estimate"):
        with clock.part("normals"):
            normals = own_normals(cloud["xyz"], cloud["sensor"])
    with clock.part("fit"):
        mesh = poisson(cloud["xyz"], normals, int(options["depth"]), threads)
    answer(out, np.asarray(mesh.vertices), np.asarray(mesh.triangles), clock, before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
