"""The loop: steps, rates, and the guard."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from isolux.optimize.clock import Clock
from isolux.optimize.fit import fit
from isolux.optimize.observers import StepInfo
from isolux.optimize.weights import Ramp, constant

Objective = Callable[[int, float], dict[str, Tensor]]


class Toy:
    """Two parameters in two groups, and an optimiser for them."""

    def __init__(self) -> None:
        self.a = torch.nn.Parameter(torch.tensor([3.0, -2.0]))
        self.b = torch.nn.Parameter(torch.tensor([1.0]))
        groups = [
            {"name": name, "params": [p], "lr": 0.1, "initial_lr": 0.1}
            for name, p in (("shape", self.a), ("light", self.b))
        ]
        self.optimizer = torch.optim.Adam(groups, fused=True)

    def terms(self, step: int, progress: float) -> dict[str, Tensor]:
        return {"near": self.a.square().sum(), "bright": (self.b - 2.0).square().sum()}

    def fit(self, objective: Objective, steps: int = 20, **more: object) -> int:
        weights = more.pop("weights", {"near": constant(1.0), "bright": constant(1.0)})
        clock = Clock(steps)
        return fit("toy", objective, weights, self.optimizer, 0.1, clock, **more)  # type: ignore[arg-type]


def test_it_minimises_and_tells_every_step() -> None:
    toy, told = Toy(), list[StepInfo]()
    assert toy.fit(toy.terms, 50, observers=[told.append]) == 50
    assert [info.step for info in told] == list(range(50))
    assert told[-1].total < 0.5 * told[0].total
    assert [info.last for info in told] == [False] * 49 + [True]
    assert told[0].terms["near"] == pytest.approx(13.0)


def test_rates_fall_by_the_decay() -> None:
    toy, rates = Toy(), list[float]()
    toy.fit(
        toy.terms, 10, observers=[lambda _: rates.append(toy.optimizer.param_groups[0]["lr"])]
    )
    assert rates == pytest.approx([0.1 * 0.1 ** (i / 10) for i in range(10)])


def test_a_stage_goes_on_where_it_was_left() -> None:
    whole, halves = Toy(), Toy()
    whole.fit(whole.terms, 20)
    seen = list[int]()

    def stop(info: StepInfo) -> None:
        if info.done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        halves.fit(halves.terms, 20, observers=[stop])
    halves.fit(halves.terms, 20, first=8, observers=[lambda info: seen.append(info.step)])
    assert seen == list(range(8, 20))
    assert torch.equal(whole.a, halves.a)


def test_no_steps_change_nothing() -> None:
    toy = Toy()
    assert toy.fit(toy.terms, 0) == 0
    assert toy.a.tolist() == [3.0, -2.0]


def test_parameters_are_put_back_after_each_step() -> None:
    toy = Toy()

    def clamp() -> None:
        with torch.no_grad():
            toy.a.clamp_(min=2.5)

    toy.fit(toy.terms, 30, after_step=clamp)
    assert toy.a.tolist() == pytest.approx([2.5, 2.5])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_a_term_that_is_not_finite(value: float, weight: float) -> None:
    """Also one whose weight is zero now: it would poison the gradient all the same."""
    toy = Toy()

    def objective(step: int, progress: float) -> dict[str, Tensor]:
        terms = toy.terms(step, progress)
        return terms | {"bright": terms["bright"] * value} if step == 3 else terms

    weights = {"near": constant(1.0), "bright": constant(weight)}
    kept = list[list[float]]()
    with pytest.raises(FloatingPointError, match=r"toy, step 3.*'bright'") as caught:
        toy.fit(objective, weights=weights, observers=[lambda _: kept.append(toy.a.tolist())])
    assert "near" not in str(caught.value)
    assert toy.a.tolist() == kept[-1]
    assert len(kept) == 3


def test_a_gradient_that_is_not_finite() -> None:
    """The value is fine, its slope is not: a root at zero."""
    toy = Toy()

    def objective(step: int, progress: float) -> dict[str, Tensor]:
        root = (toy.b - toy.b.detach()).sum().sqrt() if step == 2 else 0.0
        terms = toy.terms(step, progress)
        return terms | {"bright": terms["bright"] + root}

    kept = list[list[float]]()
    with pytest.raises(FloatingPointError, match=r"toy, step 2.*\['light'\].*\['bright'\]"):
        toy.fit(
            objective, observers=[lambda _: kept.append([*toy.a.tolist(), *toy.b.tolist()])]
        )
    assert [*toy.a.tolist(), *toy.b.tolist()] == kept[-1]


def test_a_sum_that_overflows() -> None:
    toy = Toy()

    def objective(step: int, progress: float) -> dict[str, Tensor]:
        return {"near": toy.a[0] * 1e38, "bright": toy.b[0] * 3e38}

    with pytest.raises(FloatingPointError, match="overflows"):
        toy.fit(objective)


def test_weights_follow_the_progress() -> None:
    toy, totals = Toy(), list[float]()

    def objective(step: int, progress: float) -> dict[str, Tensor]:
        return {"near": toy.a.sum() * 0.0 + 1.0, "bright": toy.b.sum() * 0.0}

    weights = {"near": Ramp(0.0, 1.0, 1.0), "bright": constant(1.0)}
    toy.fit(objective, 4, weights=weights, observers=[lambda i: totals.append(i.total)])
    assert totals == pytest.approx([0.0, 0.25, 0.5, 0.75])


def test_a_budget_of_no_time_ends_at_once() -> None:
    toy = Toy()
    weights = {"near": constant(1.0), "bright": constant(1.0)}
    assert fit("toy", toy.terms, weights, toy.optimizer, 0.1, Clock(10, 0.0)) == 0


def test_a_clock_of_seconds_tells_how_many_steps_there_will_be() -> None:
    clock = Clock(1000, seconds=100.0, already=50.0)
    assert clock.progress(7) == pytest.approx(0.5, abs=0.01)
    assert clock.expected_steps(200) == pytest.approx(400, rel=0.02)
    assert Clock(1000).expected_steps(3) == 1000
