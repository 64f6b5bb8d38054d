"""Laws of smooth normals, for each backend."""

import pytest
import torch
import trimesh
from orders import both_orders
from torch import Tensor
from torch.autograd import gradcheck

from isolux import backends
from isolux.backends import Backend
from isolux.backends.normals import vertex_normals

F64 = torch.float64


def soup(dtype: torch.dtype = F64) -> tuple[Tensor, Tensor]:
    """Random triangles, some of them naming a vertex twice, over 20 vertices; one is unused."""
    generator = torch.Generator().manual_seed(4)
    faces = torch.randint(19, (60, 3), generator=generator)
    return torch.randn(20, 3, generator=generator, dtype=F64).to(dtype), faces


def test_a_sphere_has_the_normals_of_its_centre(backend: Backend) -> None:
    ball = trimesh.creation.icosphere(subdivisions=3)
    points = torch.tensor(ball.vertices, dtype=F64)
    found = vertex_normals(backend, points, torch.tensor(ball.faces.copy()))
    torch.testing.assert_close(found, points, rtol=0.0, atol=0.015)


def test_faces_count_by_their_area(backend: Backend) -> None:
    """At the corner of a box of sides 1, 2, 3: n is along (2 3, 1 3, 1 2) / 2."""
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]], dtype=F64)
    faces = torch.tensor([[0, 2, 3], [0, 3, 1], [0, 1, 2]])
    found = vertex_normals(backend, points, faces)
    torch.testing.assert_close(found[0], torch.tensor([6.0, 3, 2], dtype=F64) / 7)


def test_gradients_match_finite_differences(backend: Backend) -> None:
    points, faces = soup()
    assert gradcheck(
        lambda p: vertex_normals(backend, p, faces), points.requires_grad_(), atol=1e-4
    )


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_the_backends_agree(backend: Backend, dtype: torch.dtype) -> None:
    found = []
    for which in (backends.reference(), backend):
        points, faces = soup(dtype)
        points.requires_grad_()
        normals = vertex_normals(which, points, faces)
        found.append((normals, torch.autograd.grad(normals[:, 0].sum(), points)[0]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_where_no_face_counts_there_is_none(backend: Backend) -> None:
    """Unused vertices, faces that cancel or have no area: zero, and no gradient."""
    points = torch.rand(5, 3, dtype=F64, requires_grad=True)
    for faces in ([[0, 1, 2], [0, 2, 1]], [[0, 1, 1], [2, 2, 2]], []):
        normals = vertex_normals(backend, points, torch.tensor(faces).reshape(-1, 3).long())
        assert not normals.any()
        assert not torch.autograd.grad(normals.sum(), points)[0].any()
    assert vertex_normals(backend, points[:0], torch.zeros(0, 3).long()).shape == (0, 3)


def test_a_sum_next_to_nothing_counts_as_none(backend: Backend) -> None:
    """Its direction would be rounding; the limit is 1e-24 of its squared length."""
    points, faces = torch.eye(3, dtype=F64), torch.tensor([[0, 1, 2]])
    for side, there in ((1e-5, True), (1e-7, False)):
        leaf = (side * points).requires_grad_()
        normals = vertex_normals(backend, leaf, faces)
        assert bool(normals.any()) is there
        assert bool(torch.autograd.grad(normals[0, 0], leaf)[0].any()) is there


def test_sums_in_fixed_point_do_not_depend_on_the_order_of_threads() -> None:
    points, faces = soup(torch.float32)
    points.requires_grad_()

    def run(backend: Backend) -> tuple[Tensor, Tensor]:
        normals = vertex_normals(backend, points, faces)
        pull = torch.linspace(0.1, 1.0, normals.numel()).reshape(normals.shape)
        return normals.detach(), *torch.autograd.grad(normals, points, pull)

    plain, fixed = both_orders(run, deterministic=False), both_orders(run, deterministic=True)
    for k in range(2):
        assert not torch.equal(plain[0][k], plain[1][k])
        assert torch.equal(fixed[0][k], fixed[1][k])
        torch.testing.assert_close(plain[0][k], fixed[0][k], rtol=1e-5, atol=1e-5)


def test_a_vertex_that_is_no_number_spoils_its_neighbours_only() -> None:
    points, faces = soup(torch.float32)
    faces[faces == 0] = 1
    faces[0] = torch.tensor([0, 1, 2])
    points[0] = torch.nan
    (found,), _ = both_orders(lambda b: [vertex_normals(b, points, faces)], deterministic=True)
    assert not found[:3].any()  # a length that is no number counts as none
    torch.testing.assert_close(found, vertex_normals(backends.cpu(), points, faces))
