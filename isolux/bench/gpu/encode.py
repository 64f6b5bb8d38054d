"""Features of points: hash grid and network, ours and tiny-cuda-nn's.

Sixteen levels of two features, tables of 2^19 rows; a network of two hidden layers of 64 with
sixteen outputs. A million points; the gradients of table and weights from that of the outputs.
Ours is float32 unless it says half, tiny-cuda-nn's is half precision.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from isolux.backends import Backend
from isolux.backends.adapters.tinycudann import per_level_scale
from isolux.backends.encode import HashGridSpec, hash_grid, mlp
from isolux.bench.gpu.cells import OURS_BY_OTHERS, SAME_BITS, Cell, Job, Plan, attempted
from isolux.bench.gpu.clock import Sample, sampled
from isolux.bench.gpu.peers import package, with_operators
from isolux.bench.operators import surface_points
from isolux.optimize.determinism import determinism

__all__ = ["jobs"]

GROUP = "encode"
_AIM = 1.2
_WIDTH, _HIDDEN, _OUTPUTS = 64, 2, 16


@dataclass(frozen=True)
class _Party:
    """One implementation, ready to run."""

    forward: Callable[[], Tensor]
    parameters: tuple[Tensor, ...]


def jobs(plan: Plan) -> Iterator[Job]:
    """Points as pixels see them, and points anywhere."""
    count = 64 if plan.dry_run else 1 << 20  # no batch is to be filled up
    spec = HashGridSpec(2, 2, 8, 4, 8) if plan.dry_run else HashGridSpec(16, 2, 19, 16, 4096)
    for place in ("of a surface", "anywhere"):
        case = f"{count} points {place}"
        yield Job(GROUP, case, partial(_measure, plan, case, spec, place, count))


def _points(place: str, count: int) -> Float[Tensor, "p 3"]:
    if place == "anywhere":
        return torch.rand(count, 3, generator=torch.Generator().manual_seed(0))
    return surface_points(count)


def _measure(plan: Plan, case: str, spec: HashGridSpec, place: str, count: int) -> list[Cell]:
    points = _points(place, count).to(plan.device)
    makers: dict[str, Callable[[], _Party]] = {
        "isolux": lambda: _ours(plan.backend, points, spec),
        "isolux, half": lambda: _ours(
            with_operators(plan.backend, {"mlp": "half"}), points, spec
        ),
        "tiny-cuda-nn": lambda: _tinycudann(points, spec, False),
        "tiny-cuda-nn, fused": lambda: _tinycudann(points, spec, True),
        OURS_BY_OTHERS: lambda: _ours(
            with_operators(plan.backend, {"hash_grid": "tinycudann", "mlp": "tinycudann"}),
            points,
            spec,
        ),
    }
    forward: dict[str, Sample | str] = {}
    backward: dict[str, Sample | str] = {}
    for name, make in makers.items():  # one after the other, for the memory
        party = attempted(make)
        if isinstance(party, str):
            forward[name] = backward[name] = party
            continue
        forward[name] = attempted(partial(_forward, plan, party))
        backward[name] = attempted(partial(_backward, plan, party))
        if name == "isolux":
            with determinism(True):
                backward[SAME_BITS] = attempted(partial(_backward, plan, party))
    return [
        Cell(GROUP, f"{case}, {what}", "ms", values, None, _AIM)
        for what, values in (("forward", forward), ("backward", backward))
    ]


def _forward(plan: Plan, party: _Party) -> Sample:
    return sampled(
        plan.clock, lambda: None, lambda _: party.forward(), plan.repeats, plan.warm_up
    )


def _backward(plan: Plan, party: _Party) -> Sample:
    above = torch.rand_like(party.forward().detach())
    return sampled(
        plan.clock,
        party.forward,
        lambda out: torch.autograd.grad(out, party.parameters, above),
        plan.repeats,
        plan.warm_up,
    )


def _ours(backend: Backend, points: Tensor, spec: HashGridSpec) -> _Party:
    generator = torch.Generator().manual_seed(1)
    table = (torch.rand(spec.rows, spec.features, generator=generator) - 0.5) * 2e-4
    widths = (spec.out_dim, *[_WIDTH] * _HIDDEN, _OUTPUTS)
    weights = [
        torch.randn(o, i, generator=generator) * (2.0 / i) ** 0.5 for i, o in pairwise(widths)
    ]
    table, *weights = (t.to(points.device).requires_grad_() for t in (table, *weights))

    def forward() -> Tensor:
        return mlp(backend, hash_grid(backend, points, table, spec), weights)

    return _Party(forward, (table, *weights))


def _tinycudann(points: Tensor, spec: HashGridSpec, fused: bool) -> _Party:
    """Encoding and network in one module, as its documentation recommends.

    Raises:
        RuntimeError: it is to be compiled into one kernel, and cannot be.
    """
    tcnn: Any = package("tinycudann")
    if fused and not getattr(tcnn, "supports_jit_fusion", lambda: False)():
        raise RuntimeError("this build or device does not compile modules into one kernel")
    model = tcnn.NetworkWithInputEncoding(
        n_input_dims=3,
        n_output_dims=_OUTPUTS,
        encoding_config={
            "otype": "HashGrid",
            "n_levels": spec.levels,
            "n_features_per_level": spec.features,
            "log2_hashmap_size": spec.log2_rows,
            "base_resolution": spec.coarsest,
            "per_level_scale": per_level_scale(spec),
            "interpolation": "Linear",
        },
        network_config={
            "otype": "FullyFusedMLP",
            "activation": "ReLU",
            "output_activation": "None",
            "n_neurons": _WIDTH,
            "n_hidden_layers": _HIDDEN,
        },
    ).to(points.device)
    if hasattr(model, "jit_fusion") or fused:
        model.jit_fusion = fused
    return _Party(lambda: model(points), tuple(model.parameters()))
