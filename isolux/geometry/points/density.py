"""How dense and how noisy points are, and the cell size that suits them.

Letters: n points.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["occupied", "size_by", "target_points", "voxel_size_for"]

_ENOUGH = 5.0  # points in a cell to measure density by


def occupied(local: Any, size: float) -> int:
    """How many cells of edge `size` hold a point of local [n, 3] (none negative)."""
    place = np.floor(local / size).astype(np.int64)
    key = place[:, 0] << 40 | place[:, 1] << 20 | place[:, 2]
    key.sort()
    return 1 + int((key[1:] != key[:-1]).sum())


def voxel_size_for(local: Any, extent: float, target: float) -> float:
    """The cell size at which a cell that the surface crosses holds `target` points.

    Measured where cells hold several points, and taken to go with the square of the size from
    there: few points fill only some of the small cells that the surface crosses.

    Args:
        local: float64 [n, 3], none negative.
        extent: the longest side of their box.
        target: points a cell, on average.
    """
    return size_by(lambda size: len(local) / occupied(local, size), extent, target)


def size_by(mean_at: Callable[[float], float], extent: float, target: float) -> float:
    """`voxel_size_for` by a function that tells the points in an occupied cell of a size."""
    size = extent / 4.0
    for _ in range(16):
        mean = mean_at(size)
        if mean < 2 * _ENOUGH:
            break
        size *= 0.5 if mean > 8 * _ENOUGH else 0.7071
    return float(size * np.sqrt(target / mean))


def target_points(count: int) -> float:
    """Points wanted in a cell, of so many points in all.

    Normals carry detail finer than the points' spacing, so that small clouds gain from small
    cells; in large ones it costs too much.
    """
    return float(np.clip(0.3 * (count / 1e4) ** (1 / 3), 0.3, 1.5))
