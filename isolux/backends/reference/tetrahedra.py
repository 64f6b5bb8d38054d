"""Marching tetrahedra in plain PyTorch."""

import torch
from torch import Tensor

from isolux.backends.extract import TetLattice
from isolux.backends.extraction_tables import NEXT_TO_NOTHING, tet_faces

__all__ = ["backward", "forward"]


def forward(
    lattice: TetLattice, positions: Tensor, sdf: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, faces, and the lattice edges that the vertices lie on."""
    inside = sdf < 0
    edges, tets = lattice.edges.long(), lattice.tets.long()
    crossed = (inside[edges[:, 0]] != inside[edges[:, 1]]).nonzero()[:, 0]
    number = edges.new_full((len(edges),), -1)
    number[crossed] = torch.arange(len(crossed), device=number.device)
    bits = torch.tensor([1, 2, 4, 8], device=tets.device)
    case = (inside[tets] * bits).sum(-1)  # [t]
    table = torch.tensor(tet_faces(), device=tets.device).long()
    local = table[case].reshape(-1, 2, 3)  # [t, 2, 3]
    tet, triangle = (local[:, :, 0] >= 0).nonzero(as_tuple=True)
    corner = lattice.tet_edges.long()[tet].gather(1, local[tet, triangle])
    return _vertices(edges[crossed], positions, sdf), number[corner].int(), crossed.int()


def backward(
    lattice: TetLattice, positions: Tensor, sdf: Tensor, crossed: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients to positions and signed distances."""
    with torch.enable_grad():
        positions = positions.detach().requires_grad_()
        sdf = sdf.detach().requires_grad_()
        vertices = _vertices(lattice.edges.long()[crossed.long()], positions, sdf)
        to_positions, to_sdf = torch.autograd.grad(vertices, (positions, sdf), grad)
    return to_positions, to_sdf


def _vertices(edges: Tensor, positions: Tensor, sdf: Tensor) -> Tensor:
    """Where a linear field is zero; the middle of edges that cannot say."""
    a, b = edges.unbind(-1)
    gap = sdf[a] - sdf[b]
    along = sdf[a] / gap
    usable = (along >= 0) & (along <= 1) & (gap.abs() > NEXT_TO_NOTHING)
    along = torch.where(usable, sdf[a], 0.5) / torch.where(usable, gap, 1.0)
    return positions[a] + along[:, None] * (positions[b] - positions[a])
