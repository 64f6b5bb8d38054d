"""The engine `hierarchy`: a multi-level B-spline field fitted to oriented points.

It is the least-squares field whose values at the points are zero and whose gradients are their
normals, smooth where there are none, solved from coarse to fine cells. Letters: n points,
m rows, s samples.
"""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from isolux.geometry.points.assembly import assemble, residuals
from isolux.geometry.points.cloud import Frame, PointCloud
from isolux.geometry.points.conjugate_gradients import solve
from isolux.geometry.points.density import target_points, voxel_size_for
from isolux.geometry.points.extraction import Level
from isolux.geometry.points.far_field import far_field
from isolux.geometry.points.hierarchy_field import HierarchyField
from isolux.geometry.points.hierarchy_options import HierarchyOptions
from isolux.geometry.points.octree import Samples, dilated, first_samples, prolonged
from isolux.geometry.points.trimming import Support
from isolux.geometry.points.weights import RIDGE, Weights, WeightSearch

__all__ = ["fit_hierarchy"]

_log = logging.getLogger(__name__)

_BASE = 24  # cells of the coarsest level along the longest side of the points' box
_MARGIN = 5  # cells of it on every side
_ANCHOR = 0.3
_FINEST = 500_000  # cells along an axis, of what a key can hold
_EXACT = -20.0  # a score of points without noise: there finer cells always help
_WORSE = 0.1  # by which the finest level must predict worse to be left out
_UNUSUAL = 6.0  # median residuals, from where on a sample counts for less
_SEARCHED = 3  # of the finest levels, on which weights are chosen


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
    normals = _checked_normals(cloud)
    xyz = cloud.xyz.numpy()
    low, high = xyz.min(0), xyz.max(0)
    extent = float((high - low).max())
    size = _voxel_size(xyz - low, extent, options)
    if extent / size > _FINEST:
        raise ValueError(
            f"voxel_size {size:g} is too small for points that extend over {extent:g}: "
            f"at most {_FINEST} cells lie along an axis"
        )
    top = max(int(np.ceil(np.log2(extent / size / _BASE))), 0)
    counts = np.ceil((high - low) / (size * 2**top)).astype(int) + 2 * _MARGIN
    shape = int(counts[0]), int(counts[1]), int(counts[2])
    frame = Frame(torch.from_numpy(0.5 * (low + high) - 0.5 * size * 2**top * counts), size)
    local = frame.local(cloud.xyz).numpy()
    points = local, normals, np.ones(len(local), np.float32)
    samples = [first_samples(*points)]
    for _ in range(top):
        samples.append(samples[-1].coarser())
    free = options.value_weight is None, options.smoothness is None
    search = WeightSearch(points, samples[0].cells, free, options.solver_tol)
    may_stop = options.voxel_size is None and options.depth is None
    may_stop = may_stop and options.detail_level is None
    levels: list[Level] = []
    weights, score = _given(options), np.inf
    for number in range(top, -1, -1):
        tell(f"level {top - number + 1} of {top + 1}", 1 - (number + 1) / (top + 2))
        if number < min(top, _SEARCHED) and search.able and any(free):
            begin = [weights, weights.finer(free)] if score < np.inf else [weights]
            weights, found = search.best(number, samples[number], levels[0], begin)
            _log.debug("level %d predicts to %.3f, the one above to %.3f", number, found, score)
            if may_stop and number == 0 and found > max(score + _WORSE, _EXACT):
                break
            score = found
        coarser = levels[0] if levels else None
        part = samples[number]
        levels.insert(0, _level(part, number, coarser, shape, weights, options))
    tell("done", 1.0)
    unused = top + 1 - len(levels)
    return _field(frame, levels, samples, unused, local)


def _checked_normals(cloud: PointCloud) -> Any:
    """The normals; what `fit_hierarchy` cannot use raises."""
    if cloud.normals is None:
        raise ValueError("the cloud has no normals: estimate them first (estimate_normals)")
    if len(cloud) < 4:
        raise ValueError(f"a surface needs at least 4 points, got {len(cloud)}")
    finite = cloud.xyz.isfinite().all() and cloud.normals.isfinite().all()
    if not bool(finite):
        raise ValueError("the cloud has points or normals that are not finite: clean it first")
    spread = torch.linalg.svdvals(cloud.xyz - cloud.xyz.mean(0)) / len(cloud) ** 0.5
    if not bool(spread[1] > 1e-6 * spread[0]):
        raise ValueError("the points lie on one line or in one place; they span no surface")
    if not bool((cloud.normals.norm(dim=1) > 0.5).any()):
        raise ValueError("the normals are all zero: estimate them first (estimate_normals)")
    return cloud.normals.numpy()


