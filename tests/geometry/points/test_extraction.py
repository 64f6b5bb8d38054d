"""Triangles of the zero set: closed, manifold, on it, and none lost between levels."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import label
from skimage.measure import euler_number
from spline_levels import box_keys, cells_at, evaluated, sphere_level, stacked, whole_numbers
from surfaces import euler, fans, open_edges, parts, volume

from isolux.backends.cpu.pool import set_threads
from isolux.geometry.points.cloud import Frame
from isolux.geometry.points.extraction import Level, crossed_cells, draw, finer, inner_cells
from isolux.geometry.points.hierarchy_field import HierarchyField
from isolux.geometry.points.octree import prolonged
from isolux.geometry.points.trimming import Support

MIDDLE, RADIUS, BOX = 9.125, 5.0, 18
BULGE = 0.0114  # of a cell: how far beyond the surface a vertex may be set


def check_closed(vertices: Any, faces: Any) -> None:
    """Faces name vertices, all of which are used, and make a closed 2-manifold."""
    assert np.array_equal(np.unique(faces), np.arange(len(vertices)))
    assert np.isfinite(vertices).all()
    assert open_edges(faces) == 0
    assert fans(faces) == len(vertices)


def drawn(level: Level) -> tuple[Any, Any]:
    """The zero set of one level that fills a box."""
    rows, coefficient = level.rows, level.coefficient
    cells = crossed_cells(inner_cells(rows), rows, coefficient)
    return draw(cells, rows, coefficient)[:2]


def field(
    levels: list[Level], scale: float = 1.0, size: float = 10.0, points: Any = None
) -> HierarchyField:
    """In a frame somewhere; the points may lie anywhere when the surface has but one part."""
    low = np.full(3, 4.0)
    points = np.full((1, 3), 9.0) if points is None else points
    support = Support(points.astype(np.float32), 20.0, (low, low + size))
    origin = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    return HierarchyField(Frame(origin, scale), levels, support)


def test_a_sphere_is_closed_on_the_zero_set_and_faces_outward() -> None:
    vertices, faces = drawn(sphere_level(BOX, MIDDLE, RADIUS))
    check_closed(vertices, faces)
    assert euler(faces) == 2
    assert parts(faces) == 1
    away = vertices - MIDDLE
    off = np.abs(np.linalg.norm(away, axis=1) - RADIUS)
    assert off.max() < BULGE
    a, b, c = (away[faces[:, i]] for i in range(3))
    assert ((np.cross(b - a, c - a) * (a + b + c)).sum(1) >= 0).all()
    assert volume(away, faces) == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.02)


def test_vertices_lie_on_the_zero_set_in_cells_of_their_own() -> None:
    level = sphere_level(BOX, MIDDLE, RADIUS)
    cells = crossed_cells(inner_cells(level.rows), level.rows, level.coefficient)
    vertices, _, owner = draw(cells, level.rows, level.coefficient)
    part = vertices - cells_at(owner)
    assert (part >= 0).all()
    assert (part <= 1).all()
    vertices, part = vertices[::4], part[::4]
    value, slope = evaluated(vertices, level.rows, level.coefficient)
    off = value / np.linalg.norm(slope, axis=1)
    assert off.min() > -0.002  # on the walls of its cell, too
    assert off.max() < BULGE


def test_vertices_of_planes_lie_in_them() -> None:
    rows = box_keys((12, 12, 12))
    for normal in ([0.6, 0.48, 0.64], [0.0, 0.6, 0.8], [0.99, 0.1, 0.05]):
        height = (cells_at(rows) + 0.5 - 6.1) @ np.array(normal)
        level = Level(rows, height.astype(np.float32), height)
        vertices, faces = drawn(level)
        assert len(faces) > 50
        np.testing.assert_allclose((vertices - 6.1) @ np.array(normal), 0, atol=2e-6)


def test_a_field_that_bends_across_a_flat_surface_moves_no_vertex() -> None:
    """As between the two sides of a thin shell, where values rise and fall again."""
    rows, normal = box_keys((12, 12, 12)), np.array([0.6, 0.48, 0.64])
    height = (cells_at(rows) + 0.5 - 6.1) @ normal
    # Coefficients of height^2 are those of its values, less what the splines blur.
    values = (height - 0.1 * (height**2 - 0.25)).astype(np.float32)
    vertices, faces = drawn(Level(rows, values, values))
    assert len(faces) > 50
    np.testing.assert_allclose((vertices - 6.1) @ normal, 0, atol=2e-5)


def test_triangles_lie_on_both_sides_of_a_bend() -> None:
    """With vertices on the sphere all would be inside, by 0.033 in the mean."""
    vertices, faces = drawn(sphere_level(BOX, MIDDLE, RADIUS))
    share = np.random.default_rng(0).dirichlet(np.ones(3), (len(faces), 20))
    points = np.einsum("fsk,fkd->fsd", share, vertices[faces] - MIDDLE)
    off = np.linalg.norm(points, axis=-1) - RADIUS
    assert off.mean() < 0
    assert np.abs(off).mean() < 0.024


@pytest.mark.parametrize("seed", range(4))
def test_even_noise_makes_a_manifold(seed: int) -> None:
    """Every sign pattern of a cell turns up, the ambiguous ones too."""
    rows = box_keys((16, 16, 16))
    noise = 8 * whole_numbers(len(rows), seed) + 1
    at = cells_at(rows)
    noise[((at < 3) | (at >= 13)).any(1)] = 500
    vertices, faces = drawn(Level(rows, noise, noise))
    assert len(faces) > 1000
    check_closed(vertices, faces)
    assert volume(vertices, faces) > 0


def scene(box: int) -> Any:
    """Values at cell centres of a ring, a hollow ball and a small ball beside each other."""
    x, y, z = np.moveaxis(cells_at(box_keys((box, box, box))) + 0.5, -1, 0)
    ring = np.hypot(np.hypot(x - 10.2, y - 10.3) - 5.0, z - 8.1) - 2.2
    ball = np.sqrt((x - 21.3) ** 2 + (y - 21.1) ** 2 + (z - 20.4) ** 2)
    hollow = np.maximum(ball - 6.5, 3.0 - ball)
    small = np.sqrt((x - 22.2) ** 2 + (y - 8.4) ** 2 + (z - 22.0) ** 2) - 2.5
    return np.minimum(np.minimum(ring, hollow), small)


def test_parts_and_holes_are_those_of_the_signs_on_a_dense_grid() -> None:
    box = 32
    value = scene(box).astype(np.float32)
    vertices, faces = drawn(Level(box_keys((box, box, box)), value, value))
    check_closed(vertices, faces)
    corner = value.reshape(box, box, box).astype(float)
    for axis in range(3):  # at a corner, the splines of eight cells are worth 1/8 each
        corner = np.moveaxis(corner, axis, 0)
        corner = np.moveaxis(0.5 * (corner[1:] + corner[:-1]), 0, axis)
    inside = corner < 0
    assert label(inside)[1] == 3
    assert parts(faces) == label(inside)[1] + label(~inside)[1] - 1 == 4
    assert euler(faces) == 2 * euler_number(inside, connectivity=1) == 6


def test_a_level_that_adds_nothing_keeps_the_function() -> None:
    level = sphere_level(BOX, MIDDLE, RADIUS)
    cells = crossed_cells(inner_cells(level.rows), level.rows, level.coefficient)
    inside, rows, coefficient = finer(cells, level.rows, level.coefficient, None)
    points = cells_at(inside) + np.random.default_rng(0).uniform(size=(len(inside), 3))
    value, slope = evaluated(points[::20], rows, coefficient)
    away = points[::20] / 2 - MIDDLE
    np.testing.assert_allclose(value, (away**2).sum(1) - RADIUS**2, atol=1e-5)
    np.testing.assert_allclose(2 * slope, 2 * away, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_followed_down_the_levels_is_all_of_the_surface(seed: int) -> None:
    """Bit for bit what all cells of the finest level give, beyond the bands' borders too."""
    levels, box = stacked(8, seed), 8
    rows, coefficient, whole = levels[2].rows, levels[2].coefficient, levels[2].rows
    for level in (levels[1], levels[0]):
        box *= 2
        whole = box_keys((box, box, box))
        coefficient = prolonged(whole, rows, coefficient)
        coefficient[np.searchsorted(whole, level.rows)] = level.coefficient
        rows = whole
    at = cells_at(whole)
    inner = whole[((at >= 4) & (at < box - 4)).all(1)]
    vertices, faces, _ = draw(inner, whole, coefficient)
    check_closed(vertices, faces)
    mesh = field(levels, points=vertices).extract_mesh(watertight=True)
    assert len(faces) > 1000
    found = 1.0 + np.arange(3) + vertices
    np.testing.assert_allclose(mesh.vertices, found, atol=1e-5)
    assert np.array_equal(mesh.faces, faces)


