"""How many centres there are, how far apart, and that seeds decide."""

import pytest
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from isolux.geometry.points.centres import Sampling, blue_noise, choose_centres

SAMPLINGS: tuple[Sampling, ...] = ("blue-noise", "random", "k-means")


def sheet(count: int = 2000) -> Tensor:
    """Points on a bent sheet, twice as dense on one side."""
    u = torch.rand(count, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    u[: count // 3, 0] *= 0.5
    return torch.stack([u[:, 0], u[:, 1], 0.2 * u[:, 0] ** 2], 1)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("count", [1, 7, 300, 1999])
def test_exactly_as_many_as_asked(sampling: Sampling, count: int) -> None:
    points = sheet()
    centres, nearest = choose_centres(points, count, sampling, seed=0)
    assert centres.shape == (count, 3)
    assert nearest.shape == (count,)
    assert len(torch.unique(centres, dim=0)) == count
    if sampling != "k-means":
        torch.testing.assert_close(centres, points[nearest])


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("count", [-1, -100, 50, 51])
def test_all_points_for_negative_or_large_numbers(sampling: Sampling, count: int) -> None:
    points = sheet(50)
    centres, nearest = choose_centres(points, count, sampling, seed=0)
    torch.testing.assert_close(centres, points)
    torch.testing.assert_close(nearest, torch.arange(50))


def test_blue_noise_keeps_its_distance_and_leaves_no_gap() -> None:
    points = sheet()
    chosen, radius = blue_noise(points, 200, torch.arange(len(points)))
    assert len(chosen) == 200
    tree = cKDTree(points[chosen].numpy())
    nearest = tree.query(points[chosen].numpy(), 2)[0][:, 1]
    assert nearest.min() >= radius > 0
    # A random choice has pairs some hundred times as near.
    alone, _ = choose_centres(points, 200, "random", 0)
    assert cKDTree(alone.numpy()).query(alone.numpy(), 2)[0][:, 1].min() < 0.3 * radius
    gap = tree.query(points.numpy())[0]
    assert gap.max() < 2.5 * radius  # 1 but for the few that were left out again


def test_k_means_lie_nearer_to_the_points() -> None:
    points = sheet()
    away = {
        sampling: float(
            (
                cKDTree(choose_centres(points, 60, sampling, 0)[0].numpy()).query(points)[0]
                ** 2
            ).mean()
        )
        for sampling in SAMPLINGS
    }
    assert away["k-means"] < 0.9 * min(away["blue-noise"], away["random"])


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_seeds_decide_zero_as_well(sampling: Sampling) -> None:
    points = sheet()
    drawn = [choose_centres(points, 100, sampling, seed)[0] for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_scale_does_not_matter(scale: float) -> None:
    points = sheet(500)
    _, before = choose_centres(points, 50, "blue-noise", 0)
    _, after = choose_centres(points * scale, 50, "blue-noise", 0)
    assert torch.equal(before, after)


def test_points_that_coincide() -> None:
    points = sheet(20).repeat(30, 1)
    chosen, radius = blue_noise(points, 100, torch.arange(len(points)))
    assert len(chosen) == 100  # more than there are places
    assert radius == 0
    chosen, radius = blue_noise(points, 10, torch.arange(len(points)))
    assert radius > 0
    same = torch.zeros(9, 3).double()
    assert len(choose_centres(same, 4, "blue-noise", 0)[0]) == 4


def test_far_apart_points_do_not_overflow_the_cells() -> None:
    points = torch.cat([sheet(100) * 1e-9, torch.full((1, 3), 1e9).double()])
    chosen, _ = blue_noise(points, 60, torch.arange(101))
    assert len(chosen) == 60
