"""The field that the engine `hierarchy` makes: levels of quadratic B-splines about points.

Letters: n points, m rows (one a coefficient). Level 0 is the finest; the frame's unit is the
edge of its cells. Each level adds to the coarser ones, so that the field is smooth everywhere;
the coarsest fills a box, beyond which the distance to the box is added.
"""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from isolux.backends import Backend
from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.geometry.mesh import Mesh
from isolux.geometry.points import hierarchy_field_kernels as kernels
from isolux.geometry.points.adaptive import merged
from isolux.geometry.points.cloud import Frame
from isolux.geometry.points.colored_field import ColoredField
from isolux.geometry.points.extraction import (
    Level,
    crossed_cells,
    draw,
    dual_of,
    finer,
    inner_cells,
)
from isolux.geometry.points.trimming import Support, supported, trimmed, with_points

__all__ = ["HierarchyField"]

_CHUNK = 4096
_FAR = 1e150  # cells; the squares of more would overflow


class HierarchyField(ColoredField):
    """Negative inside, about the distance near the surface, with a sign everywhere.

    Args:
        frame: its scale is the edge of the finest cells.
        levels: finest first; the last one fills a box.
        support: where the points were.
        unused: levels below the finest that the points could have filled, but that held-out
            ones spoke against. Triangles are drawn on their cells: two sheets can be apart in
            the field and yet share a cell.
    """

    def __init__(
        self, frame: Frame, levels: list[Level], support: Support, unused: int = 0
    ) -> None:
        self.frame = frame
        self.levels = levels
        self.support = support
        self.unused = unused

    @property
    def voxel_size(self) -> float:
        """Edge of the finest cells, in world units."""
        return self.frame.scale

    @property
    def bounds(self) -> Float[Tensor, "2 3"]:
        """The box of the points with two of the finest cells about it, float64."""
        low, high = self.support.box
        return self.frame.world(torch.from_numpy(np.stack([low - 2.0, high + 2.0])))

    @property
    def world_from_field(self) -> Float[Tensor, "4 4"]:
        """From finest cells to the world, float64."""
        return self.frame.world_from_local

    def value(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """About the signed distance, in world units. No graph: see `gradient`."""
        return torch.from_numpy(self._evaluate(points)[0] * self.frame.scale).to(points)

    def gradient(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """How the value changes with the point, about one in length near the surface."""
        return torch.from_numpy(self._evaluate(points)[1]).to(points)

    def _evaluate(self, points: Tensor) -> tuple[Any, Any]:
        local = self.frame.local(points.detach().cpu()).numpy().clip(-_FAR, _FAR)
        low, high = self._box
        inside = np.clip(local, low, high)
        beyond = local - inside
        away = np.sqrt((beyond**2).sum(-1))
        value, slope = np.zeros(len(local)), np.zeros((len(local), 3))
        done = np.zeros(len(local), np.bool_)
        flat = np.ascontiguousarray(inside).reshape(-1)
        for number, level in enumerate(self.levels):
            parallel_for(
                kernels.add_level,
                [
                    (
                        *(flat, float(2**number), level.rows, level.coefficient),
                        *(level.addition, done, value, slope.reshape(-1), *part),
                    )
                    for part in chunks(len(local), _CHUNK)
                ],
            )
        # Beyond the box the value is that of the nearest point in it and the way there.
        slope = np.where(beyond == 0, slope, beyond / np.maximum(away, 1e-300)[:, None])
        return value + away, slope

    @property
    def _box(self) -> tuple[Any, Any]:
        """Where the coarsest level has all 27 coefficients, just inside."""
        size = 2.0 ** (len(self.levels) - 1)
        last = int(self.levels[-1].rows[-1])
        mask = (1 << 20) - 1
        high = np.array([last >> 40, last >> 20 & mask, last & mask])
        return np.full(3, size), size * high * (1 - 1e-12)

    @torch.no_grad()
    def extract_mesh(
        self,
        resolution: int | None = None,
        extractor: Literal["tets", "flexicubes"] = "flexicubes",
        backend: Backend | None = None,
        *,
        voxel_size: float | None = None,
        refine: int = 0,
        adaptive: float | None = None,
        trim: float | None = None,
        watertight: bool = False,
    ) -> Mesh:
        """The zero set as triangles, followed from the coarsest level down.

        Args:
            resolution: cells along the longest side of the points' box, rounded up to a level;
                None takes the finest level, and those left unused.
            extractor: here for the sake of other fields: vertices are dual in any case.
            backend: likewise; the work is done on the processor.
            voxel_size: of the triangles' cells, in world units, rounded down to a level.
            refine: how many times the cells are halved once more.
            adaptive: cells become one with their neighbours where the surface in them stays
                within this of its tangent planes, in finest cells of the field: 0.01 keeps
                all shape, 0.05 makes a small mesh. None draws cells of one size.
            trim: the surface farther than this from all points is left out, in world units;
                None takes some spacings of the points.
            watertight: leave nothing out for its distance, so that the mesh is closed. Parts
                that no point lies on are left out all the same.

        Returns:
            Vertices in float32, or in float64 where float32 would lose more than a
            millionth of the extent. Zero faces where nothing is left.

        Raises:
            ValueError: a resolution below one, cells of no size, a negative `refine`, a
                `trim` or `adaptive` that is not positive.
        """
        if refine < 0:
            raise ValueError(f"refine must be at least 0, got {refine}")
        for name, given in (("trim", trim), ("adaptive", adaptive)):
            if given is not None and not given > 0:
                raise ValueError(f"{name} must be positive, or none; got {given}")
        down = self._levels_down(resolution, voxel_size) + refine
        limit = np.inf
        if not watertight:
            limit = self.support.reach if trim is None else trim / self.frame.scale
        top = len(self.levels) - 1
        rows, coefficient = self.levels[top].rows, self.levels[top].coefficient
        cells = crossed_cells(inner_cells(rows), rows, coefficient)
        for number in range(top - 1, -1 - down, -1):
            if number > 0:  # few cells, whose children would be many
                cells = self._within(cells, 2.0 ** (number + 1), limit)
            level = self.levels[number] if number >= 0 else None
            cells, rows, coefficient = finer(cells, rows, coefficient, level)
            if number > -down:
                cells = crossed_cells(cells, rows, coefficient)
        drawn = cells, rows, coefficient, 0.5**down, limit
        local, faces = (
            self._even(*drawn) if adaptive is None else self._adaptive(*drawn, adaptive)
        )
        world = self.frame.world(torch.from_numpy(local))
        return Mesh(_narrowed(world), torch.from_numpy(faces))

    def _even(
        self, cells: Any, rows: Any, coefficient: Any, size: float, limit: float
    ) -> tuple[Any, Any]:
        """Vertices in finest cells and faces, of cells of one size."""
        local, faces, _ = draw(cells, rows, coefficient)
        local *= size
        if limit < np.inf:
            local, faces = trimmed(local, faces, self.support, limit)
        return with_points(local, faces, self.support)

    def _adaptive(
        self,
        cells: Any,
        rows: Any,
        coefficient: Any,
        size: float,
        limit: float,
        tolerance: float,
    ) -> tuple[Any, Any]:
        """Likewise, cells becoming one where that moves the surface by no more than allowed.

        What is left out is so before, so that it does not depend on the tolerance.
        """
        dual = dual_of(cells, rows, coefficient, with_slopes=True)
        quads = dual.quads.reshape(-1, 4)
        quads = supported(size * dual.vertices.reshape(-1, 3), quads, self.support, limit)
        local, faces = merged(replace(dual, quads=quads.reshape(-1)), tolerance / size)
        return size * local, faces

    def _within(self, cells: Any, size: float, limit: float) -> Any:
        """Those of a level's cells that faces within the limit may come from."""
        if limit == np.inf:
            return cells
        mask = (1 << 20) - 1
        corner = np.stack([cells >> 40, cells >> 20 & mask, cells & mask], -1)
        # A vertex is less than a cell from its middle, a neighbour's less than two more.
        return cells[self.support.near(size * (corner + 0.5), limit + 3.0 * size)]

    def _levels_down(self, resolution: int | None, voxel_size: float | None) -> int:
        """How many levels below the finest the triangles are; negative: above."""
        if resolution is not None:
            if resolution < 1:
                raise ValueError(f"resolution must be at least 1, got {resolution}")
            low, high = self.support.box
            voxel_size = float((high - low).max()) * self.frame.scale / resolution
        if voxel_size is None:
            return self.unused
        if not 0 < voxel_size < np.inf:
            raise ValueError(f"voxel_size must be positive and finite, got {voxel_size}")
        down = int(np.ceil(np.log2(self.frame.scale / voxel_size) - 1e-9))
        return min(max(down, 1 - len(self.levels)), 8)


def _narrowed(points: Tensor) -> Tensor:
    """In float32 unless that loses more than a millionth of the extent."""
    if len(points) == 0:
        return points.float()
    extent = float((points.max(0).values - points.min(0).values).max())
    narrow = points.float()
    return points if float((narrow - points).abs().max()) > 1e-6 * extent else narrow
