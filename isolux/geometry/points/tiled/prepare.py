"""Cleaning and normals of a cloud on disk, tile by tile.

Letters: n points.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.hierarchy import Lattice
from isolux.geometry.points.normals import estimate_normals, neighbours_of
from isolux.geometry.points.tiled import store
from isolux.geometry.points.tiled.buckets import (
    bucketed,
    cells_and_counts,
    local_of,
    points_about,
)
from isolux.geometry.points.tiled.layout import Tiles, cut
from isolux.geometry.points.tiled.records import (
    PointStore,
    cloud_of,
    gathered,
    known_store,
    record_type,
    records_of,
    remove_others,
)
from isolux.geometry.points.tiled.schedule import Schedule, Task

__all__ = ["Prepare", "prepared"]

Prepare = Callable[[PointCloud], PointCloud]
_CELLS = 4096  # along the longest side, of the lattice that tiles are cut on
_MOST = 300_000  # occupied cells to cut by
_GUIDE = 300_000  # points that say which side is outside
_ASKED = 8  # tiles, for how many neighbours normals need
_FEWEST = 100  # points of such a tile
_HALO = 1 / 8  # of a tile's edge, about it


@dataclass(frozen=True)
class Raw:
    """A cloud that is cut up as it came."""

    folder: Path
    made_from: str
    lattice: Lattice
    tiles: Tiles
    kind: list[str]
    prepare: Prepare | None

    def result(self, tile: int) -> Path:
        """A tile's prepared points."""
        return self.folder / "ready" / f"{tile:06d}.tile"

    @property
    def points(self) -> Path:
        """The folder of tiles' points, as they came."""
        return self.folder / "points"

    @property
    def sided(self) -> bool:
        """Whether each tile knows its outside: by normals, or by sensors."""
        return "normals" in self.kind or "sensor" in self.kind

    @property
    def neighbours(self) -> Path:
        """Through how many points planes go, for all tiles."""
        return self.folder / "neighbours.tile"

    @property
    def guide(self) -> Path:
        """Some points of the whole cloud whose normals have their side."""
        return self.folder / "guide.tile"


def prepared(
    points: PointStore,
    folder: Path,
    prepare: Prepare | None,
    most: int,
    schedule: Callable[[str], Schedule],
) -> PointStore:
    """A cloud cleaned by `prepare`, with normals where it had none.

    Args:
        points: as they came.
        folder: to work in.
        prepare: of a tile and what lies about it. It may add normals, of any side where there
            is no sensor; where it does not they are estimated. Without sensors their side
            comes from those of some points of the whole cloud.
        most: points of a tile.
        schedule: for results with a fingerprint.

    Raises:
        ValueError: too few points, or nothing is left.
    """
    if points.count < 4:
        raise ValueError(f"a surface needs at least 4 points, got {points.count}")
    made_from = store.fingerprint(points.digest, prepare, most)
    known = known_store(folder, "prepared", made_from)
    if known is not None:
        return known
    low, high = np.array(points.low), np.array(points.high)
    extent = float((high - low).max())
    if not extent > 0:
        raise ValueError("the points lie in one place; they span no surface")
    lattice = Lattice.about(low, high, extent / _CELLS)
    number, cells, counts = cells_and_counts(points, lattice, _MOST)
    tiles = cut(cells, counts, number, lattice.shape, lattice.top, most)
    raw = Raw(folder / f"raw-{made_from}", made_from, lattice, tiles, points.kind, prepare)
    work = schedule(made_from)
    remove_others(raw.folder, "raw-*")
    bucketed(points, lattice, tiles, raw.points, work.tell)
    if not raw.sided and not store.is_made(raw.guide, made_from):
        _write_guide(raw, points)
    if "normals" not in raw.kind and not store.is_made(raw.neighbours, made_from):
        _choose_neighbours(raw)
    tasks = [
        Task(f"preparing tile {tile}", prepare_tile, (raw, tile), raw.result(tile), int(held))
        for tile, held in enumerate(tiles.points.tolist())
        if held
    ]
    work.run("points", tasks, (0.05, 0.2))

    def blocks() -> Iterator[Any]:
        for task in tasks:
            yield _records(store.read(task.result, made_from))

    ready = gathered(blocks, folder, "prepared", work.tell, made_from)
    shutil.rmtree(raw.folder, ignore_errors=True)
    return ready


