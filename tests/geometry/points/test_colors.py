"""Laws of interpolated colours."""

import pytest
import torch

from isolux.backends.cpu import pool
from isolux.geometry.mesh import Mesh
from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.colors import ColorField, vertex_colors


def points(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, generator=generator, dtype=torch.float64)


def test_a_constant_comes_back_and_ranges_are_kept() -> None:
    xyz = points(400)
    flat = ColorField(PointCloud(xyz, colors=torch.full((400, 3), 0.3)))
    far = torch.cat([points(500, 1), points(5, 2) * 1e4])
    torch.testing.assert_close(flat(far), torch.full((505, 3), 0.3))
    random = torch.rand(400, 3, generator=torch.Generator().manual_seed(3))
    got = ColorField(PointCloud(xyz, colors=random))(far)
    assert (got >= random.amin(0)).all()
    assert (got <= random.amax(0)).all()
    assert got.dtype == torch.float32


def test_a_slow_change_is_followed() -> None:
    xyz = points(20_000)
    field = ColorField(PointCloud(xyz, colors=(0.2 + 0.6 * xyz).float()))
    inside = points(2000, 1) * 0.8 + 0.1
    error = (field(inside) - (0.2 + 0.6 * inside).float()).abs()
    assert error.mean() < 0.006
    assert error.max() < 0.03


def test_it_moves_turns_and_grows_with_the_cloud() -> None:
    xyz, at = points(300), points(200, 1)
    colors = torch.rand(300, 3, generator=torch.Generator().manual_seed(3))
    base = ColorField(PointCloud(xyz, colors=colors))(at)
    for change in (
        lambda x: x[:, [1, 2, 0]],
        lambda x: x * 1e6,
        lambda x: x * 1e-6,
        lambda x: x + torch.tensor([5e5, 5e6, 100.0], dtype=torch.float64),
    ):
        got = ColorField(PointCloud(change(xyz), colors=colors))(change(at))
        torch.testing.assert_close(got, base, atol=2e-5, rtol=0)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(4))
    mixed = ColorField(PointCloud(xyz[order], colors=colors[order]))(at)
    torch.testing.assert_close(mixed, base, atol=1e-6, rtol=0)


def test_any_number_of_threads_gives_the_same_bits() -> None:
    field_of = PointCloud(points(30_000), colors=points(30_000, 1).float())
    at = points(40_000, 2)
    results = []
    for count in (1, 3):
        pool.set_threads(count)
        results.append(ColorField(field_of)(at))
    pool.set_threads(None)
    assert results[0].equal(results[1])


def test_points_in_one_place_count_as_their_mean() -> None:
    xyz = torch.zeros(50_000, 3, dtype=torch.float64)
    colors = torch.zeros(50_000, 3)
    colors[:25_000] = 1.0
    got = ColorField(PointCloud(xyz, colors=colors))(points(1000))
    torch.testing.assert_close(got, torch.full((1000, 3), 0.5))


def test_a_single_point_and_no_place() -> None:
    field = ColorField(PointCloud(points(1), colors=torch.full((1, 3), 0.7)))
    torch.testing.assert_close(field(points(4)), torch.full((4, 3), 0.7))
    assert field(points(0)).shape == (0, 3)


def test_vertices_take_the_colour_of_the_points_there() -> None:
    xyz = points(200)
    cloud = PointCloud(xyz, colors=points(200, 1).float())
    mesh = Mesh(xyz.float(), torch.zeros(0, 3, dtype=torch.int32))
    got = vertex_colors(mesh, cloud, neighbours=1)
    torch.testing.assert_close(got, cloud.colors)


def test_what_cannot_be_coloured() -> None:
    colors = torch.zeros(3, 3)
    with pytest.raises(ValueError, match="no colours"):
        ColorField(PointCloud(points(3)))
    with pytest.raises(ValueError, match="without points"):
        ColorField(PointCloud(points(0), colors=colors[:0]))
    with pytest.raises(ValueError, match="need at least 1"):
        ColorField(PointCloud(points(3), colors=colors), 0)
    with pytest.raises(ValueError, match="clean it first"):
        ColorField(PointCloud(points(3) * float("nan"), colors=colors))
    with pytest.raises(ValueError, match="not finite"):
        ColorField(PointCloud(points(3), colors=colors))(points(2) * float("nan"))
