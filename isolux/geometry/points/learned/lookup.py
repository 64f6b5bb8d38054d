"""Fields at samples and neighbourhoods of cells.

Letters: m rows, c cells, p parents, s samples, q queries.
"""

from typing import Any

import numpy as np

from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.geometry.points.learned import kernels
from isolux.geometry.points.octree import Samples

__all__ = ["field_at", "neighbours_of", "parents_of"]

_TASK = 8192


def field_at(rows: Any, coefficient: Any, samples: Samples) -> tuple[Any, Any]:
    """The function [s] and its gradient [s, 3] at samples, as precise as the coefficients."""
    value = np.empty(len(samples), coefficient.dtype)
    slope = np.empty(3 * len(samples), coefficient.dtype)
    parallel_for(
        kernels.evaluate,
        [
            (
                *(rows, coefficient, samples.cells, samples.first),
                *(samples.fraction, value, slope, *part),
            )
            for part in chunks(len(samples.cells), _TASK)
        ],
    )
    return value, slope.reshape(-1, 3)


def neighbours_of(queries: Any, keys: Any) -> Any:
    """Where the 27 cells about each query are among sorted keys, int32 [27 q]; else -1."""
    out = np.empty(27 * len(queries), np.int32)
    parallel_for(
        kernels.neighbours,
        [(queries, keys, out, *part) for part in chunks(len(queries), _TASK)],
    )
    return out


def parents_of(cells: Any) -> tuple[Any, Any]:
    """The cells [p] one level up that hold cells [c], sorted, and the place [c] of each's."""
    mask = (1 << 20) - 1
    up = (cells >> 41) << 40 | ((cells >> 20 & mask) >> 1) << 20 | (cells & mask) >> 1
    parents, parent = np.unique(up, return_inverse=True)
    return parents, parent.astype(np.int64)
