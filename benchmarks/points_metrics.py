"""How good a mesh is: exact distances both ways, normals, F-scores, connectedness.

Letters: p samples. A mean of distances between two sets of samples has a floor of about
0.5 sqrt(area / samples), far above the errors of good methods; it stands beside for comparison
with other tables.
"""

import math
from dataclasses import dataclass

import torch
from points_shapes import Shape
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn import functional

from isolux.geometry.bvh import TriangleTree
from isolux.geometry.distance import sample_surface
from isolux.geometry.mesh import Mesh, face_normals
from isolux.geometry.statistics import component_of_face

__all__ = ["SAMPLES", "Truth", "connectedness", "surface_errors", "truth_of"]

SAMPLES = 200_000
_THRESHOLDS = (0.005, 0.001, 0.0005)
_HIGH = 0.999  # the Hausdorff distance leaves the worst thousandth out


@dataclass(frozen=True)
class Truth:
    """A shape with the samples that all meshes of it are measured at."""

    shape: Shape
    points: Tensor  # [p, 3]
    normals: Tensor  # [p, 3]


def truth_of(shape: Shape, samples: int = SAMPLES) -> Truth:
    """A shape's samples, the same each time."""
    return Truth(shape, *shape.sample(samples, 777))


def surface_errors(mesh: Mesh, truth: Truth) -> dict[str, float]:
    """What a table's row says of a mesh's surface; lengths in units of the longest side.

    Returns:
        `acc` (mesh to truth, mean), `compl` (truth to mesh), `cd` (their mean), `hausdorff`
        (the larger 99.9 % quantile of both), `nc` (mean absolute cosine, over both ways),
        `f_THRESHOLD`, and `chamfer` between samples. A mesh without area has infinite
        distances and scores of zero.
    """
    generator = torch.Generator().manual_seed(778)
    try:
        points, face = sample_surface(mesh, len(truth.points), generator)
    except ValueError:
        return _nothing()
    vertices = mesh.vertices.double()
    normals = functional.normalize(face_normals(vertices, mesh.faces), dim=-1)
    there, foot_normals = truth.shape.nearest(points)
    back, nearest = TriangleTree(vertices, mesh.faces).closest(truth.points)
    cosine = [
        (normals[face] * foot_normals).sum(-1).abs().mean(),
        (normals[nearest] * truth.normals).sum(-1).abs().mean(),
    ]
    row = {
        "acc": float(there.mean()),
        "compl": float(back.mean()),
        "cd": 0.5 * float(there.mean() + back.mean()),
        "hausdorff": max(float(torch.quantile(part, _HIGH)) for part in (there, back)),
        "nc": 0.5 * float(cosine[0] + cosine[1]),
    }
    for threshold in _THRESHOLDS:
        row[f"f_{threshold:g}"] = _f_score(there, back, threshold)
    return row | {"chamfer": _chamfer(points, truth.points)}


def _nothing() -> dict[str, float]:
    far = dict.fromkeys(("acc", "compl", "cd", "hausdorff", "chamfer"), math.inf)
    return far | {"nc": 0.0} | {f"f_{threshold:g}": 0.0 for threshold in _THRESHOLDS}


def _f_score(there: Tensor, back: Tensor, threshold: float) -> float:
    precision = float((there <= threshold).double().mean())
    recall = float((back <= threshold).double().mean())
    return 2.0 * precision * recall / max(precision + recall, 1e-12)


def _chamfer(a: Tensor, b: Tensor) -> float:
    """The mean of both mean distances from one set of samples to the nearest of the other."""
    ways = ((a, b), (b, a))
    return 0.5 * sum(
        float(cKDTree(to.numpy()).query(start.numpy(), workers=-1)[0].mean())
        for start, to in ways
    )


def connectedness(mesh: Mesh) -> dict[str, int]:
    """Faces, parts and open edges of a mesh."""
    faces = mesh.faces.long()
    ends = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(-1).values
    key = ends[:, 0] * max(len(mesh.vertices), 1) + ends[:, 1]
    uses = torch.unique(key, return_counts=True)[1]
    label = component_of_face(faces)
    return {
        "faces": len(faces),
        "components": int(label.max()) + 1 if len(label) else 0,
        "boundary_edges": int((uses == 1).sum()),
    }
