"""glTF 2.0 and GLB: triangles with metal-rough materials; writing is in `gltf_write.py`.

Section numbers are those of the Khronos specification. Letters: n vertices, f triangles.
"""

import base64
import json
import logging
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import numpy as np
import torch
from jaxtyping import Float, Int

from isolux.data.assets.atlas import merge_materials, with_corner_uvs
from isolux.data.assets.gltf_material import Textures
from isolux.data.assets.gltf_write import write_glb
from isolux.data.assets.textures import MeshAsset
from isolux.geometry.mesh import Mesh

__all__ = ["read_gltf", "write_glb"]

_log = logging.getLogger(__name__)
_TYPES = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_MOST = float(np.finfo(np.float32).max)  # of a position or an entry of a transform
_MOST_ZEROS = 1 << 26  # values of an accessor that states none
_KNOWN = ("KHR_mesh_quantization", "KHR_materials_unlit", "KHR_materials_emissive_strength")


@dataclass
class _Soup:
    """What the primitives add up to, by corner."""

    positions: list[Float[np.ndarray, "f 3 3"]] = field(default_factory=list)
    normals: list[Float[np.ndarray, "f 3 3"] | None] = field(default_factory=list)
    uvs: list[Float[np.ndarray, "f 3 2"] | None] = field(default_factory=list)
    material: list[int] = field(default_factory=list)  # of each primitive; -1: none


def read_gltf(path: Path) -> MeshAsset:
    """The triangles of the default scene, with node transforms applied, as one mesh.

    Vertices at one position become one, so that texture seams do not open the surface.
    Several materials become one atlas. Left out: skins, morphs, emission, alpha, samplers.

    Raises:
        FileNotFoundError: no such file, or a buffer that it names.
        ValueError: damaged or malformed, a required extension that is not known, no
            triangles, positions that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such mesh")
    try:
        return _asset(_File(path))
    except (LookupError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise ValueError(f"{path}: malformed glTF ({type(error).__name__}: {error})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


class _File:
    """The JSON tree and its buffers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree, self.binary = _open(path)
        if not str(self.tree.get("asset", {}).get("version", "")).startswith("2"):
            raise ValueError("is not glTF 2.x; convert the file")
        required = set(self.tree.get("extensionsRequired", [])) - set(_KNOWN)
        if required:
            raise ValueError(
                f"needs the extensions {sorted(required)}, which are not read;"
                " export without compression"
            )
        self._buffers: dict[int, bytes] = {}

    def uri(self, uri: str) -> bytes:
        """The content behind an address: embedded, or a file beside."""
        if uri.startswith("data:"):
            return base64.b64decode(uri.partition(",")[2])
        file = self.path.parent / unquote(uri)
        if not file.is_file():
            raise FileNotFoundError(f"{self.path}: names the absent file {file}")
        return file.read_bytes()

    def entry(self, kind: str, index: Any) -> dict[str, Any]:
        """One of the numbered things; an index of -1 is none, though Python knows one."""
        entries = self.tree.get(kind, [])
        if type(index) is not int or not 0 <= index < len(entries):
            raise ValueError(f"malformed glTF, it asks for {kind} {index} of {len(entries)}")
        return cast("dict[str, Any]", entries[index])

    def view(self, index: int) -> bytes:
        """The bytes of a buffer view."""
        view = self.entry("bufferViews", index)
        number, start = view["buffer"], _natural(view, "byteOffset")
        length = _natural(view, "byteLength")
        buffer = self.entry("buffers", number)
        if number not in self._buffers:
            self._buffers[number] = self.uri(buffer["uri"]) if "uri" in buffer else self.binary
        data = self._buffers[number][start : start + length]
        if len(data) < length:
            raise ValueError(f"truncated, buffer {number} is too short")
        return data

    def accessor(self, index: int) -> np.ndarray:
        """Values [count, components]; normalised integers become floats (3.6.2)."""
        entry = self.entry("accessors", index)
        width, kind = _TYPES[entry["type"]], np.dtype(_COMPONENTS[entry["componentType"]])
        count = _natural(entry, "count")
        if "bufferView" in entry:
            stride = _natural(self.entry("bufferViews", entry["bufferView"]), "byteStride")
            data = self.view(entry["bufferView"])
            values = self._gather(
                data, _natural(entry, "byteOffset"), count, width, kind, stride
            )
        else:
            if count > _MOST_ZEROS:  # no file has to be large to state a number
                raise ValueError(f"an accessor of {count} values has no data")
            values = np.zeros((count, width), kind)
        if "sparse" in entry:
            values = self._sparse(values.copy(), entry["sparse"], width, kind)
        if entry.get("normalized") and kind.kind in "iu":
            values = np.maximum(values.astype(np.float32) / np.iinfo(kind).max, -1.0)
        return values

    def _gather(
        self, data: bytes, start: int, count: int, width: int, kind: np.dtype[Any], stride: int
    ) -> np.ndarray:
        step = stride or width * kind.itemsize
        if count and start + (count - 1) * step + width * kind.itemsize > len(data):
            raise ValueError("an accessor reaches beyond its buffer view")
        shape, strides = (count, width), (step, kind.itemsize)
        return np.ndarray(shape, kind, data, start, strides) if count else np.zeros(shape, kind)

    def _sparse(self, values: np.ndarray, sparse: Any, width: int, kind: Any) -> np.ndarray:
        where, what, count = sparse["indices"], sparse["values"], _natural(sparse, "count")
        index = self._gather(
            self.view(where["bufferView"]), _natural(where, "byteOffset"), count, 1,
            np.dtype(_COMPONENTS[where["componentType"]]), 0,
        )  # fmt: skip
        values[index[:, 0]] = self._gather(
            self.view(what["bufferView"]), _natural(what, "byteOffset"), count, width, kind, 0
        )
        return values


