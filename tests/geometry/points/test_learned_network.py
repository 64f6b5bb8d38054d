"""The network: its layers, its symmetry, and that inference without torch says the same."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from isolux.backends.cpu.pool import set_threads
from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.hierarchy import fit_hierarchy
from isolux.geometry.points.hierarchy_options import HierarchyOptions
from isolux.geometry.points.learned import network as module
from isolux.geometry.points.learned.features import Features, features_of
from isolux.geometry.points.learned.inference import (
    adjusted,
    outputs_of,
    shipped,
    unadjusted,
    wanted,
)
from isolux.geometry.points.learned.network import Network, cells_of, symmetries
from isolux.geometry.points.octree import Samples, dilated, first_samples
from isolux.geometry.points.weights import Weights

SIZE = 64  # an even number of cells, so that a motion takes parents to parents


def places(seed: int = 0, count: int = 400) -> tuple[Any, Any]:
    """Points and normals of a noisy sphere in a box of SIZE cells."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(count, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return SIZE / 2 + 7 * normal + 0.3 * rng.normal(size=(count, 3)), normal


def sampled(place: Any, normal: Any) -> Samples:
    return first_samples(place, normal.astype(np.float32), np.ones(len(place), np.float32))


def seen(samples: Samples) -> Features:
    """Features where the coarser levels' field is the distance to the sphere's middle."""
    mask, cell = (1 << 20) - 1, samples.key >> 3
    corner = np.stack([cell >> 40, cell >> 20 & mask, cell & mask], -1)
    off = corner + samples.fraction.reshape(-1, 3) - SIZE / 2
    far = np.linalg.norm(off, axis=1)
    value, slope = (far - 7).astype(np.float32), (off / far[:, None]).astype(np.float32)
    return features_of(samples, value, slope, samples.weight, Weights(0.3, 1.0, 0.02))


def random_network() -> Network:
    torch.manual_seed(0)
    made = Network()
    torch.nn.init.normal_(made.leave.weight, std=0.3)
    return made


def parameters_of(network: Network) -> dict[str, Any]:
    return {name: x.detach().numpy() for name, x in network.state_dict().items()}


@pytest.mark.parametrize("number", [1, 6, 13, 27, 40, 47])
def test_a_motion_is_seen_as_if_the_points_had_moved(number: int) -> None:
    matrix, order = symmetries()[number]
    place, normal = places()
    there = (place - SIZE / 2) @ matrix.T + SIZE / 2
    one, two = sampled(place, normal), sampled(there, normal @ matrix.T)
    network = random_network()
    with torch.no_grad():
        short = network(seen(one), cells_of(one.cells), (matrix, order)).numpy()
        moved = network(seen(two), cells_of(two.cells)).numpy()
    moved[:, 6:] = moved[:, 6:] @ matrix
    mask = (1 << 20) - 1
    cells = np.stack([one.cells >> 40, one.cells >> 20 & mask, one.cells & mask], -1)
    image = ((cells + 0.5 - SIZE / 2) @ matrix.T + SIZE / 2).astype(np.int64)
    keys = image[:, 0] << 40 | image[:, 1] << 20 | image[:, 2]
    at = np.searchsorted(two.cells, keys)
    assert np.array_equal(two.cells[at], keys)
    assert np.abs(moved).max() > 0.1
    assert np.allclose(moved[at], short, atol=2e-4)


def test_there_are_48_different_motions() -> None:
    assert len({matrix.tobytes() for matrix, _ in symmetries()}) == 48


def test_the_convolution_has_the_gradient_of_differences() -> None:
    samples = sampled(*places(count=12))
    near = torch.from_numpy(cells_of(dilated(samples.cells)[::3].copy()).near)
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(len(near), 2, generator=draw, dtype=torch.float64).requires_grad_()
    weight = torch.randn(27, 3, 2, generator=draw, dtype=torch.float64).requires_grad_()
    part = slice(0, 40)
    rows = near[part].clone()
    rows[rows >= 40] = 40
    assert torch.autograd.gradcheck(
        lambda a, b: module._Gather.apply(a, b, rows),
        (x[part].detach().requires_grad_(), weight),
    )


