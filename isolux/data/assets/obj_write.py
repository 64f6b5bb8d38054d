"""Wavefront OBJ, written: a mesh, its materials and textures.

Letters: n vertices, t texture coordinates, f triangles.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from isolux.data.assets.image import encode_png, to_bytes
from isolux.data.assets.textures import MeshAsset, TextureSet
from isolux.geometry.mesh import vertex_normals
from isolux.render.colour import srgb_from_linear
from isolux.render.files import write_bytes

__all__ = ["write_obj"]

_MATERIAL = "surface"


def write_obj(path: Path, asset: MeshAsset) -> None:
    """Writes NAME.obj, and with a material NAME.mtl and its textures beside it.

    Positions, texture coordinates and normals keep indices of their own, so that the surface
    stays connected across texture seams. Normals that the mesh does not have are made from
    its faces. Textures of `mesh.obj` are `texture_kd.png` (sRGB), `texture_ks.png`
    (occlusion, roughness, metalness as nvdiffrec reads them, linear), `texture_n.png`
    (green up), and two grey ones, roughness and metalness, for programs that know
    `map_Pr` and `map_Pm` (Blender); of other names they begin with NAME. Colours of
    vertices follow their positions, sRGB. A mesh of no faces is a file without faces.

    Raises:
        ValueError: vertices that are not finite.
        OSError: the folder cannot be written.
    """
    path, mesh = Path(path), asset.mesh
    if not bool(torch.isfinite(mesh.vertices).all()):
        raise ValueError(f"{path}: the mesh has vertices that are not finite, nothing written")
    normals, normal_faces = mesh.normals, mesh.normal_faces
    if normals is None or normal_faces is None:
        normals, normal_faces = vertex_normals(mesh.vertices, mesh.faces), mesh.faces
    text = []
    if asset.material is not None:
        library = path.with_suffix(".mtl")
        _write_mtl(library, asset.material, "texture" if path.stem == "mesh" else path.stem)
        text.append(f"mtllib {library.name}\n")
    text.append(f"o {path.stem}\n")
    exact = "%.17g" if mesh.vertices.dtype == torch.float64 else "%.9g"
    place = f"v {exact} {exact} {exact}"
    if asset.colors is None:
        text.append(_rows(f"{place}\n", mesh.vertices))
    else:  # three more numbers, as most programs read them
        colors = srgb_from_linear(asset.colors.detach().cpu().clamp(0.0, 1.0))
        rows = torch.cat([mesh.vertices.cpu(), colors.to(mesh.vertices.dtype)], dim=-1)
        text.append(_rows(f"{place} %.4g %.4g %.4g\n", rows))
    columns = [mesh.faces, normal_faces]
    corner = "%d//%d"
    if mesh.uvs is not None and mesh.uv_faces is not None:
        flipped = torch.stack([mesh.uvs[:, 0], 1.0 - mesh.uvs[:, 1]], dim=-1)
        text.append(_rows("vt %.9g %.9g\n", flipped))
        columns, corner = [mesh.faces, mesh.uv_faces, normal_faces], "%d/%d/%d"
    text.append(_rows("vn %.6g %.6g %.6g\n", normals))
    if asset.material is not None:
        text.append(f"usemtl {_MATERIAL}\n")
    text.append("s 1\n")
    corners = torch.stack([column.long() for column in columns], dim=-1).flatten(1) + 1
    text.append(_rows(f"f {corner} {corner} {corner}\n", corners))
    write_bytes(path, "".join(text).encode())


def _rows(line: str, values: Float[Tensor, "n k"] | Int[Tensor, "n k"]) -> str:
    """One line for each row; a single formatting call is much faster than one a row."""
    flat = values.detach().cpu().flatten().tolist()
    return (line * len(values)) % tuple(flat)


def _write_mtl(path: Path, material: TextureSet, stem: str) -> None:
    pictures = {
        "kd": srgb_from_linear(material.albedo.clamp(0.0, 1.0)),
        "ks": material.orm,
        "roughness": material.orm[..., 1:2],
        "metalness": material.orm[..., 2:3],
    }
    lines = [
        f"newmtl {_MATERIAL}",
        "bsdf pbr",
        "illum 2",
        "Kd 1 1 1",
        f"map_Kd {stem}_kd.png",
        f"map_Ks {stem}_ks.png",
        f"map_Pr {stem}_roughness.png",
        f"map_Pm {stem}_metalness.png",
    ]
    if material.normal is not None:
        pictures["n"] = material.normal * 0.5 + 0.5
        lines.append(f"norm {stem}_n.png")
    for name, values in pictures.items():
        picture: np.ndarray = to_bytes(values)
        picture = picture[..., 0] if picture.shape[-1] == 1 else picture
        write_bytes(path.with_name(f"{stem}_{name}.png"), encode_png(Image.fromarray(picture)))
    write_bytes(path, ("\n".join(lines) + "\n").encode())
