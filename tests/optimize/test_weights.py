"""Weights follow their ramp exactly, and a name without a partner is an error."""

import pytest
import torch

from isolux.optimize.weights import Ramp, constant, weighted_sum


def test_a_ramp_meets_both_ends_and_stays_there() -> None:
    ramp = Ramp(0.2, 0.01, over=0.25)
    assert [ramp(-1.0), ramp(0.0), ramp(0.25), ramp(1.0)] == [0.2, 0.2, 0.01, 0.01]
    assert ramp(0.125) == pytest.approx(0.105)


def test_a_ramp_over_nothing_is_at_its_end() -> None:
    assert Ramp(3.0, 4.0, over=0.0)(0.0) == 4.0


def test_a_constant_does_not_move() -> None:
    assert {constant(0.3)(t / 7) for t in range(8)} == {0.3}


def test_the_sum_is_linear_in_its_terms() -> None:
    x = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    terms = {"a": x.square(), "b": x}
    total = weighted_sum(terms, {"a": Ramp(0.0, 1.0), "b": constant(3.0)}, t=0.5)
    assert total.item() == 0.5 * 4 + 3 * 2
    total.backward()
    assert x.grad is not None
    assert x.grad.item() == 0.5 * 2 * 2 + 3


@pytest.mark.parametrize("terms", [{"image"}, {"image", "mask", "extra"}])
def test_unmatched_names_raise_by_name(terms: set[str]) -> None:
    weights = {"image": constant(1.0), "mask": constant(1.0)}
    with pytest.raises(KeyError, match=r"mask|extra"):
        weighted_sum({name: torch.zeros(()) for name in terms}, weights, 0.0)


def test_no_terms_are_zero() -> None:
    assert weighted_sum({}, {}, 0.0).item() == 0.0
