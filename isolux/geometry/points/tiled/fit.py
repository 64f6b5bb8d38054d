"""The engine `hierarchy` for clouds that do not fit in memory."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.hierarchy_options import HierarchyOptions
from isolux.geometry.points.octree import dilated
from isolux.geometry.points.tiled import store
from isolux.geometry.points.tiled.buckets import bucketed, cells_and_counts
from isolux.geometry.points.tiled.field import TiledField
from isolux.geometry.points.tiled.layout import cut
from isolux.geometry.points.tiled.measure import lattice_for
from isolux.geometry.points.tiled.options import TileOptions
from isolux.geometry.points.tiled.plan import Plan, planned, read_plan, write_plan
from isolux.geometry.points.tiled.prepare import Prepare, prepared
from isolux.geometry.points.tiled.records import (
    PointStore,
    gathered,
    records_of,
    remove_others,
)
from isolux.geometry.points.tiled.runners import runner_for
from isolux.geometry.points.tiled.samples import average
from isolux.geometry.points.tiled.schedule import Schedule, Task
from isolux.geometry.points.tiled.solve import fit_tile
from isolux.geometry.points.tiled.work import Work

__all__ = ["fit_tiles"]

_COARSE = 300_000  # occupied cells at most, at the level that is solved as a whole


def fit_tiles(
    blocks: Callable[[], Iterator[PointCloud]],
    folder: Path,
    options: HierarchyOptions | None = None,
    tiles: TileOptions | None = None,
    prepare: Prepare | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> TiledField:
    """Fit a field to points that come in blocks, tile by tile, from disk to disk.

    The coarse levels are one solution for all tiles, and tiles share what else they would
    choose differently; below, each tile is fitted with a halo of points and keeps the
    coefficients of its own cells. So the field has one value everywhere, and is that of
    `fit_hierarchy` up to what points beyond the halo would have changed.

    Args:
        blocks: a fresh iterator over parts of the cloud of bounded size, in the same order
            each time. All know the same of their points. Rows that are not finite are dropped.
        folder: for what is worked out on the way, some 200 bytes a point. What is finished in
            it, and made from the same points with the same options, is not done again: a run
            that was stopped goes on. The field reads from it.
        options: of the fit; None takes the defaults.
        tiles: how the cloud is cut up and who works; None takes the defaults.
        prepare: cleans a tile together with what lies about it. With workers it must be a
            function of a module, or a `functools.partial` of one.
        progress: told what is being done, and the share that is done.

    Raises:
        ValueError: as `fit_hierarchy`; a runner that is not to be had.
        RuntimeError: a tile failed more often than it may. What is finished is kept.
        OSError: the folder cannot be written to.
    """
    options, tiles = options or HierarchyOptions(), tiles or TileOptions()
    tell = _rising(progress or (lambda text, share: None))
    folder = Path(folder).resolve()
    runner = runner_for(tiles)
    try:

        def schedule(made_from: str) -> Schedule:
            return Schedule(runner, tiles.retries, made_from, tell)

        points = gathered(
            lambda: (records_of(cloud) for cloud in blocks()), folder, "cloud", tell
        )
        if prepare is not None or "normals" not in points.kind:
            points = prepared(points, folder, prepare, tiles.points, schedule)
        work = _cut_up(points, folder, options, tiles)
        tell(f"{points.count} points in {len(work.tiles)} tiles", 0.2)
        plan = _fitted(work, points, schedule(work.made_from))
    finally:
        runner.close()
    tell("done", 1.0)
    return TiledField(work, plan, tiles, (np.array(points.low), np.array(points.high)))


def _rising(tell: Callable[[str, float], None]) -> Callable[[str, float], None]:
    """Steps that know nothing of the whole say 0: the share stays what it was."""
    most = [0.0]

    def told(text: str, share: float) -> None:
        most[0] = max(most[0], share)
        tell(text, most[0])

    return told


def _cut_up(
    points: PointStore, folder: Path, options: HierarchyOptions, tiles: TileOptions
) -> Work:
    """The tiles of a cloud, and a folder of its own for this fit."""
    if points.count < 4:
        raise ValueError(f"a surface needs at least 4 points, got {points.count}")
    lattice = lattice_for(points, options)
    most = min(_COARSE, tiles.points)
    split, cells, counts = cells_and_counts(points, lattice, most)
    cut_up = cut(cells, counts, split, lattice.shape, lattice.top, tiles.points)
    made_from = store.fingerprint(points.digest, options, tiles.points)
    own = folder / f"fit-{made_from}"
    remove_others(own, "fit-*")
    return Work(own, made_from, lattice, cut_up, split, options, points.kind)


def _fitted(work: Work, points: PointStore, schedule: Schedule) -> Plan:
    """Do all that is to be done for the coefficients."""
    tell = schedule.tell
    held = work.tiles.points.tolist()
    tasks = [
        Task(f"averaging tile {tile}", average, (work, tile), work.samples(tile), count)
        for tile, count in enumerate(held)
        if count
    ]
    painted = "colors" in work.kind  # meshes will ask for the points
    if painted or not all(store.is_made(task.result, work.made_from) for task in tasks):
        bucketed(points, work.lattice, work.tiles, work.points_folder, tell)
        schedule.run("averages", tasks, (0.2, 0.3))
    if not painted:
        shutil.rmtree(work.points_folder, ignore_errors=True)
    plan = read_plan(work)
    if plan is None:
        tell("the coarse levels", 0.3)
        plan = planned(work, points, lambda text, share: tell(text, 0.3 + 0.1 * share))
        write_plan(work, plan)
    if work.split > plan.unused:
        tasks = [
            Task(f"tile {tile}", fit_tile, (work, plan, tile), work.levels(tile), held[tile])
            for tile in active_tiles(work)
        ]
        schedule.run("fit", tasks, (0.4, 1.0))
    return plan


def active_tiles(work: Work) -> list[int]:
    """The tiles that have coefficients below the split."""
    cells = work.split_cells()
    near = dilated(cells, work.options.dilation // 2 + 1)
    found: Any = np.unique(work.tiles.of(near, work.split))
    return [int(tile) for tile in found if tile >= 0]
