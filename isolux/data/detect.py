"""What a path is, and meshes of whatever format."""

import re
from pathlib import Path
from typing import Literal

from isolux.data.assets.gltf import read_gltf
from isolux.data.assets.obj import read_obj
from isolux.data.assets.ply import read_ply
from isolux.data.assets.textures import MeshAsset

__all__ = ["SceneKind", "is_mesh", "mesh_file", "read_asset", "scene_kind"]

SceneKind = Literal["nerf_synthetic", "mesh"]

_MESHES = (".obj", ".glb", ".gltf", ".ply")
_LOOKED_FOR = (
    "a folder with transforms_train.json (NeRF-synthetic), or a mesh (.obj, .glb, .gltf, .ply)"
)


def scene_kind(path: Path) -> SceneKind:
    """The format of a scene.

    Raises:
        FileNotFoundError: no such path.
        ValueError: none that is known; says what was looked for and what is there.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder; looked for {_LOOKED_FOR}")
    if path.is_file() and path.name == "transforms_train.json":
        raise ValueError(f"{path}: give the folder that holds it: {path.parent}")
    if path.is_dir() and (path / "transforms_train.json").is_file():
        return "nerf_synthetic"
    mesh_file(path)
    return "mesh"


def mesh_file(path: Path) -> Path:
    """The mesh that `path` is, or the only one in that folder.

    Raises:
        ValueError: no mesh, or several.
    """
    path = Path(path)
    if path.is_file():
        if path.suffix.lower() in _MESHES:
            return path
        raise ValueError(f"{path}: is no scene; looked for {_LOOKED_FOR}")
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in _MESHES)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(file.name for file in found[:3])
        raise ValueError(f"{path}: holds {len(found)} meshes ({names}); name one of them")
    there = ", ".join(sorted(file.name for file in path.iterdir())[:5]) or "nothing"
    raise ValueError(f"{path}: is no scene; looked for {_LOOKED_FOR}; it holds {there}")


def is_mesh(path: Path) -> bool:
    """Whether a file is a mesh and no cloud of points: by its suffix, or by its faces."""
    suffix = path.suffix.lower()
    if suffix not in _MESHES or not path.is_file():
        return False
    if suffix == ".ply":
        with path.open("rb") as file:
            head = file.read(1 << 16).partition(b"end_header")[0]
        return re.search(rb"element\s+(face|tristrips)\s+[1-9]", head) is not None
    if suffix == ".obj":
        with path.open("rb") as file:
            return any(line.startswith((b"f ", b"f\t")) for line in file)
    return True


def read_asset(path: Path) -> MeshAsset:
    """The mesh that `path` is or holds, with its material where it has one.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as the format's reader, or none of the formats.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such mesh")
    file = mesh_file(path)
    match file.suffix.lower():
        case ".obj":
            return read_obj(file)
        case ".ply":
            return read_ply(file)
        case _:
            return read_gltf(file)
