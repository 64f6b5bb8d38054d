"""The hash grid on the processor. Letters as in `isolux.backends.encode`.

A level's table stays in cache while the points pass by, so levels are the outer loop
everywhere: going point by point costs twice as much because the tables evict each other. A task
owns a pair of a level's features (scatters) or a range of points (everything else), so nothing
is added by two tasks and results do not depend on the number of threads.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from isolux.backends.cpu import hashgrid_kernels as kernels
from isolux.backends.cpu.arrays import zeros
from isolux.backends.cpu.pool import chunks, parallel_for

if TYPE_CHECKING:
    from isolux.backends.encode import HashGridSpec

__all__ = ["backward", "forward", "second"]

_CHUNK = 65536  # points of a task where a level's points are divided


def forward(points: Tensor, table: Tensor, spec: "HashGridSpec", levels: int) -> Tensor:
    """Encoding [p, c], stored by columns; those of levels from `levels` on are zero."""
    columns = points.new_empty(spec.out_dim, len(points))
    columns[levels * spec.features :] = 0.0
    flat = _flat(points), _flat(table), _flat(columns)
    pairs = _pairs(points, spec, levels)
    ranges = chunks(len(points), _CHUNK)
    parallel_for(kernels.gather, [(*flat, *pair, *part) for pair in pairs for part in ranges])
    return columns.T


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
    pairs = _pairs(points, spec, levels)
    to_points = to_table = None
    if need_table:
        to_table = zeros(table.shape, table)
        flat = _flat(points), _flat(columns), _flat(to_table)
        parallel_for(kernels.scatter, [(*flat, *pair) for pair in pairs])
    if need_points:
        to_points = torch.zeros_like(points)
        arrays: list[Any] = [_flat(t) for t in (points, table, columns, to_points)]

        def run(start: int, stop: int) -> None:
            for pair in pairs:
                kernels.slope(*[*arrays, *pair, start, stop])

        parallel_for(run, chunks(len(points), _CHUNK))
    return to_points, to_table


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
    above, along = _flat(columns), _flat(direction)
    pairs = _pairs(points, spec, levels)
    to_columns = to_points = to_table = None
    if needs[0]:
        to_columns = torch.zeros_like(columns)
        flat = _flat(points), along, _flat(table), _flat(to_columns)
        ranges = chunks(len(points), _CHUNK)
        parallel_for(
            kernels.slope_gather, [(*flat, *pair, *part) for pair in pairs for part in ranges]
        )
    if needs[1]:
        to_points = torch.zeros_like(points)
        arrays: list[Any] = [_flat(t) for t in (points, direction, table, columns, to_points)]

        def run(start: int, stop: int) -> None:
            for pair in pairs:
                kernels.slope_slope(*[*arrays, *pair, start, stop])

        parallel_for(run, chunks(len(points), _CHUNK))
    if needs[2]:
        to_table = zeros(table.shape, table)
        flat = _flat(points), along, above, _flat(to_table)
        parallel_for(kernels.slope_scatter, [(*flat, *pair) for pair in pairs])
    return None if to_columns is None else to_columns.T, to_points, to_table


def _flat(tensor: Tensor) -> Any:
    return tensor.numpy().reshape(-1)


def _pairs(points: Tensor, spec: "HashGridSpec", levels: int) -> list[tuple[Any, ...]]:
    """What a kernel needs to know of each pair of features: (level, direct, column).

    Of the level: scale, resolution, first entry in the table, rows, log2 of the features.
    """
    real = np.float64 if points.dtype == torch.float64 else np.float32
    return [
        (
            (
                real(spec.scales[level]),
                np.uint64(spec.resolutions[level]),
                np.uint64(spec.offsets[level] * spec.features + feature),
                np.uint64(spec.offsets[level + 1] - spec.offsets[level]),
                np.uint64(spec.features.bit_length() - 1),
            ),
            spec.direct[level],
            level * spec.features + feature,
        )
        for level in range(levels)
        for feature in range(0, spec.features, 2)
    ]