def edge_length(vertices: Any, faces: Any) -> float:
    return float(np.linalg.norm(vertices[faces[:, 0]] - vertices[faces[:, 1]], axis=1).mean())


def test_refinement_halves_the_cells() -> None:
    scale = 0.5
    some = field([sphere_level(BOX, MIDDLE, RADIUS)], scale)
    middle = torch.tensor([1.0, 2.0, 3.0]) + scale * MIDDLE
    lengths, counts = [], []
    for refine in (0, 1, 2):
        mesh = some.extract_mesh(refine=refine)
        vertices, faces = mesh.vertices.double().numpy(), mesh.faces.numpy()
        check_closed(vertices, faces)
        off = (mesh.vertices - middle).norm(dim=-1) - scale * RADIUS
        assert float(off.abs().max()) < BULGE * scale / 2**refine
        lengths.append(edge_length(vertices, faces))
        counts.append(len(faces))
    for i in (0, 1):
        assert lengths[i + 1] == pytest.approx(lengths[i] / 2, rel=0.03)
        assert counts[i + 1] == pytest.approx(4 * counts[i], rel=0.05)


@pytest.mark.parametrize(
    ("asked", "refine"),
    [
        ({"resolution": 10}, 0),
        ({"resolution": 11}, 1),  # rounded up to a level
        ({"resolution": 20}, 1),
        ({"resolution": 40}, 2),
        ({"voxel_size": 0.5}, 0),
        ({"voxel_size": 0.3}, 1),  # rounded down to one
        ({"voxel_size": 0.125}, 2),
        ({"resolution": 10, "refine": 1}, 1),
        ({"resolution": 1}, 0),  # there is no coarser level
    ],
)
def test_resolutions_and_cell_sizes_choose_the_level(
    asked: dict[str, Any], refine: int
) -> None:
    some = field([sphere_level(BOX, MIDDLE, RADIUS)], scale=0.5)  # ten cells are 5 long
    expected, found = some.extract_mesh(refine=refine), some.extract_mesh(**asked)
    assert torch.equal(found.vertices, expected.vertices)
    assert torch.equal(found.faces, expected.faces)


