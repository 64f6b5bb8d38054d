"""How far two surfaces are from each other.

Letters: n vertices, f faces, p samples. Lengths are in the units of the vertices.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from isolux.geometry.bvh import TriangleTree
from isolux.geometry.mesh import Mesh, face_normals

__all__ = ["diagonal", "sample_surface", "surface_metrics"]


def diagonal(mesh: Mesh) -> float:
    """The diagonal of the box about the vertices that faces use; zero without faces."""
    if len(mesh.faces) == 0:
        return 0.0
    used = mesh.vertices.detach()[mesh.faces.long().reshape(-1)]
    return float((used.max(0).values - used.min(0).values).double().norm())


def sample_surface(
    mesh: Mesh, count: int, generator: torch.Generator
) -> tuple[Float[Tensor, "p 3"], Int[Tensor, " p"]]:
    """Points spread evenly by area, one in each of `count` equal shares, and their faces.

    Raises:
        ValueError: when the mesh has no area.
    """
    vertices = mesh.vertices.detach().double()
    area = face_normals(vertices, mesh.faces).norm(dim=-1)
    if len(area) == 0 or not 0 < float(area.sum()) < float("inf"):
        raise ValueError(f"cannot sample a mesh of {len(area)} faces without a finite area")
    ends = area.cumsum(0)
    shares = torch.arange(count) + torch.rand(count, generator=generator, dtype=torch.float64)
    face = torch.searchsorted(ends, shares / max(count, 1) * ends[-1]).clamp(max=len(area) - 1)
    u, v = torch.rand(2, count, generator=generator, dtype=torch.float64)
    over = u + v > 1
    u, v = torch.where(over, 1 - u, u)[:, None], torch.where(over, 1 - v, v)[:, None]
    a, b, c = vertices[mesh.faces.long()[face]].unbind(1)
    return a + u * (b - a) + v * (c - a), face


def surface_metrics(
    mesh: Mesh,
    reference: Mesh,
    count: int = 100_000,
    threshold: float | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Distances between a mesh and a reference, from samples to the other's exact surface.

    Args:
        mesh: what is measured.
        reference: what it should be.
        count: samples on each of the two.
        threshold: of the F-score; None takes one percent of the reference's diagonal.
        seed: of the samples.

    Returns:
        `to_reference_mean` and `from_reference_mean` (mean distance from samples of the mesh
        to the reference, and back), `chamfer_l1` (their mean), `f_score` (harmonic mean of the
        fractions of samples nearer than `f_threshold`), `normal_consistency` (mean absolute
        cosine between normals at nearest points, over both directions) and
        `reference_diagonal`. A mesh without faces has infinite distances, and scores of zero.
    """
    scale = diagonal(reference)
    threshold = 0.01 * scale if threshold is None else threshold
    numbers = {"reference_diagonal": scale, "f_threshold": threshold}
    if len(mesh.faces) == 0 or len(reference.faces) == 0:
        far = float("inf")
        return numbers | {
            "to_reference_mean": far,
            "from_reference_mean": far,
            "chamfer_l1": far,
            "f_score": 0.0,
            "normal_consistency": 0.0,
        }
    generator = torch.Generator().manual_seed(seed)
    there, there_cosine = _one_way(mesh, reference, count, generator)
    back, back_cosine = _one_way(reference, mesh, count, generator)
    precision = float((there < threshold).double().mean())
    recall = float((back < threshold).double().mean())
    return numbers | {
        "to_reference_mean": float(there.mean()),
        "from_reference_mean": float(back.mean()),
        "chamfer_l1": float(0.5 * (there.mean() + back.mean())),
        "f_score": 2 * precision * recall / max(precision + recall, 1e-30),
        "normal_consistency": float(0.5 * (there_cosine.mean() + back_cosine.mean())),
    }


def _one_way(
    source: Mesh, target: Mesh, count: int, generator: torch.Generator
) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
    """Distances, and absolute cosines between normals, from samples to the other surface."""
    points, face = sample_surface(source, count, generator)
    distance, nearest = TriangleTree(target.vertices, target.faces).closest(points)
    normals = [
        torch.nn.functional.normalize(
            face_normals(each.vertices.detach().double(), rows), dim=-1
        )
        for each, rows in (
            (source, source.faces[face]),
            (target, target.faces[nearest]),
        )
    ]
    return distance, (normals[0] * normals[1]).sum(-1).abs()
