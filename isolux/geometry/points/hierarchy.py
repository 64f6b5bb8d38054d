"""The engine `hierarchy`: a multi-level B-spline field fitted to oriented points.

It is the least-squares field whose values at the points are zero and whose gradients are their
normals, smooth where there are none, solved from coarse to fine cells. Letters: n points,
m rows, s samples.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from isolux.geometry.points.assembly import assemble, field_at
from isolux.geometry.points.cloud import Frame, PointCloud
from isolux.geometry.points.conjugate_gradients import solve
from isolux.geometry.points.density import target_points, voxel_size_for
from isolux.geometry.points.extraction import Level
from isolux.geometry.points.far_field import far_field
from isolux.geometry.points.hierarchy_field import HierarchyField
from isolux.geometry.points.hierarchy_options import HierarchyOptions
from isolux.geometry.points.learned.inference import adjusted, unadjusted, wanted
from isolux.geometry.points.level_choices import Choice, Choices, Choose
from isolux.geometry.points.octree import Samples, dilated, first_samples, prolonged
from isolux.geometry.points.span import check_span
from isolux.geometry.points.trimming import Support
from isolux.geometry.points.weights import RIDGE

__all__ = [
    "Lattice",
    "cell_size",
    "checked_normals",
    "field_of_levels",
    "fit_hierarchy",
    "fit_levels",
    "places_of",
    "point_spacing",
    "usual_residual",
]

_log = logging.getLogger(__name__)

_BASE = 24  # cells of the coarsest level along the longest side of the points' box
_MARGIN = 5  # cells of it on every side
_ANCHOR = 0.3
_FINEST = 500_000  # cells along an axis, of what a key can hold
_UNUSUAL = 6.0  # median residuals, from where on a sample counts for less


def fit_hierarchy(
    cloud: PointCloud,
    options: HierarchyOptions | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> HierarchyField:
    """Fit a field to points with normals.

    Args:
        cloud: normals outward. What is not finite should have been dropped.
        options: None takes the defaults.
        progress: told what is being done, and the share that is done.

    Raises:
        ValueError: without normals, with less than four points, or when the points do not
            span a surface.
    """
    options = options or HierarchyOptions()
    tell = progress or (lambda text, share: None)
    tell("points", 0.0)
    normals = checked_normals(cloud)
    xyz = cloud.xyz.numpy()
    low, high = xyz.min(0), xyz.max(0)
    extent = float((high - low).max())
    size = cell_size(
        options, extent, len(xyz), lambda points: voxel_size_for(xyz - low, extent, points)
    )
    lattice = Lattice.about(low, high, size)
    local = lattice.frame.local(cloud.xyz).numpy()
    points = local, normals, np.ones(len(local), np.float32)
    samples = [first_samples(*points)]
    for _ in range(lattice.top):
        samples.append(samples[-1].coarser())
    choose = Choices(options, points, len(samples[0].cells), lattice.top)
    numbers = range(lattice.top, -1, -1)
    levels = fit_levels(numbers, samples.__getitem__, [], lattice, options, choose, tell)
    tell("done", 1.0)
    unused = lattice.top + 1 - len(levels)
    spacing = point_spacing([len(part.cells) for part in samples], len(local))
    support = Support(places_of(samples[unused]), spacing, (local.min(0), local.max(0)))
    return field_of_levels(lattice.frame, levels, support, unused)


@dataclass(frozen=True)
class Lattice:
    """Cells about a box of points: level 0 has edge one in the frame."""

    frame: Frame
    top: int  # the coarsest level
    shape: tuple[int, int, int]  # cells of it

    @classmethod
    def about(cls, low: Any, high: Any, size: float) -> "Lattice":
        """The lattice about points between `low` and `high` (float64 [3]), in cells of `size`.

        Raises:
            ValueError: more cells than a key can hold.
        """
        extent = float((high - low).max())
        if extent / size > _FINEST:
            raise ValueError(
                f"voxel_size {size:g} is too small for points that extend over {extent:g}: "
                f"at most {_FINEST} cells lie along an axis"
            )
        top = max(int(np.ceil(np.log2(extent / size / _BASE))), 0)
        counts = np.ceil((high - low) / (size * 2**top)).astype(int) + 2 * _MARGIN
        origin = 0.5 * (low + high) - 0.5 * size * 2**top * counts
        shape = int(counts[0]), int(counts[1]), int(counts[2])
        return cls(Frame(torch.from_numpy(origin), size), top, shape)


def fit_levels(
    numbers: Iterable[int],
    samples_of: Callable[[int], Samples],
    coarser: list[Level],
    lattice: Lattice,
    options: HierarchyOptions,
    choose: Choose,
    tell: Callable[[str, float], None] = lambda text, share: None,
) -> list[Level]:
    """Fit levels from coarse to fine, each on top of those before it.

    Args:
        numbers: of the levels, falling.
        samples_of: the points averaged at a level.
        coarser: levels that are known, finest first; none: the first fills the box.
        lattice: where the cells lie.
        options: of the fit.
        choose: how points count at a level; None from it ends the fit.
        tell: told of each level.

    Returns:
        All levels, finest first, in units of level 0.
    """
    levels, top = list(coarser), lattice.top
    for number in numbers:
        tell(f"level {top - number + 1} of {top + 1}", 1 - (number + 1) / (top + 2))
        samples, above = samples_of(number), levels[0] if levels else None
        choice = choose(number, samples, above)
        if choice is None:
            break
        levels.insert(0, _level(samples, number, above, lattice.shape, choice, options))
    return levels


def checked_normals(cloud: PointCloud) -> Any:
    """The normals; what `fit_hierarchy` cannot use raises."""
    if cloud.normals is None:
        raise ValueError("the cloud has no normals: estimate them first (estimate_normals)")
    if len(cloud) < 4:
        raise ValueError(f"a surface needs at least 4 points, got {len(cloud)}")
    finite = cloud.xyz.isfinite().all() and cloud.normals.isfinite().all()
    if not bool(finite):
        raise ValueError("the cloud has points or normals that are not finite: clean it first")
    check_span(cloud.xyz.double().numpy())
    if not bool((cloud.normals.norm(dim=1) > 0.5).any()):
        raise ValueError("the normals are all zero: estimate them first (estimate_normals)")
    return cloud.normals.numpy()


def cell_size(
    options: HierarchyOptions, extent: float, count: int, measured: Callable[[float], float]
) -> float:
    """Edge of the finest cells, in world units.

    Args:
        options: which may say it.
        extent: the longest side of the points' box.
        count: how many points there are.
        measured: the edge at which an occupied cell holds so many points.
    """
    if options.voxel_size is not None:
        return options.voxel_size
    if options.depth is not None:
        return float(1.1 * extent / 2**options.depth)
    detail = options.detail_level
    return measured(target_points(count) if detail is None else 20.0 - 19.0 * detail)


def field_of_levels(
    frame: Frame, levels: list[Level], support: Support, unused: int
) -> HierarchyField:
    """The field in the units of its finest level, `unused` levels above the first samples.

    Args:
        frame: of level 0.
        levels: in units of level 0, finest first.
        support: its places in cells of level `unused`, the rest in those of level 0.
        unused: levels that are left out.
    """
    size = 2.0**unused
    levels = [
        Level(x.rows, x.coefficient / np.float32(size), x.addition / np.float32(size))
        for x in levels
    ]
    low, high = support.box
    support = Support(support.points, support.spacing / size, (low / size, high / size))
    return HierarchyField(Frame(frame.origin, frame.scale * size), levels, support, unused)


def places_of(samples: Samples) -> Any:
    """Where samples lie, float32 [s, 3], in cells of their level."""
    mask, cell = (1 << 20) - 1, samples.key >> 3
    corner = np.stack([cell >> 40, cell >> 20 & mask, cell & mask], -1).astype(np.float32)
    return corner + samples.fraction.reshape(-1, 3)


def point_spacing(cells: list[int], points: int) -> float:
    """The typical distance between points, in finest cells.

    Args:
        cells: how many are occupied, of each level.
        points: how many there are.
    """
    full = [i for i, count in enumerate(cells) if points >= 5 * count]
    number = full[0] if full else len(cells) - 1
    # A surface crosses about 1.5 cells for each square of a cell's size.
    return float(2.0**number * np.sqrt(cells[number] / 1.5 / points))


def _level(
    samples: Samples,
    number: int,
    coarser: Level | None,
    shape: tuple[int, int, int],
    choice: Choice,
    options: HierarchyOptions,
) -> Level:
    """Fit what this level adds to the coarser ones."""
    weights = choice.weights
    size = np.float32(2.0**number)
    if coarser is None:
        rows = _box_rows(shape)
        start, distance = far_field(samples, shape)
        extra = np.where(distance >= 2, _ANCHOR, RIDGE).astype(np.float32)
        border = _border(shape)
        start = np.where(border, np.maximum(np.abs(start), 1), start).astype(np.float32)
        extra[border] = 10.0
        before = np.zeros(len(rows), np.float32)
    else:
        rows = dilated(samples.cells, options.dilation)
        before = prolonged(rows, coarser.rows, coarser.coefficient)
        start = before / size
        extra = np.full(len(rows), RIDGE, np.float32)
    mean = choice.mean or samples.weight.sum() / max(len(samples.cells), 1)
    mass = samples.weight * np.float32(1 / mean)
    if options.robust and coarser is not None:
        residual = field_at(rows, start, samples)[0]
        mass *= _trust(residual, choice.usual or usual_residual(residual))
    learned = coarser is not None and wanted(options.learned, weights)
    terms = (adjusted if learned else unadjusted)(rows, start, samples, mass, weights)
    system = assemble(
        *(rows, terms.samples, terms.value_weight, terms.slope_weight),
        *(terms.smoothness, extra, start, terms.target),
    )
    solution, steps, left = solve(system, start, options.solver_tol, options.max_iter, rows)
    if _log.isEnabledFor(logging.DEBUG):
        _log.debug("level %d: %s", number, weights)
        _report(number, rows, samples, system.entries, solution, steps, left)
    if coarser is None:
        solution = np.where(border, np.maximum(solution, 0.5), solution)
    solution = (solution * size).astype(np.float32)
    return Level(rows, solution, solution - before)


def usual_residual(residual: Any) -> float:
    """From where on samples count for less: far more cells off than most are."""
    return max(1.0, _UNUSUAL * float(np.median(np.abs(residual))))


def _trust(residual: Any, usual: float) -> Any:
    """Weights that fall where the coarser levels' field is many cells off (Geman, McClure)."""
    return 1 / (1 + (residual / np.float32(usual)) ** 2) ** 2


def _report(
    number: int,
    rows: Any,
    samples: Samples,
    entries: int,
    solution: Any,
    steps: int,
    left: float,
) -> None:
    f, slope = field_at(rows, solution, samples)
    g = np.linalg.norm(slope - samples.normal.reshape(-1, 3), axis=1)
    share = samples.weight / samples.weight.sum()
    _log.debug(
        "level %d: %d rows, %d cells, %d samples, %.1f entries a row, %d steps to %.1e, "
        "value %.4f gradient %.4f",
        *(number, len(rows), len(samples.cells), len(samples), entries / len(rows)),
        *(steps, left, np.sqrt((share * f * f).sum()), np.sqrt((share * g * g).sum())),
    )


def _box_rows(shape: tuple[int, int, int]) -> Any:
    x, y, z = (np.arange(n, dtype=np.int64) for n in shape)
    return (x[:, None, None] << 40 | y[:, None] << 20 | z).reshape(-1)


def _border(shape: tuple[int, int, int]) -> Any:
    """Marks the three outermost layers of a box of cells."""
    inner = np.ones(shape, bool)
    inner[3:-3, 3:-3, 3:-3] = False
    return inner.reshape(-1)
