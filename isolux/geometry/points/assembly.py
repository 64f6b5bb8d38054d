"""The normal equations of one level.

Letters: m rows (one a coefficient), s samples, c cells.

Lengths are in cells of the level and coefficients likewise, so that the field's gradient has
length one at the surface. With a coefficient's spline B, the energy is

    sum over samples (w_v (f - t)^2 + w_g |grad f - n|^2)
    + sum over rows smoothness * (second differences about the row)^2
    + sum over rows extra * (coefficient - wanted)^2.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.geometry.points import assembly_kernels as kernels
from isolux.geometry.points.octree import Samples

__all__ = ["System", "assemble", "field_at"]

_ROWS = 8192  # a task's
_CELLS = 8192
_SHORT = 1 << 16  # what numbers of 16 bits can tell apart


Block = tuple[Any, Any, Any, Any]
"""Where rows begin (int32), columns (uint16 where that is enough, or int32), entries
(float32), the later rows (int32)."""


@dataclass(frozen=True)
class System:
    """A symmetric matrix in blocks of rows, and the right side. Flat arrays.

    Only entries right of the diagonal are stored. A block's columns have numbers of its own:
    first its rows, then the later rows that it needs, which it lists.
    """

    blocks: list[Block]
    ranges: list[tuple[int, int]]  # the rows of each block
    diagonal: Any  # float32 [m]
    right: Any  # float32 [m]

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.right)

    @property
    def entries(self) -> int:
        """How many entries are stored, beside the diagonal."""
        return sum(len(block[1]) for block in self.blocks)


def assemble(
    rows: Any,
    samples: Samples,
    value_weight: Any,
    slope_weight: Any,
    smoothness: Any,
    extra: Any,
    wanted: Any,
    target: Any = None,
) -> System:
    """The equations of the coefficients at sorted cells `rows`.

    Args:
        rows: int64 [m], with the 26 cells about each cell that holds a sample.
        samples: at this level.
        value_weight: float32 [s].
        slope_weight: float32 [s].
        smoothness: of the squared second differences along the axes; one number, or one for
            each row, float32 [m], that the difference is taken about.
        extra: float32 [m], added to the diagonal.
        wanted: float32 [m], what the coefficients should be for the extra weights' sake.
        target: float32 [s], what the function should be at the samples; None is zero.
    """
    if target is None:
        target = np.zeros(len(samples), np.float32)
    if np.ndim(smoothness) == 0:
        smoothness = np.full(len(rows), smoothness, np.float32)
    ranges = chunks(len(rows), _ROWS)
    parts = parallel_for(
        _block,
        [
            (
                *(rows, samples.cells, samples.first, samples.fraction, samples.normal),
                *(target, value_weight, slope_weight, smoothness, extra, *part),
            )
            for part in ranges
        ],
    )
    return System(
        [part[0] for part in parts],
        ranges,
        np.concatenate([part[1] for part in parts]),
        np.concatenate([part[2] for part in parts]) + extra * wanted,
    )


def _block(*arguments: Any) -> tuple[Block, Any, Any]:
    """A block, its diagonal and its right side."""
    begin, columns, entries, beyond, *ends = kernels.assemble_rows(*arguments)
    if len(begin) + len(beyond) <= _SHORT:
        columns = columns.astype(np.uint16)
    return (begin, columns, entries, beyond), ends[0], ends[1]


def field_at(rows: Any, coefficient: Any, samples: Samples) -> tuple[Any, Any]:
    """The function [s] and its gradient [s, 3] at samples, as precise as the coefficients."""
    value = np.empty(len(samples), coefficient.dtype)
    slope = np.empty(3 * len(samples), coefficient.dtype)
    parallel_for(
        kernels.evaluate,
        [
            (
                *(rows, coefficient, samples.cells, samples.first),
                *(samples.fraction, value, slope, *part),
            )
            for part in chunks(len(samples.cells), _CELLS)
        ],
    )
    return value, slope.reshape(-1, 3)