def prepare_tile(raw: Raw, tile: int) -> None:
    """Clean a tile and what lies about it, estimate normals, and keep the tile's own points."""
    low, high = raw.tiles.box(tile)
    halo = max(1, int(_HALO * (high - low)[0]))
    cloud = _cleaned(raw, (low - halo, high + halo))
    if cloud.normals is None:
        cloud = _with_normals(raw, cloud)
    if not raw.sided and len(cloud):
        cloud = _turned(raw, cloud)
    records = records_of(PointCloud(cloud.xyz, cloud.normals, colors=cloud.colors))
    local = local_of(raw.lattice, records)
    own = records[((local >= low) & (local < high)).all(1)]
    store.write(
        raw.result(tile), raw.made_from, {name: own[name] for name in records.dtype.names}
    )


def _cleaned(raw: Raw, box: tuple[Any, Any]) -> PointCloud:
    cloud = cloud_of(points_about(raw.points, raw.lattice, raw.tiles, raw.kind, box))
    return cloud if raw.prepare is None else raw.prepare(cloud)


def _with_normals(raw: Raw, cloud: PointCloud) -> PointCloud:
    if len(cloud) < 3:  # no plane goes through them
        return _keeping(cloud, torch.zeros(len(cloud), 3))[:0]
    count = int(store.read(raw.neighbours, raw.made_from)["count"][0])
    return estimate_normals(cloud, count or None)[0]


def _choose_neighbours(raw: Raw) -> None:
    """One number for all tiles, by what most are like: with their own, seams would show."""
    held = np.cumsum(raw.tiles.points)
    asked = np.searchsorted(held, (np.arange(_ASKED) + 0.5) / _ASKED * held[-1], "right")
    found = []
    for tile in np.unique(asked):
        cloud = _cleaned(raw, raw.tiles.box(int(tile)))
        if cloud.normals is None and len(cloud) >= _FEWEST:
            found += [neighbours_of(cloud)] * int((asked == tile).sum())
    count = int(np.median(found)) if found else 0
    store.write(raw.neighbours, raw.made_from, {"count": np.array([count])})


def _turned(raw: Raw, cloud: PointCloud) -> PointCloud:
    """The cloud with its normals to the side that they have in the whole cloud."""
    assert cloud.normals is not None
    guide = store.read(raw.guide, raw.made_from)
    _, nearest = cKDTree(guide["xyz"]).query(cloud.xyz.numpy())
    side = (torch.from_numpy(guide["normals"][nearest]) * cloud.normals).sum(1, keepdim=True)
    return _keeping(cloud, torch.where(side < 0, -cloud.normals, cloud.normals))


def _keeping(cloud: PointCloud, normals: torch.Tensor) -> PointCloud:
    return PointCloud(cloud.xyz, normals, cloud.sensor, cloud.colors)


def _write_guide(raw: Raw, points: PointStore) -> None:
    """Normals of some points of the whole cloud, outward."""
    cloud = cloud_of(points.some(_GUIDE))
    cloud = cloud if raw.prepare is None else raw.prepare(cloud)
    if cloud.normals is None:
        cloud = estimate_normals(cloud)[0]
    records = records_of(cloud)
    store.write(raw.guide, raw.made_from, {name: records[name] for name in ("xyz", "normals")})


def _records(arrays: dict[str, Any]) -> Any:
    out = np.empty(len(arrays["xyz"]), record_type(list(arrays)))
    for name, values in arrays.items():
        out[name] = values
    return out
