"""Tangents of a mesh with texture coordinates, for drawing and for files.

Letters: n vertices, t texture coordinates, f faces. Texture coordinates have (0, 0) at the top
left, v downwards.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from isolux.geometry.mesh import Mesh, face_normals, vertex_normals

__all__ = ["split_at_seams", "vertex_tangents"]

_LEAST = 1e-6  # of the area in texture space, as in nvdiffrec


def vertex_tangents(
    vertices: Float[Tensor, "n 3"],
    faces: Int[Tensor, "f 3"],
    uvs: Float[Tensor, "t 2"],
    uv_faces: Int[Tensor, "f 3"],
    normals: Float[Tensor, "n 3"],
) -> Float[Tensor, "n 3"]:
    """Directions in which u grows, at the vertices, unit and perpendicular to the normals.

    Each face's direction is (e1 dv2 - e2 dv1) / det with |det| at least 1e-6; they are summed
    unweighted, made perpendicular and normalised, as nvdiffrec does. Differentiable in
    vertices and normals.

    Returns:
        The zero vector where faces say nothing or cancel.
    """
    corner = vertices[faces.long()]
    coordinate = uvs[uv_faces.long()]
    first, second = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    du, dv = (coordinate[:, 1:] - coordinate[:, :1]).unbind(-1)  # [f, 2] each
    det = du[:, 0] * dv[:, 1] - dv[:, 0] * du[:, 1]
    det = torch.where(det > 0, det.clamp(min=_LEAST), det.clamp(max=-_LEAST))
    along = (first * dv[:, 1:] - second * dv[:, :1]) / det[:, None]
    total = torch.zeros_like(vertices)
    for i in range(3):
        total = total.index_add(0, faces[:, i].long(), along)
    total = _unit(total)
    return _unit(total - (total * normals).sum(-1, keepdim=True) * normals)


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
    along, down = _face_directions(position, coordinate)
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


def _face_directions(position: Tensor, coordinate: Tensor) -> tuple[Tensor, Tensor]:
    """[f, 3] each: the directions of growing u and growing v (downwards), not unit."""
    first, second = position[:, 1] - position[:, 0], position[:, 2] - position[:, 0]
    du, dv = (coordinate[:, 1:] - coordinate[:, :1]).unbind(-1)
    det = du[:, :1] * dv[:, 1:] - dv[:, :1] * du[:, 1:]
    sign = torch.where(det < 0, -1.0, 1.0).to(det)
    along = sign * (first * dv[:, 1:] - second * dv[:, :1])
    down = sign * (second * du[:, :1] - first * du[:, 1:])
    return along, down


def _corner_angles(position: Tensor) -> Tensor:
    """[f, 3] radians."""
    ahead, behind = position.roll(-1, 1) - position, position.roll(1, 1) - position
    across = torch.linalg.cross(ahead, behind, dim=-1).norm(dim=-1)
    return torch.atan2(across, (ahead * behind).sum(-1))


def _any_across(normal: Tensor) -> Tensor:
    """Some unit vector perpendicular to each normal, for files that must have one."""
    axis = torch.nn.functional.one_hot(normal.abs().argmin(-1), 3).to(normal)
    return _unit(axis - (axis * normal).sum(-1, keepdim=True) * normal)
