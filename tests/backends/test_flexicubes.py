"""Laws of FlexiCubes, for each backend, and of the tables they stand on."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from isolux import backends
from isolux.backends import Backend
from isolux.backends.cpu import pool
from isolux.backends.extract import CubeLattice, flexicubes
from isolux.backends.extraction_tables import CUBE_EDGES, cube_groups, cube_twists
from isolux.geometry.lattice import cube_lattice


def random_sdf(
    lattice: CubeLattice, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Noise that is positive in the two outer layers, so that its surface is closed."""
    generator = torch.Generator().manual_seed(seed)
    sdf = torch.randn(len(lattice.vertices), generator=generator, dtype=torch.float64)
    border = (lattice.vertices.abs() > 0.5 - 1.5 * lattice.spacing).any(-1)
    return torch.where(border, sdf.abs() + 0.1, sdf).to(dtype)


def random_weights(
    lattice: CubeLattice, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    count = len(lattice.cubes)
    alpha, beta, gamma = (
        torch.randn(count, columns, generator=generator, dtype=dtype) for columns in (8, 12, 1)
    )
    return alpha, beta, gamma[:, 0]


def assert_closed_manifold(faces: Tensor) -> None:
    """Each directed edge once, its reverse too, and one fan of faces about each vertex."""
    corners = faces.tolist()
    directed = Counter((f[i], f[(i + 1) % 3]) for f in corners for i in range(3))
    assert set(directed.values()) == {1}
    assert all((b, a) in directed for a, b in directed)
    following: dict[int, dict[int, int]] = {}
    for a, b, c in corners:
        for i, j, k in ((a, b, c), (b, c, a), (c, a, b)):
            following.setdefault(i, {})[j] = k
    for ring in following.values():
        start = at = next(iter(ring))
        for _ in range(len(ring)):
            at = ring[at]
            if at == start:
                break
        seen, at = 1, ring[start]
        while at != start:
            seen, at = seen + 1, ring[at]
        assert seen == len(ring)


def volume(vertices: Tensor, faces: Tensor) -> Tensor:
    a, b, c = (vertices[faces[:, i].long()] for i in range(3))
    return (a * torch.linalg.cross(b, c)).sum() / 6


def test_lattice_counts_and_order() -> None:
    lattice = cube_lattice((2, 3, 4))
    assert lattice.vertices.shape == (60, 3)
    assert lattice.cubes.shape == (24, 8)
    assert lattice.edges.shape == (2 * 4 * 5 + 3 * 3 * 5 + 3 * 4 * 4, 2)
    ends = lattice.cubes[:, torch.tensor(CUBE_EDGES)]  # [c, 12, 2]
    assert torch.equal(lattice.edges[lattice.cube_edges.long()], ends.sort(-1).values)
    # Cubes about an edge turn about it: successive centres, seen along the edge.
    centre = lattice.vertices[lattice.cubes.long()].mean(1)
    full = (lattice.edge_cubes >= 0).all(-1)
    around = centre[lattice.edge_cubes[full].long()]
    ends = lattice.vertices[lattice.edges[full].long()]
    turn = torch.linalg.cross(around[:, 1] - around[:, 0], around[:, 2] - around[:, 0])
    assert ((turn * (ends[:, 1] - ends[:, 0])).sum(-1) > 0).all()


def test_tables() -> None:
    groups, twists = cube_groups(), cube_twists()
    crossed = np.array(
        [[(case >> a ^ case >> b) & 1 for a, b in CUBE_EDGES] for case in range(256)], bool
    )
    assert np.array_equal(groups[:256] >= 0, crossed)
    assert np.array_equal(groups[256:] >= 0, crossed)
    assert groups.max() == 3  # at most four dual vertices
    assert max(np.bincount(row[row >= 0]).max() for row in groups if row.max() >= 0) == 7
    assert (twists >= 0).sum() == 36  # cases 16 and 19 of the 23
    # Cutting the twisted face the other way adds a patch.
    more = groups[256:].max(1) - groups[:256].max(1)
    assert np.array_equal(more == 1, twists >= 0)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_surface_of_noise_is_a_closed_manifold(
    backend: Backend, seed: int, training: bool
) -> None:
    lattice = cube_lattice(12)
    sdf = random_sdf(lattice, seed)
    sdf[::9] *= 0
    vertices, faces, _ = flexicubes(
        backend, lattice, lattice.vertices, sdf, *random_weights(lattice), training
    )
    assert faces.dtype == torch.int32
    assert_closed_manifold(faces)
    assert vertices.isfinite().all()
    assert volume(vertices, faces) > 0


@pytest.mark.parametrize("training", [True, False])
def test_linear_field_gives_a_plane(backend: Backend, training: bool) -> None:
    lattice = cube_lattice((5, 6, 7))
    normal = torch.nn.functional.normalize(torch.tensor([0.3, -0.8, 0.5]).double(), dim=0)
    points = lattice.vertices.double()
    vertices, faces, _ = flexicubes(
        backend, lattice, points, points @ normal - 0.07, None, None, None, training
    )
    offset = torch.full((len(vertices),), 0.07, dtype=torch.float64)
    torch.testing.assert_close(vertices @ normal, offset, atol=1e-9, rtol=0)
    a, b, c = (vertices[faces[:, i].long()] for i in range(3))
    assert (torch.linalg.cross(b - a, c - a) @ normal > 0).all()


def test_sphere_has_its_volume(backend: Backend) -> None:
    lattice = cube_lattice(24)
    sdf = lattice.vertices.norm(dim=-1) - 0.4
    vertices, faces, l_dev = flexicubes(
        backend, lattice, lattice.vertices, sdf, None, None, None, False
    )
    assert volume(vertices, faces).item() == pytest.approx(0.268083, rel=0.02)
    assert l_dev.min() >= 0
    assert l_dev.max() < lattice.spacing


@pytest.mark.parametrize("value", [1.0, -1.0, 0.0, float("nan")])
def test_one_sign_gives_no_surface(backend: Backend, value: float) -> None:
    lattice = cube_lattice(4)
    sdf = torch.full((len(lattice.vertices),), value, requires_grad=True)
    vertices, faces, l_dev = flexicubes(
        backend, lattice, lattice.vertices, sdf, *random_weights(lattice), True
    )
    assert vertices.shape == (0, 3)
    assert faces.shape == (0, 3)
    assert l_dev.shape == (0,)
    (vertices.sum() + l_dev.sum()).backward()
    assert sdf.grad is not None
    assert not sdf.grad.any()


def test_odd_values_stay_finite(backend: Backend) -> None:
    lattice = cube_lattice(8)
    sdf = random_sdf(lattice)
    odd = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-45, -1e-45])
    inner = (lattice.vertices.abs() < 0.5 - 1.5 * lattice.spacing).all(-1).nonzero()[:, 0]
    sdf[inner[::3]] = odd.repeat(len(inner))[: len(inner[::3])]
    sdf.requires_grad_()
    vertices, _, l_dev = flexicubes(
        backend, lattice, lattice.vertices, sdf, *random_weights(lattice), True
    )
    assert vertices.isfinite().all()
    (vertices.square().sum() + l_dev.sum()).backward()
    assert sdf.grad is not None
    assert sdf.grad.isfinite().all()


