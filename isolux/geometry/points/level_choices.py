"""How the points of each level count in the engine `hierarchy`.

Letters: n points.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from isolux.geometry.points.extraction import Level
from isolux.geometry.points.hierarchy_options import HierarchyOptions
from isolux.geometry.points.learned.inference import adjusted
from isolux.geometry.points.octree import Samples
from isolux.geometry.points.weights import Weights, WeightSearch

__all__ = ["Choice", "Choices", "Choose"]

_log = logging.getLogger(__name__)
_EXACT = -20.0  # a score of points without noise: there finer cells always help
_WORSE = 0.1  # by which the finest level must predict worse to be left out
_MORE = 0.1  # by which a level must predict better for finer ones to be tried
_SEARCHED = 3  # of the finest levels, on which weights are chosen


@dataclass(frozen=True)
class Choice:
    """How the points of one level count. None: as the level's own samples have it."""

    weights: Weights
    mean: float | None = None  # points in an occupied cell
    usual: float | None = None  # the residual from where on a sample counts for less


Choose = Callable[[int, Samples, Level | None], Choice | None]


class Choices:
    """Weights from level to level: those given, or what held-out points prefer.

    Args:
        options: None in them is to be chosen.
        points: local float64 [n, 3] in finest cells, normals float32 [n, 3], weights
            float32 [n]; those that `WeightSearch` picks must be among them.
        cells: how many finest cells are occupied.
        top: the coarsest level.
    """

    def __init__(
        self, options: HierarchyOptions, points: tuple[Any, Any, Any], cells: int, top: int
    ) -> None:
        self.free = options.value_weight is None, options.smoothness is None
        adjust = adjusted if options.learned == "auto" else None
        self.search = WeightSearch(points, range(cells), self.free, options.solver_tol, adjust)
        sizes = options.voxel_size, options.depth, options.detail_level
        self.may_stop = all(size is None for size in sizes)
        self.searched = min(top, _SEARCHED) if self.search.able and any(self.free) else 0
        self.weights, self.score = _given(options), np.inf
        self.enough = False

    def __call__(self, number: int, samples: Samples, coarser: Level | None) -> Choice | None:
        """A level's; None where it would predict no better than those above."""
        if self.enough:
            return None
        if number >= self.searched:
            return Choice(self.weights)
        begin = [self.weights]
        if self.score < np.inf:
            begin.append(self.weights.finer(self.free))
        assert coarser is not None
        weights, found = self.search.best(number, samples, coarser, begin)
        _log.debug("level %d predicts to %.3f, above it %.3f", number, found, self.score)
        if self.may_stop and number == 0 and found > max(self.score + _WORSE, _EXACT):
            return None
        self.enough = self.may_stop and found > max(self.score - _MORE, _EXACT)
        self.weights, self.score = weights, found
        return Choice(weights)


def _given(options: HierarchyOptions) -> Weights:
    plain = Weights()
    return Weights(
        plain.value if options.value_weight is None else options.value_weight,
        plain.normal if options.normal_weight is None else options.normal_weight,
        plain.smoothness if options.smoothness is None else options.smoothness,
    )
