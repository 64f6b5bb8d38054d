"""Cells that are fitted on their own: weights that make a whole, and no seams."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.spline_options import SplineOptions
from isolux.geometry.points.spline_tiles import Blend, TiledSplineField, cells_of
from isolux.geometry.points.splines import fit_splines

TILED = SplineOptions(grid_size=40, cells_per_axis=2)


def ellipsoid(count: int = 1200) -> PointCloud:
    k = torch.arange(count, dtype=torch.float64) + 0.5
    height, turn = 1 - 2 * k / count, k * 2.399963229728653
    flat = (1 - height**2).sqrt()
    unit = torch.stack([flat * turn.cos(), flat * turn.sin(), height], 1)
    axes = torch.tensor([1.0, 0.8, 0.6]).double()
    normal = torch.nn.functional.normalize(unit / axes, dim=1)
    return PointCloud(unit * axes, normal.float())


def around(count: int, extent: float = 2.2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return extent * (torch.rand(count, 3, generator=generator).double() - 0.5)


def blend_of(field: Any) -> Blend:
    assert isinstance(field, TiledSplineField)
    assert isinstance(field.piece, Blend)
    return field.piece


def test_every_point_lies_in_one_cell() -> None:
    steps = torch.linspace(0, 1, 9).double()  # on borders of cells as well
    points = torch.cartesian_prod(steps, steps, steps)
    bounds = torch.tensor([[0.0] * 3, [1.0] * 3]).double()
    cells = cells_of(points, bounds, 4, 0.0, "smooth")
    assert sum(cell.inside for cell in cells) == len(points)
    assert len(cells) == 64
    wide = cells_of(points, bounds, 4, 1.0, "smooth")
    assert all(len(b.rows) > len(a.rows) for a, b in zip(cells, wide, strict=True))
    for cell in wide:
        local = cell.frame.local(points[cell.rows])
        assert float(local.abs().max()) <= 0.5 + 1e-12


@pytest.mark.parametrize("weights", ["smooth", "trilinear", "none"])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 1.0])
def test_weights_are_a_partition_of_unity(weights: Any, overlap: float) -> None:
    options = dataclasses.replace(
        TILED, cells_per_axis=3, weights=weights, overlap=overlap, centres=40
    )
    piece = blend_of(fit_splines(ellipsoid(), options))
    low, high = piece.bounds
    at = torch.cat([around(500, 3.0), low + (high - low) * torch.rand(50, 3).round() / 3])
    weight, slope = piece._all_weights(at)
    torch.testing.assert_close(weight.sum(0), torch.ones(len(at)).double())
    assert float(weight.min()) >= 0
    torch.testing.assert_close(slope.sum(0), torch.zeros(len(at), 3).double())


def test_values_and_slopes_pass_over_seams() -> None:
    field = fit_splines(ellipsoid(), TILED)
    piece = blend_of(field)
    at = field.support.points[::7] * 1.01
    for axis in range(3):
        step = torch.zeros(3).double()
        step[axis] = 1e-7
        for edge in (0.0, -piece.tiles[0].pad, piece.tiles[0].pad):
            border = at.clone()
            border[:, axis] = piece.bounds.mean(0)[axis] + edge
            jump = piece.value(border + step) - piece.value(border - step)
            assert float(jump.abs().max()) < 1e-6
            bend = piece.gradient(border + step) - piece.gradient(border - step)
            assert float(bend.abs().max()) < 1e-4


@pytest.mark.parametrize("weights", ["smooth", "trilinear", "none"])
def test_gradients_are_the_limit_of_differences(weights: Any) -> None:
    piece = blend_of(fit_splines(ellipsoid(), dataclasses.replace(TILED, weights=weights)))
    at, h = around(100), 1e-6
    for axis, step in enumerate(h * torch.eye(3, dtype=torch.float64)):
        rise = (piece.value(at + step) - piece.value(at - step)) / (2 * h)
        torch.testing.assert_close(piece.gradient(at)[:, axis], rise, rtol=1e-5, atol=1e-5)


def test_cells_find_the_surface_that_one_fit_finds() -> None:
    cloud = ellipsoid()
    one = fit_splines(cloud, dataclasses.replace(TILED, cells_per_axis=1))
    mesh = fit_splines(cloud, TILED).extract_mesh()
    assert float(one.value(mesh.vertices).abs().max()) < 1e-3
    ends = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).sort(1).values
    assert torch.unique(torch.unique(ends, dim=0, return_counts=True)[1]).tolist() == [2]


def test_absent_cells_leave_no_mark() -> None:
    """Weights of what is left are made whole again next to a cell without a fit."""
    cloud = ellipsoid()
    corner = (cloud.xyz > 0).all(1)
    sparse = cloud[~corner | (torch.arange(len(cloud)) % 12 == 0)]
    field = fit_splines(sparse, dataclasses.replace(TILED, min_points_per_cell=30))
    assert len(blend_of(field).tiles) == 7
    near = cloud.xyz[(cloud.xyz.abs() < 0.06).any(1) & (cloud.xyz > -0.02).all(1)]
    assert len(near) > 5
    assert float(field.value(near).abs().max()) < 0.05  # 0 of weight 0.1 would be as well,
    slope = field.gradient(near).norm(dim=1)
    assert 0.8 < float(slope.min()) <= float(slope.max()) < 1.2  # this would not


def test_no_cell_with_enough_points() -> None:
    options = dataclasses.replace(TILED, min_points_per_cell=10_000)
    with pytest.raises(ValueError, match="no cell holds more than 10000 points"):
        fit_splines(ellipsoid(), options)


def test_seeds_decide() -> None:
    at = around(50)
    options = dataclasses.replace(TILED, centres=100)
    values = [
        fit_splines(ellipsoid(), dataclasses.replace(options, seed=seed)).value(at)
        for seed in (0, 0, 7)
    ]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])