def _natural(entry: dict[str, Any], key: str) -> int:
    """A count, length or offset, zero where none is stated."""
    value = entry.get(key, 0)
    if type(value) is not int or value < 0:
        raise ValueError(f"malformed glTF, {key} is {value}")
    return value


def _open(path: Path) -> tuple[dict[str, Any], bytes]:
    data, binary = path.read_bytes(), b""
    if path.suffix.lower() == ".glb" or data[:4] == b"glTF":
        if data[:4] != b"glTF":
            raise ValueError("is not a GLB file (it must begin with 'glTF')")
        if len(data) < 20 or struct.unpack_from("<I", data, 8)[0] > len(data):
            raise ValueError("truncated GLB file")
        length = struct.unpack_from("<I", data, 12)[0]
        text, rest = data[20 : 20 + length], data[20 + length :]
        if len(rest) >= 8 and rest[4:8] == b"BIN\0":
            binary = rest[8 : 8 + struct.unpack_from("<I", rest)[0]]
        data = text
    try:
        tree = json.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"its JSON is malformed ({error})") from None
    if not isinstance(tree, dict):
        raise ValueError("its JSON is not an object")
    return tree, binary


def _asset(file: _File) -> MeshAsset:
    soup = _Soup()
    seen: set[int] = set()
    for root in _roots(file.tree):
        stack = [(root, np.eye(4))]
        while stack:
            index, above = stack.pop()
            node = file.entry("nodes", index)
            if index in seen:  # a cycle, or branches that meet again and again
                raise ValueError(f"malformed glTF, node {index} has more than one parent")
            seen.add(index)
            here = above @ _transform(node)
            if not (np.abs(here) < _MOST).all():  # nor is NaN smaller
                raise ValueError(f"malformed glTF, the transform of node {index} is not finite")
            stack += [(child, here) for child in node.get("children", [])]
            if "mesh" in node:
                for primitive in file.entry("meshes", node["mesh"])["primitives"]:
                    _add(file, soup, primitive, here)
    if not soup.positions:
        raise ValueError("has no triangles")
    return _join(file, soup)


def _roots(tree: dict[str, Any]) -> list[int]:
    if tree.get("scenes"):
        return cast("list[int]", tree["scenes"][tree.get("scene", 0)].get("nodes", []))
    children = {c for node in tree.get("nodes", []) for c in node.get("children", [])}
    return [i for i in range(len(tree.get("nodes", []))) if i not in children]


def _transform(node: dict[str, Any]) -> Float[np.ndarray, "4 4"]:
    """The node's own matrix: column-major, or translation * rotation * scale (3.5.3)."""
    if "matrix" in node:
        matrix = np.array(node["matrix"], dtype=np.float64)
        if matrix.size != 16:
            raise ValueError(f"malformed glTF, a node's matrix has {matrix.size} numbers")
        return matrix.reshape(4, 4).T
    x, y, z, w = np.array(node.get("rotation", [0.0, 0.0, 0.0, 1.0]), dtype=np.float64)
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, :3] *= np.array(node.get("scale", [1.0, 1.0, 1.0]), dtype=np.float64)
    matrix[:3, 3] = node.get("translation", [0.0, 0.0, 0.0])
    return matrix


