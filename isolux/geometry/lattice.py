"""Lattices that fill a cube, by code at any resolution.

Letters: n vertices, t tetrahedra, c cubes, e edges. All lie in [-0.5, 0.5] along each axis.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from isolux.backends.cpu.jit import kernel
from isolux.backends.extract import CubeLattice, TetLattice
from isolux.backends.extraction_tables import CUBE_EDGE_SLOTS, CUBE_EDGES, TET_EDGES

__all__ = ["cube_lattice", "tet_lattice"]


def tet_cells(resolution: int) -> int:
    """Cubes along an axis whose corners and centres give a lattice of `resolution`.

    Resolutions are those of the quartet grids that others train on: at 64 both have about
    37,000 vertices. Such a grid has 8 vertices in a cube of 4 units, ours 2 in a cell.
    """
    return max(1, int(np.ceil(resolution * 0.25 * 4 ** (1 / 3))))


@lru_cache(maxsize=8)
def tet_lattice(resolution: int) -> TetLattice:
    """A body-centred cubic lattice, cut at the cube's faces so that it fills the cube.

    Vertices are the corners, then the centres, of the cells. Two centres that share a cell
    wall make four tetrahedra with the wall's four edges (all alike, dihedral angles of 60 and
    90 degrees); a wall on the cube's border makes two with the one centre behind it.

    Raises:
        ValueError: when the resolution is less than one.
    """
    if resolution < 1:
        raise ValueError(f"resolution of a lattice must be at least 1, got {resolution}")
    m = tet_cells(resolution)
    steps = np.arange(m + 1)
    corners = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    cells = np.stack(np.meshgrid(*[steps[:-1]] * 3, indexing="ij"), -1)  # [m, m, m, 3]
    vertices = np.concatenate([corners, cells.reshape(-1, 3) + 0.5]) / m - 0.5
    tets = _body_centred_tets(m, cells)
    edges, tet_edges = _number_edges(len(vertices), tets, np.array(TET_EDGES, np.int32))
    return TetLattice(
        torch.from_numpy(vertices.astype(np.float32)),
        torch.from_numpy(tets),
        torch.from_numpy(edges),
        torch.from_numpy(tet_edges),
        cells=m,
        spacing=float(np.sqrt(0.75)) / m,
    )


def _body_centred_tets(m: int, cells: Any) -> Any:
    """int32 [t, 4], cell by cell, then those on the border."""
    corner_steps = np.array([(m + 1) ** 2, m + 1, 1])
    centre_steps = np.array([m**2, m, 1])
    corner = cells @ corner_steps  # [m, m, m]: the lowest corner of each cell
    centre = (m + 1) ** 3 + cells @ centre_steps
    inner: list[Any] = []
    kept: list[Any] = []
    border: list[Any] = []
    for axis in range(3):
        u, v = corner_steps[(axis + 1) % 3], corner_steps[(axis + 2) % 3]
        far = corner + corner_steps[axis]
        # The wall's corners, counter-clockwise seen from the far side.
        wall = np.stack([far, far + u, far + u + v, far + v], -1)  # [m, m, m, 4]
        at_end = cells[..., axis] == m - 1
        for i in range(4):
            ends = [wall[..., i], wall[..., (i + 1) % 4], centre + centre_steps[axis]]
            inner.append(np.stack([centre, *ends], -1))
            kept.append(~at_end)
        for which, shift in ((at_end, 0), (cells[..., axis] == 0, -corner_steps[axis])):
            q, apex = wall[which] + shift, centre[which]
            turned = q if shift == 0 else q[:, ::-1]
            for i in (1, 2):
                border.append(
                    np.stack([apex, turned[:, 0], turned[:, i], turned[:, i + 1]], -1)
                )
    inside = np.stack(inner, 3)[np.stack(kept, 3)]  # cell by cell
    return np.concatenate([inside, *border]).astype(np.int32)


@lru_cache(maxsize=8)
def cube_lattice(resolution: int | tuple[int, int, int]) -> CubeLattice:
    """Cubes that fill [-0.5, 0.5]^3.

    Args:
        resolution: how many along each axis, x slowest in the order of vertices and cubes.

    Raises:
        ValueError: when there is less than one along an axis.
    """
    size = (resolution,) * 3 if isinstance(resolution, int) else resolution
    if min(size) < 1:
        raise ValueError(f"resolution of a lattice must be at least 1, got {resolution}")
    points = np.stack(np.meshgrid(*[np.arange(n + 1) for n in size], indexing="ij"), -1)
    cells = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"), -1)
    steps = np.array([(size[1] + 1) * (size[2] + 1), size[2] + 1, 1])
    offsets = np.array([[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)])
    cubes = ((cells @ steps).reshape(-1, 1) + offsets @ steps).astype(np.int32)
    vertices = points.reshape(-1, 3) / np.array(size) - 0.5
    edges, cube_edges = _number_edges(len(vertices), cubes, np.array(CUBE_EDGES, np.int32))
    edge_cubes = np.full((len(edges), 4), -1, np.int32)
    edge_slots = np.zeros((len(edges), 4), np.int32)
    for local, slot in enumerate(CUBE_EDGE_SLOTS):
        edge_cubes[cube_edges[:, local], slot] = np.arange(len(cubes))
        edge_slots[cube_edges[:, local], slot] = local
    return CubeLattice(
        torch.from_numpy(vertices.astype(np.float32)),
        torch.from_numpy(cubes),
        torch.from_numpy(edges),
        torch.from_numpy(cube_edges),
        torch.from_numpy(edge_cubes),
        torch.from_numpy(edge_slots),
        resolution=size,
        spacing=1.0 / max(size),
    )


def _number_edges(vertices: int, cells: Any, pairs: Any) -> tuple[Any, Any]:
    """Unique edges [e, 2] in rising order, and which of them each cell has [cells, pairs]."""
    count, width = cells.shape
    flat, ends = np.ascontiguousarray(cells).reshape(-1), pairs.reshape(-1)
    begins = np.zeros(vertices + 1, np.int64)
    _count_lower(flat, width, ends, begins)
    begins = np.cumsum(begins)
    upper = np.empty(count * len(pairs), np.int32)
    origin = np.empty(count * len(pairs), np.int32)
    _fill_upper(flat, width, ends, begins.copy(), upper, origin)
    edges = np.empty((len(upper), 2), np.int32)
    cell_edges = np.empty((count, len(pairs)), np.int32)
    unique = _merge(begins, upper, origin, edges.reshape(-1), cell_edges.reshape(-1))
    return edges[:unique].copy(), cell_edges


@kernel
def _count_lower(cells: Any, width: int, ends: Any, begins: Any) -> None:
    for cell in range(len(cells) // width):
        for k in range(len(ends) // 2):
            a = cells[cell * width + ends[2 * k]]
            b = cells[cell * width + ends[2 * k + 1]]
            begins[min(a, b) + 1] += 1


@kernel
def _fill_upper(
    cells: Any, width: int, ends: Any, cursor: Any, upper: Any, origin: Any
) -> None:
    pairs = len(ends) // 2
    for cell in range(len(cells) // width):
        for k in range(pairs):
            a = cells[cell * width + ends[2 * k]]
            b = cells[cell * width + ends[2 * k + 1]]
            at = cursor[min(a, b)]
            cursor[min(a, b)] += 1
            upper[at] = max(a, b)
            origin[at] = cell * pairs + k


@kernel
def _merge(begins: Any, upper: Any, origin: Any, edges: Any, cell_edges: Any) -> int:
    """Sort each vertex's few upper ends and give equal ones one number."""
    number = -1
    for lower in range(len(begins) - 1):
        start, stop = begins[lower], begins[lower + 1]
        for i in range(start + 1, stop):
            high, came = upper[i], origin[i]
            j = i - 1
            while j >= start and upper[j] > high:
                upper[j + 1] = upper[j]
                origin[j + 1] = origin[j]
                j -= 1
            upper[j + 1] = high
            origin[j + 1] = came
        for i in range(start, stop):
            if i == start or upper[i] != upper[i - 1]:
                number += 1
                edges[2 * number] = lower
                edges[2 * number + 1] = upper[i]
            cell_edges[origin[i]] = number
    return number + 1