@pytest.mark.parametrize("training", [True, False])
def test_gradients(backend: Backend, training: bool) -> None:
    lattice = cube_lattice(4)
    generator = torch.Generator().manual_seed(1)
    points = lattice.vertices.double()
    points = points + 0.03 * torch.randn(points.shape, generator=generator).double()
    sdf = random_sdf(lattice, 3, torch.float64)
    inputs = [points, sdf, *random_weights(lattice, torch.float64)]

    def surface(*values: Tensor) -> tuple[Tensor, Tensor]:
        vertices, _, l_dev = flexicubes(backend, lattice, *values, training)
        return vertices, l_dev

    assert torch.autograd.gradcheck(
        surface, [value.requires_grad_() for value in inputs], fast_mode=True
    )


def test_backends_agree(backend: Backend) -> None:
    lattice = cube_lattice(9)
    points = lattice.vertices.double().requires_grad_()
    sdf = random_sdf(lattice, 5, torch.float64).requires_grad_()
    weights = [w.requires_grad_() for w in random_weights(lattice, torch.float64)]
    results = []
    for each in (backend, backends.reference()):
        vertices, faces, l_dev = flexicubes(each, lattice, points, sdf, *weights, True)
        loss = vertices.sin().sum() + l_dev.square().sum()
        grads = torch.autograd.grad(loss, (points, sdf, *weights))
        results.append((vertices, faces, l_dev, *grads))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("absent", [(), (0,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("resolution", [1, (7, 3, 5), 12])
def test_order_in_single_precision(
    backend: Backend,
    resolution: int | tuple[int, int, int],
    absent: tuple[int, ...],
    training: bool,
) -> None:
    """Vertex for vertex and face for face the processor's, with gradients to what is there."""
    lattice = cube_lattice(resolution)
    noise = torch.randn(len(lattice.vertices), generator=torch.Generator().manual_seed(2))
    noise[::9] *= 0
    weights = [
        None if i in absent else weight for i, weight in enumerate(random_weights(lattice))
    ]
    results = []
    for each in (backend, backends.cpu()):
        inputs = [
            None if value is None else value.clone().requires_grad_()
            for value in (lattice.vertices, noise, *weights)
        ]
        point, sdf, *rest = inputs
        assert point is not None
        assert sdf is not None
        vertices, faces, l_dev = flexicubes(
            each, lattice, point, sdf, rest[0], rest[1], rest[2], training
        )
        (vertices.sin().sum() + l_dev.square().sum()).backward()
        grads = [value.grad for value in inputs if value is not None]
        results.append((faces, vertices, l_dev, *grads))
    assert torch.equal(results[0][0], results[1][0])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_any_number_of_threads_gives_the_same_bits(backend: Backend) -> None:
    lattice = cube_lattice(34)
    results = []
    try:
        for count in (1, 3):
            pool.set_threads(count)
            points = lattice.vertices.clone().requires_grad_()
            vertices, faces, l_dev = flexicubes(
                backend, lattice, points, random_sdf(lattice), *random_weights(lattice), True
            )
            (vertices.sin().sum() + l_dev.sum()).backward()
            results.append((vertices, faces, l_dev, points.grad))
    finally:
        pool.set_threads(None)
    for one, three in zip(*results, strict=True):
        assert torch.equal(one, three)
