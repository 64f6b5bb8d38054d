"""What stands between the tests' tensors and a device, with a device that is not one."""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import torch
from emulated import emulated
from on_device import allow_any_order, on_device
from torch import Tensor
from torch.autograd import gradcheck

from isolux import backends
from isolux.backends import Backend, Operator
from isolux.backends.cuda.launch import use_host
from isolux.backends.encode import HashGridSpec, hash_grid
from isolux.backends.extract import flexicubes
from isolux.backends.light import prefilter
from isolux.backends.rasterize import antialias, edge_adjacency, rasterize
from isolux.backends.sample import mip_chain, texture2d
from isolux.geometry.lattice import cube_lattice

Scene = Callable[..., tuple[Tensor, Tensor]]


class Elsewhere(Tensor):
    """A tensor that was brought there."""


def there(tensor: Tensor) -> Tensor:
    assert not isinstance(tensor, Elsewhere), "it is there already"
    return tensor.detach().clone().as_subclass(Elsewhere)


def here(tensor: Tensor) -> Tensor:
    return tensor.detach().as_subclass(Tensor)


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from tensors(each)
    elif is_dataclass(value):
        for field in fields(value):
            yield from tensors(getattr(value, field.name))


@pytest.fixture
def device() -> Iterator[Backend]:
    """The cuda backend, emulated; it refuses tensors that were not brought."""

    def strict(operator: Any) -> Any:
        if isinstance(operator, Operator):
            return Operator(strict(operator.forward), strict(operator.backward))

        def call(*arguments: Any) -> Any:
            assert all(isinstance(t, Elsewhere) for t in tensors(arguments)), operator
            return operator(*arguments)

        return call

    made = emulated()
    operators = {f.name: getattr(made, f.name) for f in fields(made)}
    kept = {name: strict(each) for name, each in operators.items() if callable(each)}
    kept |= {n: strict(each) for n, each in operators.items() if isinstance(each, Operator)}
    yield on_device(replace(made, **kept), there, here)
    use_host(None)


def test_everything_is_brought_there_and_back(device: Backend, sphere: Scene) -> None:
    """Tensors in lists, in records, and those that a forward pass keeps."""
    plain = backends.reference()
    results = []
    for used in (device, plain):
        clip, faces = sphere(1, dtype=torch.float32)
        clip.requires_grad_()
        raster = rasterize(used, clip, faces, 9, 11)
        color = torch.linspace(0, 1, 2 * 9 * 11 * 3).reshape(2, 9, 11, 3)
        out = antialias(used, color, raster, clip, faces, edge_adjacency(used, faces))
        (to_clip,) = torch.autograd.grad((out**2).sum(), clip)
        light = prefilter(used, torch.linspace(0, 1, 6 * 64 * 3).reshape(6, 8, 8, 3), 0.5)
        lattice = cube_lattice((3, 3, 3))
        sdf = (lattice.vertices.float().norm(dim=-1) - 0.3).requires_grad_()
        at = lattice.vertices.float()
        surface = flexicubes(used, lattice, at, sdf, None, None, None, True)[0]
        (to_sdf,) = torch.autograd.grad(surface.square().sum(), sdf)
        at = torch.linspace(0, 1, 10).reshape(5, 2)
        seen = texture2d(used, mip_chain(color[0][:8, :8]), at, torch.ones(5, 4))
        results.append([out, to_clip, light, surface.sum(), to_sdf, seen])
    for found, expected in zip(*results, strict=True):
        assert type(found) is Tensor
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_what_is_written_in_place_comes_back(device: Backend) -> None:
    grad, into = torch.rand(2, 3, 1), torch.rand(5, 6, 1)
    expected = into.clone()
    backends.reference().halve.backward(grad, expected)
    device.halve.backward(grad, into)
    torch.testing.assert_close(into, expected)


def test_the_device_is_the_processor_for_who_asks(device: Backend) -> None:
    assert device.device == "cpu"
    assert device.name == "cuda"


def test_an_index_out_of_range_never_gets_there(device: Backend) -> None:
    with pytest.raises(IndexError):
        rasterize(device, torch.rand(1, 3, 4), torch.tensor([[0, 1, 3]]), 3, 3)


def test_records_without_tensors_are_not_copied(device: Backend) -> None:
    """Tables that are cached by a specification are made once."""
    spec = HashGridSpec(2, 2, 8, 4, 8)
    points, table = torch.rand(4, 3), torch.rand(spec.rows, 2)
    found = hash_grid(device, points, table, spec)
    torch.testing.assert_close(found, hash_grid(backends.reference(), points, table, spec))


class _Unsteady(torch.autograd.Function):
    """The gradient differs in its last digits from call to call."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2.0 * x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * (2.0 + 1e-12 * torch.rand_like(grad))


def test_the_order_of_sums_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(3, dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="reentrant"):
        gradcheck(_Unsteady.apply, (x,))
    allow_any_order(monkeypatch.setitem)
    assert gradcheck(_Unsteady.apply, (x,))
