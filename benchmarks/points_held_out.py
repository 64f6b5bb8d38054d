"""What points that both systems did not see say of a mesh, for the real scans of points.py.

Two views, since each can be deceived: the distance from a held-out point to the mesh flatters
a crumpled surface, which is near to everything; the range that a scanner would measure of the
mesh is spoilt by any sheet before the surface. The mesh's distance from all points tells sheets
that no point asked for. Rays need embreex; without it their columns stay empty.

Letters: n points, k held-out ones, f faces.
"""

import importlib.util
from typing import Any

import numpy as np
import torch
import trimesh
from scipy.spatial import cKDTree
from torch import Tensor

from isolux.geometry.bvh import TriangleTree
from isolux.geometry.distance import sample_surface
from isolux.geometry.mesh import Mesh
from isolux.geometry.points.cloud import PointCloud

__all__ = ["held_out", "range_errors", "split"]

_SAMPLES = 50_000  # of the mesh
_HELD = 0.1  # of the points
_COVERED = 3.0  # spacings
_AROUND = 1.0  # a ray begins so far before its point at most, in longest sides


def split(cloud: PointCloud) -> tuple[PointCloud, PointCloud]:
    """The cloud without a tenth of its points, and these."""
    generator = torch.Generator().manual_seed(780)
    held = torch.rand(len(cloud), generator=generator) < _HELD
    return cloud[~held], cloud[held]


def held_out(mesh: Mesh, cloud: PointCloud, held: PointCloud) -> dict[str, float]:
    """A mesh through a cloud against points that were kept from it.

    Returns:
        `held_median` and `held_95` from the points to the mesh, `covered`, the share of them
        with a surface within three spacings, `excess_95` from the mesh to all points, and
        `range_median` and `range_80` of `range_errors`.
    """
    distance, _ = TriangleTree(mesh.vertices, mesh.faces).closest(held.xyz)
    points, _ = sample_surface(mesh, _SAMPLES, torch.Generator().manual_seed(779))
    tree = cKDTree(torch.cat([cloud.xyz, held.xyz]).numpy())
    away = tree.query(points.numpy(), workers=-1)[0]
    spacing = float(np.median(tree.query(held.xyz.numpy(), 2, workers=-1)[0][:, 1]))
    row = {
        "held_median": float(distance.median()),
        "held_95": float(torch.quantile(distance, 0.95)),
        "covered": float((distance <= _COVERED * spacing).double().mean()),
        "excess_95": float(np.quantile(away, 0.95)),
    }
    if held.sensor is None or importlib.util.find_spec("embreex") is None:
        return row
    error = np.abs(range_errors(mesh, held.xyz, held.sensor))
    finite = np.where(
        np.isfinite(error), error, np.finfo(float).max
    )  # quantiles of inf are NaN
    return row | {
        "range_median": float(np.quantile(finite, 0.5)),
        "range_80": float(np.quantile(finite, 0.8)),
    }


def range_errors(mesh: Mesh, points: Tensor, sensor: Tensor) -> Any:
    """How far behind each point [k, 3] a ray from its sensor [k, 3] first meets the mesh [k].

    Negative before the point, infinite where nothing is met.
    """
    middle = points.mean(0)
    side = float((points.max(0).values - points.min(0).values).max())
    corners = ((mesh.vertices.double() - middle) / side)[mesh.faces.long()].numpy()  # [f, 3, 3]
    sight = ((points - sensor) / side).numpy()
    length = np.linalg.norm(sight, axis=1)
    along = sight / length[:, None]
    way = np.minimum(length, _AROUND)
    start = ((points - middle) / side).numpy() - way[:, None] * along
    soup = trimesh.Trimesh(
        corners.reshape(-1, 3), np.arange(3 * len(corners)).reshape(-1, 3), process=False
    )
    caster = trimesh.ray.ray_pyembree.RayMeshIntersector(soup)
    face = caster.intersects_first(start, along)
    a, b, c = corners[face].transpose(1, 0, 2)
    # Embree's distances are of single precision: the plane of the triangle gives them anew.
    normal = np.cross(b - a, c - a)
    slant = np.einsum("ij,ij->i", along, normal)
    with np.errstate(divide="ignore", invalid="ignore"):
        met = np.einsum("ij,ij->i", a - start, normal) / slant
    return np.where((face >= 0) & (slant != 0.0), (met - way) * side, np.inf)
