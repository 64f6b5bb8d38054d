"""Triangles on disk, box by box, as one mesh with numbered vertices.

Letters: v vertices, f faces, p parts that are connected within a box.
"""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from isolux.geometry.mesh import Mesh
from isolux.geometry.points.hierarchy_field import _narrowed
from isolux.geometry.points.tiled import store
from isolux.geometry.points.tiled.mesh_tiles import Drawing, MeshJob, draw_box, prepare_drawing
from isolux.geometry.points.tiled.options import TileOptions
from isolux.geometry.points.tiled.plan import Plan
from isolux.geometry.points.tiled.records import remove_others
from isolux.geometry.points.tiled.runners import runner_for
from isolux.geometry.points.tiled.schedule import Schedule, Task
from isolux.geometry.points.tiled.work import Work

__all__ = ["MeshParts", "drawn_parts", "whole_mesh"]

_SHARE = 0.1  # of the votes that a part of its size should have, as in `trimming`
Array = Any  # numpy


class MeshParts:
    """A mesh whose vertices and faces are read a box at a time.

    Attributes:
        vertices: how many there are.
        faces: likewise.
        has_colors: whether vertices have colours.
    """

    def __init__(self, drawing: Drawing, boxes: list[int]) -> None:
        self._drawing = drawing
        self._boxes = boxes
        self.has_colors = drawing.job.colors
        self._kept = _kept_parts(drawing, boxes)
        self._first: list[int] = []
        self.vertices = self.faces = 0
        wanted = [np.zeros(0, np.int64)]
        for box in boxes:
            arrays, keep = self._read(box), self._kept[box]
            self._first.append(self.vertices)
            self.vertices += int(keep[arrays["part"]].sum())
            self.faces += int(keep[arrays["face_part"]].sum())
            wanted.append(arrays["named_ids"][keep[arrays["named_part"]]])
        # Vertices of other boxes that faces name: few, beside those of the boxes themselves.
        self._border = np.unique(np.concatenate(wanted))
        self._number = np.full(len(self._border), -1, np.int64)
        for box, first in zip(boxes, self._first, strict=True):
            ids = self._ids(box)
            at = np.minimum(np.searchsorted(ids, self._border), max(len(ids) - 1, 0))
            found = ids[at] == self._border if len(ids) else np.zeros(len(at), bool)
            self._number[found] = first + at[found]
        assert (self._number >= 0).all(), "a face names a vertex that no box has"

    def vertex_blocks(self) -> Iterator[tuple[Array, Array | None]]:
        """Places in the world (float64 [v, 3]) and colours (float32 [v, 3], linear, or None)
        of the vertices, in the order of their numbers."""
        frame = self._drawing.work.lattice.frame
        size = 2.0**self._drawing.plan.unused
        for box in self._boxes:
            arrays = self._read(box)
            kept = self._kept[box][arrays["part"]]
            if kept.any():
                local = torch.from_numpy(arrays["places"][kept] * size)
                colors = arrays["colors"][kept] if self.has_colors else None
                yield frame.world(local).numpy(), colors

    def face_blocks(self) -> Iterator[Array]:
        """The vertices' numbers (int64 [f, 3]) of the faces, counter-clockwise from outside."""
        for box, first in zip(self._boxes, self._first, strict=True):
            arrays, ids = self._read(box), self._ids(box)
            faces = arrays["faces"][self._kept[box][arrays["face_part"]]]
            if not len(faces):
                continue
            at = np.minimum(np.searchsorted(ids, faces), max(len(ids) - 1, 0))
            own = ids[at] == faces if len(ids) else np.zeros(faces.shape, bool)
            out = first + at
            out[~own] = self._number[np.searchsorted(self._border, faces[~own])]
            yield out

    def __iter__(self) -> Iterator[Any]:
        """All of `vertex_blocks`, then all of `face_blocks`."""
        yield from self.vertex_blocks()
        yield from self.face_blocks()

    def __enter__(self) -> "MeshParts":
        """For `with`, which removes the files at its end."""
        return self

    def __exit__(self, *_: object) -> None:
        """As `close`."""
        self.close()

    def close(self) -> None:
        """Remove the files that this was read from."""
        shutil.rmtree(self._drawing.folder, ignore_errors=True)

    def _read(self, box: int) -> dict[str, Any]:
        return store.read(self._drawing.result(box), self._drawing.made_from)

    def _ids(self, box: int) -> Any:
        arrays = self._read(box)
        return arrays["ids"][self._kept[box][arrays["part"]]]


