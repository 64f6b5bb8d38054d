"""Shapes whose surface is known exactly, longest side 1, for points_*.py.

Letters: n points, f faces. `knot`, `ripples`, `rings` and `bowl` are formulas; the
gear and the mesh files are polyhedra, and as such exact.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from points_fields import (
    Bowl,
    Knot,
    Rings,
    Scaled,
    foot_points,
    torus_faces,
    turned,
)
from torch import Tensor
from torch.nn import functional

from isolux.data.assets.obj import read_obj
from isolux.geometry.bvh import TriangleTree
from isolux.geometry.distance import sample_surface
from isolux.geometry.fields import Field
from isolux.geometry.mesh import Mesh, face_normals

__all__ = ["FILES", "PROCEDURAL", "Shape", "from_mesh", "load", "normalised"]


@dataclass(frozen=True)
class Shape:
    """A surface to sample and to measure against."""

    name: str
    mesh: Mesh  # float64; the truth itself, or near enough to start a search from
    field: Field | None = None  # the truth, where there is a formula

    @cached_property
    def tree(self) -> TriangleTree:
        """The mesh, arranged for queries."""
        return TriangleTree(self.mesh.vertices, self.mesh.faces)

    @cached_property
    def face_normals(self) -> Tensor:
        """Unit normals [f, 3] of the mesh."""
        return functional.normalize(face_normals(self.mesh.vertices, self.mesh.faces), dim=-1)

    def sample(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Points [count, 3] even by area on the surface, and its unit normals there."""
        generator = torch.Generator().manual_seed(seed)
        points, face = sample_surface(self.mesh, count, generator)
        if self.field is None:
            return points, self.face_normals[face]
        return foot_points(self.field, points, points)

    def nearest(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Distances [n] of points [n, 3] to the surface, and its normals at the feet."""
        points = points.double()
        distance, face = self.tree.closest(points)
        normal = self.face_normals[face]
        if self.field is None:
            return distance, normal
        start = _on_triangle(points, self.mesh, face)
        foot, smooth = foot_points(self.field, points, start)
        exact = (points - foot).norm(dim=-1)
        # Far away, where the descent may stray, the mesh is exact enough.
        good = exact < distance + self.coarseness
        return torch.where(good, exact, distance), torch.where(good[:, None], smooth, normal)

    @cached_property
    def coarseness(self) -> float:
        """How far the mesh is from the formula's surface at most, at its faces' centres."""
        if self.field is None:
            return 0.0
        centre = self.mesh.vertices[self.mesh.faces.long()].mean(1)
        return 2.0 * float(
            (foot_points(self.field, centre, centre)[0] - centre).norm(dim=-1).max()
        )


def _on_triangle(points: Tensor, mesh: Mesh, face: Tensor) -> Tensor:
    """The feet of points [n, 3] in the planes of their triangles, kept near these."""
    a, b, c = mesh.vertices[mesh.faces.long()[face]].unbind(1)
    normal = functional.normalize(torch.linalg.cross(b - a, c - a, dim=-1), dim=-1)
    flat = points - ((points - a) * normal).sum(-1, keepdim=True) * normal
    low, high = a.minimum(b).minimum(c), a.maximum(b).maximum(c)
    return flat.clamp(low, high)


def normalised(vertices: Tensor) -> tuple[Tensor, Tensor, float]:
    """Vertices [n, 3] with longest side 1 about the origin, and the middle and scale for it."""
    low, high = vertices.min(0).values, vertices.max(0).values
    middle, scale = 0.5 * (low + high), 1.0 / float((high - low).max())
    return (vertices - middle) * scale, middle, scale


def from_mesh(name: str, vertices: Tensor, faces: Tensor) -> Shape:
    """A mesh as its own truth."""
    return Shape(name, Mesh(normalised(vertices.double())[0], faces))


def _by_formula(name: str, field: Field, vertices: Tensor, faces: Tensor) -> Shape:
    placed, middle, scale = normalised(vertices)
    return Shape(name, Mesh(placed, faces), Scaled(field, middle, scale))


def _knot(name: str, field: Knot) -> Shape:
    return _by_formula(name, field, *field.grid(1600, 96))


def _ripples() -> Shape:
    return _knot("ripples", Knot(0.28, 0.15, 110, 6))


def _rings() -> Shape:
    field = Rings()
    mesh = field.extract_mesh(96)
    vertices, faces = mesh.vertices.double().numpy(), mesh.faces.numpy()
    for _ in range(2):
        vertices, faces = trimesh.remesh.subdivide(vertices, faces)
    start = torch.from_numpy(np.asarray(vertices))
    return _by_formula("rings", field, foot_points(field, start, start)[0], _long(faces))


def _long(faces: Any) -> Tensor:
    return torch.from_numpy(np.asarray(faces, np.int64))


def _bowl() -> Shape:
    field = Bowl(0.0075 * 2.0, 1.1)
    return _by_formula("bowl", field, *field.grid(480))


def _gear() -> Shape:
    """Slanted teeth, a stepped hub, a bore with a keyway: sharp edges throughout."""
    teeth, fine = 12, 40
    angle, tip = [], []
    for tooth in range(teeth):
        start = 2.0 * math.pi * tooth / teeth
        width = 2.0 * math.pi / teeth
        for low, high, radius in ((0.00, 0.45, 0.82), (0.55, 0.90, 1.0)):
            part = torch.linspace(low, high, fine, dtype=torch.float64)
            angle.append(start + width * part)
            tip.append(torch.full((fine,), radius, dtype=torch.float64))
    turn, outer = torch.cat(angle), torch.cat(tip)
    key = torch.cos(turn).clamp_min(0.0)  # the keyway is cut square across +x
    slot = (torch.sin(turn).abs() < 0.2) & (key > 0)
    bore = torch.where(slot, 0.36, 0.26).double()
    hub = torch.full_like(outer, 0.55)
    profile = [(bore, -0.2), (outer, -0.2), (outer, 0.1), (hub, 0.1), (hub, 0.3), (bore, 0.3)]
    rings = [
        torch.stack([r * torch.cos(turn), r * torch.sin(turn), torch.full_like(r, z)], -1)
        for r, z in profile
    ]
    faces = torus_faces(len(profile), len(turn))
    return from_mesh("gear", torch.cat(rings) @ turned().T, faces)


PROCEDURAL: dict[str, Callable[[], Shape]] = {
    "ripples": _ripples,
    "knot": lambda: _knot("knot", Knot(0.36, 0.0, 1, 1)),
    "gear": _gear,
    "bowl": _bowl,
    "rings": _rings,
}
FILES = {
    "fandisk": "geometry/fandisk.obj",
    "rocker-arm": "geometry/rocker-arm.obj",
    "bunny": "geometry/stanford-bunny.obj",
    "spot": "spot/spot.obj",
    "bob": "bob/bob_tri.obj",
}


def load(name: str, meshes: Path | None) -> Shape:
    """A shape by name.

    Args:
        name: of PROCEDURAL or FILES.
        meshes: folder that the files' paths start at.

    Raises:
        ValueError: for an unknown name, or a file without a folder.
        OSError: when the file cannot be read.
    """
    if name in PROCEDURAL:
        return PROCEDURAL[name]()
    if name not in FILES:
        raise ValueError(f"no shape '{name}'; there are {', '.join([*PROCEDURAL, *FILES])}")
    if meshes is None:
        raise ValueError(f"shape '{name}' needs --data")
    mesh = read_obj(meshes / FILES[name]).mesh
    return from_mesh(name, mesh.vertices, mesh.faces)
