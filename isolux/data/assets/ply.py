"""PLY meshes: read through trimesh, written by ourselves (binary, little-endian)."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from isolux.data.assets.ply_stream import VertexKind, face_rows, ply_head
from isolux.data.assets.textures import MeshAsset
from isolux.geometry.mesh import Mesh, vertex_normals
from isolux.render.files import write_bytes

__all__ = ["read_ply", "write_ply"]


def read_ply(path: Path) -> MeshAsset:
    """Positions and triangles; colours and the like are left out.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, without faces (a point cloud), or not finite.
    """
    import trimesh

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such mesh")
    try:
        with path.open("rb") as file:
            data = trimesh.exchange.ply.load_ply(file)
        vertices = np.array(data["vertices"], dtype=np.float32)
        faces = np.array(data.get("faces", np.zeros((0, 3))), dtype=np.int64)
    except Exception as error:  # the package raises many kinds
        raise ValueError(f"{path}: cannot be read as PLY ({error})") from None
    if not len(faces):
        raise ValueError(f"{path}: has no faces; a cloud of points is no mesh")
    if faces.shape[1] == 4:
        faces = np.concatenate([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]])
    if not np.isfinite(vertices).all():
        raise ValueError(f"{path}: has vertices that are not finite")
    if faces.min() < 0 or faces.max() >= len(vertices):
        bad = faces.min() if faces.min() < 0 else faces.max()
        raise ValueError(f"{path}: vertex index {bad} of {len(vertices)}")
    mesh = Mesh(torch.from_numpy(vertices), torch.from_numpy(faces.astype(np.int32)))
    return MeshAsset(mesh, None, path.stem)


def write_ply(path: Path, mesh: Mesh, colors: Float[Tensor, "n 3"] | None = None) -> None:
    """Writes positions, normals (made from the faces), colours if given, and triangles.

    Positions of float64 are written as doubles, so that a survey's coordinates keep their
    digits; others as floats.

    Args:
        path: the file.
        mesh: any mesh, without faces too.
        colors: linear, of the vertices; written as bytes in sRGB, clipped to [0, 1].

    Raises:
        ValueError: vertices or colours that are not finite, or not one colour a vertex.
    """
    doubles = mesh.vertices.dtype == torch.float64
    kind = VertexKind(doubles, normals=True, colors=colors is not None)
    # Normals from positions about their middle: products of large coordinates lose digits.
    middle = mesh.vertices.mean(0) if doubles and len(mesh.vertices) else 0.0
    normals = vertex_normals(mesh.vertices - middle, mesh.faces)
    rows = kind.rows(path, mesh.vertices, normals, colors)
    head = ply_head(kind, len(rows), len(mesh.faces))
    write_bytes(Path(path), head + rows.tobytes() + face_rows(mesh.faces).tobytes())
