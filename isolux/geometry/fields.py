"""Signed distance fields: one interface for formulas, lattices and meshes.

Letters: n points. Points, values and bounds are in world units; values are negative inside.
"""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from isolux import backends
from isolux.backends import Backend
from isolux.backends.extract import (
    CubeLattice,
    TetLattice,
    flexicubes,
    marching_tetrahedra,
)
from isolux.geometry.bvh import TriangleTree
from isolux.geometry.lattice import cube_lattice, tet_lattice
from isolux.geometry.lattice_values import interpolate_lattice
from isolux.geometry.mesh import Mesh

__all__ = ["Field", "GridField", "MeshField", "SphereField"]

_CHUNK = 2**17  # points evaluated at once


class Field(ABC):
    """Values at points, negative inside, whose zero set is a surface.

    Points may lie on any device, and their values come back there.
    """

    @property
    @abstractmethod
    def bounds(self) -> Float[Tensor, "2 3"]:
        """Lowest and highest corner of a box that holds the surface."""

    @property
    def world_from_field(self) -> Float[Tensor, "4 4"]:
        """The similarity the field was made in. `value` takes world points all the same."""
        return torch.eye(4)

    @abstractmethod
    def value(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Signed distances, or values with their sign, at world points."""

    def gradient(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """How the value changes with the point; it points outwards at the surface."""
        with torch.enable_grad():
            points = points.detach().requires_grad_()
            value = self.value(points)
            if not value.requires_grad:  # constant, or no points at all
                return torch.zeros_like(points)
            (slope,) = torch.autograd.grad(value.sum(), points)
            return slope

    @torch.no_grad()
    def extract_mesh(
        self,
        resolution: int = 128,
        extractor: Literal["tets", "flexicubes"] = "tets",
        backend: Backend | None = None,
    ) -> Mesh:
        """The zero set as triangles.

        Args:
            resolution: of the lattice, along the longest edge of `bounds`.
            extractor: marching tetrahedra, or dual vertices (fewer slivers).
            backend: None picks the fastest.

        Returns:
            Zero faces when the field does not change its sign on the lattice.
        """
        backend = backend or backends.select("auto")
        low, high = self.bounds
        # Two cells of room, so that a surface that touches the bounds comes out closed.
        extent = float((high - low).max()) * (1 + 4 / resolution)
        lattice: TetLattice | CubeLattice
        lattice = tet_lattice(resolution) if extractor == "tets" else cube_lattice(resolution)
        lattice, middle = lattice.to(backend.device), (0.5 * (low + high)).to(backend.device)
        positions = middle + extent * lattice.vertices.to(middle.dtype)
        values = torch.cat([self.value(part) for part in positions.split(_CHUNK)])
        if isinstance(lattice, TetLattice):
            vertices, faces = marching_tetrahedra(backend, lattice, positions, values)
        else:
            vertices, faces, _ = flexicubes(
                backend, lattice, positions, values, None, None, None, False
            )
        return Mesh(vertices.cpu(), faces.cpu())


class SphereField(Field):
    """The exact signed distance to a sphere."""

    def __init__(self, centre: Float[Tensor, " 3"], radius: float) -> None:
        self.centre = centre
        self.radius = radius

    @property
    def bounds(self) -> Float[Tensor, "2 3"]:
        """The cube about the sphere."""
        return torch.stack([self.centre - self.radius, self.centre + self.radius])

    def value(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Distance to the sphere, negative inside."""
        distance: Tensor = (points - self.centre.to(points)).norm(dim=-1)
        return distance - self.radius

    def gradient(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """The direction away from the centre; zero at the centre."""
        direction: Tensor = torch.nn.functional.normalize(
            points - self.centre.to(points), dim=-1
        )
        return direction


class GridField(Field):
    """Values on a lattice, linear in between, as `SdfGrid` holds them.

    Args:
        lattice: tetrahedra or cubes over [-0.5, 0.5]^3.
        centre: of the lattice's cube in the world.
        extent: edge length of that cube.
        values: at the lattice vertices, in world units.
        shift: how far the vertices have moved, in units of the cube's edge; None: not at all.
    """

    def __init__(
        self,
        lattice: TetLattice | CubeLattice,
        centre: Float[Tensor, " 3"],
        extent: float,
        values: Float[Tensor, " n"],
        shift: Float[Tensor, "n 3"] | None = None,
    ) -> None:
        self.lattice = lattice
        self.centre = centre
        self.extent = extent
        self.values = values
        self.shift = shift

    @property
    def bounds(self) -> Float[Tensor, "2 3"]:
        """The lattice's cube."""
        half = 0.5 * self.extent
        return torch.stack([self.centre - half, self.centre + half])

    def value(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Linear interpolation; beyond the cube the value of the nearest point in it."""
        local = (points - self.centre.to(points)) / self.extent
        if self.shift is not None:
            # Where does a point come from that the moved lattice brought here?
            # Moves are at most half a cell, so that a few rounds find it.
            shift, target = self.shift.to(points), local
            for _ in range(3):
                local = target - interpolate_lattice(self.lattice, shift, local)
        values = self.values.to(points)
        return interpolate_lattice(self.lattice, values[:, None], local)[:, 0]


class MeshField(Field):
    """The exact distance to a mesh, with a sign by its winding number.

    The mesh need not be closed or clean: where it has gaps the sign follows the surface that
    would fill them (Jacobson et al. 2013).

    Raises:
        ValueError: when the mesh has no faces, or a vertex that is not finite.
    """

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self._tree = TriangleTree(mesh.vertices, mesh.faces)

    @property
    def bounds(self) -> Float[Tensor, "2 3"]:
        """The box about the faces."""
        used = self.mesh.vertices.detach()[self.mesh.faces.long().reshape(-1)]
        return torch.stack([used.min(0).values, used.max(0).values])

    def value(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Distance to the nearest triangle, negative inside. No graph: see `gradient`."""
        distance, _ = self._tree.closest(points)
        inside = self._tree.winding(points) > 0.5
        return torch.where(inside, -distance, distance).to(points)

    def gradient(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """By central differences over a ten-thousandth of the bounds, of unit length."""
        low, high = self.bounds
        step = 1e-4 * float((high - low).norm()) * torch.eye(3, dtype=torch.float64)
        wide = points.detach().cpu().double()
        slope = torch.stack(
            [self.value(wide + axis) - self.value(wide - axis) for axis in step], dim=-1
        )
        unit: Tensor = torch.nn.functional.normalize(slope, dim=-1)
        return unit.to(points)
