"""What all tiles of a fit share: the coarse levels, and how points count at the fine ones.

Each tile would choose weights, masses and scales of its own from its points, and the field
would jump between tiles. They are chosen once, on the blocks of cells that the fit in memory
chooses them on, with enough about these that the levels above are right there. Letters: n
points, c cells.
"""

from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np

from isolux.geometry.points.assembly import field_at
from isolux.geometry.points.extraction import Level
from isolux.geometry.points.hierarchy import fit_levels, usual_residual
from isolux.geometry.points.level_choices import Choice, Choices
from isolux.geometry.points.octree import Samples, above, dilated, prolonged
from isolux.geometry.points.tiled import store
from isolux.geometry.points.tiled.buckets import local_of
from isolux.geometry.points.tiled.layout import cell_keys
from isolux.geometry.points.tiled.records import PointStore
from isolux.geometry.points.tiled.samples import samples_where
from isolux.geometry.points.tiled.work import HALO, Work
from isolux.geometry.points.weights import BLOCK, Weights, searched

__all__ = ["Plan", "planned", "read_plan", "write_plan"]

Tell = Callable[[str, float], None]


@dataclass(frozen=True)
class Plan:
    """How points count at the levels below the split, and what they are like as a whole."""

    choices: dict[int, Choice]
    unused: int  # finest levels that are left out
    cells: list[int]  # occupied, of each level
    points: int


def planned(work: Work, points: PointStore, tell: Tell) -> Plan:
    """Fit the levels that all tiles share, write them, and plan the others."""
    pyramid = _upper(work)
    cells = [*_counts(work), *(len(samples.cells) for samples in pyramid)]
    total = sum(float(count) for count in work.tiles.points)
    core = _core(work, points, cells[0])
    choose = Choices(work.options, core, cells[0], work.lattice.top)
    coarse = fit_levels(
        range(work.lattice.top, work.split - 1, -1),
        lambda number: pyramid[number - work.split],
        *([], work.lattice, work.options, choose, tell),
    )
    arrays: dict[str, Any] = {"occupied": pyramid[0].cells}
    for number, level in enumerate(coarse, work.lattice.top + 1 - len(coarse)):
        for name in ("rows", "coefficient", "addition"):
            arrays[f"{number}.{name}"] = getattr(level, name)
    store.write(work.coarse, work.made_from, arrays)
    found: dict[int, Choice] = {}
    if work.split and len(core[0]):
        _probe(work, core[0], coarse, choose, [total / count for count in cells], found)
    elif work.split:
        found = {n: Choice(choose.weights, total / cells[n]) for n in range(work.split)}
    unused = work.lattice.top + 1 - len(coarse) - len(found)
    return Plan(found, unused, cells, points.count)


def _upper(work: Work) -> list[Samples]:
    """The samples of all points at the split level and above."""
    everything = {work.split: lambda cells: np.ones(len(cells), bool)}
    pyramid = [samples_where(work, range(len(work.tiles)), everything)[work.split]]
    for _ in range(work.lattice.top - work.split):
        pyramid.append(pyramid[-1].coarser())
    return pyramid


def _counts(work: Work) -> list[int]:
    """Occupied cells of each level below the split."""
    counts = [0] * work.split
    for tile in np.flatnonzero(work.tiles.points):
        arrays = store.read(work.samples(int(tile)), work.made_from)
        for number in range(work.split):
            cell = arrays[f"{number}.key"] >> 3
            counts[number] += int((cell[1:] != cell[:-1]).sum()) + 1
    return counts


def _core(work: Work, points: PointStore, cells: int) -> tuple[Any, Any, Any]:
    """The points that weights are chosen by, in their order."""
    places, normals = [np.zeros((0, 3))], [np.zeros((0, 3), np.float32)]
    for block in points.blocks():
        local = local_of(work.lattice, block)
        rows = searched(local, cells)
        places.append(local[rows])
        normals.append(block["normals"][rows])
    local, normal = np.concatenate(places), np.concatenate(normals)
    return local, normal, np.ones(len(local), np.float32)


def _probe(
    work: Work,
    core: Any,
    coarse: list[Level],
    choose: Choices,
    means: list[float],
    found: dict[int, Choice],
) -> None:
    """Fit the fine levels about the core's blocks, and note how points count there."""
    blocks = np.unique(above(cell_keys(core, 0), BLOCK))
    near = {number: _near(blocks, number) for number in range(work.split)}
    samples = samples_where(work, range(len(work.tiles)), near)

    def chosen(number: int, part: Samples, coarser: Level | None) -> Choice | None:
        assert coarser is not None
        count = max(len(part.cells), 1)
        # The search asks samples for their mean only: that of all points, not of the core.
        like_all = replace(part, weight=np.full(1, means[number] * count))
        choice = choose(number, like_all, coarser)
        if choice is None:
            return None
        usual = _usual(work, blocks, number, part, coarser)
        found[number] = Choice(choice.weights, means[number], usual)
        return found[number]

    numbers = range(work.split - 1, -1, -1)
    fit_levels(numbers, samples.__getitem__, coarse, work.lattice, work.options, chosen)


def _near(blocks: Any, number: int) -> Callable[[Any], Any]:
    """Which cells of a level lie within the halo of sorted blocks."""
    if number >= BLOCK:
        wanted = dilated(np.unique(above(blocks, number - BLOCK)), HALO)
        return lambda cells: np.isin(cells, wanted)
    about = dilated(blocks, max(1, (HALO << number) >> BLOCK))
    return lambda cells: np.isin(above(cells, BLOCK - number), about)


def _usual(work: Work, blocks: Any, number: int, samples: Samples, coarser: Level) -> float:
    """From where on a sample counts for less, by those in the blocks."""
    rows = dilated(samples.cells)
    start = prolonged(rows, coarser.rows, coarser.coefficient) / np.float32(2.0**number)
    residual = field_at(rows, start, samples)[0]
    cells = samples.key >> 3
    if number >= BLOCK:
        inside = np.isin(cells, above(blocks, number - BLOCK))
    else:
        inside = np.isin(above(cells, BLOCK - number), blocks)
    return usual_residual(residual[inside])


def write_plan(work: Work, plan: Plan) -> None:
    """Keep a plan beside the tiles."""
    table = [
        (n, *astuple(c.weights), c.mean, c.usual or 0.0)
        for n, c in sorted(plan.choices.items())
    ]
    arrays = {
        "choices": np.array(table, np.float64).reshape(-1, 7),
        "cells": np.array(plan.cells),
        "unused_points": np.array([plan.unused, plan.points]),
    }
    store.write(work.folder / "plan.tile", work.made_from, arrays)


def read_plan(work: Work) -> Plan | None:
    """The plan, if it was made before with all that belongs to it."""
    path = work.folder / "plan.tile"
    if not (store.is_made(path, work.made_from) and store.is_made(work.coarse, work.made_from)):
        return None
    arrays = store.read(path, work.made_from)
    choices = {
        int(n): Choice(Weights(value, normal, smoothness, bool(learned)), mean, usual or None)
        for n, value, normal, smoothness, learned, mean, usual in arrays["choices"].tolist()
    }
    unused, points = arrays["unused_points"].tolist()
    return Plan(choices, unused, arrays["cells"].tolist(), points)
