"""The triangle mesh that travels between the parts, and what follows from it directly.

Letters: n vertices, t texture coordinates, m given normals, f faces. Triangles are
counter-clockwise seen from outside.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Mesh", "face_normals", "vertex_normals"]


@dataclass(frozen=True)
class Mesh:
    """Triangles, with optional texture coordinates and normals that have indices of their own.

    Positions are shared across texture seams, so that smoothing and silhouettes see one
    connected surface. Zero faces are a valid mesh.
    """

    vertices: Float[Tensor, "n 3"]
    faces: Int[Tensor, "f 3"]
    uvs: Float[Tensor, "t 2"] | None = None  # (0, 0) is the top left texel's corner
    uv_faces: Int[Tensor, "f 3"] | None = None
    normals: Float[Tensor, "m 3"] | None = None  # unit; None: area-weighted from the faces
    normal_faces: Int[Tensor, "f 3"] | None = None

    def to(self, device: torch.device | str) -> "Mesh":
        """The same mesh on another device."""
        parts: dict[str, Any] = {
            name: None if part is None else part.to(device) for name, part in vars(self).items()
        }
        return Mesh(**parts)


def face_normals(
    vertices: Float[Tensor, "n 3"], faces: Int[Tensor, "f 3"]
) -> Float[Tensor, "f 3"]:
    """Normals of the triangles, of twice the triangle's area in length."""
    a, b, c = (vertices.index_select(0, faces[:, i].long()) for i in range(3))
    normals: Tensor = torch.linalg.cross(b - a, c - a, dim=-1)
    return normals


def vertex_normals(
    vertices: Float[Tensor, "n 3"], faces: Int[Tensor, "f 3"], eps: float = 1e-24
) -> Float[Tensor, "n 3"]:
    """Unit normals at the vertices, each the area-weighted mean of its faces' normals.

    Args:
        vertices: positions.
        faces: any triangle soup; it need not be closed or manifold.
        eps: squared length under which a sum counts as zero. It goes with the fourth power
            of an edge, hence tiny.

    Returns:
        Unit vectors. A vertex that no face uses, or whose faces cancel, gets the zero
        vector, and the gradient through it is zero rather than NaN.
    """
    normals = face_normals(vertices, faces)
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total = total.index_add(0, faces[:, corner].long(), normals)
    square = total.square().sum(dim=-1, keepdim=True)
    # where() comes before sqrt(): the gradient of sqrt at 0 is infinite, and inf * 0 is NaN.
    length = torch.where(square > eps, square, 1.0).sqrt()
    return torch.where(square > eps, total / length, 0.0)
