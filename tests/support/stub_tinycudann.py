"""tinycudann as its documentation describes it, on the processor, for the tests.

Half precision of parameters, values and sums of gradients is kept, the factor of 128 on
gradients too, and so are the layouts: levels one after the other, each filled up to multiples
of eight rows; matrices row by row, inputs and outputs filled up to multiples of sixteen.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__version__ = "1.7"

_PRIMES = (1, 2654435761, 805459861)
_LOSS_SCALE = 128.0


class _Half(torch.autograd.Function):
    """Half precision on the way in; on the way back a sum in half precision, scaled."""

    @staticmethod
    def forward(ctx: Any, params: Tensor) -> Tensor:
        return params.half().float()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return (grad * _LOSS_SCALE).half().float() / _LOSS_SCALE


class _Module(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.params = nn.Parameter(torch.rand(count, generator=generator))
        self.dtype = torch.float16

    def half_params(self, x: Tensor) -> Tensor:
        """The parameters as the package computes with them; its inputs are checked here."""
        assert x.dtype == torch.float32
        assert self.params.dtype == torch.float32
        out: Tensor = _Half.apply(self.params)
        return out


class Encoding(_Module):
    def __init__(
        self,
        n_input_dims: int,
        encoding_config: dict[str, Any],
        seed: int = 1337,
        dtype: Any = None,
    ) -> None:
        assert n_input_dims == 3
        assert encoding_config["otype"] == "HashGrid"
        assert encoding_config["interpolation"] == "Linear"
        self.features = encoding_config["n_features_per_level"]
        most = 2 ** encoding_config["log2_hashmap_size"]
        growth = np.log2(np.float32(encoding_config["per_level_scale"]))
        self.scales, self.sizes, self.first = [], [], [0]
        for level in range(encoding_config["n_levels"]):
            size = np.exp2(np.float32(level) * growth) * np.float32(
                encoding_config["base_resolution"]
            )
            scale = np.float32(size - np.float32(1.0))
            resolution = int(np.ceil(scale)) + 1
            self.scales.append(float(scale))
            self.sizes.append(resolution)
            self.first.append(self.first[-1] + min(-(-(resolution**3) // 8) * 8, most))
        self.n_output_dims = len(self.scales) * self.features
        super().__init__(self.first[-1] * self.features)

    def forward(self, x: Tensor) -> Tensor:
        table = self.half_params(x).reshape(-1, self.features)
        assert len(table) == self.first[-1]
        columns = []
        for level, (scale, n) in enumerate(zip(self.scales, self.sizes, strict=True)):
            rows = self.first[level + 1] - self.first[level]
            at = x * scale + 0.5
            cell = at.detach().floor()
            inside, total = at - cell, 0.0
            for k in range(8):
                near = torch.tensor([k >> axis & 1 for axis in range(3)])
                weight = torch.where(near == 1, inside, 1.0 - inside).prod(-1, keepdim=True)
                x0, y0, z0 = (cell.long() + near).unbind(-1)
                if n**3 <= rows:
                    row = (x0 + n * y0 + n * n * z0) % rows
                else:
                    row = (x0 * _PRIMES[0] ^ y0 * _PRIMES[1] ^ z0 * _PRIMES[2]) % 2**32 % rows
                total = total + weight * table[self.first[level] + row]
            columns.append(total)
        return torch.cat(columns, dim=-1).half()


class Network(_Module):
    def __init__(
        self,
        n_input_dims: int,
        n_output_dims: int,
        network_config: dict[str, Any],
        seed: int = 1337,
    ) -> None:
        assert network_config["otype"] == "FullyFusedMLP"
        assert network_config["activation"] == "ReLU"
        assert network_config["output_activation"] == "None"
        width, layers = network_config["n_neurons"], network_config["n_hidden_layers"]
        assert width in (32, 64, 128)
        ins, outs = -(-n_input_dims // 16) * 16, -(-n_output_dims // 16) * 16
        self.shapes = [(width, ins), *[(width, width)] * (layers - 1), (outs, width)]
        self.n_output_dims = n_output_dims
        super().__init__(sum(a * b for a, b in self.shapes))

    def forward(self, x: Tensor) -> Tensor:
        params = self.half_params(x)
        # What stands in the inputs that are filled up is not ours to know: ones, here.
        fill = x.new_ones(len(x), self.shapes[0][1] - x.shape[1])
        value, start = torch.cat([x.half().float(), fill], dim=-1), 0
        for layer, (rows, columns) in enumerate(self.shapes):
            weight = params[start : start + rows * columns].reshape(rows, columns)
            start += rows * columns
            value = (value.relu() if layer else value) @ weight.T
        assert start == len(params)
        return value[:, : self.n_output_dims].half()
