"""Wavefront OBJ: reading here, writing in `obj_write.py`.

Letters: n vertices, t texture coordinates, m normals, f triangles, c corners of polygons.
"""

import logging
import os
import warnings
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from isolux.data.assets.atlas import merge_materials, with_corner_uvs
from isolux.data.assets.mtl import read_mtl
from isolux.data.assets.obj_write import write_obj
from isolux.data.assets.textures import MeshAsset, TextureSet, constant_textures
from isolux.geometry.mesh import Mesh

__all__ = ["read_obj", "write_obj"]

_KINDS = ("v", "vt", "vn", "f")
_log = logging.getLogger(__name__)


@dataclass
class _Lines:
    """The lines of a file by kind, with the numbers they stand on."""

    text: dict[str, list[str]] = field(default_factory=lambda: {k: [] for k in _KINDS})
    number: dict[str, list[int]] = field(default_factory=lambda: {k: [] for k in _KINDS})
    libraries: list[str] = field(default_factory=list)
    uses: list[tuple[int, str]] = field(default_factory=list)  # (faces before it, material)


def read_obj(path: Path) -> MeshAsset:
    """Triangles, with texture coordinates, normals and materials where the file has them.

    Polygons become fans; negative indices count back; several materials become one atlas
    (`atlas.py`). Positions keep the file's indices. Normals are dropped when some corner has
    none. An absent material file or texture is a warning in the log; the material is None
    when the file names none at all.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no faces; numbers that are malformed, not finite or out of range, by line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such mesh")
    lines = _split(path.read_text("utf-8-sig", "replace"))
    if not lines.text["f"]:
        raise ValueError(f"{path}: has no faces; a cloud of points is no mesh")
    vertices = _floats(path, lines, "v", 3, 3)
    uvs = _floats(path, lines, "vt", 2, 1)
    normals = _floats(path, lines, "vn", 3, 3)
    corners, count = _corners(path, lines, (len(vertices), len(uvs), len(normals)))
    triangles, owner = _fan(corners, count)  # [f, 3, 3] of (v, vt, vn), [f]

    faces = torch.from_numpy(triangles[..., 0].astype(np.int32))
    mesh = Mesh(torch.from_numpy(vertices), faces)
    if (triangles[..., 2] >= 0).all() and len(normals):
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        unit = np.where(length > 0, normals / np.where(length > 0, length, 1.0), 0.0)
        index = torch.from_numpy(triangles[..., 2].astype(np.int32))
        directions = torch.from_numpy(unit.astype(np.float32))
        mesh = Mesh(mesh.vertices, faces, None, None, directions, index)
    if (triangles[..., 1] >= 0).any():
        if (triangles[..., 1] < 0).any():  # some corners have none: they get the origin
            uvs = np.concatenate([uvs, np.zeros((1, 2), np.float32)])
            triangles[..., 1] = np.where(triangles[..., 1] < 0, len(uvs) - 1, triangles[..., 1])
        uvs[:, 1] = 1.0 - uvs[:, 1]  # the file's origin is at the bottom
        index = torch.from_numpy(triangles[..., 1].astype(np.int32))
        mesh = Mesh(
            mesh.vertices, faces, torch.from_numpy(uvs), index, mesh.normals, mesh.normal_faces
        )
    return _with_material(mesh, lines, owner, path)


def _split(text: str) -> _Lines:
    text = text.replace("\\\n", " ")  # a line that goes on in the next
    lines = _Lines()
    text_of, number_of = lines.text, lines.number
    for number, line in enumerate(text.split("\n"), 1):
        key, _, rest = line.partition(" ")
        if key in text_of:
            text_of[key].append(rest)
            number_of[key].append(number)
            continue
        words = line.split(None, 1)
        if not words or words[0].startswith("#"):
            continue
        key, rest = words[0], words[1].strip() if len(words) > 1 else ""
        if key in text_of:  # indented, or with tabs
            text_of[key].append(rest)
            number_of[key].append(number)
        elif key == "mtllib":
            lines.libraries.append(rest)
        elif key == "usemtl":
            lines.uses.append((len(text_of["f"]), rest))
    return lines


def _floats(
    path: Path, lines: _Lines, key: str, keep: int, least: int
) -> Float[np.ndarray, "n k"]:
    """The first `keep` numbers of each line, zero where fewer stand; at least `least` must."""
    text = [line.partition("#")[0] for line in lines.text[key]]
    if not text:
        return np.zeros((0, keep), np.float32)
    width = len(text[0].split())
    values = _parse(" ".join(text))
    # A ragged file may happen to hold the right number of numbers: each line is counted.
    if (
        width < least
        or values is None
        or values.size != width * len(text)
        or any(len(line.split()) != width for line in text)
    ):
        rows = []
        for line, number in zip(text, lines.number[key], strict=True):
            row = _parse(line)
            if row is None or len(row) < least:
                raise ValueError(
                    f"{path}, line {number}: '{key}' needs {least} numbers: '{_cut(line)}'"
                )
            rows.append(np.pad(row[:keep], (0, max(0, keep - len(row)))))
        values, width = np.concatenate(rows), keep
    values = values.reshape(-1, width)[:, :keep]
    values = np.pad(values, ((0, 0), (0, keep - values.shape[1])))
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(single).all():
        bad = int(np.flatnonzero(~np.isfinite(single).all(axis=1))[0])
        raise ValueError(f"{path}, line {lines.number[key][bad]}: '{key}' is not finite")
    return single


def _parse(text: str) -> Float[np.ndarray, " k"] | None:
    """All numbers of a text, or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(text, dtype=np.float64, sep=" ")
        except (DeprecationWarning, ValueError):
            return None


