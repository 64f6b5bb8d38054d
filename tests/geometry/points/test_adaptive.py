"""Cells of several sizes: as closed and manifold as those of one, nearly as near, and fewer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spline_levels import box_keys, cells_at, sphere_level, whole_numbers
from surfaces import euler, fans, open_edges, parts, volume

from isolux.backends.cpu.pool import set_threads
from isolux.data.assets.clouds import read_cloud
from isolux.geometry.bvh import TriangleTree
from isolux.geometry.points import adaptive
from isolux.geometry.points.adaptive import merged
from isolux.geometry.points.cloud import Frame, PointCloud
from isolux.geometry.points.extraction import (
    Dual,
    Level,
    crossed_cells,
    draw,
    dual_of,
    inner_cells,
)
from isolux.geometry.points.hierarchy import fit_hierarchy
from isolux.geometry.points.hierarchy_field import HierarchyField
from isolux.geometry.points.hierarchy_options import HierarchyOptions
from isolux.geometry.points.normals import estimate_normals
from isolux.geometry.points.trimming import Support

BOX = 32
ROOM = Path(__file__).parents[4] / "shared/data/pointclouds/pcl/room_scan1.pcd"
Distance = Callable[[Any], Any]  # of points [..., 3] in cells


def ball(p: Any) -> Any:
    return np.linalg.norm(p - 16.2, axis=-1) - 11.3


def ring(p: Any) -> Any:
    x, y, z = np.moveaxis(p - 16.1, -1, 0)
    return np.hypot(np.hypot(x, y) - 8.2, z) - 4.1


def block(p: Any) -> Any:
    """A cube of 20.2 cells, its edges as sharp as the splines make them."""
    return np.abs(p - 16.05).max(-1) - 10.1


def slabs(p: Any) -> Any:
    """Two plates with a gap of 1.6 cells: two sheets that pass the same large cells."""
    x, y, z = np.moveaxis(np.abs(p - [16.0, 16.0, 16.3]), -1, 0)
    return np.maximum(np.maximum(x, y) - 11.2, np.abs(z - 3.0) - 2.2)


SHAPES = {"ball": (ball, 2), "ring": (ring, 0), "block": (block, 2), "slabs": (slabs, 4)}


def level_of(distance: Distance, box: int = BOX) -> Level:
    rows = box_keys((box, box, box))
    value = distance(cells_at(rows) + 0.5).astype(np.float32)
    return Level(rows, value, value)


def dual(level: Level) -> Dual:
    cells = crossed_cells(inner_cells(level.rows), level.rows, level.coefficient)
    return dual_of(cells, level.rows, level.coefficient, with_slopes=True)


def even(level: Level) -> tuple[Any, Any]:
    cells = crossed_cells(inner_cells(level.rows), level.rows, level.coefficient)
    return draw(cells, level.rows, level.coefficient)[:2]


def away(distance: Distance, vertices: Any, faces: Any) -> tuple[float, float]:
    """How far triangles are from a shape, in the mean over their area and at most."""
    share = np.random.default_rng(0).dirichlet(np.ones(3), (len(faces), 20))
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    off = np.abs(distance(np.einsum("fsk,fkd->fsd", share, vertices[faces])))
    return float((area * off.mean(1)).sum() / area.sum()), float(off.max())


def check_closed(vertices: Any, faces: Any) -> None:
    assert np.array_equal(np.unique(faces), np.arange(len(vertices)))
    assert np.isfinite(vertices).all()
    assert open_edges(faces) == 0
    assert fans(faces) == len(vertices)


@pytest.mark.parametrize("tolerance", [0.01, 0.1, 2.0])
@pytest.mark.parametrize("name", SHAPES)
def test_what_is_merged_is_closed_and_of_the_same_kind(name: str, tolerance: float) -> None:
    distance, characteristic = SHAPES[name]
    level = level_of(distance)
    vertices, faces = merged(dual(level), tolerance)
    fine_vertices, fine_faces = even(level)
    check_closed(vertices, faces)
    assert euler(faces) == characteristic
    assert parts(faces) == parts(fine_faces)
    assert len(faces) <= len(fine_faces)
    whole = volume(fine_vertices - 16, fine_faces)
    assert volume(vertices - 16, faces) == pytest.approx(whole, rel=0.02 + 0.2 * tolerance)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tolerance", [0.05, 100.0])
def test_even_noise_stays_a_manifold(seed: int, tolerance: float) -> None:
    """Every sign pattern turns up, and hardly a cell may be joined with another."""
    rows = box_keys((16, 16, 16))
    noise = 8 * whole_numbers(len(rows), seed) + 1
    at = cells_at(rows)
    noise[((at < 3) | (at >= 13)).any(1)] = 500
    level = Level(rows, noise, noise)
    vertices, faces = merged(dual(level), tolerance)
    check_closed(vertices, faces)
    assert euler(faces) == euler(even(level)[1])


@pytest.mark.parametrize("seed", range(6))
def test_waves_stay_a_manifold(seed: int) -> None:
    """Bends of some cells, where leaves of all sizes meet, bars and tunnels among them."""
    turn = np.random.default_rng(seed)
    wave, phase = turn.normal(size=(5, 3)) * 0.35, turn.uniform(0, 6, 5)

    def distance(p: Any) -> Any:
        inside = np.cos(p @ wave.T + phase).sum(-1)
        return np.maximum(inside + 0.4, np.abs(p - 16).max(-1) - 12.3)

    level = level_of(distance)
    fine = even(level)[1]
    for tolerance in (0.02, 0.3, 100.0):
        vertices, faces = merged(dual(level), tolerance)
        check_closed(vertices, faces)
        assert (euler(faces), parts(faces)) == (euler(fine), parts(fine))
        assert len(faces) < len(fine)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("smooth", [1, 2])
def test_signs_alone_keep_it_a_manifold(
    seed: int, smooth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the laws of shape, whatever the signs allow becomes one."""
    monkeypatch.setattr(adaptive, "_TURN", -2.0)
    monkeypatch.setattr(adaptive, "_ROUNDS", 1)
    value = np.random.default_rng(seed).normal(size=(24, 24, 24))
    for axis in (0, 1, 2):
        for _ in range(smooth):
            value = value + np.roll(value, 1, axis)
    edge = np.abs(np.indices(value.shape) - 11.5).max(0)
    value = np.where(edge > 8, 9.0 ** (smooth + 1), value).astype(np.float32).reshape(-1)
    level = Level(box_keys((24, 24, 24)), value, value)
    vertices, faces = merged(dual(level), 1e9)
    fine = even(level)[1]
    check_closed(vertices, faces)
    assert (euler(faces), parts(faces)) == (euler(fine), parts(fine))
    assert len(faces) < 0.98 * len(fine)


