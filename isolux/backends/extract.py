"""Surfaces out of signed distances on a lattice: marching tetrahedra and FlexiCubes.

Letters: n lattice vertices, t tetrahedra, c cubes, e lattice edges, m surface vertices,
f faces, k pairs of a surface vertex and a lattice edge. Inside is where the signed distance is
below zero; a value that is exactly zero, and one that is not a number, count as outside. Faces
are counter-clockwise seen from outside.
"""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from isolux.backends.table import Backend

__all__ = ["CubeLattice", "TetLattice", "flexicubes", "marching_tetrahedra"]


@dataclass(frozen=True)
class TetLattice:
    """Tetrahedra that fill a cube, with their edges numbered once and for all."""

    vertices: Float[Tensor, "n 3"]
    tets: Int[Tensor, "t 4"]  # positively oriented: det(b - a, c - a, d - a) > 0
    edges: Int[Tensor, "e 2"]  # unique, each with its lower vertex first, in rising order
    tet_edges: Int[Tensor, "t 6"]  # rows of `edges`: corners 01, 02, 03, 12, 13, 23
    cells: int  # along an axis: their corners, then their centres, are the vertices
    spacing: float  # the shortest edge

    def to(self, device: torch.device | str) -> "TetLattice":
        """The same lattice on another device."""
        return _moved(self, device)


@dataclass(frozen=True)
class CubeLattice:
    """Cubes that fill a box, with their edges numbered once and for all.

    Corner i of a cube lies at (bit 0 of i, bit 1, bit 2) along x, y, z. Its twelve edges come
    in the order of `extraction_tables.CUBE_EDGES`.
    """

    vertices: Float[Tensor, "n 3"]
    cubes: Int[Tensor, "c 8"]  # x slowest
    edges: Int[Tensor, "e 2"]  # unique, each with its lower vertex first, in rising order
    cube_edges: Int[Tensor, "c 12"]  # rows of `edges`
    edge_cubes: Int[Tensor, "e 4"]  # counter-clockwise about the edge; -1 beyond the box
    edge_slots: Int[Tensor, "e 4"]  # which of its twelve edges this one is for each of them
    resolution: tuple[int, int, int]  # cubes along x, y, z
    spacing: float  # the shortest edge

    def to(self, device: torch.device | str) -> "CubeLattice":
        """The same lattice on another device."""
        return _moved(self, device)


_Lattice = TypeVar("_Lattice", TetLattice, CubeLattice)


def _moved(lattice: _Lattice, device: torch.device | str) -> _Lattice:
    values = {name: getattr(lattice, name) for name in lattice.__dataclass_fields__}
    tensors: dict[str, Any] = {
        name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)
    }
    return replace(lattice, **tensors)


def marching_tetrahedra(
    backend: Backend,
    lattice: TetLattice,
    positions: Float[Tensor, "n 3"],
    sdf: Float[Tensor, " n"],
) -> tuple[Float[Tensor, "m 3"], Int[Tensor, "f 3"]]:
    """The surface where the signed distance is zero, linear within each tetrahedron.

    Doi and Koide 1991; differentiable as in Shen et al. 2021, "Deep Marching Tetrahedra".

    Args:
        backend: which implementation runs.
        lattice: says which positions make a tetrahedron.
        positions: the lattice vertices where they are now, deformed or not.
        sdf: negative inside.

    Returns:
        One vertex for each lattice edge that the surface crosses, in the order of the edges,
        and int32 faces: a closed 2-manifold, except where the surface meets the border of the
        lattice. Zero faces when all values have one sign. Differentiable in `positions` and
        `sdf`.
    """
    vertices, faces = _MarchingTetrahedra.apply(  # type: ignore[no-untyped-call]
        positions.contiguous(), sdf.contiguous(), backend, lattice
    )
    return vertices, faces


class _MarchingTetrahedra(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, positions: Tensor, sdf: Tensor, backend: Backend, lattice: TetLattice
    ) -> tuple[Tensor, Tensor]:
        vertices, faces, crossed = backend.marching_tetrahedra.forward(lattice, positions, sdf)
        ctx.save_for_backward(positions, sdf, crossed)
        ctx.rest = backend, lattice
        ctx.mark_non_differentiable(faces)
        return vertices, faces

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        positions, sdf, crossed = ctx.saved_tensors
        backend, lattice = ctx.rest
        to_positions, to_sdf = backend.marching_tetrahedra.backward(
            lattice, positions, sdf, crossed, grad.contiguous()
        )
        return to_positions, to_sdf, None, None


def flexicubes(
    backend: Backend,
    lattice: CubeLattice,
    positions: Float[Tensor, "n 3"],
    sdf: Float[Tensor, " n"],
    alpha: Float[Tensor, "c 8"] | None,
    beta: Float[Tensor, "c 12"] | None,
    gamma: Float[Tensor, " c"] | None,
    training: bool,
) -> tuple[Float[Tensor, "m 3"], Int[Tensor, "f 3"], Float[Tensor, " k"]]:
    """The surface as FlexiCubes draws it: dual marching cubes with vertices that can move.

    Shen et al. 2023, "Flexible Isosurface Extraction for Gradient-Based Mesh Optimization".

    Args:
        backend: which implementation runs.
        lattice: says which positions make a cube.
        positions: the lattice vertices where they are now.
        sdf: negative inside.
        alpha: unbounded; 1 + 0.99 tanh weighs the corners' values. None: weights of one.
        beta: unbounded; 1 + 0.99 tanh weighs the crossings of a dual vertex. None: ones.
        gamma: unbounded; 0.005 + 0.99 sigmoid decides how a quad is split. None: ones.
        training: split quads into four triangles about a middle vertex (smooth in gamma)
            instead of into two.

    Returns:
        Vertices, int32 faces, and for each pair of a dual vertex and one of its lattice edges
        how much the distance between them differs from that vertex's mean (the paper's L_dev,
        whose mean is a regulariser). The surface is a closed 2-manifold and ends one cube
        before the border of the lattice. Differentiable in all of `positions`, `sdf`, `alpha`,
        `beta`, `gamma`.
    """
    vertices, faces, deviation = _FlexiCubes.apply(  # type: ignore[no-untyped-call]
        positions.contiguous(),
        sdf.contiguous(),
        None if alpha is None else alpha.contiguous(),
        None if beta is None else beta.contiguous(),
        None if gamma is None else gamma.contiguous(),
        backend,
        lattice,
        training,
    )
    return vertices, faces, deviation


class _FlexiCubes(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        positions: Tensor,
        sdf: Tensor,
        alpha: Tensor | None,
        beta: Tensor | None,
        gamma: Tensor | None,
        backend: Backend,
        lattice: CubeLattice,
        training: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        values = positions, sdf, alpha, beta, gamma
        vertices, faces, deviation, kept = backend.flexicubes.forward(
            lattice, *values, training
        )
        ctx.save_for_backward(*values)
        ctx.rest = backend, lattice, training, kept
        ctx.mark_non_differentiable(faces)
        return vertices, faces, deviation

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Tensor, _: Tensor, deviation_grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        backend, lattice, training, kept = ctx.rest
        grads = backend.flexicubes.backward(
            lattice,
            *ctx.saved_tensors,
            training,
            kept,
            grad.contiguous(),
            deviation_grad.contiguous(),
        )
        return *grads, None, None, None
