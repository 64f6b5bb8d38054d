"""The triangles of a tiled field, drawn box by box, each by itself.

Letters: c cells, v vertices, f faces. A vertex is known everywhere by its cell (a key of the
level that is drawn) and its number in the cell: id = 4 * key + number. The same cell gives
the same bits in whichever box it is drawn.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from isolux.geometry.points.extraction import (
    Level,
    crossed_cells,
    draw,
    finer,
    inner_cells,
)
from isolux.geometry.points.hierarchy import places_of
from isolux.geometry.points.octree import dilated, united
from isolux.geometry.points.tiled import store
from isolux.geometry.points.tiled.layout import Tiles, cut, within
from isolux.geometry.points.tiled.plan import Plan
from isolux.geometry.points.tiled.region import (
    MARGIN,
    box_at,
    colors_about,
    levels_about,
    support_samples,
)
from isolux.geometry.points.tiled.work import Work
from isolux.geometry.points.trimming import Support

__all__ = ["Drawing", "MeshJob", "draw_box", "prepare_drawing"]

_CELLS = 400_000  # that the surface crosses in a box, about
_NEAR = 64.0  # cells of a level; farther away, points of a coarser one will do
_VOTES = 100_000  # points that are asked which part they lie on


@dataclass(frozen=True)
class MeshJob:
    """What is drawn."""

    down: int  # levels below the finest one that was fitted
    limit: float  # from the points, in cells of that level
    colors: bool


@dataclass(frozen=True)
class Drawing:
    """A mesh that is cut up."""

    work: Work
    plan: Plan
    job: MeshJob
    boxes: Tiles
    begun: int  # the level that all boxes begin from
    folder: Path
    made_from: str

    @property
    def level(self) -> int:
        """That is drawn; it may be negative."""
        return self.plan.unused - self.job.down

    @property
    def support_level(self) -> int:
        """Whose averaged points say what is near."""
        far = self.job.limit * 2.0**self.plan.unused
        coarser = int(np.ceil(np.log2(far / _NEAR))) if _NEAR < far < np.inf else 0
        return min(max(self.plan.unused, coarser), self.work.lattice.top)

    def result(self, box: int) -> Path:
        """A box's triangles."""
        return self.folder / f"{box:06d}.tile"

    @property
    def start(self) -> Path:
        """The cells that all boxes begin from."""
        return self.folder / "start.tile"


