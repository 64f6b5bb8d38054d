"""What the tests of the operators share: the backends, and scenes to draw."""

import os
from collections.abc import Callable, Iterator

import pytest
import torch
import trimesh
from device_replay import replayed
from emulated import emulated
from on_device import allow_any_order, on_device
from torch import Tensor

from isolux import backends
from isolux.backends import Backend
from isolux.backends.available import cuda_problem
from isolux.backends.cpu import pool
from isolux.backends.cuda.launch import use_host
from isolux.optimize.determinism import determinism

# Before CUDA starts: with it matrix products can be asked for the same bits on every run.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

Scene = Callable[..., tuple[Tensor, Tensor]]


@pytest.fixture(
    params=[
        "reference",
        "cpu",
        "cuda",
        pytest.param("device", marks=pytest.mark.gpu),
        pytest.param("device, same bits", marks=pytest.mark.gpu),
    ]
)
def backend(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Backend]:
    """Each implementation in turn; that for CUDA with its text compiled for the processor.

    Its host code runs once more as if on a device (`device_replay`). Where there is a device,
    `device` is the same backend on it; the tests' own tensors are brought there and back. Its
    sums go by the order of threads, unless the same bits are asked for.
    """
    if request.param.startswith("device"):
        if problem := cuda_problem():
            pytest.skip(problem)
        same_bits = request.param != "device"
        if not same_bits:
            allow_any_order(monkeypatch.setitem)
        with determinism(same_bits):
            yield on_device(backends.cuda(), lambda t: t.cuda(), lambda t: t.cpu())
    elif request.param == "cuda":
        yield replayed(emulated())
        use_host(None)
    else:
        yield backends.select(request.param)


@pytest.fixture
def with_threads() -> Iterator[Callable[[int | None], None]]:
    """`set_threads`, put back afterwards."""
    yield pool.set_threads
    pool.set_threads(None)


def _clip(
    points: Tensor, turn: float, distance: float, zoom: float, near: float, far: float
) -> Tensor:
    """Points turned about the y axis, seen from `distance` in front of the origin."""
    c, s = torch.cos(torch.tensor(turn)), torch.sin(torch.tensor(turn))
    x, y, z = points.unbind(-1)
    w = c * z - s * x + distance
    depth = (w * (far + near) - 2.0 * far * near) / (far - near)
    return torch.stack([zoom * (c * x + s * z), zoom * y, depth, w], dim=-1)


@pytest.fixture
def sphere() -> Scene:
    """A function that gives clip positions and faces of a bumpy sphere, one turn a view."""

    def make(
        subdivisions: int = 2,
        views: int = 2,
        distance: float = 3.0,
        zoom: float = 2.3,
        dtype: torch.dtype = torch.float64,
        near: float = 0.1,
        far: float = 10.0,
        bumps: float = 0.15,
        turn: float = 0.37,
    ) -> tuple[Tensor, Tensor]:
        ball = trimesh.creation.icosphere(subdivisions=subdivisions)
        points = torch.tensor(ball.vertices, dtype=torch.float64)
        noise = torch.rand(len(points), 1, generator=torch.Generator().manual_seed(3))
        points = points * (1.0 - bumps + bumps * noise)
        turns = [turn + 1.1 * view for view in range(views)]
        clip = torch.stack([_clip(points, t, distance, zoom, near, far) for t in turns])
        return clip.to(dtype), torch.tensor(ball.faces.copy(), dtype=torch.int32)

    return make
