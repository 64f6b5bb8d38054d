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
from isolux.geometry.points.density import voxel_size_for
from isolux.geometry.points.extraction import Level
from isolux.geometry.points.far_field import far_field
from isolux.geometry.points.hierarchy_field import HierarchyField
from isolux.geometry.points.hierarchy_options import HierarchyOptions
from isolux.geometry.points.octree import Samples, dilated, first_samples, prolonged
from isolux.geometry.points.trimming import Support

__all__ = ["fit_hierarchy"]

_log = logging.getLogger(__name__)

_BASE = 24  # cells of the coarsest level along the longest side of the points' box
_MARGIN = 5  # cells of it on every side
_ANCHOR = 0.3


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
    if cloud.normals is None:
        raise ValueError("the cloud has no normals: estimate them first (estimate_normals)")
    tell("points", 0.0)
    xyz, normals = cloud.xyz.numpy(), cloud.normals.numpy()
    low, high = xyz.min(0), xyz.max(0)
    extent = float((high - low).max())
    size = _voxel_size(xyz - low, extent, options)
    top = max(int(np.ceil(np.log2(extent / size / _BASE))), 0)
    shape = np.ceil((high - low) / (size * 2**top)).astype(int) + 2 * _MARGIN
    frame = Frame(torch.from_numpy(0.5 * (low + high) - 0.5 * size * 2**top * shape), size)
    local = frame.local(cloud.xyz).numpy()
    samples = [first_samples(local, normals, np.ones(len(local), np.float32))]
    for _ in range(top):
        samples.append(samples[-1].coarser())
    support = _support(samples[0], len(local), local)
    levels: list[Level] = []
    for number in range(top, -1, -1):
        tell(f"level {top - number + 1} of {top + 1}", 1 - (number + 1) / (top + 2))
        coarser = levels[0] if levels else None
        levels.insert(0, _level(samples[number], number, coarser, tuple(shape), options))
    tell("done", 1.0)
    return HierarchyField(frame, levels, support)


def _voxel_size(local: Any, extent: float, options: HierarchyOptions) -> float:
    if options.voxel_size is not None:
        return options.voxel_size
    if options.depth is not None:
        return float(1.1 * extent / 2**options.depth)
    detail = options.detail_level
    points = 1.0 if detail is None else 20.0 - 19.0 * detail  # in an occupied cell
    return voxel_size_for(local, extent, points)


def _support(samples: Samples, points: int, local: Any) -> Support:
    mask = (1 << 20) - 1
    cell = samples.key >> 3
    corner = np.stack([cell >> 40, cell >> 20 & mask, cell & mask], -1).astype(np.float32)
    places = corner + samples.fraction.reshape(-1, 3)
    # A surface crosses about 1.5 cells for each of its squares of a cell's size.
    spacing = float(np.sqrt(len(samples.cells) / 1.5 / points))
    return Support(places, max(spacing, 1.0), (local.min(0), local.max(0)))


def _level(
    samples: Samples,
    number: int,
    coarser: Level | None,
    shape: tuple[int, int, int],
    options: HierarchyOptions,
) -> Level:
    """Fit what this level adds to the coarser ones."""
    size = np.float32(2.0**number)
    if coarser is None:
        rows = _box_rows(shape)
        start, distance = far_field(samples, shape)
        extra = np.where(distance >= 2, _ANCHOR, 1e-4).astype(np.float32)
        border = _border(shape)
        start = np.where(border, np.maximum(np.abs(start), 1), start).astype(np.float32)
        extra[border] = 10.0
        before = np.zeros(len(rows), np.float32)
    else:
        rows = dilated(samples.cells, options.dilation)
        before = prolonged(rows, coarser.rows, coarser.coefficient)
        start = before / size
        extra = np.full(len(rows), 1e-4, np.float32)
    value, slope, smooth = _weights(options)
    weight = samples.weight * np.float32(len(samples.cells) / samples.weight.sum())
    system = assemble(rows, samples, value * weight, slope * weight, smooth, extra, start)
    solution, steps, left = solve(system, start, options.solver_tol, options.max_iter)
    if _log.isEnabledFor(logging.DEBUG):
        _report(number, rows, samples, system.entries, solution, steps, left)
    if coarser is None:
        solution = np.where(border, np.maximum(solution, 0.5), solution)
    solution = (solution * size).astype(np.float32)
    return Level(rows, solution, solution - before)


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


def _weights(options: HierarchyOptions) -> tuple[np.float32, np.float32, float]:
    value = 1.0 if options.value_weight is None else options.value_weight
    slope = 1.0 if options.normal_weight is None else options.normal_weight
    smooth = 1e-3 if options.smoothness is None else options.smoothness
    return np.float32(value), np.float32(slope), smooth


def _box_rows(shape: tuple[int, int, int]) -> Any:
    x, y, z = (np.arange(n, dtype=np.int64) for n in shape)
    return (x[:, None, None] << 40 | y[:, None] << 20 | z).reshape(-1)


def _border(shape: tuple[int, int, int]) -> Any:
    """Marks the three outermost layers of a box of cells."""
    inner = np.ones(shape, bool)
    inner[3:-3, 3:-3, 3:-3] = False
    return inner.reshape(-1)
