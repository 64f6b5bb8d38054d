"""Fields agree with what they are made of, and their surfaces lie where they are zero."""

import pytest
import torch
from torch import Tensor

from isolux.backends.extract import CubeLattice, TetLattice
from isolux.geometry.fields import Field, GridField, MeshField, SphereField
from isolux.geometry.lattice import cube_lattice, tet_lattice
from isolux.geometry.lattice_values import interpolate_lattice
from isolux.geometry.mesh import Mesh
from isolux.geometry.statistics import statistics_of

LATTICES = [tet_lattice(9), cube_lattice(5), cube_lattice((2, 3, 4))]


def points(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, generator=generator, dtype=torch.float64) - 0.5


@pytest.mark.parametrize("lattice", LATTICES)
def test_interpolation_repeats_linear_functions(lattice: TetLattice | CubeLattice) -> None:
    slope = torch.tensor([[0.3, 1.0], [-2.0, 0.1], [0.7, 5.0]]).double()
    at = points(500)
    ours = interpolate_lattice(lattice, lattice.vertices.double() @ slope + 1, at)
    torch.testing.assert_close(ours, at @ slope + 1, atol=1e-6, rtol=0)


@pytest.mark.parametrize("lattice", LATTICES)
def test_interpolation_meets_the_vertices(lattice: TetLattice | CubeLattice) -> None:
    values = torch.randn(len(lattice.vertices), 2, generator=torch.Generator().manual_seed(1))
    ours = interpolate_lattice(lattice, values.double(), lattice.vertices.double())
    torch.testing.assert_close(ours, values.double(), atol=1e-5, rtol=0)


def test_interpolation_is_linear_in_each_tetrahedron() -> None:
    lattice = tet_lattice(9)
    values = torch.randn(len(lattice.vertices), 1, generator=torch.Generator().manual_seed(1))
    tets = lattice.tets[: -12 * lattice.cells**2].long()  # without those on the border
    middle = lattice.vertices[tets].mean(1)
    torch.testing.assert_close(
        interpolate_lattice(lattice, values, middle), values[tets].mean(1), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("lattice", LATTICES)
def test_interpolation_has_gradients(lattice: TetLattice | CubeLattice) -> None:
    values = torch.randn(len(lattice.vertices), 1, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda v, p: interpolate_lattice(lattice, v, p),
        (values.requires_grad_(), points(3, 4).requires_grad_()),
    )


def test_beyond_the_cube_the_nearest_point_counts() -> None:
    lattice = cube_lattice(3)
    values = lattice.vertices[:, :1]
    far = torch.tensor([[7.0, 0.1, 0.2], [-3.0, 0.0, 0.0]])
    torch.testing.assert_close(
        interpolate_lattice(lattice, values, far)[:, 0], torch.tensor([0.5, -0.5])
    )


@pytest.mark.parametrize("extractor", ["tets", "flexicubes"])
def test_a_sphere_comes_out_of_its_field(extractor: str) -> None:
    field = SphereField(torch.tensor([1.0, 2.0, 3.0]), 0.5)
    mesh = field.extract_mesh(32, extractor)
    numbers = statistics_of(mesh)
    assert numbers.watertight
    assert numbers.manifold
    assert numbers.euler == 2
    assert field.value(mesh.vertices).abs().max() < 0.01


def mesh_of_cube(size: float = 1.0) -> Mesh:
    corners = torch.tensor([[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)]).float()
    quads = [(0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5)]
    faces = [f for a, b, c, d in quads for f in ((a, b, c), (a, c, d))]
    return Mesh((corners - 0.5) * size, torch.tensor(faces, dtype=torch.int32))


def test_field_of_a_cube_is_its_distance() -> None:
    field = MeshField(mesh_of_cube(2.0))
    at = 4 * points(2000)
    gap = at.abs() - 1
    expected = gap.clamp(min=0).norm(dim=-1) + gap.amax(-1).clamp(max=0)
    torch.testing.assert_close(field.value(at), expected)
    assert torch.equal(field.bounds, torch.tensor([[-1.0] * 3, [1.0] * 3]))


def test_gradients_are_unit_and_point_out(sphere: Mesh) -> None:
    for field in (MeshField(sphere), SphereField(torch.zeros(3), 1.0)):
        at = 3 * points(50)
        slope = field.gradient(at)
        torch.testing.assert_close(slope.norm(dim=-1), torch.ones(50).double())
        assert (torch.nn.functional.cosine_similarity(slope, at) > 0.98).all()


def test_an_open_mesh_still_has_an_inside(sphere: Mesh) -> None:
    field = MeshField(Mesh(sphere.vertices, sphere.faces[:-20]))
    assert field.value(torch.zeros(1, 3)) < 0
    assert field.value(torch.full((1, 3), 2.0)) > 0


def test_a_mesh_without_faces_has_no_field() -> None:
    with pytest.raises(ValueError, match="faces"):
        MeshField(Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int32)))


def test_grid_field_follows_moved_vertices() -> None:
    lattice = tet_lattice(24)
    shift = 0.2 * lattice.spacing * torch.sin(9 * lattice.vertices)
    moved = lattice.vertices + shift
    field = GridField(lattice, torch.ones(3), 2.0, 2 * (moved.norm(dim=-1) - 0.3), shift)
    at = 1 + 1.6 * points(500).float()
    exact = (at - 1).norm(dim=-1) - 0.6
    assert (field.value(at) - exact).abs().max() < 0.03


class Empty(Field):
    """Outside everywhere."""

    @property
    def bounds(self) -> Tensor:
        return torch.stack([-torch.ones(3), torch.ones(3)])

    def value(self, points: Tensor) -> Tensor:
        return torch.ones(len(points))


def test_a_field_without_a_surface_gives_an_empty_mesh() -> None:
    assert Empty().extract_mesh(8).faces.shape == (0, 3)
    assert not Empty().gradient(torch.zeros(2, 3)).any()
