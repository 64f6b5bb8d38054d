"""Laws of split-sum shading, for each backend."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from isolux import backends
from isolux.backends import Backend
from isolux.backends.cpu import pool
from isolux.backends.light import fg_lut
from isolux.backends.shade import split_sum


def inputs(count: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Albedo, orm, cosine, diffuse and specular light."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.rand(4, count, 3, generator=generator, dtype=torch.float64).to(dtype)
    cosine = torch.rand(count, generator=generator, dtype=torch.float64).to(dtype)
    return [wide[0], wide[1], cosine, wide[2], wide[3]]


def test_it_is_the_formula_at_a_table_centre(backend: Backend) -> None:
    lut = fg_lut(16).double()
    albedo, orm, _, diffuse, specular = inputs(1)
    orm[0, 1] = 5.5 / 16
    found = split_sum(
        backend, albedo, orm, torch.tensor([9.5 / 16]).double(), diffuse, specular, lut
    )
    occlusion, _, metal = orm[0]
    a, b = lut[5, 9]
    colour = 0.04 * (1 - metal) + albedo * metal
    expected = (diffuse * albedo * (1 - metal) + specular * (colour * a + b)) * (1 - occlusion)
    torch.testing.assert_close(found, expected)


def test_the_table_is_read_bilinearly_and_held(backend: Backend) -> None:
    """A table linear in both coordinates is read exactly inside, its border beyond."""
    at = (torch.arange(8, dtype=torch.float64) + 0.5) / 8
    lut = torch.stack(torch.meshgrid(at, at, indexing="ij"), -1)  # (roughness, cosine)
    _, orm, cosine, _, white = inputs(100)
    orm = orm.clone()
    orm[:, 0], orm[:, 2] = 0.0, 1.0  # no occlusion, metal
    found = split_sum(
        backend, torch.ones_like(orm), orm, cosine, white, torch.ones_like(orm), lut
    )
    low, high = 0.5 / 8, 7.5 / 8
    expected = orm[:, 1].clamp(low, high) + cosine.clamp(low, high)
    torch.testing.assert_close(found, expected[:, None].expand(-1, 3))


def test_full_occlusion_is_black(backend: Backend) -> None:
    values = inputs(20)
    values[1][:, 0] = 1.0
    assert (split_sum(backend, *values, fg_lut(16).double()) == 0).all()


def test_a_dielectric_never_shines_brighter_than_its_light(backend: Backend) -> None:
    albedo, orm, cosine, white, _ = inputs(200)
    orm[:, 2] = 0.0
    found = split_sum(
        backend, 0.9 * albedo, orm, cosine, 0 * white + 1, 0 * white + 1, fg_lut(64).double()
    )
    assert (found <= 0.9 * albedo + 1.01).all()


def test_gradients_match_finite_differences(backend: Backend) -> None:
    values = [t.requires_grad_() for t in inputs(12)]
    lut = torch.rand(5, 5, 2, generator=torch.Generator().manual_seed(2)).double()
    assert gradcheck(lambda *values: split_sum(backend, *values, lut), values)


def test_no_points_give_no_rows(backend: Backend) -> None:
    values = [t.requires_grad_() for t in inputs(0)]
    found = split_sum(backend, *values, fg_lut(16).double())
    assert found.shape == (0, 3)
    found.sum().backward()
    assert values[0].grad is not None


def test_any_number_of_threads_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    from isolux.backends.cpu import split_sum as kernels

    monkeypatch.setattr(kernels, "_CHUNK", 64)
    backend = backends.select("cpu")
    found = []
    for count in (1, 3):
        pool.set_threads(count)
        values = [t.requires_grad_() for t in inputs(1000, torch.float32)]
        out = split_sum(backend, *values, fg_lut(16))
        found.append((out.detach(), *torch.autograd.grad(out.square().sum(), values)))
    pool.set_threads(None)
    for one, many in zip(*found, strict=True):
        assert torch.equal(one, many)
