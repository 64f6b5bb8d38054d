"""Laws of the shading frame, for each backend."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from isolux import backends
from isolux.backends import Backend
from isolux.backends.cpu import pool
from isolux.backends.frame import shading_frame


def inputs(count: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Position to perturbation, of all kinds of facing."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    face = torch.nn.functional.normalize(draw(7, 3), dim=-1)
    triangle = torch.arange(count) % 7
    smooth = 2.0 * face[triangle] + 0.8 * draw(count, 3)
    hand = torch.where(torch.arange(count) % 3 == 0, -1.0, 1.0).to(dtype)[:, None]
    bump = torch.tensor([0.0, 0.0, 1.0], dtype=dtype) + 0.3 * draw(count, 3)
    return [
        draw(count, 3), smooth, face, triangle.int(), 4.0 * draw(2, 3),
        torch.arange(count) % 2, draw(count, 3), hand, bump,
    ]  # fmt: skip


@pytest.mark.parametrize("bumps", [True, False])
def test_gradients_match_finite_differences(backend: Backend, bumps: bool) -> None:
    given = inputs(24)
    moving = (0, 1, 6, 8) if bumps else (0, 1)
    for i in moving:
        given[i].requires_grad_()
    if not bumps:
        given = given[:6]

    def frame(*leaves: Tensor) -> tuple[Tensor, ...]:
        values = dict(zip(moving, leaves, strict=True))
        return shading_frame(backend, *(values.get(i, t) for i, t in enumerate(given)))

    assert gradcheck(frame, tuple(given[i] for i in moving))


@pytest.mark.parametrize("bumps", [True, False])
def test_the_backends_agree(backend: Backend, bumps: bool) -> None:
    given = inputs(500)[: 9 if bumps else 6]
    found = [shading_frame(b, *given) for b in (backend, backends.reference())]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_gradients_in_single_precision(backend: Backend) -> None:
    found = []
    for which, dtype in ((backend, torch.float32), (backends.reference(), torch.float64)):
        given = inputs(200, dtype)
        leaves = [given[i].requires_grad_() for i in (0, 1, 6, 8)]
        out = shading_frame(which, *given)
        loss = sum((k + 1) * t.square().sum() + t.sum() for k, t in enumerate(out))
        found.append([g.double() for g in torch.autograd.grad(loss, leaves)])
    for one, other in zip(*found, strict=True):
        error = (one - other).norm(dim=-1) / (1e-2 + other.norm(dim=-1))
        assert float(error.quantile(0.98)) < 1e-4


def test_normals_are_unit_and_face_the_viewer_and_directions_mirror(backend: Backend) -> None:
    given = inputs(500)
    normal, mirrored, cosine = shading_frame(backend, *given)
    to_camera = given[4][given[5]] - given[0]
    to_camera = torch.nn.functional.normalize(to_camera, dim=-1)
    ones = torch.ones(500, dtype=torch.float64)
    torch.testing.assert_close(normal.norm(dim=-1), ones)
    torch.testing.assert_close(mirrored.norm(dim=-1), ones)
    assert bool((cosine > 0).all())
    torch.testing.assert_close((to_camera * normal).sum(-1), cosine)
    torch.testing.assert_close((to_camera + mirrored) / 2, cosine[:, None] * normal)


def test_a_flat_perturbation_changes_nothing(backend: Backend) -> None:
    given = inputs(50)
    given[8] = torch.tensor([[0.0, 0.0, 2.0]], dtype=torch.float64).expand(50, 3)
    for a, b in zip(
        shading_frame(backend, *given), shading_frame(backend, *given[:6]), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_a_perturbation_never_points_inwards(backend: Backend) -> None:
    """Its z is held to 0.001, and has no gradient there."""
    given = inputs(50)
    bump = given[8].clone()
    bump[:, 2] = -bump[:, 2].abs()
    held = bump.clone()
    held[:, 2] = 1e-3
    bump.requires_grad_()
    found, expected = (shading_frame(backend, *given[:8], b) for b in (bump, held))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.detach(), b)
    (grad,) = torch.autograd.grad(sum(t.square().sum() + t.sum() for t in found), bump)
    assert grad[:, :2].any()
    assert not grad[:, 2].any()


def test_vectors_without_length_and_no_pixels_at_all_are_finite(backend: Backend) -> None:
    for count in (0, 4):
        given = inputs(count)
        for i in (0, 1, 6, 8):
            given[i] = torch.zeros_like(given[i]).requires_grad_()
        given[4] = torch.zeros_like(given[4])
        found = shading_frame(backend, *given)
        gradients = torch.autograd.grad(
            sum(t.sum() for t in found), [given[i] for i in (0, 1, 6, 8)]
        )
        assert all(bool(t.isfinite().all()) for t in (*found, *gradients))


def test_a_triangle_that_does_not_exist_is_refused() -> None:
    given = inputs(4)
    given[3] = given[3] + 7
    with pytest.raises(IndexError, match="triangle"):
        shading_frame(backends.cpu(), *given)


def test_it_does_not_depend_on_the_number_of_threads() -> None:
    found = []
    try:
        for threads in (1, 3):
            pool.set_threads(threads)
            given = inputs(40_000, torch.float32)
            leaves = [given[i].requires_grad_() for i in (0, 1, 6, 8)]
            out = shading_frame(backends.cpu(), *given)
            grads = torch.autograd.grad(sum(t.square().sum() for t in out), leaves)
            found.append((*out, *grads))
    finally:
        pool.set_threads(None)
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