def _voxel_size(local: Any, extent: float, options: HierarchyOptions) -> float:
    if options.voxel_size is not None:
        return options.voxel_size
    if options.depth is not None:
        return float(1.1 * extent / 2**options.depth)
    detail = options.detail_level
    points = target_points(len(local)) if detail is None else 20.0 - 19.0 * detail
    return voxel_size_for(local, extent, points)


def _field(
    frame: Frame, levels: list[Level], pyramid: list[Samples], unused: int, local: Any
) -> HierarchyField:
    """The field in the units of its finest level, `unused` levels above the first samples."""
    size = np.float32(2.0**unused)
    levels = [Level(x.rows, x.coefficient / size, x.addition / size) for x in levels]
    mask, samples = (1 << 20) - 1, pyramid[unused]
    cell = samples.key >> 3
    corner = np.stack([cell >> 40, cell >> 20 & mask, cell & mask], -1).astype(np.float32)
    places = corner + samples.fraction.reshape(-1, 3)
    spacing = _spacing(pyramid, len(local)) / float(size)
    box = local.min(0) / size, local.max(0) / size
    support = Support(places, spacing, box)
    frame = Frame(frame.origin, frame.scale * float(size))
    return HierarchyField(frame, levels, support, unused)


def _spacing(pyramid: list[Samples], points: int) -> float:
    """The typical distance between points, in cells of the first samples."""
    full = [i for i, part in enumerate(pyramid) if points >= 5 * len(part.cells)]
    number = full[0] if full else len(pyramid) - 1
    # A surface crosses about 1.5 cells for each square of a cell's size.
    return float(2.0**number * np.sqrt(len(pyramid[number].cells) / 1.5 / points))


def _level(
    samples: Samples,
    number: int,
    coarser: Level | None,
    shape: tuple[int, int, int],
    weights: Weights,
    options: HierarchyOptions,
) -> Level:
    """Fit what this level adds to the coarser ones."""
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
    mass = samples.weight * np.float32(len(samples.cells) / samples.weight.sum())
    if options.robust and coarser is not None:
        mass *= _trust(residuals(rows, start, samples)[0])
    system = assemble(
        *(rows, samples, np.float32(weights.value) * mass, np.float32(weights.normal) * mass),
        *(weights.smoothness, extra, start),
    )
    solution, steps, left = solve(system, start, options.solver_tol, options.max_iter)
    if _log.isEnabledFor(logging.DEBUG):
        _log.debug("level %d: %s", number, weights)
        _report(number, rows, samples, system.entries, solution, steps, left)
    if coarser is None:
        solution = np.where(border, np.maximum(solution, 0.5), solution)
    solution = (solution * size).astype(np.float32)
    return Level(rows, solution, solution - before)


def _trust(residual: Any) -> Any:
    """Weights that fall where the coarser levels' field is many cells off (Geman, McClure)."""
    usual = max(1.0, _UNUSUAL * float(np.median(np.abs(residual))))
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
    f, g = residuals(rows, solution, samples)
    share = samples.weight / samples.weight.sum()
    _log.debug(
        "level %d: %d rows, %d cells, %d samples, %.1f entries a row, %d steps to %.1e, "
        "value %.4f gradient %.4f",
        *(number, len(rows), len(samples.cells), len(samples), entries / len(rows)),
        *(steps, left, np.sqrt((share * f * f).sum()), np.sqrt((share * g * g).sum())),
    )


def _given(options: HierarchyOptions) -> Weights:
    plain = Weights()
    return Weights(
        plain.value if options.value_weight is None else options.value_weight,
        plain.normal if options.normal_weight is None else options.normal_weight,
        plain.smoothness if options.smoothness is None else options.smoothness,
    )


def _box_rows(shape: tuple[int, int, int]) -> Any:
    x, y, z = (np.arange(n, dtype=np.int64) for n in shape)
    return (x[:, None, None] << 40 | y[:, None] << 20 | z).reshape(-1)


def _border(shape: tuple[int, int, int]) -> Any:
    """Marks the three outermost layers of a box of cells."""
    inner = np.ones(shape, bool)
    inner[3:-3, 3:-3, 3:-3] = False
    return inner.reshape(-1)