def test_flat_faces_become_few_triangles() -> None:
    level = level_of(block)
    vertices, faces = merged(dual(level), 0.02)
    fine_vertices, fine_faces = even(level)
    assert 2 * len(faces) < len(fine_faces)
    mean, most = away(block, vertices, faces)
    fine_mean, fine_most = away(block, fine_vertices, fine_faces)
    assert mean < 1.02 * fine_mean
    assert most < fine_most + 0.02


@pytest.mark.parametrize("name", ["ball", "ring"])
def test_the_surface_moves_by_no_more_than_allowed(name: str) -> None:
    distance, _ = SHAPES[name]
    level, counts = level_of(distance), []
    vertices, faces = even(level)
    fine = away(distance, vertices, faces)[1]
    for tolerance in (0.02, 0.06, 0.2, 0.6):
        vertices, faces = merged(dual(level), tolerance)
        assert away(distance, vertices, faces)[1] < fine + tolerance
        counts.append(len(faces))
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < counts[0] / 4


def test_nothing_is_joined_that_is_bent_more_than_allowed() -> None:
    level = level_of(ball)
    vertices, faces = merged(dual(level), 1e-7)
    fine_vertices, fine_faces = even(level)
    assert len(faces) == len(fine_faces)
    assert np.array_equal(vertices, fine_vertices)


@pytest.mark.parametrize("name", ["ball", "ring", "slabs"])
def test_no_triangle_is_inverted(name: str) -> None:
    distance, _ = SHAPES[name]
    vertices, faces = merged(dual(level_of(distance)), 0.05)
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    length = np.linalg.norm(normal, axis=1)
    assert length.min() > 1e-6
    middle = (a + b + c) / 3
    ahead = distance(middle + 0.3 * normal / length[:, None])
    behind = distance(middle - 0.3 * normal / length[:, None])
    assert (ahead > behind).all()


