"""Marching tetrahedra as kernels: edges are numbered by a running sum, no sorting in a step.

Counting and filling run over chunks of fixed size, so the order of vertices and faces does not
depend on the number of threads. The backward pass touches crossed edges only and is serial.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from isolux.backends.cpu.jit import kernel
from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.backends.extract import TetLattice
from isolux.backends.extraction_tables import NEXT_TO_NOTHING, tet_faces

__all__ = ["backward", "forward"]

_CHUNK = 32768


def _starts(counts: list[int]) -> tuple[list[int], int]:
    """Where each chunk's output begins, and the total."""
    ends = np.cumsum([0, *counts]).tolist()
    return ends[:-1], ends[-1]


def forward(
    lattice: TetLattice, positions: Tensor, sdf: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, faces, and the lattice edges that the vertices lie on."""
    edges = lattice.edges.numpy().reshape(-1)
    tets = lattice.tets.numpy().reshape(-1)
    tet_edges = lattice.tet_edges.numpy().reshape(-1)
    value = sdf.detach().numpy()
    point = positions.detach().numpy().reshape(-1)
    table = tet_faces().reshape(-1)

    ranges = chunks(len(edges) // 2, _CHUNK)
    number = np.empty(len(edges) // 2, np.int32)
    counts = parallel_for(_count_edges, [(edges, value, number, *r) for r in ranges])
    starts, total = _starts(counts)
    vertices = np.empty((total, 3), point.dtype)
    crossed = np.empty(total, np.int32)
    parallel_for(
        _fill_vertices,
        [
            (edges, value, point, number, vertices.reshape(-1), crossed, first, *r)
            for first, r in zip(starts, ranges, strict=True)
        ],
    )

    ranges = chunks(len(tets) // 4, _CHUNK)
    case = np.empty(len(tets) // 4, np.uint8)
    counts = parallel_for(_count_faces, [(tets, value, case, *r) for r in ranges])
    starts, total = _starts(counts)
    faces = np.empty((total, 3), np.int32)
    parallel_for(
        _fill_faces,
        [
            (tet_edges, case, number, table, faces.reshape(-1), first, *r)
            for first, r in zip(starts, ranges, strict=True)
        ],
    )
    return torch.from_numpy(vertices), torch.from_numpy(faces), torch.from_numpy(crossed)


def backward(
    lattice: TetLattice, positions: Tensor, sdf: Tensor, crossed: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients to positions and signed distances."""
    to_positions = np.zeros(positions.shape, positions.detach().numpy().dtype)
    to_sdf = np.zeros(sdf.shape, sdf.detach().numpy().dtype)
    _scatter(
        lattice.edges.numpy().reshape(-1),
        crossed.numpy(),
        positions.detach().numpy().reshape(-1),
        sdf.detach().numpy(),
        grad.numpy().reshape(-1),
        to_positions.reshape(-1),
        to_sdf,
    )
    return torch.from_numpy(to_positions), torch.from_numpy(to_sdf)


@kernel
def _count_edges(edges: Any, value: Any, number: Any, start: int, stop: int) -> int:
    """Number the crossed edges of a range from zero, the others -1."""
    count = 0
    for e in range(start, stop):
        a = np.uint32(edges[2 * e])
        b = np.uint32(edges[2 * e + 1])
        crosses = (value[a] < 0) != (value[b] < 0)
        number[e] = count if crosses else -1
        count += 1 if crosses else 0
    return count


@kernel
def _fill_vertices(
    edges: Any,
    value: Any,
    point: Any,
    number: Any,
    vertices: Any,
    crossed: Any,
    first: int,
    start: int,
    stop: int,
) -> None:
    """Make the numbers global and place a vertex on each crossed edge."""
    for e in range(start, stop):
        if number[e] < 0:
            continue
        row = number[e] + first
        number[e] = row
        crossed[row] = e
        a = np.uint32(edges[2 * e])
        b = np.uint32(edges[2 * e + 1])
        gap = value[a] - value[b]
        along = value[a] / gap
        if not (0 <= along <= 1 and abs(gap) > NEXT_TO_NOTHING):
            along = 0.5
        for axis in range(3):
            near = point[3 * a + axis]
            vertices[3 * row + axis] = near + along * (point[3 * b + axis] - near)


@kernel
def _count_faces(tets: Any, value: Any, case: Any, start: int, stop: int) -> int:
    """Store which corners are inside; return how many triangles that makes."""
    count = 0
    for t in range(start, stop):
        mask = 0
        size = 0
        for i in range(4):
            inside = 1 if value[np.uint32(tets[4 * t + i])] < 0 else 0
            mask |= inside << i
            size += inside
        case[t] = mask
        count += 0 if size == 0 or size == 4 else (2 if size == 2 else 1)
    return count


@kernel
def _fill_faces(
    tet_edges: Any,
    case: Any,
    number: Any,
    table: Any,
    faces: Any,
    first: int,
    start: int,
    stop: int,
) -> None:
    row = 3 * first
    for t in range(start, stop):
        mask = np.uint32(case[t])
        if mask == 0 or mask == 15:
            continue
        for i in range(6):
            edge = table[6 * mask + i]
            if edge >= 0:
                faces[row] = number[tet_edges[6 * t + edge]]
                row += 1


@kernel
def _scatter(
    edges: Any,
    crossed: Any,
    point: Any,
    value: Any,
    grad: Any,
    to_point: Any,
    to_value: Any,
) -> None:
    """v = p_a + s (p_b - p_a), s = d_a / (d_a - d_b)."""
    for row in range(len(crossed)):
        e = crossed[row]
        a = np.uint32(edges[2 * e])
        b = np.uint32(edges[2 * e + 1])
        gap = value[a] - value[b]
        along = value[a] / gap
        fixed = not (0 <= along <= 1 and abs(gap) > NEXT_TO_NOTHING)
        if fixed:
            along = 0.5
        slope = 0.0
        for axis in range(3):
            g = grad[3 * row + axis]
            to_point[3 * a + axis] += (1 - along) * g
            to_point[3 * b + axis] += along * g
            slope += g * (point[3 * b + axis] - point[3 * a + axis])
        if not fixed:
            to_value[a] += (1 - along) * slope / gap
            to_value[b] += along * slope / gap
