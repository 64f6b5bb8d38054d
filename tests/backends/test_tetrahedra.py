"""Laws of marching tetrahedra, for each backend, and the lattice they stand on."""

import pytest
import torch
from torch import Tensor

from isolux import backends
from isolux.backends import Backend
from isolux.backends.cpu import pool
from isolux.backends.extract import TetLattice, marching_tetrahedra
from isolux.geometry.lattice import tet_lattice


@pytest.fixture
def lattice() -> TetLattice:
    return tet_lattice(12)


def on_border(points: Tensor) -> Tensor:
    return (points.abs() > 0.5 - 1e-6).any(-1)


def random_sdf(
    lattice: TetLattice, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Noise that is positive on the border of the cube, so that its surface is closed."""
    sdf = torch.randn(len(lattice.vertices), generator=torch.Generator().manual_seed(seed))
    return torch.where(on_border(lattice.vertices), sdf.abs() + 0.1, sdf).to(dtype)


def directed_edges(faces: Tensor) -> Tensor:
    return torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).long()


def assert_closed_and_oriented(faces: Tensor) -> None:
    """Each directed edge occurs once, and so does its reverse."""
    edges = directed_edges(faces)
    size = int(faces.max()) + 1
    forwards, backwards = edges[:, 0] * size + edges[:, 1], edges[:, 1] * size + edges[:, 0]
    assert len(forwards.unique()) == len(forwards)
    assert torch.equal(forwards.sort().values, backwards.sort().values)


def volume(vertices: Tensor, faces: Tensor) -> Tensor:
    a, b, c = (vertices[faces[:, i].long()] for i in range(3))
    return (a * torch.linalg.cross(b, c)).sum() / 6


@pytest.mark.parametrize("resolution", [1, 5, 16])
def test_lattice_fills_the_cube(resolution: int) -> None:
    lattice = tet_lattice(resolution)
    corner = lattice.vertices.double()[lattice.tets.long()]
    volumes = torch.linalg.det(corner[:, 1:] - corner[:, :1]) / 6
    assert (volumes > 0).all()
    torch.testing.assert_close(volumes.sum().item(), 1.0)
    edges = lattice.edges.long()
    keys = edges[:, 0] * len(lattice.vertices) + edges[:, 1]
    assert (keys.diff() > 0).all()
    pairs = lattice.tets[:, [0, 1, 0, 2, 0, 3, 1, 2, 1, 3, 2, 3]].reshape(-1, 6, 2)
    assert torch.equal(edges[lattice.tet_edges.long()], pairs.sort(-1).values.long())
    lengths = (lattice.vertices[edges[:, 0]] - lattice.vertices[edges[:, 1]]).norm(dim=-1)
    torch.testing.assert_close(lengths.min().item(), lattice.spacing)


def test_resolution_must_be_positive() -> None:
    with pytest.raises(ValueError, match="resolution"):
        tet_lattice(0)


@pytest.mark.parametrize("seed", range(3))
def test_surface_of_noise_is_a_closed_manifold(
    backend: Backend, lattice: TetLattice, seed: int
) -> None:
    sdf = random_sdf(lattice, seed)
    sdf[::7] *= 0  # exact zeros too
    vertices, faces = marching_tetrahedra(backend, lattice, lattice.vertices, sdf)
    assert faces.dtype == torch.int32
    assert torch.equal(faces.unique().long(), torch.arange(len(vertices)))
    assert_closed_and_oriented(faces)
    assert volume(vertices, faces) > 0


def test_fans_about_vertices_are_single(backend: Backend, lattice: TetLattice) -> None:
    """A vertex's triangles form one ring: as many as there are distinct neighbours."""
    _, faces = marching_tetrahedra(backend, lattice, lattice.vertices, random_sdf(lattice))
    neighbours: dict[int, dict[int, int]] = {}
    for a, b, c in faces.tolist():
        for i, j, k in ((a, b, c), (b, c, a), (c, a, b)):
            neighbours.setdefault(i, {})[j] = k
    for ring in neighbours.values():
        start = at = next(iter(ring))
        steps = 0
        while steps == 0 or at != start:
            at, steps = ring[at], steps + 1
        assert steps == len(ring)


def test_linear_field_gives_a_plane(backend: Backend, lattice: TetLattice) -> None:
    normal = torch.nn.functional.normalize(torch.tensor([0.3, -0.8, 0.5]).double(), dim=0)
    points = lattice.vertices.double()
    vertices, faces = marching_tetrahedra(backend, lattice, points, points @ normal - 0.07)
    torch.testing.assert_close(
        vertices @ normal,
        torch.full((len(vertices),), 0.07, dtype=torch.float64),
        atol=1e-12,
        rtol=0,
    )
    a, b, c = (vertices[faces[:, i].long()] for i in range(3))
    assert (torch.linalg.cross(b - a, c - a) @ normal > -1e-15).all()


def test_sphere_has_its_volume_and_points_outwards(backend: Backend) -> None:
    lattice = tet_lattice(32)
    sdf = lattice.vertices.norm(dim=-1) - 0.4
    vertices, faces = marching_tetrahedra(backend, lattice, lattice.vertices, sdf)
    assert volume(vertices, faces).item() == pytest.approx(0.268083, rel=0.01)
    a, b, c = (vertices[faces[:, i].long()] for i in range(3))
    assert ((torch.linalg.cross(b - a, c - a) * (a + b + c)).sum(-1) > -1e-9).all()


@pytest.mark.parametrize("value", [1.0, -1.0, 0.0, float("nan")])
def test_one_sign_gives_no_surface(backend: Backend, lattice: TetLattice, value: float) -> None:
    sdf = torch.full((len(lattice.vertices),), value, requires_grad=True)
    vertices, faces = marching_tetrahedra(backend, lattice, lattice.vertices, sdf)
    assert vertices.shape == (0, 3)
    assert faces.shape == (0, 3)
    vertices.sum().backward()
    assert sdf.grad is not None
    assert not sdf.grad.any()


def test_odd_values_stay_finite(backend: Backend, lattice: TetLattice) -> None:
    sdf = random_sdf(lattice)
    odd = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-45, -1e-45])
    inner = (~on_border(lattice.vertices)).nonzero()[:, 0]
    sdf[inner[::3]] = odd.repeat(len(inner))[: len(inner[::3])]
    sdf.requires_grad_()
    points = lattice.vertices.clone().requires_grad_()
    vertices, faces = marching_tetrahedra(backend, lattice, points, sdf)
    assert vertices.isfinite().all()
    assert_closed_and_oriented(faces)
    vertices.square().sum().backward()
    assert sdf.grad is not None
    assert sdf.grad.isfinite().all()


