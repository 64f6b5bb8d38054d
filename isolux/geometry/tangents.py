"""Tangents of a mesh with texture coordinates, for drawing and for files.

Letters: n vertices, f faces. Texture coordinates have (0, 0) at the top left, v downwards.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from isolux.geometry.mesh import Mesh, face_normals, vertex_normals

__all__ = ["growing_u", "split_at_seams"]


def _unit(vectors: Tensor) -> Tensor:
    square = vectors.square().sum(-1, keepdim=True)
    # where() comes before sqrt(): the gradient of sqrt at 0 is infinite.
    length = torch.where(square > 1e-20, square, 1.0).sqrt()
    return torch.where(square > 1e-20, vectors / length, 0.0)


def split_at_seams(mesh: Mesh) -> tuple[Mesh, Float[Tensor, "n 4"]]:
    """The mesh with one index for positions, normals and texture coordinates, and tangents.

    What glTF wants. Vertices on a seam, or where a chart meets its mirror image, are doubled.
    Tangents are averaged by the angle at the corner, as MikkTSpace does, over the corners that
    share position, normal and texture coordinate.

    Returns:
        The mesh (all three face arrays the same), and for each vertex the unit tangent and
        w = 1 or -1: the direction of growing v in the file's picture, upwards as glTF counts
        it, is w times normal x tangent.

    Raises:
        ValueError: when the mesh has no texture coordinates.
    """
    if mesh.uvs is None or mesh.uv_faces is None:
        raise ValueError("tangents need texture coordinates")
    if mesh.normals is None or mesh.normal_faces is None:
        normals, normal_faces = vertex_normals(mesh.vertices, mesh.faces), mesh.faces
    else:
        normals, normal_faces = mesh.normals, mesh.normal_faces
    position, coordinate = mesh.vertices[mesh.faces.long()], mesh.uvs[mesh.uv_faces.long()]
    along = growing_u(position.unbind(1), coordinate.unbind(1))
    down = growing_u(position.unbind(1), coordinate.flip(-1).unbind(1))  # where v grows
    mirrored = (face_normals(mesh.vertices, mesh.faces) * torch.linalg.cross(along, down)).sum(
        -1
    )
    side = (mirrored > 0).long()  # v grows downwards: a chart that is not mirrored is negative
    key = torch.stack(
        [
            mesh.faces.long().reshape(-1),
            normal_faces.long().reshape(-1),
            mesh.uv_faces.long().reshape(-1),
            side.repeat_interleave(3),
        ],
        dim=-1,
    )
    rows, corner = torch.unique(key, dim=0, return_inverse=True)
    normal = normals[rows[:, 1]]
    weight = _corner_angles(position).reshape(-1, 1)
    total = torch.zeros_like(normal)
    total = total.index_add(0, corner, weight * _unit(along).repeat_interleave(3, dim=0))
    tangent = _unit(total - (total * normal).sum(-1, keepdim=True) * normal)
    tangent = torch.where((tangent == 0).all(-1, keepdim=True), _any_across(normal), tangent)
    faces = corner.reshape(-1, 3).to(mesh.faces.dtype)
    split = Mesh(mesh.vertices[rows[:, 0]], faces, mesh.uvs[rows[:, 2]], faces, normal, faces)
    sign = torch.where(rows[:, 3:] == 1, -1.0, 1.0).to(tangent)
    return split, torch.cat([tangent, sign], dim=-1)


def growing_u(
    corners: Sequence[Float[Tensor, "f 3"]], coordinates: Sequence[Float[Tensor, "f 2"]]
) -> Float[Tensor, "f 3"]:
    """Where u grows on faces, from their three corners; not unit.

    As long as twice the face's area in the texture times the world's length of a unit of u;
    hence zero where a face has no area in the texture.
    """
    a, b, c = corners
    p, q, r = coordinates
    first, second = q - p, r - p
    det = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    along = (b - a) * second[:, 1:] - (c - a) * first[:, 1:]
    return along * det.sign()[:, None]


def _corner_angles(position: Tensor) -> Tensor:
    """[f, 3] radians."""
    ahead, behind = position.roll(-1, 1) - position, position.roll(1, 1) - position
    across = torch.linalg.cross(ahead, behind, dim=-1).norm(dim=-1)
    return torch.atan2(across, (ahead * behind).sum(-1))


def _any_across(normal: Tensor) -> Tensor:
    """Some unit vector perpendicular to each normal, for files that must have one."""
    axis = torch.nn.functional.one_hot(normal.abs().argmin(-1), 3).to(normal)
    return _unit(axis - (axis * normal).sum(-1, keepdim=True) * normal)
