"""tiny-cuda-nn's hash grid and its fully fused networks.

Letters as in `isolux.backends.encode`. The parameters stay ours: float32, [rows, features] and
[out, in]. At each call they are laid out as the package wants them and rounded to half
precision there, so checkpoints hold nothing of it. What that means for numbers:

- Values are those of parameters and inputs rounded to 11 bits, in half precision themselves.
- Gradients are summed in half precision. They are scaled so that no sum overflows, by the sum
  of their magnitudes over the points, and scaled back.
- The grid's rows are the package's rows: same offsets, primes and scales. Where its scales, in
  float32, would round to another resolution than ours, its factor is lowered by a few ulp.
- Networks are filled up to multiples of sixteen inputs and outputs, with zeros that stay zero.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from isolux.backends.adapters.gradients import gradients
from isolux.backends.encode import HashGridSpec
from isolux.backends.table import Backend, Operator

__all__ = ["operators", "per_level_scale"]

_WIDTHS = (32, 64, 128)  # of fully fused networks
_BLOCK = 16  # inputs and outputs are filled up to multiples of this
_MOST = 64.0  # what scaled gradients add up to; the package puts a factor of 128 on top
_ULPS = 64  # how far its factor may be lowered
_SLACK = 4e-7  # relative, of its scales: an ulp for each rounding on the way


def operators(package: Any, base: Backend) -> dict[str, Operator]:
    """The package's operators, raw.

    Args:
        package: `tinycudann`.
        base: runs networks that are not fully fused: with biases, or hidden layers of other
            widths than 32, 64 and 128.
    """
    ours = _TinyCudaNN(package, base)
    return {
        "hash_grid": Operator(ours.hash_grid, ours.hash_grid_backward),
        "mlp": Operator(ours.mlp, ours.mlp_backward),
    }


class _TinyCudaNN:
    def __init__(self, package: Any, base: Backend) -> None:
        self._make_encoding = package.Encoding
        self._make_network = package.Network
        self._base = base
        self._modules: dict[Any, Any] = {}

    def hash_grid(
        self, points: Tensor, table: Tensor, spec: HashGridSpec, levels: int
    ) -> Tensor:
        """Raw `hash_grid`: levels in use only, as the first rows of the table are theirs."""
        rest = points.new_zeros(len(points), (spec.levels - levels) * spec.features)
        if not levels or not len(points):
            return points.new_zeros(len(points), spec.out_dim)
        module = self._encoding(spec, levels, points.device)
        inside = points.float().nan_to_num(0.0).clamp(0.0, 1.0)
        rows = table[: spec.offsets[levels]].float().reshape(-1)
        encoded = functional_call(module, {"params": rows}, (inside,))
        used = encoded[:, : levels * spec.features].to(points.dtype)
        return torch.cat([used, rest], dim=1)

    def hash_grid_backward(
        self,
        points: Tensor,
        table: Tensor,
        grad: Tensor,
        spec: HashGridSpec,
        levels: int,
        need_points: bool,
        need_table: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Raw gradients of `hash_grid`."""
        to_points, to_table = _scaled_gradients(
            lambda p, t: self.hash_grid(p, t, spec, levels),
            (points, table),
            (need_points, need_table),
            grad,
        )
        return to_points, to_table

    def mlp(self, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
        """Raw `mlp`."""
        if not _fuses(x, weights, biases):
            out: Tensor = self._base.mlp.forward(x, weights, biases)
            return out
        module = self._network(weights, x.device)
        first, *inner, last = weights
        rows = [
            _filled(first, len(first), _up(first.shape[1])),
            *inner,
            _filled(last, _up(len(last)), last.shape[1]),
        ]
        flat = torch.cat([weight.float().reshape(-1) for weight in rows])
        found: Tensor = functional_call(module, {"params": flat}, (x.float().contiguous(),))
        return found[:, : len(last)].to(x.dtype)

    def mlp_backward(
        self,
        x: Tensor,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor],
        grad: Tensor,
        need_x: bool,
    ) -> tuple[Tensor | None, list[Tensor], list[Tensor]]:
        """Raw gradients of `mlp`."""
        if not _fuses(x, weights, biases):
            back: tuple[Tensor | None, list[Tensor], list[Tensor]] = self._base.mlp.backward(
                x, weights, biases, grad, need_x
            )
            return back
        to_x, *to_weights = _scaled_gradients(
            lambda x, *weights: self.mlp(x, weights, ()),
            (x, *weights),
            (need_x, *[True] * len(weights)),
            grad,
        )
        return to_x, [g for g in to_weights if g is not None], []

    def _encoding(self, spec: HashGridSpec, levels: int, device: torch.device) -> Any:
        def make() -> Any:
            config = {
                "otype": "HashGrid",
                "n_levels": levels,
                "n_features_per_level": spec.features,
                "log2_hashmap_size": spec.log2_rows,
                "base_resolution": spec.coarsest,
                "per_level_scale": per_level_scale(spec),
                "interpolation": "Linear",
            }
            return self._make_encoding(n_input_dims=3, encoding_config=config)

        return self._module((spec, levels, device), make, spec.offsets[levels] * spec.features)

    def _network(self, weights: Sequence[Tensor], device: torch.device) -> Any:
        sizes = (weights[0].shape[1], *(len(weight) for weight in weights))
        width, layers = sizes[1], len(weights) - 1

        def make() -> Any:
            config = {
                "otype": "FullyFusedMLP",
                "activation": "ReLU",
                "output_activation": "None",
                "n_neurons": width,
                "n_hidden_layers": layers,
            }
            return self._make_network(
                n_input_dims=sizes[0], n_output_dims=sizes[-1], network_config=config
            )

        count = width * (_up(sizes[0]) + width * (layers - 1) + _up(sizes[-1]))
        return self._module((sizes, device), make, count)

    def _module(self, key: Any, make: Callable[[], Any], count: int) -> Any:
        """The package's module for a shape, without the parameters that it comes with."""
        if key not in self._modules:
            module = make()
            if module.params.numel() != count:
                raise ValueError(
                    f"tinycudann has {module.params.numel()} parameters where {count} are "
                    "expected: its layout is not the one that is known"
                )
            module.params.data = module.params.data.new_empty(0)
            self._modules[key] = module
        return self._modules[key]