def drawn_parts(
    work: Work,
    plan: Plan,
    job: MeshJob,
    tiles: TileOptions,
    tell: Callable[[str, float], None],
) -> MeshParts:
    """Draw all boxes that are not drawn yet.

    Raises:
        RuntimeError: one failed more often than it may.
    """
    drawing, boxes = prepare_drawing(work, plan, job, work.read_coarse())
    remove_others(drawing.folder, "mesh-*")
    tasks = [
        Task(
            f"the surface of tile {box}",
            draw_box,
            (drawing, box),
            drawing.result(box),
            int(drawing.boxes.points[box]),
        )
        for box in boxes
    ]
    runner = runner_for(tiles)
    try:
        Schedule(runner, tiles.retries, drawing.made_from, tell).run("surface", tasks, (0, 1))
    finally:
        runner.close()
    return MeshParts(drawing, boxes)


def whole_mesh(parts: MeshParts) -> Mesh:
    """All parts in memory, in float32 where that is enough."""
    places = [np.zeros((0, 3)), *(places for places, _ in parts.vertex_blocks())]
    faces = [np.zeros((0, 3), np.int64), *parts.face_blocks()]
    vertices = torch.from_numpy(np.concatenate(places))
    return Mesh(_narrowed(vertices), torch.from_numpy(np.concatenate(faces).astype(np.int32)))


def _kept_parts(drawing: Drawing, boxes: list[int]) -> dict[int, Any]:
    """Which parts of each box (bool [p]) the points lie on, all boxes together.

    Beside a sharp edge a smooth field may close a bubble: see `trimming.with_points`.
    """
    if not boxes:
        return {}
    offset, total = {}, 0
    ids, parts, size, votes = [], [], [], []
    others, other_parts = [], []
    for box in boxes:
        arrays = store.read(drawing.result(box), drawing.made_from)
        count = int(max(arrays["part"].max(initial=-1), arrays["other_part"].max(initial=-1)))
        offset[box] = total
        size.append(np.bincount(arrays["part"], minlength=count + 1))
        votes.append(np.bincount(arrays["votes"], minlength=count + 1))
        others.append(arrays["other_ids"])
        other_parts.append(arrays["other_part"] + total)
        total += count + 1
    border = np.unique(np.concatenate([np.zeros(0, np.int64), *others]))
    for box in boxes:
        arrays = store.read(drawing.result(box), drawing.made_from)
        mine = np.isin(arrays["ids"], border)
        ids.append(arrays["ids"][mine])
        parts.append(arrays["part"][mine] + offset[box])
    label = _joined(
        np.concatenate([*ids, *others]), np.concatenate([*parts, *other_parts]), total
    )
    whole = np.bincount(label, np.concatenate(size), total)
    heard = np.bincount(label, np.concatenate(votes), total)
    voters = max(float(heard.sum()), 1.0)
    expected = whole * (voters / max(float(whole.sum()), 1.0))
    good = heard >= _SHARE * expected
    if label.max(initial=0) == 0:  # one part only: there is nothing else to lie on
        good[:] = True
    kept = good[label]
    ends = [*offset.values(), total][1:]
    return {box: kept[offset[box] : end] for box, end in zip(boxes, ends, strict=True)}


def _joined(ids: Any, parts: Any, count: int) -> Any:
    """One number (int64 [p]) for parts that share a vertex, in any box."""
    order = np.argsort(ids, kind="stable")
    same = ids[order[1:]] == ids[order[:-1]]
    one, two = parts[order[:-1][same]], parts[order[1:][same]]
    links = coo_matrix((np.ones(len(one), bool), (one, two)), shape=(count, count))
    return connected_components(links, directed=False)[1].astype(np.int64)
