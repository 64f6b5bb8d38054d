"""Points that a surface cannot be fitted to are left out; others are averaged in cells.

Letters: n points, k neighbours, v cells that hold a point.
"""

import logging
from typing import Any, Literal

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.neighbours import Neighbours
from isolux.geometry.points.strays import strays

__all__ = ["cleaned", "downsampled"]

_log = logging.getLogger(__name__)
_SAME = 1e-12  # of the extent
_ZERO = 1e-5  # length of a normal
_FAR = 1e150  # coordinates beyond have no square
_NEAR = 16  # neighbours that say how dense points lie


def cleaned(
    cloud: PointCloud,
    *,
    outliers: float | Literal["auto"] | None = None,
    voxel: float | None = None,
) -> PointCloud:
    """The cloud without what is broken, in its order; what was dropped is logged.

    Rows of which any part is not finite go, and those with a coordinate beyond 1e150, then
    points closer than 1e-12 of the extent to an earlier one, then points whose normal is zero
    (other normals get unit length). Colours are clipped to [0, 1].

    Args:
        cloud: any, also without points.
        outliers: also drop points that lie this many standard deviations sparser than the
            denser of their neighbours (2 is strict, 4 mild); `auto` drops what `strays` finds.
        voxel: then average the points in cells of this edge, in world units.

    Returns:
        A cloud of the precisions that `PointCloud` states. It may have no points.

    Raises:
        ValueError: a threshold or an edge that is not positive.
    """
    for name, value in (("outliers", outliers), ("voxel", voxel)):
        if value in (None, "auto"):
            continue
        if not (isinstance(value, int | float) and value > 0 and np.isfinite(value)):
            raise ValueError(f"{name}: need a finite number above 0, got {value}")
    cloud = _typed(cloud)
    cloud = _without(cloud, ~_finite(cloud), "are not finite")
    cloud = _without(cloud, (cloud.xyz.abs() > _FAR).any(1), f"lie beyond {_FAR:g}")
    xyz = cloud.xyz.numpy()
    cloud = _without(cloud, torch.from_numpy(_repeated(xyz)), "are duplicates")
    if cloud.normals is not None:
        length = cloud.normals.norm(dim=1)
        cloud = _without(cloud, length <= _ZERO, "have a normal of length zero")
    cloud = _ranged(cloud)
    if outliers == "auto":
        cloud = _without(cloud, torch.from_numpy(strays(cloud.xyz.numpy())), "are strays")
    elif outliers is not None:
        far = torch.from_numpy(_sparse(cloud.xyz.numpy(), outliers))
        cloud = _without(cloud, far, "are outliers")
    return cloud if voxel is None else downsampled(cloud, voxel)


def downsampled(cloud: PointCloud, voxel: float) -> PointCloud:
    """Means of positions, normals (of unit length again), sensors and colours by cells.

    Cells are cubes of edge `voxel`, aligned with the lowest corner of the cloud; the points
    come in the order of the cells. Where normals cancel, as those of the two sides of a thin
    sheet, the cell is left out.

    Raises:
        ValueError: an edge that is not positive, or so small that cells cannot be counted.
    """
    if not (voxel > 0 and np.isfinite(voxel)):
        raise ValueError(f"voxel: need a finite number above 0, got {voxel}")
    if not len(cloud):
        return cloud
    cloud = _typed(cloud)
    xyz = cloud.xyz.numpy()
    low = xyz.min(0)
    if float((xyz.max(0) - low).max()) / voxel >= 2.0**62:
        raise ValueError(f"voxel: {voxel} is too small for a cloud of this extent")
    cell = np.floor((xyz - low) / voxel).astype(np.int64)
    order = np.lexsort(cell.T[::-1])
    row = cell[order]
    new = np.ones(len(row), bool)
    new[1:] = (row[1:] != row[:-1]).any(1)
    start = np.flatnonzero(new)
    size = np.diff(np.append(start, len(row)))[:, None]

    def mean(part: Tensor | None) -> Any:
        if part is None:
            return None
        values = part.double().numpy()
        middle = values.mean(0)  # sums of large coordinates would lose digits
        sums = np.add.reduceat((values - middle)[order], start, axis=0)
        return torch.from_numpy(sums / size + middle)

    normals, colors = mean(cloud.normals), mean(cloud.colors)
    made = PointCloud(
        mean(cloud.xyz),
        None if normals is None else normals.float(),
        mean(cloud.sensor),
        None if colors is None else colors.float(),
    )
    _log.info("%d points averaged in %d cells of %g", len(cloud), len(made), voxel)
    if made.normals is not None:
        lost = made.normals.norm(dim=1) < 1e-3
        made = _without(made, lost, "are cells whose normals cancel")
    return _ranged(made)