def _add(
    file: _File, soup: _Soup, primitive: dict[str, Any], world_from_node: np.ndarray
) -> None:
    attributes = primitive["attributes"]
    if "POSITION" not in attributes:
        return
    position = _vectors(file, attributes["POSITION"], 3).astype(np.float64)
    indices = np.arange(len(position))
    if "indices" in primitive:
        indices = file.accessor(primitive["indices"])[:, 0].astype(np.int64)
    if len(indices) and indices.max() >= len(position):
        raise ValueError(f"vertex index {indices.max()} of {len(position)}")
    faces = _triangles(indices, primitive.get("mode", 4))
    if faces is None:
        _log.warning("%s: points and lines are left out", file.path)
        return
    linear = world_from_node[:3, :3]
    if np.linalg.det(linear) < 0:  # a mirror turns triangles round (3.7.4)
        faces = faces[:, [0, 2, 1]]
    world = position @ linear.T + world_from_node[:3, 3]
    if not (np.abs(world) < _MOST).all():
        raise ValueError("has positions that are not finite")
    normal = uv = None
    if "NORMAL" in attributes:
        normal = _vectors(file, attributes["NORMAL"], 3, len(position)).astype(np.float64)
        normal = np.nan_to_num(normal, posinf=0.0, neginf=0.0) @ np.linalg.pinv(linear)
        length = np.linalg.norm(normal, axis=1, keepdims=True)
        normal = np.where(length > 0, normal / np.where(length > 0, length, 1.0), 0.0)
    number = primitive.get("material", -1)
    channel = f"TEXCOORD_{_channel(file.tree, number)}"
    if channel in attributes:
        uv = _vectors(file, attributes[channel], 2, len(position)).astype(np.float32)
        if not np.isfinite(uv).all():
            raise ValueError("has texture coordinates that are not finite")
    soup.positions.append(world[faces])
    soup.normals.append(None if normal is None else normal[faces])
    soup.uvs.append(None if uv is None else uv[faces])
    soup.material.append(number)


def _vectors(file: _File, index: Any, width: int, count: int | None = None) -> np.ndarray:
    """An attribute of the vertices, [n, width]."""
    values = file.accessor(index)
    if values.shape[1] != width or count not in (None, len(values)):
        raise ValueError(
            f"malformed glTF, accessor {index} has {values.shape[0]} values of"
            f" {values.shape[1]} numbers, {count or 'any'} of {width} are needed"
        )
    return values


def _channel(tree: dict[str, Any], material: int) -> int:
    if material < 0:
        return 0
    entry = tree["materials"][material].get("pbrMetallicRoughness", {})
    return int(entry.get("baseColorTexture", {}).get("texCoord", 0))


def _triangles(indices: Int[np.ndarray, " i"], mode: int) -> Int[np.ndarray, "f 3"] | None:
    """Corners of triangles, strips (mode 5) and fans (mode 6); None for points and lines."""
    if mode == 4:
        return indices[: len(indices) // 3 * 3].reshape(-1, 3)
    if mode not in (5, 6):
        return None
    step = np.arange(max(len(indices) - 2, 0))
    if mode == 6:
        return indices[np.stack([step + 1, step + 2, np.zeros_like(step)], axis=1)]
    odd = step % 2
    return indices[np.stack([step, step + 1 + odd, step + 2 - odd], axis=1)]


def _join(file: _File, soup: _Soup) -> MeshAsset:
    corners = np.concatenate(soup.positions).astype(np.float32).reshape(-1, 3) + np.float32(0.0)
    vertices, index = np.unique(corners, axis=0, return_inverse=True)
    faces = torch.from_numpy(index.reshape(-1, 3).astype(np.int32))
    mesh = Mesh(torch.from_numpy(vertices), faces)
    given = [normal for normal in soup.normals if normal is not None]
    if len(given) == len(soup.normals):
        corner_normals = np.concatenate(given).astype(np.float32).reshape(-1, 3)
        normals, index = np.unique(corner_normals, axis=0, return_inverse=True)
        normal_faces = torch.from_numpy(index.reshape(-1, 3).astype(np.int32))
        mesh = Mesh(mesh.vertices, faces, None, None, torch.from_numpy(normals), normal_faces)
    if all(uv is None for uv in soup.uvs) and all(number < 0 for number in soup.material):
        return MeshAsset(mesh, None, file.path.stem)
    uvs = torch.from_numpy(
        np.concatenate(
            [
                np.full((*position.shape[:2], 2), 0.5, np.float32) if uv is None else uv
                for position, uv in zip(soup.positions, soup.uvs, strict=True)
            ]
        )
    )
    numbers = sorted(set(soup.material))
    textures = Textures(file.tree, file.path, file.view, file.uri)
    materials = [textures.material(number) for number in numbers]
    counts = [len(position) for position in soup.positions]
    index = np.repeat([numbers.index(number) for number in soup.material], counts)
    merged, uvs = merge_materials(materials, uvs, torch.from_numpy(index))
    return MeshAsset(with_corner_uvs(mesh, uvs), merged, file.path.stem)