def _corners(
    path: Path, lines: _Lines, sizes: tuple[int, int, int]
) -> tuple[Int[np.ndarray, "c 3"], Int[np.ndarray, " p"]]:
    """Indices from zero (v, vt, vn) of each polygon's corners, -1 for none, and their count."""
    text = [line.partition("#")[0] if "#" in line else line for line in lines.text["f"]]
    words = [line.split() for line in text]
    count = np.array([len(line) for line in words], dtype=np.int64)
    if (count < 3).any():
        bad = int(np.flatnonzero(count < 3)[0])
        raise ValueError(
            f"{path}, line {lines.number['f'][bad]}: a face needs three corners, got"
            f" '{_cut(text[bad])}'"
        )
    flat = [word for line in words for word in line]
    slashes = np.array([word.count("/") for word in flat])
    line_of = np.repeat(np.arange(len(words)), count)

    def fail(corner: int, why: str) -> ValueError:
        line = int(line_of[corner])
        return ValueError(
            f"{path}, line {lines.number['f'][line]}: {why} in '{_cut(text[line])}'"
        )

    if (slashes > 2).any():
        raise fail(int(np.flatnonzero(slashes > 2)[0]), "more than two slashes")
    corners = np.zeros((len(flat), 3), dtype=np.int64)
    for kind in np.unique(slashes):
        where = np.flatnonzero(slashes == kind)
        joined = " ".join([flat[i] for i in where] if len(where) < len(flat) else flat)
        if kind:
            joined = (joined + " ").replace("//", "/0/").replace("/ ", "/0 ").replace("/", " ")
        values = _parse(joined)
        if (
            values is None
            or values.size != len(where) * (kind + 1)
            or (np.abs(values) > 2**40).any()
            or (values != np.rint(values)).any()
        ):
            wrong = (int(i) for i in where if not all(map(_is_index, flat[i].split("/"))))
            bad = next(wrong, int(where[0]))
            raise fail(bad, f"'{_cut(flat[bad])}' is no index")
        corners[where, : kind + 1] = values.reshape(-1, kind + 1)
    if (corners[:, 0] == 0).any():
        raise fail(int(np.flatnonzero(corners[:, 0] == 0)[0]), "index 0 (the first is 1)")
    for column, (key, size) in enumerate(zip(("v", "vt", "vn"), sizes, strict=True)):
        index = corners[:, column]
        for corner in np.flatnonzero(index < 0):  # counts back from what stands above it
            above = bisect_right(lines.number[key], lines.number["f"][line_of[corner]])
            index[corner] += above + 1
            if index[corner] < 1:
                raise fail(int(corner), f"{key} index out of range")
        if (index > size).any():
            bad = int(np.flatnonzero(index > size)[0])
            raise fail(bad, f"{key} index {index[bad]} out of range (there are {size})")
    return corners - 1, count


