"""Nearest points of a cloud, through a tree over points that lie in the order of a curve.

Letters: n points, m queries, k neighbours.
"""

from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from isolux.backends.cpu.pool import threads
from isolux.geometry.morton import curve_order

__all__ = ["Neighbours", "distinct"]


class Neighbours:
    """Points arranged for queries.

    Attributes:
        order: [n], the points' numbers along the curve; row i of `points` is point order[i].
        points: float64 [n, 3] about their middle, along the curve: what is near in space is
            near in memory, which makes queries two to three times as fast.
        middle: float64 [3], what was taken off.
    """

    def __init__(self, xyz: Any) -> None:
        self.middle = 0.5 * (xyz.min(0) + xyz.max(0)) if len(xyz) else np.zeros(3)
        centred = xyz - self.middle
        self.order = curve_order(centred)
        self.points = np.ascontiguousarray(centred[self.order])
        self._tree = cKDTree(self.points)

    def among(self, count: int, rows: Any = None) -> tuple[Any, Any]:
        """The `count` nearest of each point (or of `rows`), itself first.

        Returns:
            Distances [n, count] and rows of `points` [n, count], int32.
        """
        return self._query(self.points if rows is None else self.points[rows], count)

    def near(self, xyz: Any, count: int) -> tuple[Any, Any]:
        """The `count` nearest points of any places [m, 3] in the world; as `among`."""
        return self._query(xyz - self.middle, count)

    def _query(self, places: Any, count: int) -> tuple[Any, Any]:
        distance, index = self._tree.query(places, k=range(1, count + 1), workers=threads())
        return distance, index.astype(np.int32)


def distinct(xyz: Any) -> tuple[Any, Any] | None:
    """Which points [n, 3] to keep so that each place occurs once, and where all of them went.

    A tree over thousands of points in one place would be searched from end to end.

    Returns:
        The first row of each place, rising, and for each point the place's number; None when
        no place occurs twice.
    """
    order = np.lexsort(xyz.T)
    row = xyz[order]
    new = np.ones(len(xyz), bool)
    new[1:] = (row[1:] != row[:-1]).any(1)
    if new.all():
        return None
    # lexsort is stable: the first of a run of equal places has the smallest number.
    first = order[new]
    rank = np.empty(len(first), np.int64)
    rising = np.argsort(first)
    rank[rising] = np.arange(len(first))
    inverse = np.empty(len(xyz), np.int64)
    inverse[order] = rank[np.cumsum(new) - 1]
    return first[rising], inverse