def prepare_drawing(
    work: Work, plan: Plan, job: MeshJob, coarse: list[Level]
) -> tuple[Drawing, list[int]]:
    """Follow the zero set down the coarse levels, and cut what it crosses into boxes.

    Returns:
        The drawing, and the boxes that may hold triangles.
    """
    made_from = store.fingerprint(work.made_from, job)
    folder = work.folder / f"mesh-{made_from}"
    top, level = work.lattice.top, plan.unused - job.down
    finest = top + 1 - len(coarse)
    begun = max(finest, level)
    rows, coefficient = coarse[-1].rows, coarse[-1].coefficient
    cells = crossed_cells(inner_cells(rows), rows, coefficient)
    for number in range(top - 1, begun - 1, -1):
        cells, rows, coefficient = finer(cells, rows, coefficient, coarse[number - finest])
        if number > level:
            cells = crossed_cells(cells, rows, coefficient)
    cells = _within_reach(work, plan, job, cells, begun)
    arrays = {"cells": cells, "rows": rows, "coefficient": coefficient}
    counts = np.full(len(cells), 4 ** (begun - level), np.int64)
    places = cells
    if level < begun == work.split:  # fine levels may bring the surface elsewhere
        places = united(cells, dilated(work.split_cells(), work.options.dilation // 2 + 1))
        counts = np.isin(places, cells) * counts.max(initial=1)
    boxes = cut(places, counts, begun, work.lattice.shape, top, _CELLS)
    drawing = Drawing(work, plan, job, boxes, begun, folder, made_from)
    store.write(drawing.start, made_from, arrays)
    return drawing, np.unique(boxes.of(places, begun)).tolist()


def _within_reach(work: Work, plan: Plan, job: MeshJob, cells: Any, number: int) -> Any:
    """Those of a level's cells that faces within the limit may come from."""
    if job.limit == np.inf:
        return cells
    mask, size = (1 << 20) - 1, 2.0 ** (number - work.split)
    middle = np.stack([cells >> 40, cells >> 20 & mask, cells & mask], -1) + 0.5
    occupied = work.split_cells()
    corner = np.stack([occupied >> 40, occupied >> 20 & mask, occupied & mask], -1)
    # A vertex is less than a cell from its middle, a neighbour's less than two more; a point
    # less than one from the middle of its own.
    limit = job.limit * 2.0 ** (plan.unused - work.split) + 3.0 * size + 1.0
    distance, _ = cKDTree(corner + 0.5).query(size * middle, distance_upper_bound=limit)
    return cells[distance <= limit]


def draw_box(drawing: Drawing, box: int) -> None:
    """Draw a box's triangles, and enough about them to know which parts belong together."""
    level, job = drawing.level, drawing.job
    low, high = drawing.boxes.box(box, level)
    cells, rows, coefficient = _followed(drawing, box)
    near = cells[within(cells, low - 2, high + 2)]
    local, faces, owner = draw(near, rows, coefficient)
    local *= 2.0 ** (level - drawing.plan.unused)  # cells of the finest level that was fitted
    ids = _ids(owner)
    quads, last = faces.reshape(-1, 6), _last_cells(faces, owner)
    # Vertices of the box are in no other quads than these.
    about = within(last, low, high + 1)
    quads, own = quads[about], within(last[about], low, high)
    faces = quads.reshape(-1, 3)
    own = np.repeat(own, 2)
    support = _support(drawing, box)
    if job.limit < np.inf:
        kept = support.near(local, job.limit)[faces].all(1)
        faces, own = faces[kept], own[kept]
    used = _marked(faces, len(local))
    faces = (np.cumsum(used) - 1)[faces]
    local, ids = local[used], ids[used]
    inside = within(owner[used], low, high)
    part = _parts(faces, len(ids))
    named = _marked(faces[own], len(ids)) & ~inside
    arrays = {
        "ids": ids[inside],
        "places": local[inside],
        "part": part[inside],
        "faces": ids[faces[own]],
        "face_part": part[faces[own][:, 0]],
        "other_ids": ids[~inside],
        "other_part": part[~inside],
        "named_ids": ids[named],
        "named_part": part[named],
        "votes": _votes(drawing, box, local, part),
    }
    if job.colors:
        arrays["colors"] = _colors(drawing, box, arrays["places"])
    store.write(drawing.result(box), drawing.made_from, arrays)


def _followed(drawing: Drawing, box: int) -> tuple[Any, Any, Any]:
    """The cells about a box at the level that is drawn, rows about them, coefficients."""
    work, plan = drawing.work, drawing.plan
    bounds = drawing.boxes.box(box)
    start = store.read(drawing.start, drawing.made_from)
    cells, rows, coefficient = (start[name] for name in ("cells", "rows", "coefficient"))
    cells = cells[within(cells, *box_at(bounds, drawing.begun, MARGIN))]
    levels = levels_about(work, plan, work.read_coarse(), bounds, additions=False)
    for number in range(drawing.begun - 1, drawing.level - 1, -1):
        at = number - plan.unused
        level = levels[at] if at >= 0 else None
        cells, rows, coefficient = finer(cells, rows, coefficient, level)
        cells = cells[within(cells, *box_at(bounds, number, MARGIN))]
        if number > drawing.level:
            cells = crossed_cells(cells, rows, coefficient)
    return cells, rows, coefficient


def _marked(faces: Any, count: int) -> Any:
    """Which of so many vertices the faces use."""
    used = np.zeros(count, bool)
    used[faces.reshape(-1)] = True
    return used


def _ids(owner: Any) -> Any:
    """Names of vertices that lie in the order of their cells."""
    new = np.ones(len(owner), bool)
    new[1:] = owner[1:] != owner[:-1]
    first = np.flatnonzero(new)
    return owner * 4 + np.arange(len(owner)) - first[np.cumsum(new) - 1]


def _last_cells(faces: Any, owner: Any) -> Any:
    """The highest of each quad's four cells, which is the one that draws it."""
    cells, mask = owner[faces.reshape(-1, 6)], (1 << 20) - 1
    x, y, z = ((cells >> shift & mask).max(1) for shift in (40, 20, 0))
    return x << 40 | y << 20 | z


def _support(drawing: Drawing, box: int) -> Support:
    """The points near a box, in cells of the finest level that was fitted."""
    number, unused = drawing.support_level, drawing.plan.unused
    if drawing.job.limit == np.inf:
        return Support(np.zeros((0, 3), np.float32), 1.0, (np.zeros(3), np.zeros(3)))
    margin = int(np.ceil(drawing.job.limit * 2.0 ** (unused - number))) + 4
    bounds = drawing.boxes.box(box)
    samples = support_samples(drawing.work, number, bounds, margin)
    places = places_of(samples) * np.float32(2.0 ** (number - unused))
    return Support(places, 1.0, (np.zeros(3), np.zeros(3)))


def _parts(faces: Any, count: int) -> Any:
    """The connected part (int64 [v]) of each vertex."""
    pairs = faces[:, [0, 1, 1, 2]].reshape(-1, 2)
    edges = coo_matrix((np.ones(len(pairs), bool), tuple(pairs.T)), shape=(count, count))
    return connected_components(edges, directed=False)[1].astype(np.int64)


def _votes(drawing: Drawing, box: int, local: Any, part: Any) -> Any:
    """The parts that the box's points lie on, of points spread over the cloud."""
    if not len(local):
        return np.zeros(0, np.int64)
    number, unused = drawing.support_level, drawing.plan.unused
    bounds = drawing.boxes.box(box)
    samples = support_samples(drawing.work, number, bounds, 0)
    places = places_of(samples) * np.float32(2.0 ** (number - unused))
    places = places[within(samples.key >> 3, *drawing.boxes.box(box, number))]
    step = max(1, -(-drawing.plan.points // _VOTES))
    _, nearest = cKDTree(local, balanced_tree=False, compact_nodes=False).query(places[::step])
    return part[nearest]


def _colors(drawing: Drawing, box: int, places: Any) -> Any:
    """Colours (float32 [v, 3]) at vertices."""
    if not len(places):
        return np.zeros((0, 3), np.float32)
    frame, size = drawing.work.lattice.frame, 2.0**drawing.plan.unused
    world = frame.world(torch.from_numpy(places * size))
    colors = colors_about(drawing.work, drawing.boxes.box(box), 8 * size)
    return colors(world).numpy()
