"""The field of several levels: it is the sum of their splines, wherever points lie."""

from typing import Any

import numpy as np
import pytest
import torch
from spline_levels import evaluated, sphere, stacked
from torch import Tensor

from isolux.backends.cpu.pool import set_threads
from isolux.geometry.points.cloud import Frame, PointCloud
from isolux.geometry.points.hierarchy import fit_hierarchy
from isolux.geometry.points.hierarchy_field import HierarchyField
from isolux.geometry.points.hierarchy_options import HierarchyOptions
from isolux.geometry.points.trimming import Support

BOX = 8  # cells of the coarsest level, each of four
SURVEY = Frame(torch.tensor([500000.25, 5400000.5, 100.0], dtype=torch.float64), 0.25)
PLAIN = Frame(torch.zeros(3, dtype=torch.float64), 1.0)


def field(frame: Frame = PLAIN, seed: int = 0) -> HierarchyField:
    points = np.array([[9.0, 9, 9], [20, 22, 24]], np.float32)
    support = Support(points, 1.0, (points[0].astype(float), points[1].astype(float)))
    return HierarchyField(frame, stacked(BOX, seed), support)


def places(count: int, low: float, high: float, seed: int = 1) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(low, high, (count, 3)))


def brute_force(of: HierarchyField, local: Any) -> tuple[Any, Any]:
    """The sum of what all levels add, in the frame's units."""
    value, slope = np.zeros(len(local)), np.zeros((len(local), 3))
    for number, level in enumerate(of.levels):
        part, steep = evaluated(local / 2**number, level.rows, level.addition)
        value += part
        slope += steep / 2**number
    return value, slope


@pytest.mark.parametrize("seed", [0, 1])
def test_value_and_gradient_are_the_sums_of_all_levels(seed: int) -> None:
    some, points = field(seed=seed), places(400, 4.0, 28.0)
    value, slope = brute_force(some, points.numpy())
    np.testing.assert_allclose(some.value(points), value, atol=1e-10)
    np.testing.assert_allclose(some.gradient(points), slope, atol=1e-10)
    both = some.evaluate(points)
    assert torch.equal(both[0], some.value(points))
    assert torch.equal(both[1], some.gradient(points))


def test_the_gradient_is_the_value_s_slope_inside_the_box_and_beyond() -> None:
    some, points = field(), places(300, -20.0, 50.0)
    step = 1e-5 * torch.eye(3, dtype=torch.float64)
    slope = torch.stack(
        [(some.value(points + s) - some.value(points - s)) / 2e-5 for s in step], -1
    )
    torch.testing.assert_close(some.gradient(points), slope, atol=2e-4, rtol=1e-5)


def test_values_and_slopes_go_with_the_frame() -> None:
    local = (places(200, -10.0, 40.0) * 64).round() / 64  # exact in any of the frames
    plain, there = field(), field(SURVEY)
    assert torch.equal(there.value(SURVEY.world(local)), plain.value(local) * 0.25)
    assert torch.equal(there.gradient(SURVEY.world(local)), plain.gradient(local))
    assert torch.equal(there.world_from_field, SURVEY.world_from_local)
    assert there.voxel_size == 0.25
    assert torch.equal(there.bounds, SURVEY.world(plain.bounds))
    corners = torch.tensor([[7.0, 7, 7], [22, 24, 26]], dtype=torch.float64)
    assert torch.equal(plain.bounds, corners)


def test_a_cloud_may_lie_anywhere_and_have_any_size() -> None:
    """Where no coordinate is rounded, the fit is the same to the last bit."""
    xyz, normal = sphere(300, 1.0, 0.0)
    xyz = np.round(xyz * 1024) / 1024
    shift = np.array([500000.0, 5400000.0, -128.0])
    levels = []
    for scale, origin in ((1.0, 0.0), (4.0, shift), (0.125, -shift)):
        cloud = PointCloud(torch.from_numpy(xyz * scale + origin), torch.from_numpy(normal))
        options = HierarchyOptions(voxel_size=scale / 8)
        levels.append(fit_hierarchy(cloud, options).levels)
    for other in levels[1:]:
        for one, two in zip(levels[0], other, strict=True):
            assert np.array_equal(one.rows, two.rows)
            assert np.array_equal(one.coefficient, two.coefficient)


