"""PLY meshes: read through trimesh, written by ourselves (binary, little-endian)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from isolux.data.assets.textures import MeshAsset
from isolux.geometry.mesh import Mesh, vertex_normals
from isolux.render.colour import srgb_from_linear
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
    if not bool(torch.isfinite(mesh.vertices).all()):
        raise ValueError(f"{path}: the mesh has vertices that are not finite, nothing written")
    kind = "double" if mesh.vertices.dtype == torch.float64 else "float"
    # Normals from positions about their middle: products of large coordinates lose digits.
    middle = mesh.vertices.mean(0) if kind == "double" and len(mesh.vertices) else 0.0
    parts = [
        _columns(mesh.vertices, ("x", "y", "z"), kind),
        _columns(
            vertex_normals(mesh.vertices - middle, mesh.faces), ("nx", "ny", "nz"), "float"
        ),
    ]
    if colors is not None:
        parts.append(_columns(_bytes(path, mesh, colors), ("red", "green", "blue"), "uchar"))
    rows = np.empty(len(mesh.vertices), [field for _, fields in parts for field in fields])
    for values, fields in parts:
        for column, (name, _) in enumerate(fields):
            rows[name] = values[:, column]
    faces = np.zeros(len(mesh.faces), dtype=[("count", "u1"), ("corner", "<i4", 3)])
    faces["count"], faces["corner"] = 3, mesh.faces.cpu().numpy()
    properties = "".join(
        f"property {_NAMES[str(rows.dtype[name])]} {name}\n" for name in rows.dtype.names or ()
    )
    head = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(rows)}\n{properties}"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    write_bytes(Path(path), head.encode() + rows.tobytes() + faces.tobytes())


_TYPES = {"float": "<f4", "double": "<f8", "uchar": "u1"}
_NAMES = {"float32": "float", "float64": "double", "uint8": "uchar"}


def _columns(
    values: Tensor, names: tuple[str, ...], kind: str
) -> tuple[Any, list[tuple[str, str]]]:
    return values.detach().cpu().numpy(), [(name, _TYPES[kind]) for name in names]


def _bytes(path: Path, mesh: Mesh, colors: Tensor) -> Tensor:
    """Colours as files have them."""
    if len(colors) != len(mesh.vertices):
        raise ValueError(f"{path}: {len(colors)} colours for {len(mesh.vertices)} vertices")
    if not bool(torch.isfinite(colors).all()):
        raise ValueError(f"{path}: the mesh has colours that are not finite, nothing written")
    srgb = srgb_from_linear(colors.detach().float().clamp(0.0, 1.0))
    return (srgb * 255.0).round().to(torch.uint8)
