"""Levels of quadratic B-splines written out densely, to compare the sparse kernels with.

Letters: n points, c cells, m rows (one a coefficient), s samples.
"""

from typing import Any

import numpy as np

from isolux.geometry.points.assembly import System
from isolux.geometry.points.conjugate_gradients import _multiply
from isolux.geometry.points.extraction import Level, inner_cells
from isolux.geometry.points.octree import Samples, children, dilated, prolonged


def keys(cells: Any) -> Any:
    """Keys of cells int [c, 3], sorted and each once."""
    x, y, z = np.asarray(cells, np.int64).T
    return np.unique(x << 40 | y << 20 | z)


def cells_at(keys: Any) -> Any:
    """The cells (int64 [c, 3]) of keys."""
    mask = (1 << 20) - 1
    return np.stack([keys >> 40, keys >> 20 & mask, keys & mask], -1)


def box_keys(shape: tuple[int, int, int]) -> Any:
    """The keys of all cells of a box that begins at the origin."""
    return keys(np.indices(shape).reshape(3, -1).T)


def basis(points: Any, rows: Any) -> tuple[Any, Any]:
    """Each row's spline (float64 [n, m]) and its gradient ([n, m, 3]) at points in cells."""
    u = points[:, None] - (cells_at(rows) + 0.5)
    size = np.abs(u)
    near, far = 0.75 - u * u, 0.5 * np.clip(1.5 - size, 0, None) ** 2
    value = np.where(size < 0.5, near, far)
    slope = np.where(size < 0.5, -2 * u, -np.sign(u) * np.clip(1.5 - size, 0, None))
    x, y, z = np.moveaxis(value, -1, 0)
    dx, dy, dz = np.moveaxis(slope, -1, 0)
    return x * y * z, np.stack([dx * y * z, x * dy * z, x * y * dz], -1)


def evaluated(points: Any, rows: Any, coefficient: Any) -> tuple[Any, Any]:
    """One level's function (float64 [n]) and its gradient ([n, 3]) at points in its cells."""
    value, slope = basis(points, rows)
    c = coefficient.astype(np.float64)
    return value @ c, np.einsum("nmk,m->nk", slope, c)


def sample_places(samples: Samples) -> Any:
    """Where samples lie, in cells, float64 [s, 3]."""
    return cells_at(samples.key >> 3) + samples.fraction.reshape(-1, 3).astype(np.float64)


def sphere(count: int, radius: float, middle: float, seed: int = 0) -> tuple[Any, Any]:
    """Random points (float64 [n, 3]) on a sphere and its normals (float32)."""
    normal = np.random.default_rng(seed).normal(size=(count, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return middle + radius * normal, normal.astype(np.float32)


def whole_numbers(count: int, seed: int) -> Any:
    """Random small integers (float32), whose products with spline weights are exact."""
    return np.random.default_rng(seed).integers(-50, 51, count).astype(np.float32)


def dense(system: System) -> Any:
    """The matrix, float64 [m, m], as products with unit vectors find it."""
    columns = []
    for unit in np.eye(len(system), dtype=np.float32):
        columns.append(np.empty_like(unit))
        _multiply(system, unit, columns[-1])
    return np.stack(columns, 1).astype(np.float64)


def stacked(box: int = 8, seed: int = 0) -> list[Level]:
    """Three levels, finest first: a full box and two bands in it that add random numbers.

    All coefficients are exact, so that the whole function is the sum of the additions.
    """
    draw = np.random.default_rng(seed)
    rows = box_keys((box, box, box))
    coefficient = whole_numbers(len(rows), seed)
    # Positive at the border, so that the zero set is closed.
    outer = ((cells_at(rows) < 2) | (cells_at(rows) >= box - 2)).any(1)
    coefficient[outer] = 50.0
    levels, cells = [Level(rows, coefficient, coefficient)], inner_cells(rows)
    for more in (1, 2):
        middle = ((cells_at(cells) > more * 2) & (cells_at(cells) < more * (box - 2) - 1)).all(
            1
        )
        inside = cells[middle]
        cells = children(np.sort(draw.choice(inside, len(inside) // 4, replace=False)))
        rows = dilated(cells)
        addition = whole_numbers(len(rows), seed + more) / 2
        coarser = levels[0]
        before = prolonged(rows, coarser.rows, coarser.coefficient)
        levels.insert(0, Level(rows, before + addition, addition))
    return levels


def sphere_level(box: int, middle: float, radius: float) -> Level:
    """|p - middle|^2 - radius^2 in cells, exactly: each square's coefficient is less by 1/4."""
    rows = box_keys((box, box, box))
    square = ((cells_at(rows) + 0.5 - middle) ** 2 - 0.25).sum(1)
    coefficient = (square - radius**2).astype(np.float32)
    return Level(rows, coefficient, coefficient)
