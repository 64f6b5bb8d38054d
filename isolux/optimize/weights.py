"""How much each term of the objective counts, and when.

A schedule is a function of a stage's progress t in [0, 1] rather than of a step, so that
a time budget, which changes the number of steps, changes no schedule.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Decay", "Ramp", "Schedule", "constant", "weighted_sum"]

Schedule = Callable[[float], float]


@dataclass(frozen=True)
class Ramp:
    """A value that moves straight from `start` to `end` over the first `over` of a stage."""

    start: float
    end: float
    over: float = 1.0  # fraction of the stage; 0: `end` from the first step on

    def __call__(self, t: float) -> float:
        """The value at progress t; progress outside [0, 1] counts as the nearer end."""
        share = min(max(t / self.over, 0.0), 1.0) if self.over > 0 else 1.0
        # In this form both ends are met exactly.
        return self.start * (1.0 - share) + self.end * share


@dataclass(frozen=True)
class Decay:
    """A value that is multiplied by `factor` over a stage, evenly in its logarithm.

    During the first `warm_up` of the stage it rises straight from zero, as a rate of a new
    optimiser does well to. That it starts above zero needs t > 0 there.
    """

    start: float
    factor: float = 1.0
    warm_up: float = 0.0

    def __call__(self, t: float) -> float:
        """The value at progress t; progress outside [0, 1] counts as the nearer end."""
        t = min(max(t, 0.0), 1.0)
        rise = min(t / self.warm_up, 1.0) if self.warm_up > 0 else 1.0
        return float(self.start * rise * self.factor**t)


def constant(value: float) -> Ramp:
    """The schedule that stays where it is."""
    return Ramp(value, value)


def weighted_sum(
    terms: Mapping[str, Float[Tensor, ""]], weights: Mapping[str, Schedule], t: float
) -> Float[Tensor, ""]:
    """The objective. Every term has a weight and every weight a term, or it raises.

    Args:
        terms: scalars by name. Without any the objective is zero.
        weights: a schedule for each.
        t: progress of the stage, in [0, 1].

    Raises:
        KeyError: naming the terms or weights without a partner, so that a misspelt one is
            not silently zero.
    """
    if unmatched := terms.keys() ^ weights.keys():
        raise KeyError(f"terms and weights do not match in: {sorted(unmatched)}")
    if not terms:
        return torch.zeros(())
    return torch.stack([weights[name](t) * term for name, term in terms.items()]).sum()
