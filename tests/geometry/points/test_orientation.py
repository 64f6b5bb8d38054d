"""The edges and the forest that carry a side from point to point."""

import numpy as np
import pytest

from isolux.geometry.morton import curve_order
from isolux.geometry.points.neighbours import Neighbours, distinct
from isolux.geometry.points.orientation_kernels import costs, spanning_signs

NONE = 65535


def edge(step: list[float], one: list[float], two: list[float]) -> tuple[int, int]:
    """The cost and the flip of the edge between two points that lie `step` apart."""
    points = np.array([[0.0, 0, 0], step]).reshape(-1)
    normals = np.array([one, two], dtype=float)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    cost, flip = np.zeros(2, np.uint16), np.zeros(2, np.uint8)
    index = np.array([1, 0], np.int32)
    costs(points, normals.reshape(-1), index, 1, cost, flip, 0, 2)
    assert cost[0] == cost[1]  # it is the same from both ends
    assert flip[0] == flip[1]
    return int(cost[0]), int(flip[0])


@pytest.mark.parametrize("sign", [1, -1])
def test_smooth_neighbours_come_first_and_creases_and_plates_last(sign: int) -> None:
    def said(step: list[float], one: list[float], two: list[float]) -> tuple[int, bool]:
        cost, flip = edge(step, one, [sign * value for value in two])
        return cost, bool(flip) == (sign < 0)  # whether the truth was told

    flat, right = said([1, 0, 0], [0, 0, 1], [0, 0, 1])
    assert right
    bent, right = said([1, 0, -0.2], [0, 0, 1], [0.4, 0, 1])
    assert right
    # A crease of 110 degrees, as sharp as a wedge: the plain sign is wrong there.
    wedge, right = said([1, 0, -1.43], [0, 0, 1], [0.94, 0, -0.34])
    assert right
    # The two sides of a plate face away from each other. Noise that puts one point of a sheet
    # above the other looks the same: such an edge costs most.
    plate, _ = said([0, 0, 0.1], [0, 0, -1], [0, 0, 1])
    assert flat < bent < 32000 < wedge
    assert plate > wedge


def test_points_in_one_place_and_missing_neighbours_are_no_edges() -> None:
    assert edge([0, 0, 0], [0, 0, 1], [0, 0, 1])[0] == NONE
    cost, flip = np.zeros(2, np.uint16), np.zeros(2, np.uint8)
    points, normals = np.arange(6.0), np.array([0.0, 0, 1, 0, 0, 1])
    costs(points, normals, np.array([0, -1], np.int32), 1, cost, flip, 0, 2)
    assert cost.tolist() == [NONE, NONE]


def test_signs_of_a_random_graph_are_found() -> None:
    """Parities of a hidden colouring along random edges, in three parts."""
    rng = np.random.default_rng(0)
    count, width = 900, 4
    hidden = rng.choice([-1, 1], count)
    part = np.arange(count) % 3
    index = (rng.integers(0, count // 3, (count, width)) * 3 + part[:, None]).astype(np.int32)
    flip = (hidden[:, None] != hidden[index]).astype(np.uint8)
    cost = rng.integers(0, 60000, (count, width)).astype(np.uint16)
    root, sign = np.empty(count, np.int32), np.empty(count, np.int8)
    spanning_signs(index.reshape(-1), width, cost.reshape(-1), flip.reshape(-1), root, sign)
    assert len(np.unique(root)) == 3
    for number in range(3):
        mine = part == number
        assert len(np.unique(root[mine])) == 1
        assert abs((sign * hidden)[mine].sum()) == mine.sum()


def test_wrong_edges_that_cost_more_are_not_used() -> None:
    """A ring of points: the one lie among its edges is the dearest, so nobody believes it."""
    count = 50
    index = ((np.arange(count) + 1) % count).astype(np.int32)
    cost, flip = np.full(count, 100, np.uint16), np.zeros(count, np.uint8)
    cost[17], flip[17] = 200, 1
    root, sign = np.empty(count, np.int32), np.empty(count, np.int8)
    spanning_signs(index, 1, cost, flip, root, sign)
    assert abs(int(sign.astype(int).sum())) == count
    cost[17] = NONE
    cost[30] = NONE
    spanning_signs(index, 1, cost, flip, root, sign)
    assert len(np.unique(root)) == 2


def test_neighbours_are_those_that_all_distances_give() -> None:
    rng = np.random.default_rng(0)
    xyz = rng.normal(size=(300, 3)) + np.array([5e5, 5e6, 0])
    tree = Neighbours(xyz)
    np.testing.assert_allclose(tree.points + tree.middle, xyz[tree.order], rtol=0, atol=1e-8)
    distance, index = tree.among(5)
    every = np.linalg.norm(tree.points[:, None] - tree.points[None], axis=2)
    np.testing.assert_allclose(distance, np.sort(every, axis=1)[:, :5], atol=1e-12)
    assert (index[:, 0] == np.arange(300)).all()
    near, _ = tree.near(xyz[tree.order[:7]], 5)
    np.testing.assert_allclose(near, distance[:7], atol=1e-8)


def test_the_curve_takes_every_point_once() -> None:
    xyz = np.random.default_rng(0).random((1000, 3))
    order = curve_order(xyz)
    assert (np.sort(order) == np.arange(1000)).all()
    step = np.linalg.norm(np.diff(xyz[order], axis=0), axis=1).mean()
    assert step < 0.25 * np.linalg.norm(np.diff(xyz, axis=0), axis=1).mean()
    assert len(curve_order(xyz[:0])) == 0


def test_distinct_places() -> None:
    rng = np.random.default_rng(0)
    assert distinct(rng.random((50, 3))) is None
    xyz = rng.integers(0, 3, (200, 3)).astype(float)
    found = distinct(xyz)
    assert found is not None
    first, place = found
    assert (np.diff(first) > 0).all()
    assert (xyz[first[place]] == xyz).all()
    assert len(first) == len(np.unique(xyz, axis=0))
    assert (first[place] <= np.arange(200)).all()
