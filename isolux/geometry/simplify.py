"""Fewer triangles for nearly the same shape.

Quadric edge collapse (Garland and Heckbert 1997) by fast-simplification. Letters: n vertices,
f faces.
"""

import fast_simplification
import numpy as np
import torch

from isolux.geometry.mesh import Mesh
from isolux.geometry.statistics import remove_unreferenced

__all__ = ["simplify"]


def simplify(mesh: Mesh, faces: int, aggression: float = 5.0) -> Mesh:
    """The mesh with about so many faces, or the mesh itself when it has no more.

    Texture coordinates and normals are dropped, since they no longer fit. The result of a
    closed mesh may have small holes: see `statistics_of`.

    Args:
        mesh: any triangles.
        faces: how many to keep.
        aggression: from 0 (best shape) to 10 (fastest).

    Raises:
        ValueError: for fewer than four faces, or vertices that are not finite.
    """
    if faces < 4:
        raise ValueError(f"simplify: need at least 4 faces to keep, got {faces}")
    if not bool(mesh.vertices.isfinite().all()):
        raise ValueError("simplify: the mesh has vertices that are not finite")
    plain = Mesh(mesh.vertices.detach(), mesh.faces)
    if len(mesh.faces) <= faces:
        return plain
    vertices, corners = fast_simplification.simplify(
        mesh.vertices.detach().cpu().float().numpy(),
        mesh.faces.cpu().numpy().astype(np.int32),
        target_count=faces,
        agg=aggression,
    )
    made = Mesh(
        torch.from_numpy(np.array(vertices)).to(mesh.vertices),
        torch.from_numpy(np.array(corners)).to(mesh.faces),
    )
    return remove_unreferenced(made)