def _is_index(text: str) -> bool:
    return text == "" or (len(text) < 13 and text.lstrip("-").isdigit())


def _cut(text: str) -> str:
    """What a message shows of a line."""
    text = text.strip()
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fan(
    corners: Int[np.ndarray, "c 3"], count: Int[np.ndarray, " p"]
) -> tuple[Int[np.ndarray, "f 3 3"], Int[np.ndarray, " f"]]:
    """Triangles around each polygon's first corner, and which polygon each comes from."""
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    owner = np.repeat(np.arange(len(count)), count - 2)
    first = np.concatenate([[0], np.cumsum(count - 2)[:-1]])
    step = np.arange(len(owner)) - first[owner]
    base = start[owner]
    return corners[np.stack([base, base + step + 1, base + step + 2], axis=1)], owner


def _with_material(
    mesh: Mesh, lines: _Lines, owner: Int[np.ndarray, " f"], path: Path
) -> MeshAsset:
    library: dict[str, TextureSet] = {}
    for name in lines.libraries:
        whole = path.parent / name  # names may hold spaces, or be several
        for file in (
            [whole] if os.path.isfile(whole) else [path.parent / n for n in name.split()]
        ):
            if os.path.isfile(file):  # false for a name that no system takes
                library.update(read_mtl(file))
            else:
                _log.warning("%s: material file %s is absent; defaults stand in", path, file)
    if not lines.uses:
        material = next(iter(library.values())) if len(library) == 1 else None
        return _finish(mesh, [material] if material else [], np.zeros(len(owner), int), path)
    # The polygons between two `usemtl` lines have the first one's material.
    starts = np.array([start for start, _ in lines.uses])
    segment = np.searchsorted(starts, owner, side="right") - 1  # -1: before any
    used = [lines.uses[s][1] if s >= 0 else "" for s in np.unique(segment)]
    names = list(dict.fromkeys(used))
    if absent := [name for name in names if name and name not in library]:
        _log.warning("%s: materials %s are not defined; defaults stand in", path, absent[:3])
    order = {int(s): names.index(used[i]) for i, s in enumerate(np.unique(segment))}
    index = np.array([order[int(s)] for s in segment])
    return _finish(mesh, [library.get(n, constant_textures()) for n in names], index, path)


def _finish(
    mesh: Mesh, materials: list[TextureSet], index: Int[np.ndarray, " f"], path: Path
) -> MeshAsset:
    if len(materials) > 1:
        if mesh.uvs is None or mesh.uv_faces is None:
            corner_uvs = torch.full((len(mesh.faces), 3, 2), 0.5)
        else:
            corner_uvs = mesh.uvs[mesh.uv_faces.long()]
        merged, corner_uvs = merge_materials(materials, corner_uvs, torch.from_numpy(index))
        return MeshAsset(with_corner_uvs(mesh, corner_uvs), merged, path.stem)
    if materials and mesh.uvs is None:  # a constant needs coordinates all the same
        mesh = with_corner_uvs(mesh, torch.full((len(mesh.faces), 3, 2), 0.5))
    material: TextureSet | None = materials[0] if materials else None
    return MeshAsset(mesh, material, path.stem)
