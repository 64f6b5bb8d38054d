"""FlexiCubes on the device: counts, running sums, then a thread a dual vertex, edge or quad.

Vertices, faces and deviations come in the processor's order. The backward pass adds up in one
order: quads to cubes, cubes to lattice vertices, each by whoever receives. It counts on the
order of a `CubeLattice`'s vertices and cubes, x slowest.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from isolux.backends.cuda.arrays import index
from isolux.backends.cuda.launch import launch
from isolux.backends.extract import CubeLattice
from isolux.backends.extraction_tables import CUBE_EDGES, cube_groups, cube_twists

__all__ = ["backward", "forward"]


@dataclass(frozen=True)
class _Kept:
    """What follows from the signs alone; and the dual vertices, when quads have middles."""

    starts: Tensor  # int64 [c + 1], sums of dual vertices (lower half) and deviations (upper)
    quad_start: Tensor  # int32 [e + 1]
    cube_of_dual: Tensor  # int32 [d]
    row_of_dual: Tensor  # int32 [d], of the table of groups
    quads: Tensor  # int32 [q, 4]
    duals: Tensor | None  # [d, 3]


def forward(
    lattice: CubeLattice,
    positions: Tensor,
    sdf: Tensor,
    alpha: Tensor | None,
    beta: Tensor | None,
    gamma: Tensor | None,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor, _Kept]:
    """Vertices, faces, deviations, and what the backward pass needs."""
    rows, twists, ends = _tables(sdf.device)
    cubes = index(lattice.cubes)
    starts, quad_start = _counted(lattice, sdf, rows, twists)
    both, quads = torch.stack([starts[-1], quad_start[-1].long()]).tolist()  # sync: the sizes
    duals, pairs = both & 0xFFFFFFFF, both >> 32
    cube_of_dual, row_of_dual = cubes.new_empty(duals), cubes.new_empty(duals)
    corners = cubes.new_empty(quads, 4)
    launch(
        "flexicubes", "flexicubes_list", len(cubes) if duals else 0,
        cubes, sdf, twists, *lattice.resolution, starts, cube_of_dual, row_of_dual, len(cubes),
    )  # fmt: skip
    launch(
        "flexicubes", "flexicubes_fill_quads", len(lattice.edges) if quads else 0,
        index(lattice.edges), index(lattice.edge_cubes), index(lattice.edge_slots), sdf, rows,
        starts, row_of_dual, quad_start, corners, len(lattice.edges),
    )  # fmt: skip
    vertices = positions.new_empty(duals + (quads if training else 0), 3)
    deviation = positions.new_empty(pairs)
    launch(
        "flexicubes", "flexicubes_place", duals,
        cubes, ends, rows, starts, cube_of_dual, row_of_dual, positions, sdf, alpha, beta,
        vertices, deviation, duals,
    )  # fmt: skip
    faces = cubes.new_empty((4 if training else 2) * quads, 3)
    launch(
        "flexicubes", "flexicubes_draw", quads,
        corners, cube_of_dual, gamma, training, duals, vertices, faces, quads,
    )  # fmt: skip
    # A copy: the result itself would keep alive the graph that keeps this.
    own = vertices[:duals].clone() if training else None
    kept = _Kept(starts, quad_start, cube_of_dual, row_of_dual, corners, own)
    return vertices, faces, deviation, kept


def backward(
    lattice: CubeLattice,
    positions: Tensor,
    sdf: Tensor,
    alpha: Tensor | None,
    beta: Tensor | None,
    gamma: Tensor | None,
    training: bool,
    kept: _Kept,
    grad: Tensor,
    deviation_grad: Tensor,
) -> tuple[Tensor | None, ...]:
    """Gradients to positions, signed distances and the three weights."""
    rows, _, ends = _tables(sdf.device)
    duals, quads = len(kept.cube_of_dual), len(kept.quads)
    to_positions, to_sdf = positions.new_empty(positions.shape), sdf.new_empty(sdf.shape)
    to_alpha, to_beta, to_gamma = (
        None if weights is None else weights.new_zeros(weights.shape)
        for weights in (alpha, beta, gamma)
    )
    shares = grad.new_empty(quads, 8) if training else None
    launch(
        "flexicubes", "flexicubes_share", quads if training else 0,
        kept.quads, kept.cube_of_dual, gamma, kept.duals, grad, shares, duals, quads,
    )  # fmt: skip
    to_corners = grad.new_empty(duals, 8, 4)
    launch(
        "flexicubes", "flexicubes_to_cubes", duals,
        index(lattice.cubes), index(lattice.cube_edges), ends, rows, kept.starts,
        kept.cube_of_dual, kept.row_of_dual, kept.quad_start, kept.quads, shares, positions,
        sdf, alpha, beta, gamma, grad, deviation_grad, to_corners, to_alpha, to_beta, to_gamma,
        duals,
    )  # fmt: skip
    launch(
        "flexicubes", "flexicubes_to_lattice", len(sdf),
        kept.starts, to_corners, *lattice.resolution, to_positions, to_sdf, len(sdf),
    )  # fmt: skip
    return to_positions, to_sdf, to_alpha, to_beta, to_gamma


def _counted(
    lattice: CubeLattice, sdf: Tensor, rows: Tensor, twists: Tensor
) -> tuple[Tensor, Tensor]:
    """Sums before each cube and edge, and the total: `starts` and `quad_start`."""
    cubes, edges = index(lattice.cubes), index(lattice.edges)
    counts = cubes.new_zeros(1 + len(cubes), dtype=torch.int64)  # the first stays zero
    launch(
        "flexicubes", "flexicubes_count_cubes", len(cubes),
        cubes, sdf, rows, twists, *lattice.resolution, counts[1:], len(cubes),
    )  # fmt: skip
    quads = edges.new_zeros(1 + len(edges))
    launch(
        "flexicubes", "flexicubes_count_quads", len(edges),
        edges, index(lattice.edge_cubes), sdf, quads[1:], len(edges),
    )  # fmt: skip
    return torch.cumsum(counts, 0), torch.cumsum(quads, 0, dtype=torch.int32)


@cache
def _tables(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Int32: groups with how many patches and crossed edges [512, 14], twists, edges' ends."""
    groups = cube_groups().astype(np.int32)
    sizes = np.stack([groups.max(1) + 1, (groups >= 0).sum(1)], 1)
    rows, twists, ends = (
        torch.tensor(np.ascontiguousarray(table), dtype=torch.int32, device=device)
        for table in (np.concatenate([groups, sizes], 1), cube_twists(), np.array(CUBE_EDGES))
    )
    return rows, twists, ends
