"""The encoders as modules."""

import math

import pytest
import torch

from isolux import backends
from isolux.backends import Backend
from isolux.backends.encode import HashGridSpec
from isolux.encoders.frequency import Frequency
from isolux.encoders.hashgrid import HashGrid
from isolux.encoders.mlp import MLP

SPEC = HashGridSpec(levels=3, features=2, log2_rows=9, coarsest=4, finest=24)


@pytest.fixture
def backend() -> Backend:
    return backends.select("cpu")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_generator_decides_the_start(backend: Backend) -> None:
    first, again = (HashGrid(SPEC, backend, seeded()).table for _ in range(2))
    assert torch.equal(first, again)
    assert first.abs().max() <= 1e-4
    assert first.abs().mean() > 4e-5
    net, same = (MLP((6, 32, 3), backend, seeded()) for _ in range(2))
    for ours, theirs in zip(net.weights, same.weights, strict=True):
        assert torch.equal(ours, theirs)
    assert net.weights[0].abs().max() <= 1.0
    assert net.weights[0].abs().max() > 0.9


def test_active_levels_are_what_is_computed(backend: Backend) -> None:
    grid = HashGrid(SPEC, backend, seeded())
    grid.active = 1
    encoded = grid(torch.rand(9, 3, generator=seeded()))
    assert (encoded[:, :2] != 0).all()
    assert (encoded[:, 2:] == 0).all()
    assert grid.out_dim == encoded.shape[1] == 6


def test_grid_and_network_fit_a_function(backend: Backend) -> None:
    grid, net = HashGrid(SPEC, backend, seeded()), MLP((6, 16, 1), backend, seeded())
    points = torch.rand(500, 3, generator=seeded(1))
    target = (6.0 * points).sin().prod(dim=1, keepdim=True)
    optimizer = torch.optim.Adam([*grid.parameters(), *net.parameters()], lr=0.01)
    losses = []
    for _ in range(150):
        loss = (net(grid(points)) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.02 * losses[0]


def test_an_eikonal_loss_goes_through_grid_and_network(backend: Backend) -> None:
    grid, net = HashGrid(SPEC, backend, seeded()), MLP((6, 16, 1), backend, seeded(), bias=True)
    points = torch.rand(20, 3, generator=seeded(1)).requires_grad_()
    (slope,) = torch.autograd.grad(net(grid(points)).sum(), points, create_graph=True)
    (slope.norm(dim=1) - 1).square().mean().backward()
    assert grid.table.grad is not None
    assert grid.table.grad.abs().sum() > 0
    assert net.weights[0].grad is not None
    assert net.weights[0].grad.abs().sum() > 0


def test_state_goes_out_and_in(backend: Backend) -> None:
    net, other = (
        MLP((6, 16, 1), backend, seeded(), bias=True),
        MLP((6, 16, 1), backend, bias=True),
    )
    other.load_state_dict(net.state_dict())
    x = torch.rand(5, 6)
    assert torch.equal(net(x), other(x))
    assert net.out_dim == 1


def test_sizes_are_checked(backend: Backend) -> None:
    with pytest.raises(ValueError, match="sizes"):
        MLP((3,), backend)


def test_frequencies_double() -> None:
    encoder = Frequency(in_dim=1, octaves=3)
    x = torch.tensor([[0.1], [0.7]])
    expected = [x]
    for k in range(3):
        expected += [(2**k * math.pi * x).sin(), (2**k * math.pi * x).cos()]
    torch.testing.assert_close(encoder(x), torch.cat(expected, dim=1))
    assert encoder.out_dim == 7


def test_inactive_frequencies_are_zero() -> None:
    encoder = Frequency(in_dim=3, octaves=4)
    encoder.active = 1
    encoded = encoder(torch.rand(5, 3))
    assert encoded.shape == (5, 27)
    assert (encoded[:, 9:] == 0).all()
    assert Frequency(octaves=0)(torch.rand(0, 3)).shape == (0, 3)


def test_frequencies_are_checked() -> None:
    with pytest.raises(ValueError, match="octaves"):
        Frequency(octaves=-1)