def test_coarser_levels_can_be_drawn_alone() -> None:
    levels = stacked(8)
    for number, resolution in ((2, 4), (1, 8)):
        above = field(levels[number:]).extract_mesh(watertight=True)
        points = (above.vertices.double().numpy() - 1 - np.arange(3)) * 2.0**number
        some = field(levels, size=16.0, points=points)
        mesh = some.extract_mesh(resolution=resolution, watertight=True)
        assert torch.equal(mesh.faces, above.faces)
        found = (mesh.vertices.double().numpy() - 1 - np.arange(3)) / 2.0**number
        np.testing.assert_allclose(found, above.vertices.numpy() - 1 - np.arange(3), atol=1e-5)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_where_no_sign_changes_there_are_no_faces(sign: float) -> None:
    rows = box_keys((8, 8, 8))
    ones = np.full(len(rows), sign, np.float32)
    for refine in (0, 1):
        mesh = field([Level(rows, ones, ones)]).extract_mesh(refine=refine)
        assert mesh.vertices.shape == mesh.faces.shape == (0, 3)


def test_zero_is_outside() -> None:
    """A plane through the corners of cells is drawn once."""
    rows = box_keys((10, 10, 10))
    height = (cells_at(rows)[:, 2] + 0.5 - 5.0).astype(np.float32)
    vertices, faces = drawn(Level(rows, height, height))
    assert len(faces) == 2 * 7 * 7
    np.testing.assert_allclose(vertices[:, 2], 5.0, atol=1e-12)


def test_threads_do_not_change_bits() -> None:
    level, found = sphere_level(40, 20.125, 15.0), []
    try:
        for count in (1, 2):
            set_threads(count)
            found.append(drawn(level))
    finally:
        set_threads(None)
    assert np.array_equal(found[0][0], found[1][0])
    assert np.array_equal(found[0][1], found[1][1])
