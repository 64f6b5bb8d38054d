"""Kernels of a step are seen and counted; their text is compiled for the processor."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from emulated import emulated
from torch import Tensor

from isolux import backends
from isolux.backends import Backend
from isolux.backends.cuda import launch
from isolux.backends.encode import HashGridSpec, hash_grid
from isolux.bench.gpu import kernels, traffic
from isolux.bench.gpu.cells import Plan
from isolux.bench.gpu.clock import ProcessorClock


@pytest.fixture
def device() -> Iterator[Backend]:
    """The cuda backend, its text compiled for the processor."""
    yield emulated()
    launch.use_host(None)


@pytest.mark.parametrize("kind", ["_BYTES", "_FLOPS"])
def test_formulas_name_what_the_text_declares(kind: str) -> None:
    for kernel, formula in getattr(traffic, kind).items():
        file, tensor = kernel.partition("_")[0], torch.zeros(8)
        names, parameters = traffic.names_of(file)[kernel], launch._signatures(file)[kernel]
        given = {
            name: tensor if parameter.is_pointer else 2
            for name, parameter in zip(names, parameters, strict=True)
        }
        assert formula(given) > 0, kernel


def watched(device: Backend, action: Callable[[], object]) -> dict[str, Any]:
    watch = kernels.Watch(ProcessorClock(), 1)
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter])
    with kernels.watched_launches(watch):
        for _ in range(3):
            action()
            watch.updated(optimizer)
    assert watch.steps == [2]
    return watch.work[0]


def test_bytes_and_operations_are_counted(device: Backend) -> None:
    spec = HashGridSpec(3, 2, 10, 4, 24)
    points, table = torch.rand(50, 3), torch.rand(spec.rows, 2)
    work = watched(device, partial(hash_grid, device, points, table, spec))
    assert work.keys() == {"hashgrid_gather"}
    done = work["hashgrid_gather"]
    assert len(done.spans) == 2  # the first step warms up
    assert done.bytes == 2 * 50 * 3 * (12 + 8 * 8 + 8)
    assert done.flops == 2 * 50 * 3 * (40 + 32)


def test_what_is_not_known_counts_each_tensor_once(device: Backend) -> None:
    values, faces = torch.rand(5, 3), torch.tensor([[0, 1, 2]], dtype=torch.int32)
    work = watched(device, lambda: device.vertex_normals.forward(values, faces))
    assert work["normals_sum"].bytes >= 2 * (60 + 12)
    assert work["normals_sum"].flops is None


def test_constants_of_a_text_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from isolux.backends.cuda import normals

    seen: list[object] = []

    def start(*arguments: object, constants: tuple[str, ...] = ()) -> None:
        seen.append((arguments, constants))

    monkeypatch.setattr(launch, "launch", start)
    monkeypatch.setattr(normals, "launch", start)
    with kernels.watched_launches(kernels.Watch(ProcessorClock(), 0)):
        launched: Any = normals.launch
        launched("normals", "normals_unit", 1, 2.0, constants=("WIDTH 3",))
    assert seen == [(("normals", "normals_unit", 1, 2.0), ("WIDTH 3",))]


def test_launches_go_their_own_way_afterwards(device: Backend) -> None:
    from isolux.backends.cuda import hashgrid

    before, network = hashgrid.launch, device.mlp
    watch = kernels.Watch(ProcessorClock(), 0)
    with kernels.watched_launches(watch), kernels.watched_network(device, watch):
        assert hashgrid.launch is not before
        assert device.mlp is not network
    assert hashgrid.launch is before
    assert device.mlp is network


def test_kernels_of_a_step(device: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole training by kernels, each stage with its five most expensive ones."""
    monkeypatch.setattr(backends, "_named", lambda _: device)
    (job,) = kernels.jobs(Plan(device, "cpu", ProcessorClock(), dry_run=True))
    cells = job.measure()
    times = [cell for cell in cells if cell.unit == "ms a step"]
    assert len(times) == 10
    for stage, own in (("topology stage", times[:5]), ("mesh stage", times[5:])):
        assert all(cell.case.startswith(stage) for cell in own)
        found = [cell.ours for cell in own]
        assert found == sorted(found, key=lambda x: -(x or 0.0))
    assert all(cell.ours is not None and cell.ours > 0 for cell in cells)


def test_the_networks_operations(device: Backend) -> None:
    watch = kernels.Watch(ProcessorClock(), 0)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    x, weights = torch.rand(10, 4), [torch.rand(8, 4), torch.rand(3, 8)]
    with kernels.watched_network(device, watch):
        out: Tensor = device.mlp.forward(x, weights, ())
        device.mlp.backward(x, weights, (), torch.ones_like(out), True)
    watch.updated(optimizer)
    forward, backward = watch.work[0]["mlp forward"], watch.work[0]["mlp backward"]
    assert forward.flops == 2 * 10 * (32 + 24)
    assert backward.flops == 3 * 2 * 10 * (32 + 24)
    assert forward.bytes == 10 * 4 * (4 + 2 * 8 + 3)
