"""A mesh as graphics hardware wants it: one index for position, normal, texture and tangent.

Letters: n vertices of the mesh, c of the split one, f triangles.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from isolux.geometry.mesh import Mesh, vertex_normals

__all__ = ["SplitMesh", "split_corners"]


@dataclass(frozen=True)
class SplitMesh:
    """Vertices that are copied along seams."""

    positions: Float[np.ndarray, "c 3"]
    normals: Float[np.ndarray, "c 3"]  # unit
    uvs: Float[np.ndarray, "c 2"] | None
    tangents: Float[np.ndarray, "c 4"] | None  # unit, along u; w: handedness
    faces: Int[np.ndarray, "f 3"]
    vertices: Int[np.ndarray, " c"]  # of the mesh


def split_corners(mesh: Mesh) -> SplitMesh:
    """One vertex for each combination of position, normal, texture coordinate and handedness.

    Triangles that use a vertex twice are left out. Normals come from the faces where the mesh
    has none, and point up where nothing defines them. A mesh of no faces gives none.
    """
    faces = mesh.faces.cpu().numpy().astype(np.int64)
    keep = (faces != np.roll(faces, 1, axis=1)).all(axis=1)
    faces = faces[keep]
    positions = mesh.vertices.detach().cpu().numpy().astype(np.float32)
    if mesh.normals is not None and mesh.normal_faces is not None:
        normals, normal_faces = mesh.normals, mesh.normal_faces.cpu().numpy()[keep]
    else:
        normals, normal_faces = vertex_normals(mesh.vertices, mesh.faces), faces
    columns = [faces.reshape(-1), normal_faces.reshape(-1).astype(np.int64)]
    uvs = None
    if mesh.uvs is not None and mesh.uv_faces is not None:
        uvs = mesh.uvs.detach().cpu().numpy().astype(np.float32)
        uv_faces = mesh.uv_faces.cpu().numpy().astype(np.int64)[keep]
        mirrored = _uv_area(uvs[uv_faces]) > 0
        columns += [uv_faces.reshape(-1), np.repeat(mirrored, 3).astype(np.int64)]
    key, index = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    split_faces = index.reshape(-1, 3)
    unit = _unit(normals.detach().cpu().numpy().astype(np.float64)[key[:, 1]], (0.0, 1.0, 0.0))
    position = positions[key[:, 0]]
    if uvs is None:
        return SplitMesh(position, unit.astype(np.float32), None, None, split_faces, key[:, 0])
    sign = np.where(key[:, 3] > 0, -1.0, 1.0)
    tangents = _tangents(position.astype(np.float64), uvs[key[:, 2]], unit, split_faces)
    tangents = np.concatenate([tangents, sign[:, None]], axis=1).astype(np.float32)
    return SplitMesh(
        position, unit.astype(np.float32), uvs[key[:, 2]], tangents, split_faces, key[:, 0]
    )


def _uv_area(corners: Float[np.ndarray, "f 3 2"]) -> Float[np.ndarray, " f"]:
    """Twice the signed area; negative when the chart is not mirrored, since v runs down."""
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area: np.ndarray = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    return area


def _unit(
    vectors: Float[np.ndarray, "c 3"], fallback: tuple[float, float, float]
) -> Float[np.ndarray, "c 3"]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    good = length > 1e-12
    return np.where(good, vectors / np.where(good, length, 1.0), np.array(fallback))


def _tangents(
    positions: Float[np.ndarray, "c 3"],
    uvs: Float[np.ndarray, "c 2"],
    normals: Float[np.ndarray, "c 3"],
    faces: Int[np.ndarray, "f 3"],
) -> Float[np.ndarray, "c 3"]:
    """The direction in which u grows, made perpendicular to the normal.

    Triangles add theirs unweighted, as nvdiffrec does; a vertex without any gets some
    perpendicular direction.
    """
    edges = positions[faces[:, 1:]] - positions[faces[:, :1]]  # [f, 2, 3]
    steps = (uvs[faces[:, 1:]] - uvs[faces[:, :1]]).astype(np.float64)  # [f, 2, 2]
    area = steps[:, 0, 0] * steps[:, 1, 1] - steps[:, 0, 1] * steps[:, 1, 0]
    along = edges[:, 0] * steps[:, 1, 1:] - edges[:, 1] * steps[:, 0, 1:]
    along = _unit(along * np.sign(area)[:, None], (0.0, 0.0, 0.0))
    total = np.zeros_like(positions)
    for corner in range(3):
        np.add.at(total, faces[:, corner], along)
    total -= normals * (total * normals).sum(axis=1, keepdims=True)
    # The axis that is least along the normal cannot be parallel to it.
    axis = np.eye(3)[np.abs(normals).argmin(axis=1)]
    other = np.cross(normals, axis)
    good = np.linalg.norm(total, axis=1, keepdims=True) > 1e-6
    return _unit(np.where(good, total, other), (1.0, 0.0, 0.0))
