"""PLY meshes written part by part: binary, little-endian. Letters: n vertices, f faces."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from isolux.render.colour import srgb_from_linear
from isolux.render.files import replacing

__all__ = ["VertexKind", "face_rows", "ply_head", "write_ply_parts"]

_MOST = 2**31  # vertices: faces are written as int
_NAMES = {"float32": "float", "float64": "double", "uint8": "uchar"}
_AXES = ("x", "y", "z")
Vertices = tuple[Float[Tensor, "_ 3"], Float[Tensor, "_ 3"] | None]
"""Positions, and linear colours if the mesh has any."""


@dataclass(frozen=True)
class VertexKind:
    """What is written of a vertex."""

    doubles: bool = False  # positions of float64, e.g. a survey's
    normals: bool = False
    colors: bool = False

    @property
    def dtype(self) -> Any:
        """Of a row."""
        fields = [(name, "<f8" if self.doubles else "<f4") for name in _AXES]
        if self.normals:
            fields += [(f"n{name}", "<f4") for name in _AXES]
        if self.colors:
            fields += [(name, "u1") for name in ("red", "green", "blue")]
        return np.dtype(fields)

    def rows(
        self,
        path: Path,
        vertices: Float[Tensor, "n 3"],
        normals: Float[Tensor, "n 3"] | None = None,
        colors: Float[Tensor, "m 3"] | None = None,
    ) -> Any:
        """Rows as the file has them.

        Raises:
            ValueError: vertices or colours that are not finite, or not one colour a vertex.
        """
        if not bool(torch.isfinite(vertices).all()):
            raise ValueError(
                f"{path}: the mesh has vertices that are not finite, nothing written"
            )
        columns = [*vertices.detach().cpu().numpy().T]
        if normals is not None:
            columns += [*normals.detach().cpu().numpy().T]
        if colors is not None:
            columns += [*_bytes(path, len(vertices), colors).numpy().T]
        rows = np.empty(len(vertices), self.dtype)
        for name, column in zip(rows.dtype.names or (), columns, strict=True):
            rows[name] = column
        return rows


def ply_head(kind: VertexKind, vertices: int, faces: int) -> bytes:
    """The header of so many vertices and triangles."""
    row = kind.dtype
    properties = "".join(
        f"property {_NAMES[str(row[name])]} {name}\n" for name in row.names or ()
    )
    return (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {vertices}\n{properties}"
        f"element face {faces}\nproperty list uchar int vertex_indices\nend_header\n"
    ).encode()


def face_rows(faces: Int[Tensor, "f 3"]) -> Any:
    """Triangles as the file has them."""
    rows = np.zeros(len(faces), dtype=[("count", "u1"), ("corner", "<i4", 3)])
    rows["count"], rows["corner"] = 3, faces.cpu().numpy()
    return rows


def write_ply_parts(
    path: Path,
    kind: VertexKind,
    counts: tuple[int, int],
    vertices: Iterable[Vertices],
    faces: Iterable[Int[Tensor, "_ 3"]],
) -> None:
    """Writes a mesh that comes in parts, in the memory of a part; whole or not at all.

    Args:
        path: the file.
        kind: what is written of a vertex: no normals, which would take the whole mesh.
        counts: of vertices and faces.
        vertices: their parts; colours are written as bytes in sRGB, clipped to [0, 1].
        faces: of all vertices, counted through; read when the vertices are written.

    Raises:
        ValueError: other counts than were said, more vertices than a PLY file can number,
            vertices or colours that are not finite.
        OSError: as `replacing` does.
    """
    if counts[0] >= _MOST:
        raise ValueError(f"{path}: {counts[0]} vertices are more than PLY can number")
    path = Path(path)
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(ply_head(kind, *counts))
        rows = (kind.rows(path, place, colors=color) for place, color in vertices)
        done = _written(file, rows), _written(file, map(face_rows, faces))
        if done != counts:
            raise ValueError(
                f"{path}: {done[0]} vertices and {done[1]} faces came, not {counts[0]} and"
                f" {counts[1]}; nothing written"
            )


def _written(file: IO[bytes], parts: Iterable[Any]) -> int:
    """Writes rows, and counts them."""
    count = 0
    for rows in parts:
        file.write(rows.tobytes())
        count += len(rows)
    return count


def _bytes(path: Path, count: int, colors: Tensor) -> Tensor:
    """Colours as files have them."""
    if len(colors) != count:
        raise ValueError(f"{path}: {len(colors)} colours for {count} vertices")
    if not bool(torch.isfinite(colors).all()):
        raise ValueError(f"{path}: the mesh has colours that are not finite, nothing written")
    srgb = srgb_from_linear(colors.detach().float().clamp(0.0, 1.0))
    return (srgb * 255.0).round().to(torch.uint8).cpu()
