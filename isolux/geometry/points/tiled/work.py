"""What every task of a tiled fit knows, and the files that tasks leave to each other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isolux.geometry.points.extraction import Level
from isolux.geometry.points.hierarchy import Lattice
from isolux.geometry.points.hierarchy_options import HierarchyOptions
from isolux.geometry.points.tiled import store
from isolux.geometry.points.tiled.layout import Tiles

__all__ = ["HALO", "Work"]

HALO = 8
"""Cells of each level about a tile whose points take part in its fit. What points farther away
would change has died out: see the tests."""


@dataclass(frozen=True)
class Work:
    """A cloud that is cut up."""

    folder: Path
    made_from: str  # fingerprint of cloud and options
    lattice: Lattice
    tiles: Tiles
    split: int  # from this level up, one solution for all tiles
    options: HierarchyOptions
    kind: list[str]  # columns of the tiles' points

    @property
    def points_folder(self) -> Path:
        """The tiles' points. Without colours it goes when they are averaged."""
        return self.folder / "points"

    def points(self, tile: int) -> Path:
        """A tile's points."""
        return self.points_folder / f"{tile:06d}.points"

    def samples(self, tile: int) -> Path:
        """A tile's points, averaged at each level up to `split`."""
        return self.folder / "samples" / f"{tile:06d}.tile"

    def levels(self, tile: int) -> Path:
        """A tile's coefficients."""
        return self.folder / "levels" / f"{tile:06d}.tile"

    @property
    def coarse(self) -> Path:
        """Coefficients of the levels that all tiles share."""
        return self.folder / "coarse.tile"

    def read_coarse(self) -> list[Level]:
        """The levels that all tiles share, finest first."""
        parts = store.read(self.coarse, self.made_from)
        numbers = sorted(int(name[:-5]) for name in parts if name.endswith(".rows"))
        names = ("rows", "coefficient", "addition")
        return [Level(*(parts[f"{number}.{name}"] for name in names)) for number in numbers]

    def split_cells(self) -> Any:
        """The occupied cells (int64 [c], sorted) of the split level."""
        return store.read(self.coarse, self.made_from)["occupied"]
