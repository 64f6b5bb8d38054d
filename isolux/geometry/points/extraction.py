"""Triangles of a hierarchy's zero set, from the coarsest level down, near the surface only.

Letters: m rows (one a coefficient), c cells, v vertices, f faces.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.backends.extraction_tables import CUBE_EDGES, cube_groups, cube_twists
from isolux.geometry.points import extraction_kernels as kernels
from isolux.geometry.points.octree import children, dilated, prolonged, united
from isolux.geometry.points.placement_kernels import place_vertices

__all__ = ["Dual", "Level", "crossed_cells", "draw", "dual_of", "finer", "inner_cells"]

_CHUNK = 16384
_ENDS = np.array(CUBE_EDGES, np.int64).reshape(-1)


def _edge_numbers() -> Any:
    """Which of a cube's edges runs along an axis at (u, v): 4 axis + u + 2 v."""
    table = np.empty(12, np.int64)
    for number, (a, b) in enumerate(CUBE_EDGES):
        axis, low = (a ^ b).bit_length() - 1, min(a, b)
        u, v = low >> (axis + 1) % 3 & 1, low >> (axis + 2) % 3 & 1
        table[4 * axis + u + 2 * v] = number
    return table


_EDGE_OF = _edge_numbers()


@dataclass(frozen=True)
class Level:
    """Coefficients of one level, in the frame's units. Flat arrays."""

    rows: Any  # int64 [m], sorted keys of cells
    coefficient: Any  # float32 [m], of the whole field
    addition: Any  # float32 [m], of what the level adds to the coarser ones


def inner_cells(rows: Any) -> Any:
    """The cells whose 26 neighbours are rows of a full box too."""
    mask = (1 << 20) - 1
    x, y, z = rows >> 40, rows >> 20 & mask, rows & mask
    inner = (x > 0) & (y > 0) & (z > 0) & (x < x[-1]) & (y < y[-1]) & (z < z[-1])
    return rows[inner]


def crossed_cells(cells: Any, rows: Any, coefficient: Any) -> Any:
    """Those of the cells that the zero set may pass through."""
    keep = np.empty(len(cells), np.bool_)
    parallel_for(
        kernels.crossed,
        [(cells, rows, coefficient, keep, *part) for part in chunks(len(cells), _CHUNK)],
    )
    return cells[keep]


def finer(cells: Any, rows: Any, coefficient: Any, level: Level | None) -> tuple[Any, Any, Any]:
    """One level down: the cells in `cells`, the rows about them, and their coefficients.

    `level` holds what is known there; None: nothing, so that the function stays the same.
    """
    inside = children(cells)
    if level is not None:  # what it adds may bring the zero set to other cells
        inside = united(inside, dilated(level.rows))
    about = dilated(inside)
    values = prolonged(about, rows, coefficient)
    if level is not None:
        parallel_for(
            kernels.overwrite,
            [
                (about, values, level.rows, level.coefficient, *part)
                for part in chunks(len(about), _CHUNK)
            ],
        )
    return inside, about, values


def draw(cells: Any, rows: Any, coefficient: Any) -> tuple[Any, Any, Any]:
    """Dual marching cubes on sorted cells.

    Returns:
        Vertices in cells (float64 [v, 3]), faces (int32 [f, 3], counter-clockwise from
        outside), and the cell (int64 [v]) of each vertex. A 2-manifold, closed where the cells
        hold all of the zero set.
    """
    dual = dual_of(cells, rows, coefficient)
    count = len(dual.quads) // 4
    faces = np.empty(6 * count, np.int32)
    parallel_for(
        kernels.cut_quads,
        [(dual.quads, dual.vertices, faces, *part) for part in chunks(count, _CHUNK)],
    )
    return dual.vertices.reshape(-1, 3), faces.reshape(-1, 3), dual.owner


@dataclass(frozen=True)
class Dual:
    """Dual vertices and the quads between them. Flat arrays."""

    cells: Any  # int64 [c], sorted: those whose corners differ
    case: Any  # uint8 [c]: which corners are inside
    first: Any  # int32 [c + 1]: each cell's first vertex
    vertices: Any  # float64 [3 v], in cells
    slopes: Any  # float32 [3 v]: of the field at the vertices, or empty
    quads: Any  # int32 [4 q], counter-clockwise from outside

    @property
    def owner(self) -> Any:
        """The cell (int64 [v]) of each vertex."""
        return np.repeat(self.cells, np.diff(self.first))


def dual_of(cells: Any, rows: Any, coefficient: Any, with_slopes: bool = False) -> Dual:
    """A vertex for each patch of the zero set in a cell, a quad about each crossed edge."""
    case = np.empty(len(cells), np.uint8)
    parallel_for(
        kernels.find_cases,
        [(cells, rows, coefficient, case, *part) for part in chunks(len(cells), _CHUNK)],
    )
    mixed = (case != 0) & (case != 255)
    cells, case = cells[mixed], case[mixed]
    groups = cube_groups().reshape(-1)
    row, first = np.empty(len(cells), np.int16), np.empty(len(cells) + 1, np.int32)
    count = kernels.number_vertices(cells, case, cube_twists(), groups, row, first)
    first[-1] = count
    vertices = np.empty(3 * count)
    slopes = np.empty(3 * count if with_slopes else 0, np.float32)
    tables = _ENDS, groups, row, first
    parallel_for(
        place_vertices,
        [
            (cells, rows, coefficient, *tables, vertices, slopes, *part)
            for part in chunks(len(cells), _CHUNK)
        ],
    )
    quads = np.empty(12 * len(cells), np.int32)
    found = kernels.find_quads(cells, case, _EDGE_OF, groups, row, first, quads)
    return Dual(cells, case, first, vertices, slopes, quads[: 4 * found].copy())
