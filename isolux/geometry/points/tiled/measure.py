"""What cells suit points that lie on disk: `density` without holding them all."""

import numpy as np
import torch

from isolux.geometry.points.cloud import Frame
from isolux.geometry.points.density import occupied, size_by
from isolux.geometry.points.hierarchy import Lattice, cell_size, checked_normals
from isolux.geometry.points.hierarchy_options import HierarchyOptions
from isolux.geometry.points.octree import subset
from isolux.geometry.points.tiled.layout import cell_keys
from isolux.geometry.points.tiled.records import PointStore, cloud_of

__all__ = ["lattice_for"]

_SAMPLE = 1_000_000  # points, spread over the cloud, that tell where cells hold many
_LOCAL = 2_000_000  # points, in blocks of cells with all of theirs, that tell how many
_BLOCK = 5  # cells of such a block along an axis, as a power of two
_MANY = 40.0  # points in a cell, from where on `density` halves the cells in any case


def lattice_for(points: PointStore, options: HierarchyOptions) -> Lattice:
    """The cells of a cloud, as the fit in memory would choose them.

    Up to a million points exactly so; of more, some blocks of cells are counted.

    Raises:
        ValueError: as `fit_hierarchy`.
    """
    some = cloud_of(points.some(_SAMPLE))
    checked_normals(some)
    low, high = np.array(points.low), np.array(points.high)
    extent, sample = float((high - low).max()), some.xyz.numpy() - low

    def mean_at(size: float) -> float:
        mean = len(sample) / occupied(sample, size)
        if len(sample) == points.count or mean > _MANY:
            return mean
        return _mean_of_blocks(points, low, size) or mean

    size = cell_size(
        options, extent, points.count, lambda wanted: size_by(mean_at, extent, wanted)
    )
    return Lattice.about(low, high, size)


def _mean_of_blocks(points: PointStore, low: np.ndarray, size: float) -> float:
    """Points in an occupied cell of some size, in blocks chosen by their place; 0: in none."""
    frame = Frame(torch.from_numpy(low), size)
    count, keys = 0, np.zeros(0, np.int64)
    for block in points.blocks():
        local = frame.local(torch.from_numpy(np.ascontiguousarray(block["xyz"]))).numpy()
        chosen = local[subset(local, range(points.count), _BLOCK, _LOCAL)]
        count += len(chosen)
        keys = np.unique(np.concatenate([keys, cell_keys(chosen, 0)]))
    return count / max(len(keys), 1)
