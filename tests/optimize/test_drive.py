"""Pieces of the drive: smaller batches, what a checkpoint must fit."""

import torch

from isolux.data.views import Batch
from isolux.geometry.cameras import Cameras
from isolux.optimize.checkpoint import Checkpoint
from isolux.optimize.drive import scene_state, shrunk
from isolux.optimize.randomness import generator_for, order_of


def batch(alpha: torch.Tensor, rgb: torch.Tensor) -> Batch:
    height, width = alpha.shape[1:3]
    pose, two = torch.eye(4)[None], torch.full((1, 2), 40.0)
    return Batch(Cameras(pose, two, two / 2, height, width), rgb, alpha, ("a",))


def test_smaller_pictures_keep_what_they_show() -> None:
    """Means of premultiplied colours; cameras go with the size."""
    generator = torch.Generator().manual_seed(0)
    alpha = torch.rand(1, 8, 12, 1, generator=generator).round()
    rgb = torch.rand(1, 8, 12, 3, generator=generator) * alpha
    small = shrunk(batch(alpha, rgb), 2)
    assert small.rgb.shape == (1, 4, 6, 3)
    assert (small.cameras.height, small.cameras.width) == (4, 6)
    assert small.cameras.focal_px.tolist() == [[20.0, 20.0]]
    torch.testing.assert_close(small.alpha.mean(), alpha.mean())
    torch.testing.assert_close((small.rgb * small.alpha).mean(), (rgb * alpha).mean())


def test_a_uniform_object_keeps_its_colour_at_the_border() -> None:
    """Nothing of the background's black leaks in."""
    alpha = torch.zeros(1, 8, 8, 1)
    alpha[:, 1:6, 3:8] = 1.0
    small = shrunk(batch(alpha, alpha * torch.tensor([0.8, 0.4, 0.1])), 2)
    seen = small.rgb[(small.alpha > 0)[..., 0]]
    torch.testing.assert_close(seen, torch.tensor([0.8, 0.4, 0.1]).expand_as(seen))
    assert bool((small.rgb[(small.alpha == 0)[..., 0]] == 0).all())


def test_a_factor_of_one_is_nothing() -> None:
    whole = batch(torch.ones(1, 8, 8, 1), torch.ones(1, 8, 8, 3))
    assert shrunk(whole, 1) is whole


def test_odd_sizes_lose_their_last_row_and_column() -> None:
    small = shrunk(batch(torch.ones(1, 9, 7, 1), torch.ones(1, 9, 7, 3)), 2)
    assert small.alpha.shape == (1, 4, 3, 1)


def test_the_scene_s_part_of_a_checkpoint() -> None:
    tensors = {"scene.a.b": torch.ones(1), "optim.geometry.0.step": torch.zeros(1)}
    assert list(scene_state(Checkpoint("mesh", 1, 0.0, tensors))) == ["a.b"]


def test_every_view_is_taken_before_any_comes_again() -> None:
    taken = [v for step in range(7) for v in order_of(5, 1, step, 3, 7)]
    assert [sorted(taken[i : i + 7]) for i in (0, 7, 14)] == [list(range(7))] * 3
    assert taken[:7] != taken[7:14]
    assert order_of(5, 1, 4, 3, 7) == order_of(5, 1, 4, 3, 7)
    assert order_of(6, 1, 0, 7, 7) != order_of(5, 1, 0, 7, 7)


def test_places_have_streams_of_their_own() -> None:
    places = [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (7, 3)]
    draws = [torch.rand(4, generator=generator_for(3, *place)) for place in places]
    for i, one in enumerate(draws):
        assert all(not torch.equal(one, other) for other in draws[:i])
    assert torch.equal(draws[3], torch.rand(4, generator=generator_for(3, 0, 1)))
