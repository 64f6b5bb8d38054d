"""GLB, written: one mesh with a metal-rough material, all in one file.

Section numbers are those of the Khronos specification of glTF 2.0.
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from isolux.data.assets.corners import SplitMesh, split_corners
from isolux.data.assets.image import encode_png, to_bytes
from isolux.data.assets.textures import MeshAsset, TextureSet
from isolux.render.colour import srgb_from_linear
from isolux.render.files import write_bytes

__all__ = ["glb_bytes", "write_glb"]

_VERTICES, _INDICES = 34962, 34963  # targets of buffer views
_REPEAT, _LINEAR, _MIPS = 10497, 9729, 9987  # samplers


def write_glb(path: Path, asset: MeshAsset) -> None:
    """Writes a GLB file. Raises as `glb_bytes`, and OSError."""
    write_bytes(Path(path), glb_bytes(asset))


def glb_bytes(asset: MeshAsset) -> bytes:
    """The content of a GLB file.

    Positions, normals, texture coordinates and, for a normal map, tangents; albedo in sRGB;
    occlusion (1 - ours), roughness and metalness in one texture, as glTF has them. Vertices
    are copied along texture seams. Colours of vertices, where there is no material. Positions
    of float64 are written about their middle, which the node holds. A mesh of no faces is an
    empty scene.

    Raises:
        ValueError: vertices that are not finite.
    """
    if not bool(torch.isfinite(asset.mesh.vertices).all()):
        raise ValueError(f"{asset.name}: the mesh has vertices that are not finite")
    mesh, middle = asset.mesh, None
    if mesh.vertices.dtype == torch.float64 and len(mesh.vertices):
        middle = 0.5 * (mesh.vertices.amin(0) + mesh.vertices.amax(0))
        mesh = replace(mesh, vertices=mesh.vertices - middle)
    split = split_corners(mesh)
    builder = _Builder()
    if len(split.faces):
        builder.mesh(split, asset, None if middle is None else middle.tolist())
    return builder.glb()


class _Builder:
    """Collects the tree and the one binary buffer."""

    def __init__(self) -> None:
        self.tree: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": "isolux"},
            "scene": 0,
            "scenes": [{}],
        }
        self._chunks: list[bytes] = []
        self._length = 0

    def mesh(
        self, split: SplitMesh, asset: MeshAsset, middle: Sequence[float] | None = None
    ) -> None:
        """Adds the one node, mesh and material."""
        textures = asset.material if split.uvs is not None else None
        attributes = {
            "POSITION": self._accessor(split.positions, "VEC3", bounds=True),
            "NORMAL": self._accessor(split.normals, "VEC3"),
        }
        if split.uvs is not None and textures is not None:
            attributes["TEXCOORD_0"] = self._accessor(split.uvs, "VEC2")
            if split.tangents is not None and textures.normal is not None:
                attributes["TANGENT"] = self._accessor(split.tangents, "VEC4")
        painted = asset.colors is not None and textures is None
        if painted and asset.colors is not None:  # linear in files too (3.9.2)
            colors = asset.colors.detach().cpu().float().clamp(0.0, 1.0).numpy()
            attributes["COLOR_0"] = self._accessor(colors[split.vertices], "VEC3")
        kind = np.uint16 if len(split.positions) < 65535 else np.uint32
        indices = self._accessor(split.faces.astype(kind).reshape(-1, 1), "SCALAR", _INDICES)
        primitive = {"attributes": attributes, "indices": indices, "material": 0}
        self.tree["meshes"] = [{"name": asset.name, "primitives": [primitive]}]
        self.tree["nodes"] = [{"name": asset.name, "mesh": 0}]
        if middle is not None:
            self.tree["nodes"][0]["translation"] = list(middle)
        self.tree["scenes"] = [{"nodes": [0]}]
        self.tree["materials"] = [self._material(textures, 1.0 if painted else 0.5)]

    def _material(self, textures: TextureSet | None, grey: float) -> dict[str, Any]:
        plain = {"baseColorFactor": [grey, grey, grey, 1.0], "metallicFactor": 0.0}
        if textures is None:
            return {"name": "surface", "pbrMetallicRoughness": plain, "doubleSided": True}
        self.tree["samplers"] = [
            {"magFilter": _LINEAR, "minFilter": _MIPS, "wrapS": _REPEAT, "wrapT": _REPEAT}
        ]
        self.tree["images"], self.tree["textures"] = [], []
        albedo = self._texture("albedo", srgb_from_linear(textures.albedo.clamp(0.0, 1.0)))
        # Their red channel is how much light arrives, ours how much does not.
        flip = textures.orm * textures.orm.new_tensor([-1.0, 1.0, 1.0])
        orm = self._texture("orm", flip + flip.new_tensor([1.0, 0.0, 0.0]))
        material: dict[str, Any] = {
            "name": "surface",
            "pbrMetallicRoughness": {
                "baseColorTexture": albedo,
                "metallicRoughnessTexture": orm,
            },
            "occlusionTexture": orm,
            "doubleSided": True,
        }
        if textures.normal is not None:
            material["normalTexture"] = self._texture("normal", textures.normal * 0.5 + 0.5)
        return material

    def _texture(self, name: str, values: torch.Tensor) -> dict[str, int]:
        view = self._view(encode_png(Image.fromarray(to_bytes(values))), None)
        number = len(self.tree["images"])
        image = {"name": name, "mimeType": "image/png", "bufferView": view}
        self.tree["images"].append(image)
        self.tree["textures"].append({"sampler": 0, "source": number})
        return {"index": number}

    def _accessor(
        self, values: np.ndarray, kind: str, target: int = _VERTICES, bounds: bool = False
    ) -> int:
        component = {"f4": 5126, "u2": 5123, "u4": 5125}[values.dtype.str[1:]]
        accessor: dict[str, Any] = {
            "bufferView": self._view(np.ascontiguousarray(values).tobytes(), target),
            "componentType": component,
            "count": len(values),
            "type": kind,
        }
        if bounds:  # required of positions (3.7.2.1), exactly as single precision has them
            accessor["min"] = [float(x) for x in values.min(axis=0)]
            accessor["max"] = [float(x) for x in values.max(axis=0)]
        accessors = self.tree.setdefault("accessors", [])
        accessors.append(accessor)
        return len(accessors) - 1

    def _view(self, data: bytes, target: int | None) -> int:
        view = {"buffer": 0, "byteOffset": self._length, "byteLength": len(data)}
        if target is not None:
            view["target"] = target
        padded = data + bytes(-len(data) % 4)  # accessors start at multiples of 4 (3.6.2.4)
        self._chunks.append(padded)
        self._length += len(padded)
        views = self.tree.setdefault("bufferViews", [])
        views.append(view)
        return len(views) - 1

    def glb(self) -> bytes:
        """The file: a header, the JSON chunk and the binary one (4.4)."""
        binary = b"".join(self._chunks)
        if binary:
            self.tree["buffers"] = [{"byteLength": len(binary)}]
        text = json.dumps(self.tree, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text
        if binary:
            chunks += struct.pack("<I4s", len(binary), b"BIN\0") + binary
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
