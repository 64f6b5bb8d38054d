"""A trainable multiresolution hash grid (Müller et al. 2022) as a module."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from isolux.backends.encode import HashGridSpec, hash_grid
from isolux.backends.table import Backend

__all__ = ["HashGrid"]


class HashGrid(nn.Module):
    """Features of positions in the unit cube, trilinear at every level of the grid.

    Args:
        spec: the grid's shape.
        backend: what computes it.
        generator: seeds the table, U(-1e-4, 1e-4); None takes torch's global one.

    Attributes:
        table: the only parameter, [rows, features].
        active: levels in use, all of them at first. Training coarse to fine raises it; the
            columns of the other levels are zero.
    """

    def __init__(
        self,
        spec: HashGridSpec,
        backend: Backend,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.backend = backend
        self.active = spec.levels
        table = torch.empty(spec.rows, spec.features)
        self.table = nn.Parameter(table.uniform_(-1e-4, 1e-4, generator=generator))

    @property
    def out_dim(self) -> int:
        """Columns of the encoding."""
        return self.spec.out_dim

    def forward(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, "p c"]:
        """Encode points of the unit cube; see `isolux.backends.encode.hash_grid`."""
        return hash_grid(self.backend, points, self.table, self.spec, self.active)