def _typed(cloud: PointCloud) -> PointCloud:
    def part(values: Tensor | None, kind: torch.dtype) -> Any:
        return None if values is None else values.detach().cpu().to(kind)

    return PointCloud(
        part(cloud.xyz, torch.float64),
        part(cloud.normals, torch.float32),
        part(cloud.sensor, torch.float64),
        part(cloud.colors, torch.float32),
    )


def _ranged(cloud: PointCloud) -> PointCloud:
    """Normals of unit length, colours in [0, 1]."""
    normals, colors = cloud.normals, cloud.colors
    if normals is not None:
        length = normals.double().norm(dim=1, keepdim=True)
        normals = (normals.double() / length.clamp_min(1e-300)).float()
    colors = None if colors is None else colors.clamp(0.0, 1.0)
    return PointCloud(cloud.xyz, normals, cloud.sensor, colors)


def _finite(cloud: PointCloud) -> Tensor:
    fine = cloud.xyz.isfinite().all(1)
    for part in (cloud.normals, cloud.sensor, cloud.colors):
        if part is not None:
            fine = fine & part.isfinite().all(1)
    return fine


def _without(cloud: PointCloud, bad: Tensor, why: str) -> PointCloud:
    count = int(bad.sum())
    if not count:
        return cloud
    _log.info("dropped %d of %d points that %s", count, len(cloud), why)
    return cloud[~bad]


def _repeated(xyz: Any) -> Any:
    """Which points [n] lie where an earlier one does, within 1e-12 of the extent."""
    bad = np.zeros(len(xyz), bool)
    if len(xyz) < 2:
        return bad
    reach = _SAME * float((xyz.max(0) - xyz.min(0)).max())
    rows = np.flatnonzero(_close(xyz, reach))
    # Cells of that edge first: however many points share one, few are left about a place.
    some = xyz[rows]
    cell = np.floor((some - xyz.min(0)) / reach) if reach > 0 else np.zeros_like(some)
    order = np.lexsort(cell.T)
    sorted_cell = cell[order]
    new = np.ones(len(rows), bool)
    new[1:] = (sorted_cell[1:] != sorted_cell[:-1]).any(1)
    bad[rows[order[~new]]] = True
    rows = rows[~bad[rows]]
    if reach > 0 and len(rows):
        pairs = cKDTree(xyz[rows]).query_pairs(reach, output_type="ndarray")
        bad[rows[np.maximum(pairs[:, 0], pairs[:, 1])]] = True
    return bad


def _close(xyz: Any, reach: float) -> Any:
    """Which points [n] may have another within `reach`: those with one along every axis."""
    may = np.ones(len(xyz), bool)
    for axis in range(3):
        order = np.argsort(xyz[:, axis], kind="stable")
        near = np.diff(xyz[order, axis]) <= reach
        either = np.zeros(len(xyz), bool)
        either[order[1:]] |= near
        either[order[:-1]] |= near
        may &= either
    return may


def _sparse(xyz: Any, ratio: float) -> Any:
    """Which points [n] have their neighbours much farther away than those have theirs.

    Compared with neighbours, a scan that thins out with distance keeps its far points.
    """
    if len(xyz) < 4:
        return np.zeros(len(xyz), bool)
    tree = Neighbours(xyz)
    distance, index = tree.among(min(_NEAR + 1, len(xyz)))
    own = np.log(np.maximum(distance[:, 1:].mean(1), 1e-300))
    # The lower quarter of them: strays have other strays among their neighbours.
    excess = own - np.quantile(own[index[:, 1:]], 0.25, axis=1)
    middle = np.median(excess)
    deviation = 1.4826 * np.median(np.abs(excess - middle))
    far = np.empty(len(xyz), bool)
    # A perfect grid has no deviation at all: nothing within a tenth is an outlier.
    far[tree.order] = excess - middle > max(ratio * deviation, 0.1)
    return far
