"""Regularisers: by hand, against plain torch, with gradients, and on nothing."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from isolux.geometry import regularize
from isolux.geometry.lattice import tet_lattice
from isolux.geometry.mesh import Mesh
from isolux.geometry.regularize import (
    deviation,
    face_pairs,
    laplacian,
    lattice_roughness,
    normal_consistency,
    sign_changes,
)

LATTICE = tet_lattice(5)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_sign_changes_against_torch() -> None:
    sdf = noise(len(LATTICE.vertices))
    ends = sdf[LATTICE.edges.long()]
    ends = ends[(ends[:, 0] < 0) != (ends[:, 1] < 0)]
    wanted = (ends.flip(1) >= 0).double()
    expected = binary_cross_entropy_with_logits(ends, wanted, reduction="sum") / len(ends)
    torch.testing.assert_close(sign_changes(sdf, LATTICE.edges), expected)


def test_sign_changes_of_large_values_are_finite() -> None:
    sdf = torch.tensor([1e4, -1e4, 1e-40], requires_grad=True)
    edges = torch.tensor([[0, 1], [1, 2]])
    loss = sign_changes(sdf, edges)
    loss.backward()
    assert loss.isfinite()
    assert sdf.grad is not None
    assert sdf.grad.isfinite().all()


def test_a_linear_field_is_not_rough_inside() -> None:
    lattice = tet_lattice(12)
    edges = lattice.edges.long()
    inner = (lattice.vertices.abs() < 0.49 - 1 / lattice.cells).all(-1)
    linear = lattice.vertices @ torch.tensor([0.3, -1.0, 2.0])
    total = torch.zeros_like(linear)
    count = torch.zeros_like(linear)
    for a, b in ((0, 1), (1, 0)):
        total.index_add_(0, edges[:, a], linear[edges[:, b]])
        count.index_add_(0, edges[:, a], torch.ones(len(edges)))
    gap = total / count - linear
    assert gap[inner].abs().max() < 1e-6
    torch.testing.assert_close(
        lattice_roughness(linear, lattice.edges), gap.square().mean(), rtol=1e-4, atol=0
    )


def test_laplacian_by_hand(square: Mesh) -> None:
    """Corner 0 of two triangles sees 1, 2, 2, 3; corner 1 sees 0 and 2; and so on."""
    v = square.vertices
    seen = [v[[1, 2, 2, 3]], v[[0, 2]], v[[0, 1, 0, 3]], v[[0, 2]]]
    gaps = torch.stack([s.mean(0) - p for s, p in zip(seen, v, strict=True)])
    torch.testing.assert_close(laplacian(v, square.faces), gaps.square().mean())


def test_laplacian_does_not_see_a_shift(sphere: Mesh) -> None:
    here = laplacian(sphere.vertices, sphere.faces)
    torch.testing.assert_close(laplacian(sphere.vertices + 3, sphere.faces), here)
    assert here > 0


def test_normal_consistency_by_angle(square: Mesh) -> None:
    assert normal_consistency(square.vertices, square.faces) == pytest.approx(0, abs=1e-6)
    folded = square.vertices.clone()
    folded[3] = torch.tensor([0.5, 0.5, 0.5**0.5])  # a right angle about the diagonal
    assert normal_consistency(folded, square.faces) == pytest.approx(1, abs=1e-5)


def test_pairs_of_a_closed_mesh(sphere: Mesh) -> None:
    pairs = face_pairs(sphere.faces)
    assert len(pairs) == 3 * len(sphere.faces) // 2
    shared = [set(a) & set(b) for a, b in sphere.faces[pairs[:200]].tolist()]
    assert all(len(ends) == 2 for ends in shared)


def test_three_faces_at_an_edge_make_no_pair() -> None:
    assert len(face_pairs(torch.tensor([[0, 1, 2], [1, 0, 3], [0, 1, 4]]))) == 0


TERMS: list[tuple[Callable[[Tensor], Tensor], Tensor]] = [
    (lambda x: sign_changes(x, LATTICE.edges), noise(len(LATTICE.vertices))),
    (lambda x: lattice_roughness(x, LATTICE.edges), noise(len(LATTICE.vertices))),
    (lambda x: laplacian(x, LATTICE.tets[:9, :3]), noise(len(LATTICE.vertices), 3)),
    (lambda x: normal_consistency(x, LATTICE.tets[:9, :3]), noise(len(LATTICE.vertices), 3)),
    (deviation, noise(5)),
]


@pytest.mark.parametrize(("term", "at"), TERMS)
def test_gradients(term: Callable[[Tensor], Tensor], at: Tensor) -> None:
    assert torch.autograd.gradcheck(term, (at.clone().requires_grad_(),))


NO_EDGES, NO_FACES = torch.zeros(0, 2).int(), torch.zeros(0, 3).int()


@pytest.mark.parametrize(
    ("term", "at"),
    [
        (lambda x: sign_changes(x, NO_EDGES), torch.ones(3)),
        (lambda x: sign_changes(x, LATTICE.edges), torch.ones(len(LATTICE.vertices))),
        (lambda x: lattice_roughness(x, NO_EDGES), torch.zeros(0)),
        (lambda x: laplacian(x, NO_FACES), torch.ones(3, 3)),
        (lambda x: laplacian(x, NO_FACES), torch.ones(0, 3)),
        (lambda x: normal_consistency(x, NO_FACES), torch.ones(3, 3)),
        (
            lambda x: normal_consistency(x, torch.tensor([[0, 1, 2], [0, 2, 1]])),
            torch.ones(3, 3),
        ),
        (deviation, torch.zeros(0)),
    ],
)
def test_nothing_costs_nothing(term: Callable[[Tensor], Tensor], at: Tensor) -> None:
    at = at.clone().requires_grad_()
    loss = term(at)
    loss.backward()
    assert loss.isfinite()
    assert at.grad is not None
    assert not at.grad.any()
    if len(at) == 0 or at.dim() == 1:
        assert loss == 0


@pytest.mark.parametrize("name", ["sign_changes", "lattice_roughness", "laplacian"])
def test_other_devices_sums_are_the_same(name: str) -> None:
    """Torch's sums, which devices take, against the kernels, with their gradients."""
    kernels, torchs = {
        "sign_changes": (sign_changes, regularize._sign_changes_there),
        "lattice_roughness": (lattice_roughness, regularize._roughness_there),
        "laplacian": (laplacian, regularize._laplacian_there),
    }[name]
    faces = torch.tensor([[0, 1, 2], [2, 1, 3], [5, 4, 5]])  # vertex 6 is in none of them
    shape, over = (
        ((7, 3), faces) if name == "laplacian" else ((len(LATTICE.vertices),), LATTICE.edges)
    )
    for values, indices in ((noise(*shape), over), (noise(*shape).abs(), over[:0])):
        one, other = (values.clone().requires_grad_() for _ in range(2))
        wanted, found = kernels(one, indices), torchs(other, indices)
        torch.testing.assert_close(found, wanted)
        wanted.backward()
        found.backward()
        torch.testing.assert_close(other.grad, one.grad)
