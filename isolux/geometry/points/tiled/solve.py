"""One tile's coefficients, from its points and those in a halo about it."""

from typing import Any

from isolux.geometry.points.hierarchy import fit_levels
from isolux.geometry.points.tiled import store
from isolux.geometry.points.tiled.layout import within
from isolux.geometry.points.tiled.plan import Plan
from isolux.geometry.points.tiled.samples import samples_about
from isolux.geometry.points.tiled.work import HALO, Work

__all__ = ["fit_tile"]


def fit_tile(work: Work, plan: Plan, tile: int) -> None:
    """Fit the levels below the split in a tile, and keep the coefficients of its own cells.

    Every cell belongs to one tile, so that the field has one value everywhere, and is as smooth
    between tiles as in them.
    """
    numbers = range(plan.unused, work.split)
    samples = samples_about(work, tile, numbers, HALO)
    arrays: dict[str, Any] = {}
    known = work.read_coarse()
    above = len(known)
    levels = fit_levels(
        [number for number in reversed(numbers) if len(samples[number])],
        samples.__getitem__,
        *(known, work.lattice, work.options),
        lambda number, part, coarser: plan.choices[number],
    )
    fitted = reversed(levels[: len(levels) - above])
    for number, level in zip(reversed(numbers), fitted, strict=False):
        own = within(level.rows, *work.tiles.box(tile, number))
        arrays[f"{number}.rows"] = level.rows[own]
        arrays[f"{number}.coefficient"] = level.coefficient[own]
    store.write(work.levels(tile), work.made_from, arrays)
