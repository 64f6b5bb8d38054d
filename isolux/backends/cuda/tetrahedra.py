"""Marching tetrahedra on the device: counts, a running sum, then a thread an edge or a cell.

Vertices and faces come in the processor's order, and the backward pass adds up in one order.
"""

from functools import cache

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from isolux.backends.cuda.arrays import index
from isolux.backends.cuda.launch import launch
from isolux.backends.extract import TetLattice
from isolux.backends.extraction_tables import tet_faces

__all__ = ["backward", "forward"]

_incident = WeakTensorKeyDictionary()  # a lattice's edges to `_incidence`, kept while they live


def forward(
    lattice: TetLattice, positions: Tensor, sdf: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, faces, and the lattice edges that the vertices lie on."""
    edges, tets, table = index(lattice.edges), index(lattice.tets), _table(sdf.device)
    e, t = len(edges), len(tets)
    counts = edges.new_zeros(1 + e + t)  # the first stays zero: each sum excludes its own
    launch("tetrahedra", "tetrahedra_count_vertices", e, edges, sdf, counts[1 : 1 + e], e)
    launch("tetrahedra", "tetrahedra_count_faces", t, tets, sdf, table, counts[1 + e :], t)
    start = torch.cumsum(counts, 0, dtype=torch.int32)
    rows, both = torch.stack([start[e], start[-1]]).tolist()  # sync: the sizes of the surface
    vertices, crossed = positions.new_empty(rows, 3), edges.new_empty(rows)
    faces = edges.new_empty(both - rows, 3)
    launch(
        "tetrahedra", "tetrahedra_place", e,
        edges, sdf, positions, start, vertices, crossed, e,
    )  # fmt: skip
    launch(
        "tetrahedra", "tetrahedra_draw", t,
        tets, index(lattice.tet_edges), sdf, table, start, faces, e, t,
    )  # fmt: skip
    return vertices, faces, crossed


def backward(
    lattice: TetLattice, positions: Tensor, sdf: Tensor, crossed: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients to positions and signed distances."""
    edges = index(lattice.edges)
    begins, incident = _incidence(lattice.edges, len(positions))
    number = edges.new_empty(len(edges))  # of crossed edges; the others are not looked at
    launch("tetrahedra", "tetrahedra_number", len(crossed), crossed, number, len(crossed))
    to_positions, to_sdf = positions.new_empty(positions.shape), sdf.new_empty(sdf.shape)
    launch(
        "tetrahedra", "tetrahedra_gather", len(sdf),
        edges, begins, incident, number, positions, sdf, grad, to_positions, to_sdf, len(sdf),
    )  # fmt: skip
    return to_positions, to_sdf


@cache
def _table(device: torch.device) -> Tensor:
    """Int32 [16, 6], of `tet_faces`."""
    return torch.tensor(tet_faces(), dtype=torch.int32, device=device)


def _incidence(edges: Tensor, vertices: int) -> tuple[Tensor, Tensor]:
    """Where each vertex's edges begin in a list [n + 1], and the list [2 e], each rising."""
    if edges not in _incident:
        ends, order = edges.reshape(-1).sort(stable=True)
        every = torch.arange(vertices + 1, dtype=ends.dtype, device=ends.device)
        begins = torch.searchsorted(ends, every, out_int32=True)
        _incident[edges] = begins, index(order // 2)
    found: tuple[Tensor, Tensor] = _incident[edges]
    return found
