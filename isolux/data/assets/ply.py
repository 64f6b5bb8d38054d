"""PLY meshes: read through trimesh, written by ourselves (binary, little-endian)."""

from pathlib import Path

import numpy as np
import torch

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


def write_ply(path: Path, mesh: Mesh) -> None:
    """Writes positions, normals (made from the faces) and triangles.

    Raises:
        ValueError: vertices that are not finite.
    """
    if not bool(torch.isfinite(mesh.vertices).all()):
        raise ValueError(f"{path}: the mesh has vertices that are not finite, nothing written")
    normals = vertex_normals(mesh.vertices, mesh.faces)
    rows = torch.cat([mesh.vertices, normals], dim=-1).detach().cpu().numpy().astype("<f4")
    faces = np.zeros(len(mesh.faces), dtype=[("count", "u1"), ("corner", "<i4", 3)])
    faces["count"], faces["corner"] = 3, mesh.faces.cpu().numpy()
    properties = "".join(
        f"property float {name}\n" for name in ("x", "y", "z", "nx", "ny", "nz")
    )
    head = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(rows)}\n{properties}"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    write_bytes(Path(path), head.encode() + rows.tobytes() + faces.tobytes())
