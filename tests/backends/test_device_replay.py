"""That calls with tensors that only say they are on a device notice what must not be there."""

from collections.abc import Callable
from typing import Any

import device_replay
import pytest
import torch
from device_replay import replayed
from emulated import emulated
from torch import Tensor

from isolux.backends import Backend
from isolux.backends.cuda.launch import launch, use_host

NOTICED = r"_local_scalar_dense|nonzero|unique|makes a tensor on cpu|not linked|is needed, got"
Function = Callable[[Tensor], Any]


def _starts_a_kernel(tensor: Tensor) -> None:
    number = torch.empty_like(tensor)
    launch("tetrahedra", "tetrahedra_number", len(tensor), tensor, number, len(tensor))


def _with_wrong_type(tensor: Tensor) -> None:
    number = torch.empty_like(tensor, dtype=torch.int64)
    launch("tetrahedra", "tetrahedra_number", len(tensor), tensor, number, len(tensor))


@pytest.fixture(autouse=True)
def unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_replay, "_seen", set())


def called(function: Function) -> None:
    """As an operator of the backend."""
    function.__module__ = "isolux.backends.cuda.made_up"
    try:
        base = emulated()
        fields = {**vars(base), "edge_adjacency": function}
        replayed(Backend(**fields)).edge_adjacency(torch.arange(3, dtype=torch.int32))
    finally:
        use_host(None)


@pytest.mark.parametrize(
    "function",
    [
        lambda t: t[1:, None].contiguous().cumsum(0),
        lambda t: t.new_zeros(3, 3)[..., 1],
        _starts_a_kernel,
    ],
)
def test_what_may_be(function: Function) -> None:
    called(function)


@pytest.mark.parametrize(
    "function",
    [
        lambda t: t.sum().item(),
        lambda t: t.tolist(),
        lambda t: int(t[0]),
        lambda t: 1 if t.any() else 0,
        lambda t: t.nonzero(),
        lambda t: t[t > 1],
        lambda t: t.unique(),
        lambda t: t.cpu(),
        lambda t: torch.zeros(3),
        lambda t: t + torch.tensor([1, 2, 3]),
        lambda t: torch.tensor([1, 2, 3], device=t.device),
        _with_wrong_type,
    ],
)
def test_what_must_not_be(function: Function) -> None:
    with pytest.raises(Exception, match=NOTICED):
        called(function)