def per_level_scale(spec: HashGridSpec) -> float:
    """The package's factor between levels that gives our resolutions in its arithmetic.

    Raises:
        ValueError: if there is none next to ours.
    """
    steps = max(spec.levels - 1, 1)
    factor = np.float32(np.exp(np.log(spec.finest / spec.coarsest) / steps))
    for _ in range(_ULPS):
        if _same_rows(spec, factor):
            return float(factor)
        factor = np.nextafter(factor, np.float32(0.0))
    raise ValueError(f"tinycudann cannot lay out {spec}: take backend's own hash_grid")


def _same_rows(spec: HashGridSpec, factor: np.float32) -> bool:
    """Whether direct levels get our resolution, and only those are direct."""
    level = np.arange(spec.levels, dtype=np.float32)
    size = np.exp2(level * np.log2(factor)) * np.float32(spec.coarsest)
    for slack in (-_SLACK, _SLACK):
        moved = size * (1.0 + slack * (level > 0))  # level 0 is exact
        resolution = np.ceil(moved - 1.0).astype(int) + 1
        for k, direct in enumerate(spec.direct):
            if (int(resolution[k]) ** 3 <= 2**spec.log2_rows) != direct:
                return False
            if direct and resolution[k] != spec.resolutions[k]:
                return False
    return True


def _scaled_gradients(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    needs: Sequence[bool],
    grad: Tensor,
) -> list[Tensor | None]:
    """`gradients`, through sums in half precision that neither overflow nor fade away."""
    if not grad.numel():
        return gradients(function, inputs, needs, grad)
    total = grad.abs().sum(dim=0).amax()
    scale = torch.where(total > 1e-30, _MOST / total, 1.0)
    found = gradients(function, inputs, needs, grad * scale)
    return [None if each is None else each / scale for each in found]


def _fuses(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> bool:
    widths = {len(weight) for weight in weights[:-1]}
    return bool(len(x)) and not biases and len(widths) == 1 and widths <= set(_WIDTHS)


def _up(count: int) -> int:
    return -(-count // _BLOCK) * _BLOCK


def _filled(weight: Tensor, rows: int, columns: int) -> Tensor:
    fill = (0, columns - weight.shape[1], 0, rows - len(weight))
    return torch.nn.functional.pad(weight, fill)
