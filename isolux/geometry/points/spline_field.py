"""Fields of kernel functions, and what keeps them to where there are points.

Letters: n points asked for, m centres, s points of the cloud.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from isolux.backends import Backend
from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.geometry.mesh import Mesh
from isolux.geometry.points.cloud import Frame
from isolux.geometry.points.colored_field import ColoredField
from isolux.geometry.points.narrow_band import extract_narrow_band
from isolux.geometry.points.spline_kernels import (
    Lifted,
    SplineKernel,
    gradient_sums,
    value_sums,
)
from isolux.geometry.points.spline_support import Support

__all__ = ["KernelSum", "Piece", "SplineField"]

Function = Callable[[Tensor], Tensor]

_TASK = 256  # points


class Piece(ABC):
    """A function of world points with its gradient, of use next to the points only."""

    @property
    @abstractmethod
    def world_centres(self) -> Float[Tensor, "m 3"]:
        """Where the kernel functions have their centres, float64."""

    @abstractmethod
    def value(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """World units, negative inside; float64 in and out."""

    @abstractmethod
    def gradient(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Of `value`."""


class KernelSum(Piece):
    """Weighted kernel functions about centres.

    Args:
        spec: the kernel.
        frame: in which the centres lie, and the weights give values.
        centres: positions.
        weights: of the centres.
        dtype: that the sums' terms are computed in.
    """

    def __init__(
        self,
        spec: SplineKernel,
        frame: Frame,
        centres: Float[Tensor, "m 3"],
        weights: Float[Tensor, " m"],
        dtype: Any = np.float64,
    ) -> None:
        self.spec, self.frame, self.dtype = spec, frame, dtype
        self.centres, self.weights = centres, weights
        self._lifted = Lifted(centres, dtype)
        self._linear = spec.linear * (self._lifted.whole.T @ weights)  # [4]

    @property
    def world_centres(self) -> Float[Tensor, "m 3"]:
        """Where the kernel functions have their centres, float64."""
        return self.frame.world(self.centres)

    def value(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """World units, float64."""
        lifted, out = self._sums(value_sums, points, 1)
        return self.frame.scale * (torch.from_numpy(out) + lifted.whole @ self._linear)

    def gradient(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Of `value`, float64. Zero is taken for what a cusp adds at its own centre."""
        _, out = self._sums(gradient_sums, points, 3)
        return torch.from_numpy(out).reshape(-1, 3) + self._linear[:3]

    def _sums(
        self, function: Callable[..., None], points: Tensor, width: int
    ) -> tuple[Lifted, Any]:
        lifted = Lifted(self.frame.local(points), self.dtype)
        out = np.empty(width * len(points))
        weight = self.weights.numpy().astype(self.dtype)
        parallel_for(
            function,
            [
                (self.spec, lifted, self._lifted, weight, out, *part)
                for part in chunks(len(points), _TASK)
            ],
        )
        return lifted, out


class SplineField(ColoredField):
    """Neural Splines: exact sums next to the points, and a signed distance to them far away.

    Far from its points a sum of kernels has further zeros that mean nothing. Within a reach of
    a few spacings the value is the sum; beyond twice of it the distance to the nearest point,
    with the sign of the points' winding number, and in between a blend of both.

    Args:
        piece: the sum, or several that are blended.
        frame: the similarity that the fit was made in.
        support: where the points were.
        bounds: the box to be meshed.
        voxel_size: that the fit was made for.
        trim: how far from points the surface reaches, in world units; None: by the support.
    """

    def __init__(
        self,
        piece: Piece,
        frame: Frame,
        support: Support,
        bounds: Float[Tensor, "2 3"],
        voxel_size: float,
        trim: float | None = None,
    ) -> None:
        self.piece, self.frame, self.support = piece, frame, support
        self._bounds, self.voxel_size, self.trim = bounds, voxel_size, trim

    @property
    def bounds(self) -> Float[Tensor, "2 3"]:
        """The scaled box of the points, float64."""
        return self._bounds

    @property
    def world_from_field(self) -> Float[Tensor, "4 4"]:
        """The frame as a matrix, float64."""
        return self.frame.world_from_local

    @torch.no_grad()
    def value(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """World units, negative inside, in the points' dtype. No graph: see `gradient`."""
        wide = points.detach().cpu().double()
        share, far = self.support.far(wide)
        near = share < 1
        out = far.value
        out[near] = (1 - share[near]) * self.piece.value(wide[near]) + (share * far.value)[near]
        return out.to(points)

    @torch.no_grad()
    def gradient(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Of `value`, exactly; in the points' dtype."""
        wide = points.detach().cpu().double()
        share, far = self.support.far(wide)
        near, mixed = share < 1, (share > 0) & (share < 1)
        out = share[:, None] * far.gradient
        out[near] += (1 - share[near])[:, None] * self.piece.gradient(wide[near])
        if bool(mixed.any()):
            gap = far.value[mixed] - self.piece.value(wide[mixed])
            out[mixed] += gap[:, None] * far.share_gradient[mixed]
        return out.to(points)

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
        steps: int = 1,
        progress: Callable[[float], None] | None = None,
    ) -> Mesh:
        """The zero set as triangles, followed from the points.

        Args:
            resolution: cells along the longest side of `bounds`; None: as fitted for.
            extractor: here for the sake of other fields: vertices are dual in any case.
            backend: likewise; the work is done on the processor.
            voxel_size: of the cells, in world units, in place of a resolution.
            refine: how many times the cells are halved.
            adaptive: cells become one with their neighbours where the surface in them stays
                within this of its tangent planes, in cells before `refine`. None draws cells
                of one size.
            trim: surface farther than this from the points is left out, in world units. None:
                as the fit was told.
            watertight: leave nothing out, and follow the surface out of `bounds`. What has
                not closed there by a quarter of the longest side is cut by a box.
            steps: of Newton's method, which brings the vertices onto the surface.
            progress: told the share that is done.

        Returns:
            Vertices in float32, or in float64 where float32 would lose more than a
            millionth of the extent. Zero faces where nothing is left.

        Raises:
            ValueError: when both a resolution and a voxel size are given, one that is not
                positive, a `refine` below zero, a `trim` or `adaptive` that is not positive.
        """
        if refine < 0:
            raise ValueError(f"refine must be at least 0, got {refine}")
        for name, given in (("trim", trim), ("adaptive", adaptive)):
            if given is not None and not given > 0:
                raise ValueError(f"{name} must be positive, or none; got {given}")
        size = self._cell_size(resolution, voxel_size) / 2**refine
        allowed = None if adaptive is None else adaptive * 2**refine
        rest = size, steps, allowed, progress
        if watertight:
            return self._closed(*rest)
        limit = self.trim if trim is None else trim
        # A cube whose middle is this far off may still hold a vertex near enough.
        slack = 0.87 * size

        def keep(centres: Tensor) -> Tensor:
            return self.support.near(centres, limit, slack)

        def near(vertices: Tensor) -> Tensor:
            return self.support.near(vertices, limit)

        piece = self.piece
        return self._extract(piece.value, piece.gradient, (keep, near), self._bounds, *rest)

    def _closed(
        self,
        size: float,
        steps: int,
        adaptive: float | None,
        progress: Callable[[float], None] | None,
    ) -> Mesh:
        """The surface of what is inside of a wider box: a sheet would go on for ever."""
        low, high = self._bounds
        room = 0.25 * float((high - low).max())
        middle, half = 0.5 * (low + high), 0.5 * (high - low) + room

        def beyond(points: Tensor) -> tuple[Tensor, Tensor]:
            """How far outside of the nearest wall, and the wall's normal."""
            side = (points - middle).abs() - half
            far, axis = side.max(1)
            sign = (points - middle).gather(1, axis[:, None]).sign()
            return far, torch.zeros_like(points).scatter_(1, axis[:, None], sign)

        def value(points: Tensor) -> Tensor:
            return torch.maximum(self.value(points), beyond(points)[0])

        def gradient(points: Tensor) -> Tensor:
            far, normal = beyond(points)
            return torch.where(
                (far > self.value(points))[:, None], normal, self.gradient(points)
            )

        whole = value, gradient, (None, None), None
        return self._extract(*whole, size, steps, adaptive, progress)

    def _cell_size(self, resolution: int | None, voxel_size: float | None) -> float:
        if resolution is not None and voxel_size is not None:
            raise ValueError("give a resolution or a voxel_size, not both")
        if resolution is not None:
            if resolution < 1:
                raise ValueError(f"resolution must be at least 1, got {resolution}")
            return float((self._bounds[1] - self._bounds[0]).max()) / resolution
        return self.voxel_size if voxel_size is None else voxel_size

    def _extract(
        self,
        value: Function,
        gradient: Function,
        kept: tuple[Function | None, Function | None],
        box: Float[Tensor, "2 3"] | None,
        size: float,
        steps: int,
        adaptive: float | None,
        progress: Callable[[float], None] | None,
    ) -> Mesh:
        return extract_narrow_band(
            value,
            self.support.points,
            size,
            keep=kept[0],
            near=kept[1],
            bounds=box,
            gradient=gradient,
            steps=steps,
            adaptive=adaptive,
            progress=progress,
        )
