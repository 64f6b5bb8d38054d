"""FlexiCubes as kernels. Weights are bounded where they are used, so that a step costs what the
surface costs, not what the lattice does.

Signs and vertices run over chunks of cubes, quads over chunks of edges. The backward pass is
serial over the cubes that the surface crosses.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isolux.backends.cpu import flexicubes_kernels as kernels
from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.backends.extract import CubeLattice
from isolux.backends.extraction_tables import CUBE_EDGES, cube_groups, cube_twists

__all__ = ["backward", "forward"]

_CHUNK = 32768
_ENDS = np.array(CUBE_EDGES, np.int64).reshape(-1)


@dataclass(frozen=True)
class _Kept:
    """What follows from the signs alone, as flat arrays."""

    row: Any  # int16 [c], of the table of groups
    first: Any  # int32 [c], the first dual vertex of a cube
    pair: Any  # int32 [c], its first deviation
    crossed: Any  # int64 [s], cubes that the surface crosses
    quads: Any  # int32 [q * 4]
    cube_of_dual: Any  # int32 [d]


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
    kept, pairs = _signs(lattice, sdf.detach().numpy())
    point = positions.detach().numpy()
    duals, quads = len(kept.cube_of_dual), len(kept.quads) // 4
    vertices = np.empty((duals + (quads if training else 0), 3), point.dtype)
    deviation = np.empty(pairs, point.dtype)
    parallel_for(
        kernels.place_vertices,
        [
            (
                *(lattice.cubes.numpy().reshape(-1), _ENDS, cube_groups().reshape(-1)),
                *(kept.row, kept.first, kept.pair, kept.crossed),
                *(point.reshape(-1), sdf.detach().numpy(), _flat(alpha, sdf), _flat(beta, sdf)),
                *(vertices.reshape(-1), deviation, *part),
            )
            for part in chunks(len(kept.crossed), _CHUNK // 8)
        ],
    )
    faces = np.empty(((4 if training else 2) * quads, 3), np.int32)
    kernels.draw_quads(
        *(kept.quads, kept.cube_of_dual, _flat(gamma, sdf)),
        *(training, vertices.reshape(-1), faces.reshape(-1)),
    )
    return (
        torch.from_numpy(vertices),
        torch.from_numpy(faces),
        torch.from_numpy(deviation),
        kept,
    )


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
    grads = [
        torch.zeros_like(t, requires_grad=False) if t is not None else None
        for t in (positions, sdf, alpha, beta, gamma)
    ]
    to_point, to_sdf, to_alpha, to_beta, to_gamma = (_flat(g, sdf) for g in grads)
    vertex_grad = grad.numpy().reshape(-1).copy()
    if training:
        vertices = _dual_vertices(lattice, positions, sdf, alpha, beta, kept)
        kernels.quads_backward(
            *(kept.quads, kept.cube_of_dual, _flat(gamma, sdf), vertices),
            *(vertex_grad, to_gamma),
        )
    kernels.vertices_backward(
        *(lattice.cubes.numpy().reshape(-1), _ENDS, cube_groups().reshape(-1)),
        *(kept.row, kept.first, kept.pair, kept.crossed),
        *(_flat(positions, sdf), _flat(sdf, sdf), _flat(alpha, sdf), _flat(beta, sdf)),
        *(vertex_grad, deviation_grad.numpy(), to_point, to_sdf, to_alpha, to_beta),
    )
    return tuple(grads)


def _flat(values: Tensor | None, like: Tensor) -> Any:
    """A flat array; one without elements stands for None."""
    if values is None:
        values = like.new_empty(0)
    return values.detach().numpy().reshape(-1)


def _dual_vertices(
    lattice: CubeLattice,
    positions: Tensor,
    sdf: Tensor,
    alpha: Tensor | None,
    beta: Tensor | None,
    kept: _Kept,
) -> Any:
    """The dual vertices once more, cheaper than to keep them."""
    vertices = np.empty(3 * len(kept.cube_of_dual), sdf.detach().numpy().dtype)
    scratch = np.empty(12 * len(kept.crossed), vertices.dtype)
    kernels.place_vertices(
        *(lattice.cubes.numpy().reshape(-1), _ENDS, cube_groups().reshape(-1)),
        *(kept.row, kept.first, kept.pair, kept.crossed),
        *(_flat(positions, sdf), _flat(sdf, sdf), _flat(alpha, sdf), _flat(beta, sdf)),
        *(vertices, scratch, 0, len(kept.crossed)),
    )
    return vertices


def _signs(lattice: CubeLattice, value: Any) -> tuple[_Kept, int]:
    cubes = lattice.cubes.numpy().reshape(-1)
    count = len(cubes) // 8
    case = np.empty(count, np.uint8)
    ranges = chunks(count, _CHUNK)
    parallel_for(kernels.find_cases, [(cubes, value, case, *part) for part in ranges])
    crossed = np.flatnonzero((case != 0) & (case != 255))
    row = case.astype(np.int16)
    first = np.zeros(count, np.int32)
    pair = np.zeros(count, np.int32)
    cube_of_dual = np.empty(4 * len(crossed), np.int32)
    groups = cube_groups().reshape(-1)
    duals, pairs = kernels.number_vertices(
        *(crossed, case, cube_twists(), groups, *lattice.resolution),
        *(row, first, pair, cube_of_dual),
    )
    edges = lattice.edges.numpy().reshape(-1)
    around = lattice.edge_cubes.numpy().reshape(-1)
    slots = lattice.edge_slots.numpy().reshape(-1)
    ranges = chunks(len(edges) // 2, _CHUNK)
    counts = parallel_for(kernels.count_quads, [(edges, around, value, *r) for r in ranges])
    ends = np.cumsum([0, *counts])
    quads = np.empty(4 * int(ends[-1]), np.int32)
    parallel_for(
        kernels.fill_quads,
        [
            (edges, around, slots, value, row, first, groups, quads, begin, *part)
            for begin, part in zip(ends[:-1].tolist(), ranges, strict=True)
        ],
    )
    kept = _Kept(row, first, pair, crossed, quads, cube_of_dual[:duals].copy())
    return kept, pairs
