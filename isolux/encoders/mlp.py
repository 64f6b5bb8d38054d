"""A small fully connected network as a module."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from isolux.backends.encode import mlp
from isolux.backends.table import Backend

__all__ = ["MLP"]


class MLP(nn.Module):
    """Linear layers with ReLU between them, linear at the end.

    Args:
        sizes: inputs, hidden layers, outputs; e.g. (32, 32, 32, 9).
        backend: what computes it.
        generator: seeds the weights, uniform within sqrt(6 / inputs) (He et al. 2015); None
            takes torch's global one.
        bias: whether layers have biases, zero at first.

    Raises:
        ValueError: for fewer than two sizes.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        backend: Backend,
        generator: torch.Generator | None = None,
        *,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes need inputs and outputs, got {list(sizes)}")
        self.sizes = tuple(sizes)
        self.backend = backend
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList() if bias else None
        for inputs, outputs in pairwise(sizes):
            bound = math.sqrt(6.0 / inputs)
            weight = torch.empty(outputs, inputs).uniform_(-bound, bound, generator=generator)
            self.weights.append(nn.Parameter(weight))
            if self.biases is not None:
                self.biases.append(nn.Parameter(torch.zeros(outputs)))

    @property
    def out_dim(self) -> int:
        """Columns of the result."""
        return self.sizes[-1]

    def forward(self, x: Float[Tensor, "p i"]) -> Float[Tensor, "p o"]:
        """Outputs for every row of x."""
        biases = None if self.biases is None else list(self.biases)
        return mlp(self.backend, x, list(self.weights), biases)
