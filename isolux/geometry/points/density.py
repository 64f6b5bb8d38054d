"""How dense and how noisy points are, and the cell size that suits them.

Letters: n points.
"""

from typing import Any

import numpy as np

__all__ = ["occupied", "voxel_size_for"]


def occupied(local: Any, size: float) -> int:
    """How many cells of edge `size` hold a point of local [n, 3] (none negative)."""
    place = np.floor(local / size).astype(np.int64)
    key = place[:, 0] << 40 | place[:, 1] << 20 | place[:, 2]
    key.sort()
    return 1 + int((key[1:] != key[:-1]).sum())


def voxel_size_for(local: Any, extent: float, target: float) -> float:
    """The cell size at which `target` points lie in an occupied cell, on average.

    Args:
        local: float64 [n, 3], none negative.
        extent: the longest side of their box.
        target: points a cell.
    """
    # Steps of a factor of two, and a straight line between logarithms.
    size = extent / 4.0
    before: tuple[float, float] | None = None
    for _ in range(18):
        mean = len(local) / occupied(local, size)
        if mean <= target:
            if before is None or mean == before[1]:
                return size
            share = np.log(target / mean) / np.log(before[1] / mean)
            return float(size * (before[0] / size) ** share)
        before = size, mean
        size *= 0.5
    return size
