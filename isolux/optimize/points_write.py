"""What is written of a surface from points: its mesh by the suffix, and arrays."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from isolux.data.assets.gltf_write import write_glb
from isolux.data.assets.obj_write import write_obj
from isolux.data.assets.ply import write_ply
from isolux.data.assets.ply_stream import VertexKind, Vertices, write_ply_parts
from isolux.data.assets.textures import MeshAsset
from isolux.geometry.mesh import Mesh
from isolux.geometry.points.tiled.field import TiledField
from isolux.geometry.points.tiled.parts import MeshParts
from isolux.render.files import write_bytes

__all__ = ["write_mesh", "write_npz", "write_parts"]

_AT_ONCE = 20_000_000  # triangles, of what is not written part by part


def write_mesh(path: Path, mesh: Mesh, colors: Tensor | None) -> None:
    """A mesh by the suffix of its file."""
    asset = MeshAsset(mesh, None, path.stem, colors)
    match path.suffix.lower():
        case ".ply":
            write_ply(path, mesh, colors)
        case ".obj":
            write_obj(path, asset)
        case ".glb":
            write_glb(path, asset)
        case other:
            raise ValueError(f"{path}: meshes are written as .ply, .obj or .glb, not '{other}'")


def write_parts(path: Path, parts: MeshParts, field: TiledField) -> None:
    """A mesh of tiles by the suffix of its file: .ply in the memory of a tile, others whole.

    Raises:
        ValueError: a mesh that is too large for a format that is written whole.
        OSError: as `replacing` does.
    """
    if path.suffix.lower() != ".ply":
        if parts.faces > _AT_ONCE:
            raise ValueError(
                f"{path}: {parts.faces} triangles are more than is written whole "
                f"({_AT_ONCE}): name a .ply file, which is written part by part"
            )
        write_mesh(path, *_whole(parts, field))
        return
    kind = VertexKind(_needs_doubles(field), colors=parts.has_colors)
    faces = (torch.from_numpy(block) for block in parts.face_blocks())
    write_ply_parts(path, kind, (parts.vertices, parts.faces), _vertices(parts), faces)


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Arrays by name, as numpy reads them."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def _vertices(parts: MeshParts) -> Iterator[Vertices]:
    for places, colors in parts.vertex_blocks():
        yield (
            torch.from_numpy(places),
            None if colors is None else torch.from_numpy(colors),
        )


def _needs_doubles(field: TiledField) -> bool:
    """Whether single precision loses more than a millionth of the extent."""
    low, high = field.bounds
    extent = float((high - low).max())
    return float(field.bounds.abs().max()) * 2.0**-24 > 1e-6 * extent


def _whole(parts: MeshParts, field: TiledField) -> tuple[Mesh, Tensor | None]:
    found = list(_vertices(parts))
    vertices = torch.cat([places for places, _ in found])
    faces = torch.cat([torch.from_numpy(block) for block in parts.face_blocks()])
    colors = [color for _, color in found if color is not None]
    mesh = Mesh(vertices if _needs_doubles(field) else vertices.float(), faces.int())
    return mesh, torch.cat(colors) if colors else None
