"""The field of all tiles in a box: what tiles left on disk, put together again.

Letters: m rows (one a coefficient), n points.
"""

from typing import Any

import numpy as np

from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.colors import ColorField
from isolux.geometry.points.extraction import Level
from isolux.geometry.points.octree import Samples, prolonged
from isolux.geometry.points.tiled import store
from isolux.geometry.points.tiled.buckets import points_about
from isolux.geometry.points.tiled.layout import within
from isolux.geometry.points.tiled.plan import Plan
from isolux.geometry.points.tiled.records import cloud_of
from isolux.geometry.points.tiled.samples import samples_where
from isolux.geometry.points.tiled.work import Work

__all__ = ["MARGIN", "box_at", "colors_about", "levels_about", "support_samples"]

MARGIN = 4
"""Cells of each level about a box that its field, and its triangles, may depend on."""

_MANY = 64  # points that colours are taken from, at least, if there are so many


def box_at(box: tuple[Any, Any], number: int, margin: int) -> tuple[Any, Any]:
    """The cells of a level that a box of finest cells touches, and `margin` more each way."""
    low, high = box
    size = 2.0**number
    return (
        np.floor(low / size).astype(np.int64) - margin,
        np.ceil(high / size).astype(np.int64) + margin,
    )


def levels_about(
    work: Work,
    plan: Plan,
    coarse: list[Level],
    box: tuple[Any, Any] | None,
    additions: bool = True,
) -> list[Level]:
    """All levels, finest first, in units of level 0.

    Args:
        work: the cloud.
        plan: of its fit.
        coarse: the levels that all tiles share.
        box: of finest cells (whole numbers [3] each) within which the fine levels are wanted;
            None is everywhere.
        additions: whether what levels add is worked out, for values; triangles do without.
    """
    numbers = range(plan.unused, work.split)
    reach = MARGIN << work.split
    touching = range(len(work.tiles))
    if box is not None:
        touching = work.tiles.touching(box[0] - reach, box[1] + reach).tolist()
    rows: dict[int, list[Any]] = {number: [np.zeros(0, np.int64)] for number in numbers}
    values: dict[int, list[Any]] = {number: [np.zeros(0, np.float32)] for number in numbers}
    for tile in touching if numbers else ():
        path = work.levels(tile)
        arrays = store.read(path, work.made_from) if path.exists() else {}
        for number in numbers:
            if f"{number}.rows" not in arrays:
                continue
            own, value = arrays[f"{number}.rows"], arrays[f"{number}.coefficient"]
            if box is not None:
                kept = within(own, *box_at(box, number, MARGIN))
                own, value = own[kept], value[kept]
            rows[number].append(own)
            values[number].append(value)
    levels = list(coarse)
    for number in reversed(numbers):
        keys, coefficient = np.concatenate(rows[number]), np.concatenate(values[number])
        order = np.argsort(keys, kind="stable")  # which makes use of parts in order
        keys, coefficient = keys[order], coefficient[order]
        added = coefficient
        if additions:
            added = coefficient - prolonged(keys, levels[0].rows, levels[0].coefficient)
        levels.insert(0, Level(keys, coefficient, added))
    return levels


def support_samples(
    work: Work, number: int, box: tuple[Any, Any] | None, margin: int
) -> Samples:
    """Averaged points of a level, within `margin` of its cells about a box of finest cells."""
    stored = min(number, work.split)

    def wanted(cells: Any) -> Any:
        if box is None:
            return np.ones(len(cells), bool)
        low, high = box_at(box, number, margin)
        return within(cells, low << (number - stored), high << (number - stored))

    tiles: Any = range(len(work.tiles))
    if box is not None:
        low, high = box_at(box, number, margin)
        tiles = work.tiles.touching(low << number, high << number).tolist()
    samples = samples_where(work, tiles, {stored: wanted})[stored]
    for _ in range(number - stored):
        samples = samples.coarser()
    return samples


def colors_about(work: Work, box: tuple[Any, Any], margin: float) -> ColorField:
    """Colours by the points in a box of finest cells, and in a margin that holds some."""
    whole = float(max(work.lattice.shape)) * 2.0**work.lattice.top
    low, high = (np.clip(side, 0.0, whole) for side in box)
    while True:
        around = low - margin, high + margin
        records = points_about(work.points_folder, work.lattice, work.tiles, work.kind, around)
        if len(records) >= _MANY or margin > whole:
            cloud = cloud_of(records)
            return ColorField(PointCloud(cloud.xyz, colors=cloud.colors))
        margin *= 4
