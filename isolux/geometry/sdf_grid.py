"""A surface whose signed distances are parameters on a lattice.

Shen et al. 2021 ("Deep Marching Tetrahedra"), Munkberg et al. 2022, and Shen et al. 2023
("FlexiCubes") for the cubes. Letters: n lattice vertices, e lattice edges, c cubes, m surface
vertices, f faces.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from isolux import backends
from isolux.backends import Backend
from isolux.backends.extract import (
    CubeLattice,
    TetLattice,
    flexicubes,
    marching_tetrahedra,
)
from isolux.geometry.fields import GridField
from isolux.geometry.lattice import cube_lattice, tet_lattice
from isolux.geometry.lattice_values import interpolate_lattice
from isolux.geometry.mesh import Mesh
from isolux.geometry.regularize import lattice_roughness

__all__ = ["Extracted", "Extractor", "SdfGrid", "lattice_of"]

Extractor = Literal["tets", "flexicubes"]


@dataclass(frozen=True)
class Extracted:
    """A surface as it comes out of a lattice, with what its regularisers need."""

    vertices: Float[Tensor, "m 3"]  # world
    faces: Int[Tensor, "f 3"]
    sdf: Float[Tensor, " n"]  # at the lattice vertices, in units of half the cube's edge
    l_dev: Float[Tensor, " k"]  # of FlexiCubes; empty for tetrahedra

    def mesh(self) -> Mesh:
        """The surface alone, without a graph, on the processor."""
        return Mesh(self.vertices.detach().cpu(), self.faces.cpu())


@lru_cache(maxsize=8)
def lattice_of(
    extractor: Extractor, resolution: int, device: torch.device | str = "cpu"
) -> TetLattice | CubeLattice:
    """The lattice that an extractor works on; the same one whenever it is asked for."""
    if extractor == "tets":
        return tet_lattice(resolution).to(device)
    return cube_lattice(resolution).to(device)


class SdfGrid(nn.Module):
    """Signed distances, and small moves, of the vertices of a lattice.

    Distances are kept in units of half the cube's edge, so that learning rates do not depend
    on the size of the scene.

    Args:
        lattice: decides the extractor: tetrahedra are marched, cubes are FlexiCubes.
        centre: of the lattice's cube in the world.
        extent: edge length of that cube.
        sdf: at the lattice vertices, in world units, negative inside.
        deform: whether vertices may move, by up to half the lattice's shortest edge.
    """

    sdf: Tensor
    deform: Tensor | None
    alpha: Tensor | None  # FlexiCubes' weights of corners, crossings and splits, before their
    beta: Tensor | None  # bounds; one at a time, since slices of one tensor would be copied
    gamma: Tensor | None
    centre: Tensor

    def __init__(
        self,
        lattice: TetLattice | CubeLattice,
        centre: Float[Tensor, " 3"],
        extent: float,
        sdf: Float[Tensor, " n"],
        deform: bool = True,
    ) -> None:
        super().__init__()
        self.lattice = lattice
        self.extent = float(extent)
        self.register_buffer("centre", centre.detach().clone())
        self.sdf = nn.Parameter(sdf.detach().clone() * (2 / self.extent))
        self.deform = nn.Parameter(sdf.new_zeros(len(sdf), 3)) if deform else None
        self.alpha = self.beta = self.gamma = None
        if isinstance(lattice, CubeLattice):
            cubes = len(lattice.cubes)
            self.alpha = nn.Parameter(sdf.new_zeros(cubes, 8))
            self.beta = nn.Parameter(sdf.new_zeros(cubes, 12))
            self.gamma = nn.Parameter(sdf.new_zeros(cubes))

    @staticmethod
    @torch.no_grad()
    def start(
        values: Callable[[Float[Tensor, "n 3"]], Float[Tensor, " n"]],
        resolution: int,
        centre: Float[Tensor, " 3"],
        extent: float,
        extractor: Extractor,
        deform: bool,
        backend: Backend,
        generator: torch.Generator,
    ) -> "SdfGrid":
        """A grid that holds `values` at its vertices.

        Args:
            values: of world points, negative inside, in world units.
            resolution: of the lattice.
            centre: of the lattice's cube.
            extent: edge length of that cube.
            extractor: which lattice.
            deform: whether vertices may move.
            backend: says on which device the grid lies.
            generator: not used by a grid (a network needs it).
        """
        del generator
        lattice = lattice_of(extractor, resolution, backend.device)
        centre = centre.to(backend.device)
        sdf = values(centre + extent * lattice.vertices.to(centre))
        return SdfGrid(lattice, centre, extent, sdf, deform)

    @property
    def extractor(self) -> Extractor:
        """What takes the surface out."""
        return "tets" if isinstance(self.lattice, TetLattice) else "flexicubes"

    @property
    def edges(self) -> Int[Tensor, "e 2"]:
        """The lattice's edges, for `sign_changes`."""
        return self.lattice.edges

    @property
    def bounds(self) -> Float[Tensor, "2 3"]:
        """The lattice's cube in the world."""
        return torch.stack([self.centre - 0.5 * self.extent, self.centre + 0.5 * self.extent])

    def _shift(self) -> Tensor | None:
        """How far vertices have moved, in units of the cube's edge."""
        if self.deform is None:
            return None
        return 0.5 * self.lattice.spacing * torch.tanh(self.deform)

    def positions(self) -> Float[Tensor, "n 3"]:
        """The lattice vertices in the world, moved."""
        vertices, shift = self.lattice.vertices.to(self.centre), self._shift()
        return self.centre + self.extent * (vertices if shift is None else vertices + shift)

    def surface(
        self,
        backend: Backend,
        training: bool = True,
        sdf: Float[Tensor, " n"] | None = None,
    ) -> Extracted:
        """The surface now, differentiable in all parameters.

        Args:
            backend: which operators run.
            training: FlexiCubes only: split quads smoothly, into four triangles.
            sdf: values in place of the grid's own.
        """
        sdf = self.sdf if sdf is None else sdf
        if isinstance(self.lattice, TetLattice):
            vertices, faces = marching_tetrahedra(backend, self.lattice, self.positions(), sdf)
            return Extracted(vertices, faces, sdf, sdf.new_zeros(0))
        vertices, faces, l_dev = flexicubes(
            backend,
            self.lattice,
            self.positions(),
            sdf,
            self.alpha,
            self.beta,
            self.gamma,
            training,
        )
        return Extracted(vertices, faces, sdf, l_dev)

    @torch.no_grad()
    def extract_mesh(self, backend: Backend | None = None) -> Mesh:
        """The surface as a mesh, quads cut into two triangles."""
        return self.surface(backend or backends.select("auto"), training=False).mesh()

    def field(self) -> GridField:
        """The signed distance in the world, as it stands now."""
        shift = self._shift()
        return GridField(
            self.lattice,
            self.centre.clone(),
            self.extent,
            self.sdf.detach() * (0.5 * self.extent),
            None if shift is None else shift.detach(),
        )

    @torch.no_grad()
    def refined(self, resolution: int) -> "SdfGrid":
        """The same surface on a lattice of another resolution, its vertices unmoved.

        FlexiCubes' weights start anew.
        """
        lattice = lattice_of(self.extractor, resolution, self.sdf.device)
        points = self.centre + self.extent * lattice.vertices.to(self.centre)
        sdf = self.field().value(points)
        return SdfGrid(lattice, self.centre, self.extent, sdf, self.deform is not None)

    def roughness(self, sdf: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """How far values are from the mean of their lattice neighbours (see `regularize`)."""
        return lattice_roughness(sdf, self.lattice.edges)

    def eikonal(self, generator: torch.Generator, count: int = 4096) -> Float[Tensor, ""]:
        """Mean squared gap between the field's slope and one, at random points of the cube.

        Gropp et al. 2020, "Implicit Geometric Regularization".
        """
        kind, device = self.sdf.dtype, self.sdf.device
        points = torch.rand(count, 3, generator=generator, dtype=kind, device=device) - 0.5
        points.requires_grad_()
        value = interpolate_lattice(self.lattice, self.sdf[:, None], points)
        (slope,) = torch.autograd.grad(value.sum(), points, create_graph=True)
        # Values are in halves of the edge that points are in.
        gap: Tensor = 0.5 * slope.norm(dim=-1) - 1
        return gap.square().mean()
