"""Neighbourhoods of cells.

Letters: c cells, p parents, q queries.
"""

from typing import Any

import numpy as np

from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.geometry.points.learned import kernels
from isolux.geometry.points.octree import above

__all__ = ["neighbours_of", "parents_of"]

_TASK = 8192


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
    parents, parent = np.unique(above(cells, 1), return_inverse=True)
    return parents, parent.astype(np.int64)
