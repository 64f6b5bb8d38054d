"""Weights of the energy, chosen by points that are held out.

Noise decides how far values, gradients and smoothness are to be trusted, and no formula knows
it. A few blocks of the finest level are fitted without every tenth point, with some weights;
those that predict the held-out points best are taken. Letters: n points, s samples, c cells.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from isolux.geometry.points.assembly import System, assemble, field_at
from isolux.geometry.points.conjugate_gradients import solve
from isolux.geometry.points.extraction import Level
from isolux.geometry.points.octree import (
    Samples,
    dilated,
    first_samples,
    prolonged,
    subset,
    united,
)

__all__ = ["BLOCK", "RIDGE", "WeightSearch", "Weights", "searched"]

RIDGE = 1e-4  # of the difference from the coarser levels, where nothing else says anything
BLOCK = 4
"""Cells of a block along an axis, as a power of two."""

_CELLS = 6000  # that are fitted to choose weights
_HELD_OUT = 10  # one in so many points
_LEAST = 20  # points to judge by
_STEPS = 200  # of the solver for one trial
_GAIN = 0.1  # by which adjusted weights must predict better
_LOOSER = 3  # than the final solver's tolerance: a choice among noise needs no more
_NOISY = -20.0  # scores of points with noise are above
_EXACTLY = 0.1  # finest cells, from where on points are off their surface
_FLATTEST = 1e-3  # mean slope along the normals
_VALUES = (3.0, 1.0, 0.3, 0.1, 0.03)
_SMOOTHNESS = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)


@dataclass(frozen=True)
class Weights:
    """Of an energy in cells: see `assembly`. They hold for an occupied cell, on average."""

    value: float = 1.0
    normal: float = 1.0
    smoothness: float = 1e-2
    learned: bool = False  # whether a network adjusts them in each cell

    def finer(self, free: tuple[bool, bool]) -> "Weights":
        """The same energy per area on cells of half the size, as far as it may be changed."""
        value = self.value / 4 if free[0] else self.value
        smoothness = self.smoothness * 4 if free[1] else self.smoothness
        return Weights(value, self.normal, smoothness)


def searched(local: Any, cells: int) -> Any:
    """The numbers of those points (float64 [n, 3], in finest cells) that weights are chosen by.

    Args:
        local: points.
        cells: how many finest cells hold a point, of all that there are.
    """
    return subset(local, range(cells), BLOCK, _CELLS)


class WeightSearch:
    """Points of a few blocks, a tenth of them held out, and the weights tried on each level.

    Args:
        points: local float64 [n, 3] in finest cells, normals float32 [n, 3], weights
            float32 [n].
        cells: the occupied finest cells.
        free: whether the value's weight, and the smoothness, may be changed.
        tolerance: of the solver.
        adjust: what may adjust the chosen weights, as `learned.inference.adjusted` does; they
            are marked where it predicts better.
    """

    def __init__(
        self,
        points: tuple[Any, Any, Any],
        cells: Any,
        free: tuple[bool, bool],
        tolerance: float,
        adjust: Callable[..., Any] | None = None,
    ) -> None:
        local, normal, weight = points
        chosen = searched(local, len(cells))
        held = np.zeros(len(chosen), bool)
        held[::_HELD_OUT] = True
        rest, out = chosen[~held], chosen[held]
        self.train = local[rest], normal[rest], weight[rest]
        self.test = local[out], normal[out], weight[out]
        self.free = free
        self.tolerance = tolerance
        self.adjust = adjust
        self.able = len(out) >= _LEAST

    def best(
        self, number: int, samples: Samples, coarser: Level, starts: list[Weights]
    ) -> tuple[Weights, float]:
        """The weights that predict the held-out points best, and how badly they do it.

        Args:
            number: of the level; 0 is the finest.
            samples: all of the level's.
            coarser: the level above.
            starts: the search begins at the best of these.
        """
        trial = _Trial(self, number, samples, coarser)
        start = min((replace(each, learned=False) for each in starts), key=trial)
        for _ in range(2 if len(starts) == 1 else 1):  # the level above has come near
            before = start
            if self.free[0]:
                start = _walk(trial, start, "value", _VALUES)
            if self.free[1]:
                start = _walk(trial, start, "smoothness", _SMOOTHNESS)
            if start == before:
                break
        other = replace(start, learned=True)
        if self.adjust is not None and trial(other) < trial(start) - _GAIN:
            start = other
        return start, trial(start)


def _walk(
    score: Callable[[Weights], float], weights: Weights, name: str, ladder: tuple[float, ...]
) -> Weights:
    """Up or down a ladder of one weight while the score falls."""
    now = max(getattr(weights, name), 1e-30)
    at = min(range(len(ladder)), key=lambda i: abs(np.log(ladder[i] / now)))
    best = score(weights)
    for step in (-1, 1):
        moved = False
        while 0 <= at + step < len(ladder):
            other: dict[str, Any] = {name: ladder[at + step]}
            changed = replace(weights, **other)
            found = score(changed)
            if found >= best:
                break
            best, weights, at, moved = found, changed, at + step, True
        if moved:
            break
    return weights


class _Trial:
    """The score of weights on one level; what was tried is remembered."""

    def __init__(
        self, search: WeightSearch, number: int, samples: Samples, coarser: Level
    ) -> None:
        size = 2.0**number
        self.train = first_samples(search.train[0] / size, *search.train[1:])
        self.test = first_samples(search.test[0] / size, *search.test[1:], average=False)
        self.rows = dilated(united(self.train.cells, self.test.cells))
        before = prolonged(self.rows, coarser.rows, coarser.coefficient)
        self.start = self.guess = before / np.float32(size)
        mean = float(samples.weight.sum()) / len(samples.cells)
        share = 1 - 1 / _HELD_OUT
        self.weight = self.train.weight * np.float32(1 / (share * mean))
        self.extra = np.full(len(self.rows), RIDGE, np.float32)
        self.adjust = search.adjust
        self.tolerance = self.search_tolerance = search.tolerance
        self.size = size
        self.known: dict[Weights, float] = {}

    def __call__(self, weights: Weights) -> float:
        """Logarithms of both mean squares, less is better.

        A likelihood counts one number along the normal and two across it. Where points are off
        their surface, distances count three times as much: it is places that are wanted, and
        a small error beside much noise hardly shows in them.
        """
        if weights not in self.known:
            system = self._system(weights)
            solution, _, _ = solve(system, self.guess, self.tolerance, _STEPS, self.rows)
            self.guess = solution  # of weights that are near the next ones
            value, slope = field_at(self.rows, solution, self.test)
            along, across = _unscaled(value, slope, self.test.normal.reshape(-1, 3))
            along *= self.size**2
            noisy = 2 * np.log1p(along / _EXACTLY**2)
            self.known[weights] = float(np.log(along) + 2 * np.log(across) + noisy)
            if self.known[weights] > _NOISY:  # what the solver leaves does not show there
                self.tolerance = _LOOSER * self.search_tolerance
        return self.known[weights]

    def _system(self, weights: Weights) -> System:
        if weights.learned and self.adjust is not None:
            terms = self.adjust(self.rows, self.start, self.train, self.weight, weights)
            return assemble(
                *(self.rows, terms.samples, terms.value_weight, terms.slope_weight),
                *(terms.smoothness, self.extra, self.start, terms.target),
            )
        return assemble(
            *(self.rows, self.train, np.float32(weights.value) * self.weight),
            *(np.float32(weights.normal) * self.weight, weights.smoothness),
            *(self.extra, self.start),
        )


def _unscaled(value: Any, slope: Any, normal: Any) -> tuple[float, float]:
    """Mean squares of a function's value, and of how far its gradient is from the normal.

    First the function is divided by its mean slope along the normals: one that noise, or too
    much smoothness, has pressed flat would be near zero everywhere and seem to predict well.

    Args:
        value: float32 [s].
        slope: float32 [s, 3].
        normal: float32 [s, 3].
    """
    slope, normal = slope.astype(np.float64), normal.astype(np.float64)
    scale = max(float((slope * normal).sum() / max((normal**2).sum(), 1e-30)), _FLATTEST)
    return _robust((value / scale) ** 2), _robust(((slope / scale - normal) ** 2).sum(1))


def _robust(square: Any) -> float:
    """The mean of squares, without the largest twentieth."""
    square = np.sort(square.astype(np.float64))
    return float(square[: max(1, len(square) - len(square) // 20)].mean()) + 1e-12