def test_inference_says_what_torch_says() -> None:
    samples, network = sampled(*places()), random_network()
    features = seen(samples)
    with torch.no_grad():
        expected = network(features, cells_of(samples.cells)).numpy()
    found = outputs_of(features, samples, parameters_of(network))
    assert np.abs(expected).max() > 0.1
    assert np.allclose(found, expected, atol=1e-5)


def level(seed: int = 0) -> tuple[Any, Any, Samples, Any, Weights]:
    samples = sampled(*places(seed))
    rows = dilated(samples.cells)
    start = np.random.default_rng(2).normal(size=len(rows)).astype(np.float32)
    return rows, start, samples, samples.weight.copy(), Weights(0.3, 1.0, 0.02)


def test_an_untrained_network_changes_nothing() -> None:
    given = level()
    plain, same = unadjusted(*given), adjusted(*given, parameters_of(Network()))
    assert np.array_equal(plain.value_weight, same.value_weight)
    assert np.array_equal(plain.slope_weight, same.slope_weight)
    assert np.array_equal(plain.samples.normal, same.samples.normal)
    assert np.array_equal(same.smoothness, np.full(len(given[0]), 0.02, np.float32))
    assert not same.target.any()


def test_threads_do_not_change_bits() -> None:
    parameters, found = parameters_of(random_network()), []
    try:
        for count in (1, 3):
            set_threads(count)
            result = adjusted(*level(), parameters)
            found.append(b"".join(
                x.tobytes() for x in (result.value_weight, result.smoothness, result.target)
            ))  # fmt: skip
    finally:
        set_threads(None)
    assert found[0] == found[1]


def test_it_sees_no_further_than_seven_cells() -> None:
    rows, start, samples, mass, weights = level()
    parameters = parameters_of(random_network())
    cell = np.repeat(samples.cells, np.diff(samples.first)) >> 40
    low = int(cell.min())
    other = replace(samples, normal=np.where(
        np.repeat(cell == low, 3), -samples.normal, samples.normal
    ))  # fmt: skip
    one = adjusted(rows, start, samples, mass, weights, parameters)
    two = adjusted(rows, start, other, mass, weights, parameters)
    far = cell > low + 7
    assert far.any()
    assert not np.array_equal(one.value_weight, two.value_weight)
    assert np.array_equal(one.value_weight[far], two.value_weight[far])
    assert np.array_equal(one.target[far], two.target[far])
    beyond = rows >> 40 > low + 8
    assert np.array_equal(one.smoothness[beyond], two.smoothness[beyond])


def test_it_is_used_when_asked_for() -> None:
    assert wanted("on", Weights())
    assert not wanted("off", Weights(learned=True))
    assert wanted("auto", Weights(learned=True))
    assert not wanted("auto", Weights())


def test_what_ships_is_small_and_whole() -> None:
    parameters = shipped()
    assert parameters.keys() == parameters_of(Network()).keys()
    assert sum(x.nbytes for x in parameters.values()) < 4 * 2**20
    assert all(np.isfinite(x).all() for x in parameters.values())


def test_what_ships_brings_a_box_nearer() -> None:
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    axis, side = rng.integers(0, 3, 4000), rng.choice([-1.0, 1.0], 4000)
    flat, normal = rng.uniform(-1, 1, (4000, 3)), np.zeros((4000, 3))
    rows = np.arange(4000)
    flat[rows, axis], normal[rows, axis] = side, side
    xyz = (flat + 0.01 * rng.normal(size=flat.shape)) @ turn
    cloud = PointCloud(
        torch.from_numpy(xyz), torch.from_numpy((normal @ turn).astype(np.float32))
    )
    errors = []
    for use in ("off", "on"):
        field = fit_hierarchy(cloud, HierarchyOptions(learned=use))  # type: ignore[arg-type]
        vertices = field.extract_mesh().vertices.double().numpy() @ turn.T
        q = np.abs(vertices) - 1
        away = np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0)
        errors.append(np.abs(away).mean())
    assert errors[1] < 0.95 * errors[0]
