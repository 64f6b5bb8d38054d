"""What of a surface is near the points that it was made from.

Letters: n points, v vertices, f faces.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

__all__ = ["Support", "supported", "trimmed", "with_points"]

_SPACINGS = 3.0  # of the points that the surface may go on beyond them
_CELLS = 2.0  # at least
_VOTES = 100_000  # points that are asked which part they lie on
_SHARE = 0.1  # of the votes that a part of its size should have


@dataclass(frozen=True)
class Support:
    """Where the points were, in the frame's units."""

    points: Any  # float32 [n, 3], averaged over eighths of the finest cells
    spacing: float  # between points, typically
    box: tuple[Any, Any]  # float64 [3] each: the lowest and highest coordinates

    @property
    def reach(self) -> float:
        """How far from the points a surface goes on unless it is said: a few spacings."""
        return max(_SPACINGS * self.spacing, _CELLS)

    def near(self, places: Any, limit: float) -> Any:
        """Which places [p, 3] lie within `limit` of a point."""
        distance, _ = self._tree.query(places, distance_upper_bound=limit)
        return distance <= limit

    @cached_property
    def _tree(self) -> Any:
        return cKDTree(self.points, balanced_tree=False, compact_nodes=False)


def trimmed(vertices: Any, faces: Any, support: Support, limit: float) -> tuple[Any, Any]:
    """The faces whose vertices all lie within `limit` of the points, and their vertices.

    Args:
        vertices: float64 [v, 3].
        faces: int32 [f, 3].
        support: the points.
        limit: in the frame's units.
    """
    return _only(vertices, faces[support.near(vertices, limit)[faces].all(1)])


def supported(vertices: Any, quads: Any, support: Support, limit: float) -> Any:
    """What `trimmed` and `with_points` leave of quads (int32 [q, 4]), corners as they were.

    Of a quad that is cut in two along its shorter diagonal, one triangle may be left: the
    corner across from it is then that of its neighbour.
    """
    if limit < np.inf:
        far = ~support.near(vertices, limit)[quads]
        number = far.sum(1)
        part, corner = quads[number == 1], far[number == 1].argmax(1)
        p = vertices[part]
        first = ((p[:, 0] - p[:, 2]) ** 2).sum(1) <= ((p[:, 1] - p[:, 3]) ** 2).sum(1)
        half = first == (corner % 2 == 1)
        part, corner, row = part[half], corner[half], np.arange(half.sum())
        part[row, corner] = part[row, (corner + 1) % 4]
        quads = np.concatenate([quads[number == 0], part])
    return quads[_with_points(*_only(vertices, quads), support)]


def with_points(vertices: Any, faces: Any, support: Support) -> tuple[Any, Any]:
    """The connected parts that the points lie on.

    Beside a sharp edge a smooth field may close a bubble: near the points, but every point is
    nearer to the surface itself.
    """
    kept = _with_points(vertices, faces, support)
    return (vertices, faces) if kept.all() else _only(vertices, faces[kept])


def _with_points(vertices: Any, faces: Any, support: Support) -> Any:
    """Which faces (bool [f], of any number of corners) are of a part that points lie on."""
    pairs = np.stack([faces[:, :-1], faces[:, 1:]], -1).reshape(-1, 2)
    size = len(vertices)
    edges = coo_matrix((np.ones(len(pairs), bool), tuple(pairs.T)), shape=(size, size))
    count, part = connected_components(edges, directed=False)
    if count < 2:
        return np.ones(len(faces), np.bool_)
    voters = support.points[:: max(1, -(-len(support.points) // _VOTES))]
    _, nearest = cKDTree(vertices, balanced_tree=False, compact_nodes=False).query(voters)
    votes = np.bincount(part[nearest], minlength=count)
    expected = np.bincount(part, minlength=count) * (len(voters) / max(size, 1))
    return (votes >= _SHARE * expected)[part[faces[:, 0]]]


def _only(vertices: Any, faces: Any) -> tuple[Any, Any]:
    """Faces, numbered anew, with the vertices that they use."""
    used = np.zeros(len(vertices), bool)
    used[faces.reshape(-1)] = True
    number = np.cumsum(used) - 1
    return vertices[used], number[faces].astype(np.int32)