def test_gradients(backend: Backend) -> None:
    lattice = tet_lattice(4)
    generator = torch.Generator().manual_seed(1)
    points = lattice.vertices.double()
    points = points + 0.02 * torch.randn(points.shape, generator=generator).double()
    sdf = random_sdf(lattice, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda p, s: marching_tetrahedra(backend, lattice, p, s)[0],
        (points.requires_grad_(), sdf.requires_grad_()),
    )


def test_backends_agree(backend: Backend, lattice: TetLattice) -> None:
    sdf = random_sdf(lattice, 5, torch.float64).requires_grad_()
    points = lattice.vertices.double().requires_grad_()
    results = []
    for each in (backend, backends.reference()):
        vertices, faces = marching_tetrahedra(each, lattice, points, sdf)
        results.append(
            (vertices, faces, *torch.autograd.grad(vertices.sin().sum(), (points, sdf)))
        )
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_order_in_single_precision(backend: Backend) -> None:
    """Vertex for vertex and face for face the processor's, over several lattices in turn."""
    for resolution in (1, 7, 12):
        lattice = tet_lattice(resolution)
        sdf = torch.randn(len(lattice.vertices), generator=torch.Generator().manual_seed(2))
        sdf[::5] = torch.tensor([0.0, float("nan"), 1e-38]).repeat(len(sdf))[: len(sdf[::5])]
        results = []
        for each in (backend, backends.cpu()):
            points = lattice.vertices.clone().requires_grad_()
            value = sdf.clone().requires_grad_()
            vertices, faces = marching_tetrahedra(each, lattice, points, value)
            vertices.sin().sum().backward()
            results.append((vertices, faces, points.grad, value.grad))
        assert torch.equal(results[0][1], results[1][1])
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_any_number_of_threads_gives_the_same_bits(backend: Backend) -> None:
    lattice = tet_lattice(24)
    sdf = random_sdf(lattice)
    results = []
    try:
        for count in (1, 3):
            pool.set_threads(count)
            results.append(marching_tetrahedra(backend, lattice, lattice.vertices, sdf))
    finally:
        pool.set_threads(None)
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