def test_far_away_the_field_is_positive_and_grows_by_the_way() -> None:
    some = field()
    away = torch.nn.functional.normalize(places(50, -1.0, 1.0), dim=-1)
    start = 16.0 + 30.0 * away  # beyond the box, whose border holds positive coefficients
    before = some.value(start)
    assert bool((before > 0).all())
    for reach in (1.0, 100.0, 1e6):
        value = some.value(start + reach * away)
        assert bool((value > before).all())
        before = value
    far = 16.0 + 1e9 * away
    torch.testing.assert_close(
        some.value(far), torch.full((50,), 1e9).double(), rtol=1e-6, atol=0
    )
    length = some.gradient(far).norm(dim=-1)
    torch.testing.assert_close(length, torch.ones_like(length), rtol=1e-6, atol=0)


def test_the_field_has_no_jump_at_the_box() -> None:
    some, points = field(), places(200, 0.0, 32.0)
    points[:, 0] = 4.0
    out, inside = points.clone(), points.clone()
    out[:, 0], inside[:, 0] = 4.0 - 1e-9, 4.0 + 1e-9
    torch.testing.assert_close(some.value(out), some.value(inside), atol=1e-6, rtol=0)


def test_near_a_sphere_the_gradient_is_its_normal() -> None:
    xyz, normal = sphere(3000, 1.0, 0.0)
    cloud = PointCloud(torch.from_numpy(50 * xyz), torch.from_numpy(normal))
    some = fit_hierarchy(cloud, HierarchyOptions(depth=5, smoothness=1e-3))
    for radius in (49.0, 50.0, 51.0):
        points, outward = (torch.from_numpy(part) for part in sphere(200, radius, 0.0, 3))
        slope, value = some.gradient(points), some.value(points)
        torch.testing.assert_close(slope, outward.double(), atol=0.06, rtol=0)
        expected = torch.full_like(value, radius - 50.0)
        torch.testing.assert_close(value, expected, atol=0.1, rtol=0)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_numbers_keep_their_kind(kind: torch.dtype) -> None:
    some = field()
    points = places(9, 4.0, 28.0).to(kind)
    assert some.value(points).dtype == some.gradient(points).dtype == kind
    expected = some.value(points.double()).to(kind)
    assert torch.equal(some.value(points), expected)


def test_no_points_and_points_that_are_none() -> None:
    some = field()
    nothing = torch.empty(0, 3, dtype=torch.float64)
    assert some.value(nothing).shape == (0,)
    assert some.gradient(nothing).shape == (0, 3)
    bad = torch.tensor([[torch.nan, 16, 16], [16.0, 16, 16]], dtype=torch.float64)
    value, slope = some.evaluate(bad)
    assert value.isnan().tolist() == [True, False]
    assert bool(slope[1].isfinite().all())
    assert bool(slope[0].isnan().any())


def test_infinitely_far_is_outside() -> None:
    far = torch.tensor([[torch.inf, 16, 16], [1e200, -1e200, 16]], dtype=torch.float64)
    assert bool((field().value(far) > 1e149).all())
    assert not bool(field().gradient(far)[1].isnan().any())


def test_threads_do_not_change_bits() -> None:
    some, points, found = field(), places(10000, 0.0, 32.0), []
    try:
        for count in (1, 2):
            set_threads(count)
            found.append(some.evaluate(points))
    finally:
        set_threads(None)
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    order = torch.randperm(10000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(some.value(points[order]), found[0][0][order])


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"resolution": 0}, "resolution"),
        ({"resolution": -3}, "resolution"),
        ({"voxel_size": 0.0}, "voxel_size"),
        ({"voxel_size": float("nan")}, "voxel_size"),
        ({"voxel_size": float("inf")}, "voxel_size"),
        ({"refine": -1}, "refine"),
        ({"trim": -1.0}, "trim"),
        ({"trim": 0.0}, "trim"),
        ({"adaptive": 0.0}, "adaptive"),
        ({"adaptive": -0.1}, "adaptive"),
        ({"adaptive": float("nan")}, "adaptive"),
        ({"trim": float("nan")}, "trim"),
    ],
)
def test_what_a_mesh_cannot_have_is_said(wrong: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=name) as error:
        field().extract_mesh(**wrong)
    assert "\n" not in str(error.value)
