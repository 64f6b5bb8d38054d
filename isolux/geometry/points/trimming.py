"""What of a surface is near the points that it was made from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

__all__ = ["Support", "trimmed"]

_SPACINGS = 3.0  # of the points that the surface may go on beyond them
_CELLS = 2.0  # at least


@dataclass(frozen=True)
class Support:
    """Where the points were, in the frame's units."""

    points: Any  # float32 [n, 3], averaged over eighths of the finest cells
    spacing: float  # between points, typically
    box: tuple[Any, Any]  # float64 [3] each: the lowest and highest coordinates


def trimmed(
    vertices: Any, faces: Any, support: Support, limit: float | None
) -> tuple[Any, Any]:
    """The faces whose vertices all lie within `limit` of the points, and their vertices.

    Args:
        vertices: float64 [v, 3].
        faces: int32 [f, 3].
        support: the points.
        limit: in the frame's units; None takes a few spacings of the points.
    """
    if limit is None:
        limit = max(_SPACINGS * support.spacing, _CELLS)
    distance, _ = cKDTree(support.points, balanced_tree=False, compact_nodes=False).query(
        vertices, distance_upper_bound=limit
    )
    near = distance <= limit
    kept = faces[near[faces].all(1)]
    used = np.zeros(len(vertices), bool)
    used[kept.reshape(-1)] = True
    number = np.cumsum(used) - 1
    return vertices[used], number[kept].astype(np.int32)
