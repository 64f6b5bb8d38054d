"""Interpolation at pixels: linear functions come out exactly, and gradients are theirs."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from isolux import backends
from isolux.backends import Backend
from isolux.backends.rasterize import interpolate, interpolate_derivatives


def case(
    pixels: int = 50, columns: int = 4, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random attributes, corners, triangles and weights."""
    generator = torch.Generator().manual_seed(1)
    attributes = torch.randn(12, columns, generator=generator, dtype=dtype)
    corners = torch.randint(12, (20, 3), generator=generator, dtype=torch.int32)
    triangle = torch.randint(20, (pixels,), generator=generator, dtype=torch.int32)
    uv = torch.rand(pixels, 2, generator=generator, dtype=dtype) * 0.5
    return attributes, corners, triangle, uv


@pytest.mark.parametrize("index", [torch.int32, torch.int64])
def test_weights_belong_to_their_corners(backend: Backend, index: torch.dtype) -> None:
    attributes = torch.tensor([[9.0, 9], [1, 10], [2, 20], [3, 30]])
    corners = torch.tensor([[0, 0, 0], [1, 2, 3]], dtype=index)
    uv = torch.tensor([[1.0, 0], [0, 1], [0, 0], [0.25, 0.5]])
    out = interpolate(backend, attributes, corners, torch.ones(4, dtype=index), uv)
    expected = torch.tensor([[1.0, 10], [2, 20], [3, 30], [2, 20]])
    torch.testing.assert_close(out, expected)


def test_it_commutes_with_affine_maps(backend: Backend) -> None:
    attributes, corners, triangle, uv = case()
    out = interpolate(backend, attributes, corners, triangle, uv)
    moved = interpolate(backend, 3.0 * attributes - 2.0, corners, triangle, uv)
    torch.testing.assert_close(moved, 3.0 * out - 2.0)


def test_gradients(backend: Backend) -> None:
    """In float64, on the kernels that production runs."""
    attributes, corners, triangle, uv = case(pixels=9)
    attributes.requires_grad_()
    uv.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a, w: interpolate(backend, a, corners, triangle, w), (attributes, uv)
    )


def test_only_what_is_asked_for_gets_a_gradient(backend: Backend) -> None:
    attributes, corners, triangle, uv = case()
    uv.requires_grad_()
    interpolate(backend, attributes, corners, triangle, uv).sum().backward()
    assert uv.grad is not None
    assert attributes.grad is None


@pytest.mark.parametrize("columns", [0, 1, 3, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_backends_agree(columns: int, dtype: torch.dtype) -> None:
    found = []
    for name in ("reference", "cpu"):
        attributes, corners, triangle, uv = case(40_000, columns, dtype)
        attributes.requires_grad_()
        uv.requires_grad_()
        out = interpolate(backends.select(name), attributes, corners, triangle, uv)
        (out.square().sum() / 1e3).backward()
        found.append((out.detach(), attributes.grad, uv.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_threads_do_not_change_a_bit(with_threads: Callable[[int | None], None]) -> None:
    found = []
    for count in (1, 2, 3):
        with_threads(count)
        attributes, corners, triangle, uv = case(50_000, 5, torch.float32)
        attributes.requires_grad_()
        out = interpolate(backends.select("cpu"), attributes, corners, triangle, uv)
        out.square().sum().backward()
        assert attributes.grad is not None
        found.append((out.detach(), attributes.grad))
    for other in found[1:]:
        assert all(torch.equal(x, y) for x, y in zip(found[0], other, strict=True))


@pytest.mark.parametrize(("rows", "faces", "columns"), [(4, 2, 3), (0, 0, 3), (4, 2, 0)])
def test_no_pixels(backend: Backend, rows: int, faces: int, columns: int) -> None:
    attributes = torch.zeros(rows, columns, requires_grad=True)
    uv = torch.zeros(0, 2, requires_grad=True)
    corners = torch.zeros(faces, 3, dtype=torch.int32)
    out = interpolate(backend, attributes, corners, torch.zeros(0, dtype=torch.int32), uv)
    assert out.shape == (0, columns)
    out.sum().backward()
    assert attributes.grad is not None
    assert not attributes.grad.any()
    assert uv.grad is not None


def test_a_row_that_does_not_exist(backend: Backend) -> None:
    attributes, corners, triangle, uv = case()
    with pytest.raises(IndexError):
        interpolate(backend, attributes[:5], corners, triangle, uv)
    with pytest.raises(IndexError):
        interpolate(backend, attributes, corners[:5], triangle, uv)


def test_screen_slopes_follow_the_weights() -> None:
    """Chain rule: d(out)/dX = d(out)/du du/dX + d(out)/dv dv/dX."""
    attributes, corners, triangle, uv = case()
    slopes = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    got = interpolate_derivatives(attributes, corners, triangle, slopes)
    backend = backends.select("cpu")
    for axis in range(2):
        step = slopes[:, [axis, axis + 2]]
        ahead = interpolate(backend, attributes, corners, triangle, uv + step)
        here = interpolate(backend, attributes, corners, triangle, uv)
        torch.testing.assert_close(got[:, :, axis], ahead - here)
