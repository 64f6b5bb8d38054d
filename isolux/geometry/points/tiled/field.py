"""A field whose coefficients lie on disk, tile by tile.

Letters: n points.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from isolux.backends import Backend
from isolux.geometry.mesh import Mesh
from isolux.geometry.points.cloud import Frame
from isolux.geometry.points.colored_field import ColoredField
from isolux.geometry.points.hierarchy import field_of_levels, places_of, point_spacing
from isolux.geometry.points.hierarchy_field import HierarchyField
from isolux.geometry.points.tiled.layout import cell_keys
from isolux.geometry.points.tiled.mesh_tiles import MeshJob
from isolux.geometry.points.tiled.options import TileOptions
from isolux.geometry.points.tiled.parts import MeshParts, drawn_parts, whole_mesh
from isolux.geometry.points.tiled.plan import Plan
from isolux.geometry.points.tiled.region import (
    colors_about,
    levels_about,
    support_samples,
)
from isolux.geometry.points.tiled.work import Work
from isolux.geometry.points.trimming import Support

__all__ = ["TiledField"]

_KEPT = 4  # tiles whose fields stay in memory


class TiledField(ColoredField):
    """Negative inside, about the distance near the surface, with a sign everywhere.

    What it knows lies in the work folder of `fit_tiles`, and is read where it is asked for.

    Args:
        work: the cloud as it was cut up.
        plan: of the fit.
        tiles: who works on meshes.
        box: of the points, in the world (float64 [3] each).
    """

    def __init__(
        self, work: Work, plan: Plan, tiles: TileOptions, box: tuple[Any, Any]
    ) -> None:
        self.work = work
        self.plan = plan
        self.tiles = tiles
        self._box = box
        self._coarse = work.read_coarse()
        self._fields: OrderedDict[int, HierarchyField] = OrderedDict()

    @property
    def frame(self) -> Frame:
        """Its scale is the edge of the finest cells."""
        frame = self.work.lattice.frame
        return Frame(frame.origin, frame.scale * 2.0**self.plan.unused)

    @property
    def voxel_size(self) -> float:
        """Edge of the finest cells, in world units."""
        return self.frame.scale

    @property
    def bounds(self) -> Float[Tensor, "2 3"]:
        """The box of the points with two of the finest cells about it, float64."""
        room = 2.0 * self.voxel_size
        return torch.from_numpy(np.stack([self._box[0] - room, self._box[1] + room]))

    @property
    def world_from_field(self) -> Float[Tensor, "4 4"]:
        """From finest cells to the world, float64."""
        return self.frame.world_from_local

    def value(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """About the signed distance, in world units. No graph: see `gradient`."""
        out = torch.zeros(len(points), dtype=torch.float64)
        for rows, field in self._by_tile(points):
            out[rows] = field.value(points.detach().cpu()[rows].double())
        return out.to(points)

    def gradient(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """How the value changes with the point, about one in length near the surface."""
        out = torch.zeros(len(points), 3, dtype=torch.float64)
        for rows, field in self._by_tile(points):
            out[rows] = field.gradient(points.detach().cpu()[rows].double())
        return out.to(points)

    def colors_at(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Colours at points of the world; linear, float32. Those of the cloud, unless others
        were given.

        Raises:
            ValueError: neither has any.
        """
        if self._colors is not None or "colors" not in self.work.kind:
            return super().colors_at(points)
        out = torch.zeros(len(points), 3)
        places = points.detach().cpu().double()
        for tile, rows in self._tiles_of(points):
            local = self.work.lattice.frame.local(places[rows]).numpy()
            box = self._tile_box(tile) if tile >= 0 else (local.min(0), local.max(0))
            colors = colors_about(self.work, box, 8 * 2.0**self.plan.unused)
            out[rows] = colors(places[rows])
        return out.to(points.device)

    def load(self) -> HierarchyField:
        """All of it in memory, as the field that `fit_hierarchy` returns."""
        work, unused = self.work, self.plan.unused
        levels = levels_about(work, self.plan, self._coarse, None)
        places = places_of(support_samples(work, unused, None, 0))
        field = field_of_levels(work.lattice.frame, levels, self._support(places), unused)
        if self._colors is not None:
            field._colors = self._colors
        return field

    @torch.no_grad()
    def extract_mesh(
        self,
        resolution: int | None = None,
        extractor: Literal["tets", "flexicubes"] = "flexicubes",
        backend: Backend | None = None,
        *,
        voxel_size: float | None = None,
        refine: int = 0,
        trim: float | None = None,
        watertight: bool = False,
    ) -> Mesh:
        """The zero set as triangles, whole, in memory; as `HierarchyField.extract_mesh`."""
        with self.mesh_parts(
            resolution,
            voxel_size=voxel_size,
            refine=refine,
            trim=trim,
            watertight=watertight,
            colors=False,
        ) as parts:
            return whole_mesh(parts)

    def mesh_parts(
        self,
        resolution: int | None = None,
        *,
        voxel_size: float | None = None,
        refine: int = 0,
        trim: float | None = None,
        watertight: bool = False,
        colors: bool = True,
        progress: Callable[[str, float], None] | None = None,
    ) -> MeshParts:
        """The zero set as triangles on disk, to be read part by part.

        Each tile draws the triangles of its own cells. A vertex has the same bits whichever
        tile works it out, so that the parts meet exactly.

        Args:
            resolution: as of `HierarchyField.extract_mesh`, like the following.
            voxel_size: likewise.
            refine: likewise.
            trim: likewise.
            watertight: likewise.
            colors: of the cloud at the vertices, where it has any.
            progress: told what is being done, and the share that is done.

        Raises:
            ValueError: as `HierarchyField.extract_mesh`.
            RuntimeError: a tile failed more often than it may.
        """
        if refine < 0:
            raise ValueError(f"refine must be at least 0, got {refine}")
        if trim is not None and not trim > 0:
            raise ValueError(f"trim must be positive, or none; got {trim}")
        shell = self._shell()
        limit = np.inf
        if not watertight:
            limit = shell.support.reach if trim is None else trim / self.frame.scale
        job = MeshJob(
            down=shell._levels_down(resolution, voxel_size) + refine,
            limit=float(limit),
            colors=colors and "colors" in self.work.kind,
        )
        tell = progress or (lambda text, share: None)
        return drawn_parts(self.work, self.plan, job, self.tiles, tell)

    def _support(self, places: Any) -> Support:
        frame = self.work.lattice.frame
        low, high = ((side - frame.origin.numpy()) / frame.scale for side in self._box)
        return Support(places, point_spacing(self.plan.cells, self.plan.points), (low, high))

    def _shell(self) -> HierarchyField:
        """The field without what lies on disk, in the units of its finest level."""
        empty = levels_about(self.work, self.plan, self._coarse, (np.zeros(3), np.zeros(3)))
        support = self._support(np.zeros((0, 3), np.float32))
        return field_of_levels(self.work.lattice.frame, empty, support, self.plan.unused)

    def _tile_box(self, tile: int) -> tuple[Any, Any]:
        return self.work.tiles.box(tile)

    def _by_tile(self, points: Tensor) -> list[tuple[Tensor, HierarchyField]]:
        return [(rows, self._field(tile)) for tile, rows in self._tiles_of(points)]

    def _tiles_of(self, points: Tensor) -> list[tuple[int, Tensor]]:
        """The rows of the points in each tile; -1 is outside of all."""
        lattice = self.work.lattice
        local = lattice.frame.local(points.detach().cpu()).numpy()
        inside = ((local >= 0) & (local < 2.0**lattice.top * np.array(lattice.shape))).all(1)
        tile = np.full(len(local), -1, np.int64)
        tile[inside] = self.work.tiles.of(cell_keys(local[inside], 0))
        return [(int(t), torch.from_numpy(np.flatnonzero(tile == t))) for t in np.unique(tile)]

    def _field(self, tile: int) -> HierarchyField:
        """The field about a tile."""
        if tile in self._fields:
            self._fields.move_to_end(tile)
            return self._fields[tile]
        if tile < 0:
            field = self._shell()
        else:
            levels = levels_about(self.work, self.plan, self._coarse, self._tile_box(tile))
            support = self._support(np.zeros((0, 3), np.float32))
            frame = self.work.lattice.frame
            field = field_of_levels(frame, levels, support, self.plan.unused)
        self._fields[tile] = field
        if len(self._fields) > _KEPT:
            self._fields.popitem(last=False)
        return field
