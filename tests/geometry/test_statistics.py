"""Numbers of meshes that are known, and cleaning."""

import torch

from isolux.geometry.mesh import Mesh
from isolux.geometry.statistics import (
    component_of_face,
    mesh_statistics,
    remove_small_components,
    remove_unreferenced,
    statistics_of,
)


def joined(*meshes: Mesh) -> Mesh:
    shift, faces = 0, []
    for mesh in meshes:
        faces.append(mesh.faces + shift)
        shift += len(mesh.vertices)
    return Mesh(torch.cat([m.vertices for m in meshes]), torch.cat(faces))


def test_a_sphere(sphere: Mesh) -> None:
    numbers = statistics_of(sphere)
    assert numbers.watertight
    assert numbers.manifold
    assert numbers.euler == 2
    assert numbers.components == 1
    assert numbers.boundary_edges == numbers.non_manifold_edges == 0
    assert 2 * numbers.manifold_edges == 3 * numbers.triangles


def test_a_torus_has_a_handle() -> None:
    n, m = 12, 8
    u, v = torch.meshgrid(torch.arange(n), torch.arange(m), indexing="ij")
    a, b = 2 * torch.pi * u / n, 2 * torch.pi * v / m
    ring = 2 + b.cos()
    points = torch.stack([ring * a.cos(), ring * a.sin(), b.sin()], -1).reshape(-1, 3)
    at = lambda i, j: (i % n) * m + j % m  # noqa: E731
    quads = torch.stack([at(u, v), at(u + 1, v), at(u + 1, v + 1), at(u, v + 1)], -1)
    quads = quads.reshape(-1, 4)
    numbers = statistics_of(Mesh(points, torch.cat([quads[:, :3], quads[:, [0, 2, 3]]])))
    assert numbers.euler == 0
    assert numbers.watertight


def test_an_open_square(square: Mesh) -> None:
    numbers = statistics_of(square)
    assert not numbers.watertight
    assert numbers.manifold
    assert numbers.boundary_edges == 4
    assert numbers.manifold_edges == 1
    assert numbers.euler == 1
    assert numbers.slivers == 0


def test_what_is_not_manifold() -> None:
    points = torch.rand(9, 3)
    fin = Mesh(points, torch.tensor([[0, 1, 2], [1, 0, 3], [0, 1, 4]]))
    assert statistics_of(fin).non_manifold_edges == 1
    assert not statistics_of(fin).manifold
    bow_tie = Mesh(points, torch.tensor([[0, 1, 2], [0, 3, 4]]))
    assert statistics_of(bow_tie).non_manifold_edges == 0
    assert not statistics_of(bow_tie).manifold
    turned = Mesh(points, torch.tensor([[0, 1, 2], [0, 1, 3], [1, 2, 3], [2, 0, 3]]))
    assert not statistics_of(turned).watertight  # closed, but one face is turned


def test_slivers() -> None:
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0.5, 0.05, 0], [0.5, 1, 0], [2, 0, 0]])
    faces = torch.tensor([[0, 1, 2], [0, 1, 3], [0, 1, 4], [0, 1, 3]])
    assert statistics_of(Mesh(points, faces)).slivers == 0.5


def test_floaters_go(sphere: Mesh) -> None:
    small = Mesh(0.1 * sphere.vertices + 2, sphere.faces)
    both = joined(small, sphere)
    assert statistics_of(both).components == 2
    assert component_of_face(both.faces).unique().tolist() == [0, 1]
    left = remove_small_components(both)
    assert torch.equal(left.vertices, sphere.vertices)
    assert torch.equal(left.faces.long(), sphere.faces.long())
    assert statistics_of(remove_small_components(both, 0.001)).components == 2


def test_unreferenced_vertices_go(square: Mesh) -> None:
    one = Mesh(square.vertices, square.faces[1:], square.uvs, square.faces[1:])
    left = remove_unreferenced(one)
    assert len(left.vertices) == 3
    assert left.uvs is not None
    assert len(left.uvs) == 3
    assert torch.equal(
        left.vertices[left.faces.long()], square.vertices[square.faces[1:].long()]
    )


def test_nothing() -> None:
    nothing = Mesh(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.int32))
    numbers = mesh_statistics(nothing)
    assert numbers["triangles"] == numbers["vertices"] == numbers["components"] == 0
    assert not numbers["watertight"]
    assert len(remove_small_components(nothing).faces) == 0
    assert len(remove_unreferenced(nothing).vertices) == 0
