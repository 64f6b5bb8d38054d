"""Points sorted into the files of their tiles, from disk to disk.

Letters: n points.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from isolux.geometry.points.hierarchy import Lattice
from isolux.geometry.points.octree import above
from isolux.geometry.points.tiled.layout import Tiles, cell_keys, counted
from isolux.geometry.points.tiled.records import PointStore, empty_folder, read_records

__all__ = ["bucketed", "cells_and_counts", "local_of", "points_about"]

Tell = Callable[[str, float], None]
_BELOW = 4  # levels below the coarsest, to begin counting at


def local_of(lattice: Lattice, records: Any) -> Any:
    """Points in the lattice's frame, float64 [n, 3], in finest cells."""
    frame = lattice.frame
    return (records["xyz"] - frame.origin.numpy()) / frame.scale


def cells_and_counts(points: PointStore, lattice: Lattice, most: int) -> tuple[int, Any, Any]:
    """The finest level with at most `most` occupied cells, those, and the points in each."""

    def locals_() -> Iterator[Any]:
        return (local_of(lattice, block) for block in points.blocks())

    number = max(lattice.top - _BELOW, 0)
    cells, counts = counted(locals_, number)
    while len(cells) <= most and number > 0:
        number -= 1
        cells, counts = counted(locals_, number)
    while len(cells) > most and number < lattice.top:
        number += 1
        place, inverse = np.unique(above(cells, 1), return_inverse=True)
        counts = np.bincount(inverse, counts, len(place)).astype(np.int64)
        cells = place
    return number, cells, counts


def bucketed(
    points: PointStore, lattice: Lattice, tiles: Tiles, folder: Path, tell: Tell
) -> None:
    """Write the points of each tile to a file of the folder, unless that has been done."""
    done, size = folder / "done", points.count * points.dtype.itemsize
    if done.exists() and sum(part.stat().st_size for part in folder.glob("*.points")) == size:
        return
    empty_folder(folder)
    seen = 0
    for block in points.blocks():
        tile = tiles.of(cell_keys(local_of(lattice, block), 0))
        order = np.argsort(tile, kind="stable")
        numbers, first = np.unique(tile[order], return_index=True)
        for number, rows in zip(numbers, np.split(order, first[1:]), strict=True):
            with (folder / f"{number:06d}.points").open("ab") as file:
                file.write(memoryview(block[rows].view(np.uint8)))
        seen += len(block)
        tell(f"{seen} of {points.count} points sorted into {len(tiles)} tiles", 0.0)
    done.touch()


def points_about(
    folder: Path, lattice: Lattice, tiles: Tiles, kind: list[str], box: tuple[Any, Any]
) -> Any:
    """The records within a box of finest cells (float64 [3] each)."""
    low, high = box
    parts = [read_records(Path("none"), kind)]
    for tile in tiles.touching(low, high):
        records = read_records(folder / f"{tile:06d}.points", kind)
        local = local_of(lattice, records)
        parts.append(records[((local >= low) & (local < high)).all(1)])
    return np.concatenate(parts)
