"""The fully connected network, for each backend."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from isolux import backends
from isolux.backends import Backend
from isolux.backends.cpu import pool
from isolux.backends.encode import mlp


def network(
    *sizes: int, dtype: torch.dtype = torch.float64
) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    weights, biases = [], []
    for i, o in pairwise(sizes):
        weights.append(torch.randn(o, i, generator=generator, dtype=dtype) / i**0.5)
        biases.append(torch.randn(o, generator=generator, dtype=dtype))
    return weights, biases


def points(count: int, size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize("count", [1, 7, 1024, 9000])
@pytest.mark.parametrize("sizes", [(5, 3), (5, 8, 3), (32, 32, 32, 9), (3, 17, 20, 4)])
def test_it_equals_layers_of_torch(
    backend: Backend, sizes: tuple[int, ...], count: int
) -> None:
    weights, biases = network(*sizes)
    for used in ([], biases):
        inputs = [
            t.clone().requires_grad_() for t in (points(count, sizes[0]), *weights, *used)
        ]
        x, ws, bs = inputs[0], inputs[1 : 1 + len(weights)], inputs[1 + len(weights) :]
        out = mlp(backend, x, ws, bs or None)
        expected = x
        for k, weight in enumerate(ws):
            expected = torch.nn.functional.linear(
                expected.relu() if k else expected, weight, bs[k] if bs else None
            )
        torch.testing.assert_close(out, expected)
        above = points(count, sizes[-1])
        found = torch.autograd.grad(out, inputs, above)
        for ours, theirs in zip(
            found, torch.autograd.grad(expected, inputs, above), strict=True
        ):
            torch.testing.assert_close(ours, theirs)


def test_gradients_match_finite_differences(backend: Backend) -> None:
    weights, biases = network(3, 6, 5, 2)
    inputs = [t.requires_grad_() for t in (points(4, 3), *weights, *biases)]
    assert gradcheck(lambda x, *rest: mlp(backend, x, rest[:3], rest[3:]), inputs)


def test_a_graph_of_the_gradient_is_right(backend: Backend) -> None:
    weights, _ = network(3, 6, 2)
    inputs = [t.requires_grad_() for t in (points(4, 3), *weights)]
    assert gradgradcheck(lambda x, *rest: mlp(backend, x, rest), inputs)


def test_inputs_may_be_stored_by_columns(backend: Backend) -> None:
    weights, _ = network(5, 8, 3)
    x = points(2000, 5)
    torch.testing.assert_close(
        mlp(backend, x.T.contiguous().T, weights), mlp(backend, x, weights)
    )


def test_inputs_without_gradient_get_none(backend: Backend) -> None:
    weights, _ = network(5, 8, 3)
    weights = [weight.requires_grad_() for weight in weights]
    mlp(backend, points(10, 5), weights).sum().backward()
    assert all(weight.grad is not None for weight in weights)


def test_no_points_give_no_rows_and_zero_gradients(backend: Backend) -> None:
    weights, _ = network(5, 8, 3)
    weights = [weight.requires_grad_() for weight in weights]
    x = points(0, 5).requires_grad_()
    out = mlp(backend, x, weights)
    assert out.shape == (0, 3)
    out.sum().backward()
    assert all((weight.grad == 0).all() for weight in weights if weight.grad is not None)


def test_sizes_that_do_not_chain_are_refused(backend: Backend) -> None:
    weights, biases = network(5, 8, 3)
    with pytest.raises(ValueError, match="do not chain"):
        mlp(backend, points(2, 4), weights)
    with pytest.raises(ValueError, match="biases must have sizes"):
        mlp(backend, points(2, 5), weights, biases[:1])


def test_any_number_of_threads_gives_the_same_bits() -> None:
    backend = backends.select("cpu")
    weights, _ = network(32, 32, 9, dtype=torch.float32)
    results = []
    for count in (1, 3):
        pool.set_threads(count)
        inputs = [t.clone().requires_grad_() for t in (points(40000, 32).float(), *weights)]
        out = mlp(backend, inputs[0], inputs[1:])
        results.append((out.detach(), *torch.autograd.grad(out.square().sum(), inputs)))
    pool.set_threads(None)
    for one, many in zip(*results, strict=True):
        assert torch.equal(one, many)
