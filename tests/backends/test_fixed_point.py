"""Sums in integers: exact enough, never too large, and marked where a term is not finite."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from isolux.backends.cuda import fixed_point


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def summed(terms: Tensor, bound: Tensor | None = None) -> Tensor:
    """As a kernel would add: every term to one place."""
    limit = fixed_point.largest(terms) if bound is None else bound
    total, fixed, scale = fixed_point.start(terms.new_zeros(1), lambda: limit, len(terms))
    assert fixed is not None
    assert scale is not None
    fits = terms.abs() <= scale[1]
    fixed[0] = (terms[fits].double() * scale[0]).round().to(torch.int64).sum()
    total[~fits.all(dim=0, keepdim=True)] = torch.nan
    return fixed_point.finish(total, fixed, scale)


@pytest.mark.parametrize("size", [0.0, 1e-290, 1e-40, 1e-12, 1.0, 3e38, 1e300])
def test_sums_are_as_exact_as_single_precision(size: float) -> None:
    generator = torch.Generator().manual_seed(0)
    terms = size * torch.randn(10_000, generator=generator, dtype=torch.float64)
    expected = terms.sum(dim=0, keepdim=True)
    torch.testing.assert_close(summed(terms), expected, rtol=1e-8, atol=1e-9 * size)


@pytest.mark.parametrize("count", [1, 2, 3, 1 << 10, (1 << 20) - 1])
def test_no_sum_overflows(count: int) -> None:
    for size in (1.0, 1.999999):
        terms = torch.full((count,), -size, dtype=torch.float64)
        torch.testing.assert_close(summed(terms)[0], -size * terms.new_tensor(count))


def test_the_scale_is_a_power_of_two_and_a_single_term_keeps_its_digits() -> None:
    terms = torch.rand(1, dtype=torch.float32)
    assert torch.equal(summed(terms), terms)
    _, _, scale = fixed_point.start(terms, lambda: terms[0], 1)
    assert scale is not None
    assert float(torch.frexp(scale[0]).mantissa) == 0.5


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 2.5])
def test_what_does_not_fit_shows(value: float) -> None:
    assert summed(torch.tensor([1.0, value]), torch.tensor(2.0)).isnan().all()


def test_the_largest_is_finite() -> None:
    assert float(fixed_point.largest(torch.zeros(0, 3))) == 0.0
    assert float(fixed_point.largest(torch.tensor([1.0, -3.0, torch.nan, torch.inf]))) == 3.0


def test_sums_are_plain_unless_determinism_is_asked_for() -> None:
    torch.use_deterministic_algorithms(False)
    total = torch.zeros(3)
    sums = fixed_point.start(total, lambda: pytest.fail("not needed"), 8)
    assert sums == (total, None, None)
    assert fixed_point.finish(*sums) is total
