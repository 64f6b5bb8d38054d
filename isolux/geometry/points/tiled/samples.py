"""Averaged points of tiles: made once, read by every tile that lies near.

Letters: s samples, c cells.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from isolux.geometry.points.octree import Samples, first_samples
from isolux.geometry.points.octree_kernels import cells_of
from isolux.geometry.points.tiled import store
from isolux.geometry.points.tiled.buckets import local_of
from isolux.geometry.points.tiled.layout import within
from isolux.geometry.points.tiled.records import read_records
from isolux.geometry.points.tiled.work import Work

__all__ = ["average", "joined", "samples_about", "samples_where"]

_NAMES = ("key", "fraction", "normal", "weight")
_WIDTH = (1, 3, 3, 1)


def average(work: Work, tile: int) -> None:
    """Average a tile's points over the cells of each level up to the split."""
    records = read_records(work.points(tile), work.kind)
    local = local_of(work.lattice, records)
    weight = np.ones(len(local), np.float32)
    arrays: dict[str, Any] = {}
    samples = first_samples(local, records["normals"], weight)
    for number in range(work.split + 1):
        if number:
            samples = samples.coarser()
        arrays |= {f"{number}.{name}": getattr(samples, name) for name in _NAMES}
    store.write(work.samples(tile), work.made_from, arrays)


def samples_where(
    work: Work, tiles: Iterable[int], choose: dict[int, Callable[[Any], Any]]
) -> dict[int, Samples]:
    """Samples of some tiles at some levels.

    Args:
        work: the cloud.
        tiles: whose samples.
        choose: for each level, which cells (keys, int64 [c]) are wanted (bool [c]).
    """
    found: dict[int, list[tuple[Any, ...]]] = {number: [] for number in choose}
    for tile in tiles:
        if not work.tiles.points[tile]:
            continue
        arrays = store.read(work.samples(int(tile)), work.made_from)
        for number, wanted in choose.items():
            key = arrays[f"{number}.key"]
            mask = wanted(key >> 3)
            parts = (arrays[f"{number}.{name}"].reshape(len(key), -1) for name in _NAMES)
            found[number].append(tuple(part[mask] for part in parts))
    return {number: joined(parts) for number, parts in found.items()}


def samples_about(work: Work, tile: int, numbers: range, margin: int) -> dict[int, Samples]:
    """Samples of levels in a tile, and in `margin` cells of each level about it."""
    low, high = work.tiles.box(tile)
    reach = margin << max(numbers, default=0)

    def near(number: int) -> Callable[[Any], Any]:
        start, stop = work.tiles.box(tile, number)
        return lambda cells: within(cells, start - margin, stop + margin)

    tiles = work.tiles.touching(low - reach, high + reach).tolist()
    return samples_where(work, tiles, {number: near(number) for number in numbers})


def joined(parts: list[tuple[Any, ...]]) -> Samples:
    """Samples of several tiles as one: of each key (int64 [s, 1]), fraction [s, 3], normal
    [s, 3], weight [s, 1]."""
    empty = tuple(
        np.zeros((0, width), np.int64 if name == "key" else np.float32)
        for name, width in zip(_NAMES, _WIDTH, strict=True)
    )
    key, *rest = (np.concatenate(column) for column in zip(empty, *parts, strict=True))
    order = np.argsort(key[:, 0], kind="stable")
    fraction, normal, weight = (column[order].reshape(-1) for column in rest)
    keys = key[order, 0]
    cells, first = np.empty(len(keys), np.int64), np.empty(len(keys) + 1, np.int32)
    count = cells_of(keys, cells, first)
    return Samples(
        *(keys, fraction, normal, weight),
        *(cells[:count].copy(), first[: count + 1].copy()),
    )