def test_sheets_close_to_each_other_stay_apart() -> None:
    vertices, faces = merged(dual(level_of(slabs)), 1.0)
    assert parts(faces) == 2
    flat = np.abs(vertices[:, :2] - 16).max(1) < 9
    away = np.abs(np.abs(vertices[flat, 2] - 16.3) - 3.0)
    np.testing.assert_allclose(away, 2.2, atol=0.15)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_quarter_turn_turns_the_mesh(axis: int) -> None:
    def bumpy(p: Any) -> Any:
        return ball(p) + 0.3 * np.sin(p @ [0.5, 0.31, 0.17])

    a, b = (axis + 1) % 3, (axis + 2) % 3

    def turned(p: Any) -> Any:
        q = p.copy()
        q[..., a], q[..., b] = p[..., b], BOX - p[..., a]
        return bumpy(q)

    one, _ = merged(dual(level_of(bumpy)), 0.03)
    two, _ = merged(dual(level_of(turned)), 0.03)
    back = two.copy()
    back[:, a], back[:, b] = two[:, b], BOX - two[:, a]
    assert len(one) == len(back)
    one, back = (x[np.lexsort(np.round(x, 3).T)] for x in (one, back))
    np.testing.assert_allclose(back, one, atol=1e-4)


def test_threads_do_not_change_bits() -> None:
    level, found = level_of(ring), []
    try:
        for count in (1, 2):
            set_threads(count)
            found.append(merged(dual(level), 0.05))
    finally:
        set_threads(None)
    assert np.array_equal(found[0][0], found[1][0])
    assert np.array_equal(found[0][1], found[1][1])


def test_nothing_stays_nothing() -> None:
    rows = box_keys((8, 8, 8))
    ones = np.ones(len(rows), np.float32)
    vertices, faces = merged(dual(Level(rows, ones, ones)), 0.1)
    assert vertices.shape == faces.shape == (0, 3)


def field(points: Any, level: Level) -> HierarchyField:
    low = np.full(3, 4.0)
    support = Support(points.astype(np.float32), 0.5, (low, low + 24))
    return HierarchyField(Frame(torch.zeros(3, dtype=torch.float64), 0.25), [level], support)


def border(mesh: Any) -> Any:
    """The middles of the edges of one face, sorted."""
    faces = mesh.faces.long()
    ends = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(-1).values
    edge, uses = torch.unique(ends, dim=0, return_counts=True)
    middle = mesh.vertices[edge[uses == 1]].mean(1)
    return middle[np.lexsort(middle.round(decimals=4).numpy().T)]


def test_an_open_sheet_ends_where_it_does_in_small_cells() -> None:
    level = level_of(block)
    vertices, _ = even(level)
    some = field(vertices[vertices[:, 2] > 20], level)
    coarse, fine = some.extract_mesh(adaptive=0.05), some.extract_mesh()
    assert 2 * len(coarse.faces) < len(fine.faces)
    assert fans(coarse.faces.numpy()) == len(coarse.vertices)
    edge, fine_edge = border(coarse), border(fine)
    assert len(edge) > 20
    torch.testing.assert_close(edge, fine_edge, rtol=0, atol=1e-5)
    whole = some.extract_mesh(adaptive=0.05, watertight=True)
    check_closed(whole.vertices.numpy(), whole.faces.numpy())


def test_halved_cells_are_kept_only_where_the_surface_bends() -> None:
    level = level_of(block)
    some = field(even(level)[0], level)
    counts = [len(some.extract_mesh(adaptive=0.02, refine=n).faces) for n in (0, 1, 2)]
    fine = [len(some.extract_mesh(refine=n).faces) for n in (0, 1, 2)]
    assert fine[2] > 14 * fine[0]
    assert counts[2] < 4 * counts[0]
    assert counts[2] < fine[2] / 8


def test_the_allowed_distance_is_that_of_the_finest_cells() -> None:
    """Whatever is drawn: the same one gives about the same triangles."""
    level = sphere_level(32, 16.125, 11.0)
    scaled = Level(level.rows, level.coefficient / 22, level.coefficient / 22)
    some = field(even(level)[0], scaled)
    for refine in (0, 1):
        mesh = some.extract_mesh(adaptive=0.2, refine=refine)
        off = (mesh.vertices.double() / 0.25 - 16.125).norm(dim=-1) - 11.0
        assert float(off.abs().max()) < 0.2
        assert len(mesh.faces) < len(some.extract_mesh().faces) / 3


@pytest.mark.skipif(not ROOM.is_file(), reason="the shared clouds are not here")
def test_a_scanned_room_takes_fewer_triangles() -> None:
    cloud = read_cloud(ROOM)
    some = PointCloud(cloud.xyz[::4], None, cloud.sensor, None)
    room = fit_hierarchy(estimate_normals(some)[0], HierarchyOptions(depth=7))
    fine, coarse = room.extract_mesh(), room.extract_mesh(adaptive=0.2)
    assert len(coarse.faces) < 0.8 * len(fine.faces)
    open_edges(coarse.faces.numpy())
    tree = TriangleTree(coarse.vertices.double(), coarse.faces)
    distance, _ = tree.closest(fine.vertices.double())
    assert float(distance.quantile(0.99)) < 0.3 * room.voxel_size
