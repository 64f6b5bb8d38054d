"""Neural Splines: a field from points with normals by kernel regression on few centres.

Letters: n points, s points that are left after cleaning and averaging, m centres.

Williams et al. 2021, "Neural Splines: Fitting 3D Surfaces with Infinitely-Wide Neural
Networks".
Unlike theirs: gradients are asked for directly, centres stand to both sides of the surface
where they can form a slope, offsets and tolerances follow the frame and not the units, and the
field has a sign far from the points.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from isolux.geometry.points.centres import choose_centres
from isolux.geometry.points.cloud import Frame, PointCloud
from isolux.geometry.points.falkon import Equations, Solution, solve
from isolux.geometry.points.span import check_span
from isolux.geometry.points.spline_field import KernelSum, SplineField
from isolux.geometry.points.spline_options import SplineOptions
from isolux.geometry.points.spline_support import Support
from isolux.geometry.points.spline_tiles import Blend, Tile, TiledSplineField, cells_of

__all__ = ["fit_splines"]

_LOG = logging.getLogger(__name__)
_LEAST = 3  # points
_MOST_CENTRES = 4000
_MOST_CELL_CENTRES = 2000
_SLOPE_SPACINGS = 0.4  # measured: the widest at which a slope is still local
_LEAST_PENALTY = 1e-12
_TRIPLE_VOXELS = 0.05  # as Neural Splines has
_THINNEST = 0.1  # side of the box, relative to its longest

Progress = Callable[[str, float], None]


def fit_splines(
    cloud: PointCloud,
    options: SplineOptions | None = None,
    progress: Progress | None = None,
) -> SplineField:
    """A field whose zero set passes the points with their normals.

    Args:
        cloud: with normals. Rows that are not finite, that repeat another, or whose normal has
            no length are left out.
        options: None: as they come.
        progress: told what is done, and its share.

    Returns:
        A `SplineField`, or a `TiledSplineField` where `cells_per_axis` is more than one.

    Raises:
        ValueError: without normals, with fewer than three points that differ, or where they
            span no surface.
    """
    options = options or SplineOptions()
    told = progress or (lambda text, share: None)
    points, normals = _usable(cloud)
    low, high = points.amin(0), points.amax(0)
    longest = float((high - low).max())
    sides = options.scale * (high - low).clamp_min(_THINNEST * longest)
    middle = 0.5 * (low + high)
    bounds = torch.stack([middle - 0.5 * sides, middle + 0.5 * sides])
    voxel = float(sides.max()) / options.grid_size
    if len(points) > options.downsample_threshold:
        points, normals = _averaged(points, normals, bounds[0], voxel)
        _LOG.info("%d points are left of %d: one for a voxel", len(points), len(cloud))
    told("measuring density", 0.0)
    support = Support(points, normals)
    diagonal = 1.0 if options.absolute_units else 3**0.5 * voxel
    trim = None if options.trim is None else options.trim * diagonal
    eps = None if options.eps is None else options.eps * diagonal
    if eps is None and options.gradients == "triples":
        eps = _TRIPLE_VOXELS * 3**0.5 * voxel
    frame = Frame(middle, longest)
    job = _Job(points, normals, options, eps, support.spacing, support.noise)
    rest = (frame, support, bounds, voxel, trim)
    if options.cells_per_axis == 1:
        most = _MOST_CENTRES
        piece = job.fit(frame, slice(None), most, options.seed, lambda s: told("fitting", s))
        return SplineField(piece, *rest)
    return TiledSplineField(_fit_cells(job, bounds, told), *rest)


@dataclass(frozen=True)
class _Job:
    points: Float[Tensor, "s 3"]
    normals: Float[Tensor, "s 3"]
    options: SplineOptions
    eps: float | None  # world units
    spacing: float
    noise: float

    def fit(
        self,
        frame: Frame,
        rows: Tensor | slice,
        most: int,
        seed: int,
        told: Callable[[float], None],
    ) -> KernelSum:
        """One sum of kernels to the points in `rows`, with `most` centres by default."""
        options = self.options
        local, normals = frame.local(self.points[rows]), self.normals[rows]
        wanted = most if options.centres is None else options.centres
        placement = options.placement
        if placement is None:
            placement = "alternate" if 0 <= wanted < len(local) else "pairs"
        twice = 2 if placement == "pairs" else 1
        if 0 <= wanted < twice:
            twice = 1
        places, nearest = choose_centres(
            local, wanted if wanted < 0 else wanted // twice, options.sampling, seed
        )
        spread = self.spacing / frame.scale * (len(local) / len(places)) ** 0.5
        offset = _SLOPE_SPACINGS * spread
        eps = offset if self.eps is None else self.eps / frame.scale
        step = offset * normals[nearest]
        match placement:
            case "points":
                centres = places
            case "pairs" if twice == 2:
                centres = torch.cat([places - step, places + step])
            case _:
                generator = torch.Generator().manual_seed(seed)
                side = torch.randint(0, 2, (len(places), 1), generator=generator)
                centres = places + (2.0 * side - 1.0) * step
        penalty = options.regularization
        if penalty is None:
            # A Gaussian process with unit variance and noise of this deviation.
            penalty = max((self.noise / frame.scale) ** 2 / len(local), _LEAST_PENALTY)
        solution = solve(
            options.spec,
            _equations(local, normals, eps, options.gradients == "triples"),
            centres,
            penalty,
            options.cg_tolerance,
            options.cg_iterations,
            options.memory,
            options.dtype != "float64",
            told,
        )
        _report(solution, len(local), options.cg_tolerance)
        dtype = np.float32 if options.dtype == "float32" else np.float64
        return KernelSum(options.spec, frame, centres, solution.weights, dtype)


def _fit_cells(job: _Job, bounds: Tensor, told: Progress) -> Blend:
    options = job.options
    cells = cells_of(
        job.points, bounds, options.cells_per_axis, options.overlap, options.weights
    )
    tiles = []
    for number, cell in enumerate(cells):
        least = max(options.min_points_per_cell + 1, 1)
        if cell.inside < least or len(cell.rows) < _LEAST:
            continue
        tiles.append(
            Tile(
                job.fit(
                    cell.frame,
                    cell.rows,
                    _MOST_CELL_CENTRES,
                    options.seed + cell.number,
                    _Part(told, number, len(cells)),
                ),
                cell.box,
                cell.pad,
            )
        )
    if not tiles:
        raise ValueError(
            f"no cell holds more than {options.min_points_per_cell} points: take fewer cells "
            "per axis, or lower min_points_per_cell"
        )
    return Blend(tiles, bounds, options.weights)


@dataclass(frozen=True)
class _Part:
    """Tells the share of the whole from that of one cell."""

    told: Progress
    number: int
    count: int

    def __call__(self, share: float) -> None:
        text = f"fitting cell {self.number + 1} of {self.count}"
        self.told(text, (self.number + share) / self.count)


def _equations(local: Tensor, normals: Tensor, eps: float, triples: bool) -> Equations:
    zero = torch.zeros(len(local), dtype=torch.float64)
    if not triples:
        return Equations(local, zero, local, normals, eps)
    points = torch.cat([local, local - eps * normals, local + eps * normals])
    return Equations(points, torch.cat([zero, zero - eps, zero + eps]), local[:0], local[:0])


def _report(solution: Solution, points: int, tolerance: float) -> None:
    _LOG.info(
        "%d centres for %d points: residual %.1e after %d steps",
        *(len(solution.weights), points, solution.residual, solution.iterations),
    )
    if solution.residual > max(100 * tolerance, 1e-2):
        _LOG.warning(
            "the solver stopped at a residual of %.1e; allow more cg_iterations or "
            "raise regularization",
            solution.residual,
        )


def _usable(cloud: PointCloud) -> tuple[Tensor, Tensor]:
    """Positions and unit normals, float64, of rows that say something; each position once."""
    if cloud.normals is None:
        raise ValueError("splines need normals; estimate them first")
    points, normals = cloud.xyz.detach().cpu().double(), cloud.normals.detach().cpu().double()
    length = normals.norm(dim=1)
    good = points.isfinite().all(1) & length.isfinite() & (length > 1e-5)
    points, normals = points[good], (normals / length[:, None])[good]
    _, first = np.unique(points.numpy(), axis=0, return_index=True)
    rows = torch.from_numpy(np.sort(first))
    if len(rows) < _LEAST:
        raise ValueError(
            f"splines need at least {_LEAST} different points with normals, got {len(rows)}"
        )
    check_span(points[rows].numpy())
    if len(rows) < len(cloud):
        _LOG.info("%d of %d points are left out", len(cloud) - len(rows), len(cloud))
    return points[rows], normals[rows]


def _averaged(
    points: Tensor, normals: Tensor, low: Tensor, voxel: float
) -> tuple[Tensor, Tensor]:
    """Mean positions and unit mean normals, one for each voxel that holds points.

    Where normals cancel, as on both sides of a thin wall, the voxel's first one stands.
    """
    place = ((points - low) / voxel).floor().long()
    key = (place[:, 0] << 42) + (place[:, 1] << 21) + place[:, 2]
    _, first, owner = np.unique(key.numpy(), return_index=True, return_inverse=True)
    count = np.bincount(owner)[:, None]
    mean = [
        torch.from_numpy(
            np.stack([np.bincount(owner, part[:, i].numpy()) for i in range(3)], 1) / count
        )
        for part in (points, normals)
    ]
    length = mean[1].norm(dim=1, keepdim=True)
    unit = torch.where(length > 0.1, mean[1] / length.clamp_min(0.1), normals[first])
    return mean[0], unit
