"""Features of positions: the multiresolution hash grid and small fully fused networks.

Letters: p points, l levels, f features of a level, c = l * f encoded columns, r table rows.
The grid is that of Müller et al. 2022, "Instant neural graphics primitives", with the rules of
its public implementation for scales, offsets, primes and row counts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from isolux.backends.table import Backend

__all__ = ["HashGridSpec", "hash_grid", "mlp"]


@dataclass(frozen=True)
class HashGridSpec:
    """The shape of a multiresolution hash grid over the unit cube.

    Args:
        levels: how many grids, each finer than the one before by a constant factor.
        features: numbers stored at a grid corner; 2, 4 or 8.
        log2_rows: a level owns at most 2 ** log2_rows rows. One that fits is stored directly,
            a larger one shares rows by a hash.
        coarsest: resolution of level 0.
        finest: resolution of the last level.

    Raises:
        ValueError: naming the field that is out of range.
    """

    levels: int = 16
    features: int = 2
    log2_rows: int = 19
    coarsest: int = 16
    finest: int = 4096

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise ValueError(f"levels must be at least 1, got {self.levels}")
        if self.features not in (2, 4, 8):  # kernels work on pairs, and shift
            raise ValueError(f"features must be 2, 4 or 8, got {self.features}")
        if not 3 <= self.log2_rows <= 28:
            raise ValueError(f"log2_rows must lie in [3, 28], got {self.log2_rows}")
        if self.coarsest < 2:
            raise ValueError(f"coarsest must be at least 2, got {self.coarsest}")
        if not self.coarsest <= self.finest <= 2**20:
            raise ValueError(
                f"finest must lie in [coarsest, 2**20] = [{self.coarsest}, {2**20}], "
                f"got {self.finest}"
            )

    @cached_property
    def scales(self) -> tuple[float, ...]:
        """Grid cells along the unit edge, for each level (not whole numbers)."""
        steps = max(self.levels - 1, 1)
        growth = math.exp(math.log(self.finest / self.coarsest) / steps)
        return tuple(self.coarsest * growth**level - 1.0 for level in range(self.levels))

    @cached_property
    def resolutions(self) -> tuple[int, ...]:
        """Grid corners along an edge, for each level."""
        # 1e-9: growth ** steps should be finest / coarsest and must not round up past it.
        return tuple(math.ceil(scale - 1e-9) + 1 for scale in self.scales)

    @cached_property
    def direct(self) -> tuple[bool, ...]:
        """Which levels have a row for each corner."""
        return tuple(resolution**3 <= 2**self.log2_rows for resolution in self.resolutions)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First row of each level, and past the last one the number of rows."""
        offsets = [0]
        for resolution, direct in zip(self.resolutions, self.direct, strict=True):
            corners = -(-(resolution**3) // 8) * 8
            offsets.append(offsets[-1] + (corners if direct else 2**self.log2_rows))
        return tuple(offsets)

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return self.offsets[-1]

    @property
    def out_dim(self) -> int:
        """Columns of the encoding."""
        return self.levels * self.features


def hash_grid(
    backend: Backend,
    points: Float[Tensor, "p 3"],
    table: Float[Tensor, "r f"],
    spec: HashGridSpec,
    active: int | None = None,
) -> Float[Tensor, "p c"]:
    """Trilinear features of points at every level of the grid.

    Args:
        points: in the unit cube; outside it the nearest point of the cube counts, and the
            gradient is zero along the axes that were clamped.
        table: `spec.rows` rows.
        active: only the first so many levels are computed, the columns of the others are
            zero and cost nothing. None: all.

    Returns:
        Columns by level, then feature. It may be stored column by column (its transpose is
        contiguous then). Differentiable in points and table; the gradient to points is
        differentiable again in points and table (eikonal losses).

    Raises:
        ValueError: if the table's shape is not the specification's.
    """
    if table.shape != (spec.rows, spec.features):
        raise ValueError(
            f"table must be [{spec.rows}, {spec.features}], got {list(table.shape)}"
        )
    levels = spec.levels if active is None else max(0, min(active, spec.levels))
    points, table = points.contiguous(), table.contiguous()
    encoded: Tensor = _Encode.apply(table, points.detach(), backend, spec, levels)  # type: ignore[no-untyped-call]
    if not (points.requires_grad and torch.is_grad_enabled()):
        return encoded
    # Two nodes, because a node cannot know which of its inputs a call of `autograd.grad` asks
    # for: with one, each eikonal loss would scatter a table gradient only to drop it.
    to_points: Tensor = _PathToPoints.apply(points, table, backend, spec, levels)  # type: ignore[no-untyped-call]
    joined: Tensor = _Join.apply(encoded, to_points)  # type: ignore[no-untyped-call]
    return joined


class _Encode(torch.autograd.Function):
    """The value, and the gradient to the table."""

    @staticmethod
    def forward(
        ctx: Any,
        table: Tensor,
        points: Tensor,
        backend: Backend,
        spec: HashGridSpec,
        levels: int,
    ) -> Tensor:
        ctx.save_for_backward(table, points)
        ctx.rest = backend, spec, levels
        encoded: Tensor = backend.hash_grid.forward(points, table, spec, levels)
        return encoded

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        table, points = ctx.saved_tensors
        backend, spec, levels = ctx.rest
        _, to_table = backend.hash_grid.backward(points, table, grad, spec, levels, False, True)
        return to_table, None, None, None, None


class _PathToPoints(torch.autograd.Function):
    """No value (an expanded zero), only the gradient to the points."""

    @staticmethod
    def forward(
        ctx: Any,
        points: Tensor,
        table: Tensor,
        backend: Backend,
        spec: HashGridSpec,
        levels: int,
    ) -> Tensor:
        ctx.save_for_backward(points, table)
        ctx.rest = backend, spec, levels
        return points.new_zeros(()).expand(len(points), spec.out_dim)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        points, table = ctx.saved_tensors
        to_points: Tensor = _PointsGradient.apply(grad, points, table, *ctx.rest)  # type: ignore[no-untyped-call]
        return to_points, None, None, None, None


class _Join(torch.autograd.Function):
    """The first of two paths' values, with the gradient going to both."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, other: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad, grad


class _PointsGradient(torch.autograd.Function):
    """The gradient to points, as a function of the gradient above, the points and the table."""

    @staticmethod
    def forward(
        ctx: Any,
        grad: Tensor,
        points: Tensor,
        table: Tensor,
        backend: Backend,
        spec: HashGridSpec,
        levels: int,
    ) -> Tensor:
        ctx.save_for_backward(grad, points, table)
        ctx.rest = backend, spec, levels
        to_points, _ = backend.hash_grid.backward(
            points, table, grad, spec, levels, True, False
        )
        result: Tensor = to_points
        return result

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, second: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None, None]:
        grad, points, table = ctx.saved_tensors
        backend, spec, levels = ctx.rest
        to_grad, to_points, to_table = backend.hash_grid_second(
            points, table, grad, second.contiguous(), spec, levels, ctx.needs_input_grad[:3]
        )
        return to_grad, to_points, to_table, None, None, None


def mlp(
    backend: Backend,
    x: Float[Tensor, "p i"],
    weights: Sequence[Float[Tensor, "_ _"]],
    biases: Sequence[Float[Tensor, " _"]] | None = None,
) -> Float[Tensor, "p o"]:
    """A fully connected network: linear layers with ReLU between them, linear at the end.

    Args:
        x: inputs, stored by rows or by columns.
        weights: [out, in] for each layer.
        biases: one for each layer, or none at all.

    Returns:
        The last layer's outputs. Differentiable in everything. A graph of the gradient
        (`create_graph=True`) goes through plain torch operations.

    Raises:
        ValueError: if there is no layer, or if sizes do not chain.
    """
    sizes = [x.shape[1], *(weight.shape[0] for weight in weights)]
    if not weights or any(w.shape[1] != n for w, n in zip(weights, sizes, strict=False)):
        shapes = [list(weight.shape) for weight in weights]
        raise ValueError(f"weights {shapes} do not chain from {x.shape[1]} inputs")
    if biases is not None and [len(bias) for bias in biases] != sizes[1:]:
        raise ValueError(f"biases must have sizes {sizes[1:]}, got {[len(b) for b in biases]}")
    out: Tensor = _Mlp.apply(x, backend, len(weights), *weights, *(biases or ()))  # type: ignore[no-untyped-call]
    return out


def _plain_mlp(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    for layer, weight in enumerate(weights):
        x = torch.nn.functional.linear(
            torch.relu(x) if layer else x, weight, biases[layer] if biases else None
        )
    return x


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, backend: Backend, layers: int, *rest: Tensor) -> Tensor:
        weights, biases = rest[:layers], rest[layers:]
        out: Tensor = backend.mlp.forward(x, weights, biases)
        ctx.save_for_backward(x, *rest)
        ctx.rest = backend, layers
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *rest = ctx.saved_tensors
        backend, layers = ctx.rest
        weights, biases = rest[:layers], rest[layers:]
        if torch.is_grad_enabled():  # create_graph=True
            out = _plain_mlp(x, weights, biases)
            asked = [t for t in (x, *rest) if t.requires_grad]
            found = iter(torch.autograd.grad(out, asked, grad, create_graph=True))
            grads = [next(found) if t.requires_grad else None for t in (x, *rest)]
        else:
            to_x, to_weights, to_biases = backend.mlp.backward(
                x, weights, biases, grad, ctx.needs_input_grad[0]
            )
            grads = [to_x, *to_weights, *to_biases]
        return grads[0], None, None, *grads[1:]
