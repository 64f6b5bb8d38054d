"""The surface of the mesh stage: fixed triangles with charts, movable vertices.

Letters: n vertices, t texture coordinates, f faces.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from isolux.geometry.mesh import Mesh
from isolux.geometry.tangents import growing_u

__all__ = ["FixedMesh", "chart_tangents"]


class FixedMesh(nn.Module):
    """Triangles whose connections stay and whose vertices are parameters.

    Args:
        mesh: with texture coordinates.
        locked: keep the vertices where they are.
    """

    vertices: Tensor
    initial: Tensor
    faces: Tensor
    uvs: Tensor
    uv_faces: Tensor

    def __init__(self, mesh: Mesh, locked: bool = False) -> None:
        super().__init__()
        if mesh.uvs is None or mesh.uv_faces is None:
            raise ValueError("a mesh of the mesh stage needs texture coordinates")
        self.vertices = nn.Parameter(mesh.vertices.clone(), requires_grad=not locked)
        self.register_buffer("initial", mesh.vertices.clone())
        self.register_buffer("faces", mesh.faces.int())
        self.register_buffer("uvs", mesh.uvs.clone())
        self.register_buffer("uv_faces", mesh.uv_faces.int())

    @staticmethod
    def from_state(state: Mapping[str, Tensor], locked: bool = False) -> "FixedMesh":
        """A module of the sizes that saved tensors have, holding them."""
        mesh = Mesh(state["initial"], state["faces"], state["uvs"], state["uv_faces"])
        module = FixedMesh(mesh, locked)
        module.load_state_dict(dict(state))
        return module

    def mesh(self) -> Mesh:
        """The mesh as it stands now, without a graph."""
        return Mesh(self.vertices.detach().clone(), self.faces, self.uvs, self.uv_faces)


def chart_tangents(
    vertices: Float[Tensor, "n 3"],
    faces: Int[Tensor, "f 3"],
    uvs: Float[Tensor, "t 2"],
    uv_faces: Int[Tensor, "f 3"],
) -> Float[Tensor, "t 3"]:
    """Directions of growing u at the texture coordinates, unit, area-weighted over faces.

    They belong to texture coordinates and not to vertices, so that charts which meet at a
    seam do not mix. Degenerate charts get the zero vector.
    """
    corners = [vertices.index_select(0, faces[:, i].long()) for i in range(3)]
    coordinates = [uvs.index_select(0, uv_faces[:, i].long()) for i in range(3)]
    along = growing_u(corners, coordinates)
    total = vertices.new_zeros(len(uvs), 3)
    for corner in range(3):
        total = total.index_add(0, uv_faces[:, corner].long(), along)
    return torch.nn.functional.normalize(total, dim=-1, eps=1e-20)
