"""The hash grid on the device. Letters as in `isolux.backends.encode`."""

from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from isolux.backends.cuda import fixed_point
from isolux.backends.cuda.launch import launch

if TYPE_CHECKING:
    from isolux.backends.encode import HashGridSpec

__all__ = ["backward", "forward", "second"]

_GROUP = 4  # levels over which a thread adds up the gradient of a point
_RUN = 4  # points over which a thread adds up the gradient of the table
_ROUNDING = 1.001  # of a sum over these points, generously


def forward(points: Tensor, table: Tensor, spec: "HashGridSpec", levels: int) -> Tensor:
    """Encoding [p, c], stored by columns; those of levels from `levels` on are zero."""
    return _gather(points, None, table, spec, levels).T


def backward(
    points: Tensor,
    table: Tensor,
    grad: Tensor,
    spec: "HashGridSpec",
    levels: int,
    need_points: bool,
    need_table: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients to points and to the table, None where not needed."""
    columns = grad.T.contiguous()
    return (
        _slope(points, None, table, columns, spec, levels) if need_points else None,
        _scatter(points, None, table, columns, spec, levels) if need_table else None,
    )


def second(
    points: Tensor,
    table: Tensor,
    grad: Tensor,
    direction: Tensor,
    spec: "HashGridSpec",
    levels: int,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of <direction, gradient to points> to (gradient above, points, table)."""
    columns = grad.T.contiguous()
    return (
        _gather(points, direction, table, spec, levels).T if needs[0] else None,
        _slope(points, direction, table, columns, spec, levels) if needs[1] else None,
        _scatter(points, direction, table, columns, spec, levels) if needs[2] else None,
    )


def _gather(
    points: Tensor, along: Tensor | None, table: Tensor, spec: "HashGridSpec", levels: int
) -> Tensor:
    """Columns [c, p] of the encoding, or of its derivative along a direction."""
    columns = points.new_empty(spec.out_dim, len(points))
    columns[levels * spec.features :] = 0.0
    launch(
        "hashgrid", "hashgrid_gather", levels * len(points),
        points, along, _aligned(table), *_shapes(spec, points.device, points.dtype), columns,
        spec.features, len(points), levels * len(points),
    )  # fmt: skip
    return columns


def _scatter(
    points: Tensor,
    along: Tensor | None,
    table: Tensor,
    columns: Tensor,
    spec: "HashGridSpec",
    levels: int,
) -> Tensor:
    """The adjoint of `_gather` in the table."""

    def bound() -> Tensor:
        most = _RUN * _ROUNDING * fixed_point.largest(columns).double()
        if along is None:
            return most
        # A corner's weight is a product over axes; along x it changes by at most one cell.
        return 3.0 * spec.scales[-1] * fixed_point.largest(along).double() * most

    # A point's weights add up to 1, their slopes along an axis to twice the scale.
    terms = len(points) if along is None else 2 * len(points)
    sums = fixed_point.start(table.new_zeros(table.shape), bound, terms)
    count = levels * (spec.features // 2) * -(-len(points) // _RUN)
    launch(
        "hashgrid", "hashgrid_scatter", count,
        points, along, columns, *_shapes(spec, points.device, points.dtype), *sums,
        spec.features, _RUN, len(points), count,
    )  # fmt: skip
    return fixed_point.finish(*sums)


def _slope(
    points: Tensor,
    along: Tensor | None,
    table: Tensor,
    columns: Tensor,
    spec: "HashGridSpec",
    levels: int,
) -> Tensor:
    """The gradient to the points, or its derivative along a direction."""
    parts = -(-levels // _GROUP)
    out = points.new_empty(parts, 3, len(points))
    launch(
        "hashgrid", "hashgrid_slope", parts * len(points),
        points, along, _aligned(table), columns,
        *_shapes(spec, points.device, points.dtype), out,
        spec.features, levels, _GROUP, len(points), parts * len(points),
    )  # fmt: skip
    return out.sum(0).T.contiguous()


def _aligned(table: Tensor) -> Tensor:
    """The table where pairs of numbers may be loaded as one: a view may begin in between."""
    return table.clone() if table.data_ptr() % (2 * table.element_size()) else table


@cache
def _shapes(
    spec: "HashGridSpec", device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Of each level: its scale; resolution, rows, whether they are direct, first row."""
    rows = [after - first for first, after in pairwise(spec.offsets)]
    shapes = list(zip(spec.resolutions, rows, spec.direct, spec.offsets, strict=False))
    # sync: once a grid
    return (
        torch.tensor(spec.scales, dtype=dtype, device=device),
        torch.tensor(shapes, dtype=torch.int64, device=device),
    )
