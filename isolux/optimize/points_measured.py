"""What the network of `hierarchy` is worth: meshes without it and with it, against the truth.

Letters: p samples. Lengths are shares of a shape's longest side.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional

from isolux.confs.points_learning import PointsLearningConf
from isolux.geometry.bvh import TriangleTree
from isolux.geometry.distance import sample_surface
from isolux.geometry.mesh import Mesh, face_normals
from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.hierarchy import fit_hierarchy
from isolux.geometry.points.hierarchy_options import HierarchyOptions
from isolux.geometry.points.learned import inference
from isolux.geometry.points.learned.clouds import random_scan, random_surface
from isolux.geometry.points.learned.shapes import Surface

__all__ = ["measured", "mesh_errors"]

Mode = Literal["off", "on", "auto"]

_OTHERS = 20_000_000  # the first number of shapes that nothing is trained on
_SAMPLES = 20_000
_THRESHOLDS = (0.002, 0.005, 0.01)
_NOISIEST = 0.016


def measured(conf: PointsLearningConf, tell: Callable[[str, float], None]) -> dict[str, Any]:
    """Reconstruct `held_out` clouds of unseen shapes: network off, on, and `auto`.

    Returns:
        For `off`, `on` and `auto` the mean of each number of `mesh_errors`; under `on_ratio`
        and `auto_ratio` the geometric means of the distances over those of `off`.
    """
    network = inference.shipped() if conf.network is None else inference.load(conf.network)
    rows: dict[Mode, list[dict[str, float]]] = {"off": [], "on": [], "auto": []}
    for number in range(conf.held_out):
        tell(f"cloud {number + 1} of {conf.held_out}", number / conf.held_out)
        rng = np.random.default_rng([conf.seed, _OTHERS + number])
        surface = random_surface(rng)
        scan = random_scan(surface, *conf.points, _NOISIEST, rng)
        cloud = PointCloud(torch.from_numpy(scan.xyz), torch.from_numpy(scan.normals))
        for mode, found in rows.items():
            with inference.using(network):
                field = fit_hierarchy(cloud, HierarchyOptions(learned=mode))
            found.append(mesh_errors(field.extract_mesh(), surface))
    tell("done", 1.0)
    result: dict[str, Any] = {
        mode: {key: float(np.mean([row[key] for row in found])) for key in found[0]}
        for mode, found in rows.items()
    }
    changed: tuple[Mode, ...] = ("on", "auto")
    for mode in changed:
        pairs = list(zip(rows["off"], rows[mode], strict=True))
        result[f"{mode}_ratio"] = {
            key: float(np.exp(np.mean([np.log(b[key] / a[key]) for a, b in pairs])))
            for key in ("accuracy", "completeness", "chamfer_l1")
        }
    return result


def mesh_errors(mesh: Mesh, surface: Surface) -> dict[str, float]:
    """How far a mesh is from the surface that samples stand for.

    Returns:
        `accuracy` (mean distance from the mesh to the surface), `completeness` (from the
        surface to the mesh), `chamfer_l1` (their mean), `normal_consistency` (mean absolute
        cosine both ways), and at each threshold `precision`, `recall` and `f_score`. All
        distances are to surfaces, not between samples, for which the surface is continued as
        a plane about each of its samples.
    """
    generator = torch.Generator().manual_seed(0)
    points, face = sample_surface(mesh, _SAMPLES, generator)
    vertices = mesh.vertices.double()
    normals = functional.normalize(face_normals(vertices, mesh.faces), dim=-1)
    far, nearest = surface.tree.query(points.numpy())
    plane = surface.normals[nearest]
    off = np.abs(((points.numpy() - surface.points[nearest]) * plane).sum(-1))
    spacing = float(np.median(surface.tree.query(surface.points, k=2)[0][:, 1]))
    # Far from every sample the plane says nothing: there is no surface there.
    there = np.where(far > 4 * spacing, np.maximum(off, far - 4 * spacing), off)
    truth = torch.from_numpy(surface.points)
    distance, hit = TriangleTree(vertices, mesh.faces).closest(truth)
    back = distance.numpy()
    cosines = (
        np.abs((normals[face].numpy() * plane).sum(-1)).mean(),
        np.abs((normals[hit].numpy() * surface.normals).sum(-1)).mean(),
    )
    row = {
        "accuracy": float(there.mean()),
        "completeness": float(back.mean()),
        "chamfer_l1": 0.5 * float(there.mean() + back.mean()),
        "normal_consistency": 0.5 * float(sum(cosines)),
    }
    for threshold in _THRESHOLDS:
        precision, recall = float((there < threshold).mean()), float((back < threshold).mean())
        row[f"precision_{threshold:g}"] = precision
        row[f"recall_{threshold:g}"] = recall
        row[f"f_score_{threshold:g}"] = 2 * precision * recall / max(precision + recall, 1e-30)
    return row
