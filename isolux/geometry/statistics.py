"""What a mesh is like, in numbers; and the cleaning that follows from it.

Letters: n vertices, f faces, e edges.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from isolux.geometry.mesh import Mesh, face_normals

__all__ = [
    "MeshStatistics",
    "component_of_face",
    "mesh_statistics",
    "remove_small_components",
    "remove_unreferenced",
    "statistics_of",
]

_SLIVER = 10.0  # degrees


@dataclass(frozen=True)
class MeshStatistics:
    """Numbers of a mesh. Only vertices that a face uses count."""

    vertices: int
    triangles: int
    components: int  # connected through shared vertices
    watertight: bool  # each edge has one face on either side, and they turn the same way
    manifold: bool  # no edge has more than two faces, and faces about a vertex are one fan
    boundary_edges: int  # with one face
    manifold_edges: int  # with two faces
    non_manifold_edges: int  # with more
    euler: int  # vertices - edges + faces; 2 - 2 * handles for one closed surface
    slivers: float  # the fraction of triangles with an angle below ten degrees


def mesh_statistics(mesh: Mesh) -> dict[str, float]:
    """The part "mesh" of a run's metrics: counts, components, whether closed and manifold."""
    numbers = statistics_of(mesh)
    return {
        "vertices": numbers.vertices,
        "triangles": numbers.triangles,
        "components": numbers.components,
        "watertight": numbers.watertight,
        "manifold": numbers.manifold,
        "euler": numbers.euler,
        "slivers": numbers.slivers,
    }


def statistics_of(mesh: Mesh) -> MeshStatistics:
    """All numbers of a mesh. A mesh without faces is neither watertight nor broken."""
    faces = mesh.faces.detach().cpu().numpy().astype(np.int64)
    directed = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    size = len(mesh.vertices)
    forwards = directed[:, 0] * size + directed[:, 1]
    backwards = directed[:, 1] * size + directed[:, 0]
    _, uses = np.unique(np.minimum(forwards, backwards), return_counts=True)
    closed = bool((uses == 2).all()) and np.array_equal(np.sort(forwards), np.sort(backwards))
    used = len(np.unique(faces))
    return MeshStatistics(
        vertices=used,
        triangles=len(faces),
        components=int(component_of_face(mesh.faces).max()) + 1 if len(faces) else 0,
        watertight=len(faces) > 0 and closed,
        manifold=bool((uses <= 2).all()) and _fans(faces) == used,
        boundary_edges=int((uses == 1).sum()),
        manifold_edges=int((uses == 2).sum()),
        non_manifold_edges=int((uses > 2).sum()),
        euler=used - len(uses) + len(faces),
        slivers=_sliver_fraction(mesh),
    )


def _fans(faces: np.ndarray) -> int:
    """How many fans the faces about all vertices make: as many as vertices, or more.

    Corners of two faces belong to one fan when the faces share an edge at that vertex.
    """
    count = len(faces)
    corner = np.arange(3 * count)
    vertex = faces.reshape(-1)
    following = faces[:, [1, 2, 0]].reshape(-1)
    preceding = faces[:, [2, 0, 1]].reshape(-1)
    # A corner's two edges, by the vertex at their other end.
    owner = np.concatenate([corner, corner])
    size = int(vertex.max(initial=-1)) + 1
    key = np.concatenate([vertex * size + following, vertex * size + preceding])
    order = np.argsort(key, kind="stable")
    same = key[order][1:] == key[order][:-1]
    a, b = owner[order][:-1][same], owner[order][1:][same]
    graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(3 * count, 3 * count))
    return int(connected_components(graph, directed=False)[0]) if count else 0


def _sliver_fraction(mesh: Mesh) -> float:
    if len(mesh.faces) == 0:
        return 0.0
    corner = mesh.vertices.detach().double()[mesh.faces.long()]
    ahead = corner.roll(-1, 1) - corner
    behind = corner.roll(1, 1) - corner
    area = torch.linalg.cross(ahead, behind, dim=-1).norm(dim=-1)
    angle = torch.atan2(area, (ahead * behind).sum(-1))  # zero for a face without an area
    degenerate = (face_normals(mesh.vertices.detach(), mesh.faces) == 0).all(-1)
    thin = (angle.min(-1).values < np.deg2rad(_SLIVER)) | degenerate
    return float(thin.double().mean())


def component_of_face(faces: Int[Tensor, "f 3"]) -> Int[Tensor, " f"]:
    """The number, from zero, of the connected component that each face belongs to."""
    corner = faces.detach().cpu().numpy()
    if len(corner) == 0:
        return torch.zeros(0, dtype=torch.int64)
    size = int(corner.max()) + 1
    a = np.concatenate([corner[:, 0], corner[:, 1]])
    b = np.concatenate([corner[:, 1], corner[:, 2]])
    graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(size, size))
    label = connected_components(graph, directed=False)[1][corner[:, 0]]
    return torch.from_numpy(np.unique(label, return_inverse=True)[1].reshape(-1))


def remove_unreferenced(mesh: Mesh) -> Mesh:
    """The mesh without vertices, texture coordinates and normals that no face uses."""

    def kept(values: Tensor | None, rows: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        if values is None or rows is None:
            return values, rows
        used, renumbered = torch.unique(rows.long(), return_inverse=True)
        return values[used], renumbered.reshape(rows.shape).to(rows.dtype)

    vertices, faces = kept(mesh.vertices, mesh.faces)
    assert vertices is not None
    assert faces is not None
    return Mesh(
        vertices,
        faces,
        *kept(mesh.uvs, mesh.uv_faces),
        *kept(mesh.normals, mesh.normal_faces),
    )


def remove_small_components(mesh: Mesh, fraction: float = 0.02) -> Mesh:
    """The mesh without floaters, and without what they leave unreferenced.

    Args:
        mesh: any triangles.
        fraction: a component goes when its area is less than this part of the largest one's.
    """
    if len(mesh.faces) == 0:
        return mesh
    label = component_of_face(mesh.faces).to(mesh.faces.device)
    area = face_normals(mesh.vertices.detach(), mesh.faces).double().norm(dim=-1)
    total = area.new_zeros(int(label.max()) + 1).index_add(0, label, area)
    keep: Bool[Tensor, " f"] = (total >= fraction * total.max())[label]
    return remove_unreferenced(
        Mesh(
            mesh.vertices,
            mesh.faces[keep],
            mesh.uvs,
            None if mesh.uv_faces is None else mesh.uv_faces[keep],
            mesh.normals,
            None if mesh.normal_faces is None else mesh.normal_faces[keep],
        )
    )
