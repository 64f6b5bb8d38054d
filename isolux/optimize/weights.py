"""How much each term of the objective counts, and when.

A weight is a function of a stage's progress t in [0, 1] rather than of a step, so that a time
budget, which changes the number of steps, changes no schedule.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Ramp", "constant", "summed", "weighted_sum"]


@dataclass(frozen=True)
class Ramp:
    """A weight that moves straight from `start` to `end` over the first `over` of a stage."""

    start: float
    end: float
    over: float = 1.0  # fraction of the stage; 0: `end` from the first step on

    def __call__(self, t: float) -> float:
        """The value at progress t; progress outside [0, 1] counts as the nearer end."""
        share = max(t / self.over, 0.0) if self.over > 0 else 1.0
        # Not the formula at its end: rounding would miss `end`.
        return self.end if share >= 1.0 else self.start + share * (self.end - self.start)


def constant(value: float) -> Ramp:
    """The weight that stays where it is."""
    return Ramp(value, value)


def weighted_sum(
    terms: Mapping[str, Float[Tensor, ""]], weights: Mapping[str, Ramp], t: float
) -> Float[Tensor, ""]:
    """The objective. Every term has a weight and every weight a term, or it raises.

    Args:
        terms: scalars by name. Without any the objective is zero.
        weights: one for each.
        t: progress of the stage, in [0, 1].

    Raises:
        KeyError: naming the terms or weights without a partner, so that a misspelt one is
            not silently zero.
    """
    return summed(terms, {name: weight(t) for name, weight in weights.items()})


def summed(
    terms: Mapping[str, Float[Tensor, ""]], factors: Mapping[str, float | Tensor]
) -> Float[Tensor, ""]:
    """`weighted_sum` with what the weights are now."""
    if unmatched := terms.keys() ^ factors.keys():
        raise KeyError(f"terms and weights do not match in: {sorted(unmatched)}")
    if not terms:
        return torch.zeros(())
    return torch.stack([factors[name] * term for name, term in terms.items()]).sum()
