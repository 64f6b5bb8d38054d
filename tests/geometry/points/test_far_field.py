"""The coarsest level's start: distances to points, with the sign of their normals."""

import numpy as np
import pytest
from scipy.ndimage import label
from spline_levels import box_keys, cells_at, sphere

from isolux.geometry.points.density import occupied, target_points, voxel_size_for
from isolux.geometry.points.far_field import far_field
from isolux.geometry.points.octree import first_samples

SHAPE = (22, 23, 24)


@pytest.mark.parametrize("outward", [True, False])
def test_distances_are_to_the_nearest_sample_and_signs_those_of_the_side(outward: bool) -> None:
    place, normal = sphere(2000, 6.0, 11.3)
    turn = np.float32(1 if outward else -1)
    samples = first_samples(place, turn * normal, np.ones(len(place), np.float32))
    signed, distance = far_field(samples, SHAPE)
    cells = cells_at(box_keys(SHAPE))
    gaps = cells[:, None] - cells_at(samples.cells)
    brute = np.sqrt((gaps**2).sum(-1).min(1))
    np.testing.assert_allclose(distance, brute, atol=1e-9)
    radius = np.linalg.norm(cells + 0.5 - 11.3, axis=1)
    clear = np.abs(radius - 6.0) > 2.0
    assert np.array_equal((signed > 0)[clear], (radius > 6.0)[clear] == outward)
    assert (np.abs(signed) <= distance + 1e-6).all()
    inner = radius < 3.0  # all of the way through, where the flux leaves no doubt
    np.testing.assert_allclose(np.abs(signed)[inner], distance[inner], rtol=0.2)


def test_a_hole_is_closed() -> None:
    place, normal = sphere(3000, 6.0, 11.3)
    open_ = normal[:, 2] < 0.7
    weight = np.ones(int(open_.sum()), np.float32)
    samples = first_samples(place[open_], normal[open_], weight)
    signed, _ = far_field(samples, SHAPE)
    inside = signed.reshape(SHAPE) < 0
    assert inside[11, 11, 11]
    assert not inside[11, 11, 20]  # beyond the hole
    assert label(inside)[1] == 1


def test_cells_that_hold_points_are_counted() -> None:
    points = np.random.default_rng(0).uniform(0, 50, (400, 3))
    for size in (0.7, 3.0, 20.0, 100.0):
        brute = len({tuple(cell) for cell in np.floor(points / size).astype(int)})
        assert occupied(points, size) == brute


@pytest.mark.parametrize("target", [1.0, 4.0])
def test_cells_of_the_chosen_size_hold_the_points_that_are_wanted(target: float) -> None:
    local = sphere(200_000, 50.0, 50.0)[0]
    size = voxel_size_for(local, 100.0, target)
    mean = len(local) / occupied(local, size)
    # Where few points fall on a cell, some cells of the surface stay empty.
    assert target < mean < 2.0 * target
    assert voxel_size_for(3 * local, 300.0, target) == pytest.approx(3 * size)


def test_clouds_of_more_points_want_more_in_a_cell() -> None:
    wanted = [target_points(10**power) for power in range(1, 9)]
    assert wanted == sorted(wanted)
    assert 0 < wanted[0] < wanted[-1] <= 2
