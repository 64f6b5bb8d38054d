"""Fits to the cells of a grid, blended where they overlap.

Letters: n points, t cells.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from isolux.geometry.points.cloud import Frame
from isolux.geometry.points.spline_field import KernelSum, Piece, SplineField

__all__ = ["Blend", "Cell", "Tile", "TiledSplineField", "Weights", "cells_of"]

Weights = Literal["smooth", "trilinear", "none"]


@dataclass(frozen=True)
class Cell:
    """A part of the box, and the points that its fit sees."""

    number: int
    box: Float[Tensor, "2 3"]  # without its padding
    pad: float  # added to each side
    rows: Int[Tensor, " n"]  # points within the padding as well
    inside: int  # points in the box itself; every point lies in exactly one
    frame: Frame  # takes the padded box to the unit cube


@dataclass(frozen=True)
class Tile:
    """A fit, and where it counts."""

    piece: KernelSum
    box: Float[Tensor, "2 3"]
    pad: float


class TiledSplineField(SplineField):
    """A `SplineField` whose piece is a blend of several."""


def cells_of(
    points: Float[Tensor, "n 3"],
    bounds: Float[Tensor, "2 3"],
    per_axis: int,
    overlap: float,
    weights: Weights,
) -> list[Cell]:
    """The cells that hold points, in order, x slowest."""
    low, high = bounds
    side = (high - low) / per_axis
    # Fits see their padding even where they are not blended.
    pad = 0.5 * overlap * float(side.max())
    place = ((points - low) / side).floor().long().clamp(0, per_axis - 1)
    number = (place[:, 0] * per_axis + place[:, 1]) * per_axis + place[:, 2]
    found, inside = number.unique(return_counts=True)
    cells = []
    for which, count in zip(found.tolist(), inside.tolist(), strict=True):
        corner = torch.tensor(
            [which // per_axis**2, which // per_axis % per_axis, which % per_axis]
        )
        box = torch.stack([low + corner * side, low + (corner + 1) * side])
        seen = ((points >= box[0] - pad) & (points <= box[1] + pad)).all(1)
        frame = Frame(0.5 * (box[0] + box[1]), float(side.max()) + 2 * pad)
        cells.append(Cell(which, box, pad, seen.nonzero()[:, 0], count, frame))
    return cells


class Blend(Piece):
    """Fits weighed by a partition of unity, which is made whole again where a cell is absent.

    Weights rise from 0 to 1 across the overlap of two cells, and stay 1 to the border of the
    whole box; beyond all fitted cells the one whose box is nearest counts.

    Args:
        tiles: at least one.
        bounds: of the whole grid.
        weights: `smooth` has a continuous gradient, `trilinear` a continuous value, and with
            `none` every place belongs to one cell.
    """

    def __init__(
        self, tiles: list[Tile], bounds: Float[Tensor, "2 3"], weights: Weights
    ) -> None:
        self.tiles, self.bounds, self.weights = tiles, bounds, weights

    @property
    def world_centres(self) -> Float[Tensor, "m 3"]:
        """Where the kernel functions have their centres, cell by cell, float64."""
        return torch.cat([tile.piece.world_centres for tile in self.tiles])

    def value(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """World units, float64."""
        weight, _ = self._all_weights(points)
        total = torch.zeros(len(points), dtype=torch.float64)
        for tile, share in zip(self.tiles, weight, strict=True):
            here = share.nonzero()[:, 0]
            if len(here):
                total[here] += share[here] * tile.piece.value(points[here])
        return total

    def gradient(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Of `value`, the weights' own included."""
        weight, slope = self._all_weights(points)
        total = torch.zeros(len(points), 3, dtype=torch.float64)
        for tile, share, rise in zip(self.tiles, weight, slope, strict=True):
            here = share.nonzero()[:, 0]
            if len(here):
                near = points[here]
                total[here] += share[here, None] * tile.piece.gradient(near)
                total[here] += tile.piece.value(near)[:, None] * rise[here]
        return total

    def _all_weights(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """[t, n] with a sum of one, and gradients [t, n, 3]."""
        both = [self._weight(tile, points) for tile in self.tiles]
        weight = torch.stack([share for share, _ in both])
        slope = torch.stack([rise for _, rise in both])
        whole = weight.sum(0)
        lost = (whole < 1e-6).nonzero()[:, 0]
        if len(lost):
            weight[:, lost], slope[:, lost] = 0.0, 0.0
            weight[self._nearest(points[lost]), lost] = 1.0
            whole = weight.sum(0)
        share = weight / whole
        return share, (slope - share[..., None] * slope.sum(0)) / whole[:, None]

    def _weight(self, tile: Tile, points: Tensor) -> tuple[Tensor, Tensor]:
        """A product over the axes of a rise at the lower and a fall at the upper side."""
        factors, slopes = [], []
        for side, sign in ((0, 1.0), (1, -1.0)):
            edge, end = tile.box[side], self.bounds[side]
            inner = (edge - end).abs() > 1e-9 * (self.bounds[1] - self.bounds[0])  # [3]
            away = sign * (points - edge)
            ramp, rise = _RAMPS[self.weights](away, tile.pad, side == 0)
            factors.append(torch.where(inner, ramp, 1.0))
            slopes.append(torch.where(inner, sign * rise, 0.0))
        axes = factors[0] * factors[1]  # [n, 3]
        rises = slopes[0] * factors[1] + slopes[1] * factors[0]
        others = torch.stack([axes[:, [1, 2]], axes[:, [0, 2]], axes[:, [0, 1]]], 1).prod(2)
        return axes.prod(1), rises * others

    def _nearest(self, points: Tensor) -> Tensor:
        boxes = torch.stack([tile.box for tile in self.tiles])[:, :, None]  # [t, 2, 1, 3]
        gap = torch.maximum(boxes[:, 0] - points, points - boxes[:, 1]).clamp_min(0)
        return gap.square().sum(2).argmin(0)


def _step(away: Tensor, pad: float, lower: bool) -> tuple[Tensor, Tensor]:
    """One from the border on; the border itself belongs to the cell above it."""
    inside = away >= 0 if lower else away > 0
    return inside.double(), torch.zeros_like(away)


def _linear(away: Tensor, pad: float, lower: bool) -> tuple[Tensor, Tensor]:
    if pad == 0:
        return _step(away, pad, lower)
    t = 0.5 + away / (2 * pad)
    rise = torch.where((t > 0) & (t < 1), 0.5 / pad, 0.0).to(away)
    return t.clamp(0, 1), rise


def _smooth(away: Tensor, pad: float, lower: bool) -> tuple[Tensor, Tensor]:
    if pad == 0:
        return _step(away, pad, lower)
    t = (0.5 + away / (2 * pad)).clamp(0, 1)
    return t * t * (3 - 2 * t), 6 * t * (1 - t) * (0.5 / pad)


_RAMPS: dict[str, Callable[[Tensor, float, bool], tuple[Tensor, Tensor]]] = {
    "smooth": _smooth,
    "trilinear": _linear,
    "none": _step,
}
