"""Ranges, filtering and gradients of materials."""

import pytest
import torch

from isolux.backends import Backend
from isolux.backends.encode import HashGridSpec
from isolux.render.material import Limits, MaterialField, TextureMaterial

LIMITS = Limits((0.1, 0.0, 0.2), (0.9, 0.5, 0.2), (0.0, 0.3, 0.0), (0.5, 0.9, 1.0))
BOX = torch.tensor([[-2.0, -1.0, 0.0], [2.0, 1.0, 4.0]])


def field(backend: Backend, seed: int = 0) -> MaterialField:
    generator = torch.Generator().manual_seed(seed)
    return MaterialField(HashGridSpec(4, 2, 8, 4, 16), 8, 2, LIMITS, BOX, backend, generator)


def test_a_field_keeps_its_limits(backend: Backend) -> None:
    made = field(backend)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(100.0)  # whatever training does
    values = made(torch.rand(500, 3, generator=torch.Generator().manual_seed(1)) * 8 - 4)
    low, high = LIMITS.tensors()
    assert bool((values >= low - 1e-6).all())
    assert bool((values <= high + 1e-6).all())


def test_a_field_goes_on_outside_its_box(backend: Backend) -> None:
    """As its border is; nothing is extrapolated."""
    outside = torch.tensor([[9.0, 0.5, 2.0], [0.0, -7.0, 9.0]])
    border = torch.tensor([[2.0, 0.5, 2.0], [0.0, -1.0, 4.0]])
    made = field(backend)
    torch.testing.assert_close(made(outside), made(border))


def test_a_field_is_that_of_its_seed(backend: Backend) -> None:
    points = torch.rand(10, 3)
    assert torch.equal(field(backend)(points), field(backend)(points))
    assert not torch.equal(field(backend)(points), field(backend, 1)(points))


def test_a_field_of_no_points(backend: Backend) -> None:
    made = field(backend)
    made(torch.zeros(0, 3)).sum().backward()
    assert all(p.grad is None or bool((p.grad == 0).all()) for p in made.parameters())


def test_textures_are_put_back_into_their_limits(backend: Backend) -> None:
    texels = torch.randn(4, 4, 9, generator=torch.Generator().manual_seed(0)) * 5
    made = TextureMaterial(texels, LIMITS, True, backend)
    made.clamp()
    low, high = LIMITS.tensors()
    assert bool((made.texels[..., :6] >= low).all())
    assert bool((made.texels[..., :6] <= high).all())
    assert float(made.texels[..., 6:8].detach().abs().max()) <= 1.0
    assert float(made.texels[..., 8].detach().min()) >= 0.0


def test_texel_centres_are_hit_and_wide_footprints_are_means(backend: Backend) -> None:
    texels = torch.rand(8, 8, 9, generator=torch.Generator().manual_seed(0))
    made = TextureMaterial(texels, Limits(), True, backend)
    at = torch.tensor([[2.5 / 8, 6.5 / 8]])
    torch.testing.assert_close(made.sample(at, None)[0], texels[6, 2])
    wide = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    torch.testing.assert_close(made.sample(at, wide)[0], texels.mean((0, 1)))


@pytest.mark.parametrize("learned", [True, False])
def test_without_a_normal_map_there_is_none(learned: bool, backend: Backend) -> None:
    made = TextureMaterial(torch.rand(4, 4, 9), Limits(), learned, backend)
    assert made.normal_map == learned
    assert made.state_dict().keys() == {"texels", "low", "high"}
