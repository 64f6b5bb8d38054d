"""Neighbours across edges."""

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from isolux import backends
from isolux.backends import Backend
from isolux.backends.rasterize import edge_adjacency


def of(backend: Backend, *faces: tuple[int, int, int]) -> list[list[int]]:
    """The vertices across the edges of faces written out."""
    corners = torch.tensor(faces)
    result: list[list[int]] = vertices(edge_adjacency(backend, corners), corners).tolist()
    return result


def vertices(opposite: Tensor, faces: Tensor) -> Tensor:
    """The vertices at the opposite corners, -1 where there is none."""
    return torch.where(opposite < 0, -1, faces.reshape(-1)[opposite.long()].int())


def test_a_tetrahedron(backend: Backend) -> None:
    """Across each of its edges lies the vertex that the face has not."""
    faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    expected = (6 - faces.sum(-1, keepdim=True)).expand(4, 3)
    assert torch.equal(vertices(edge_adjacency(backend, faces), faces), expected.int())


def test_two_faces_and_their_border(backend: Backend) -> None:
    assert of(backend, (0, 1, 2), (2, 1, 5)) == [[5, -1, -1], [-1, -1, 0]]


def test_the_way_round_does_not_matter(backend: Backend) -> None:
    assert of(backend, (0, 1, 2), (1, 2, 5)) == [[5, -1, -1], [-1, -1, 0]]


def test_where_three_or_more_faces_meet_there_is_none(backend: Backend) -> None:
    three = of(backend, (0, 1, 2), (0, 1, 3), (1, 0, 4))
    assert three == [[-1, -1, -1]] * 3
    four = of(backend, (0, 1, 2), (0, 1, 3), (1, 0, 4), (0, 1, 5))
    assert four == [[-1, -1, -1]] * 4


def test_two_copies_are_no_neighbours(backend: Backend) -> None:
    assert of(backend, (0, 1, 2), (0, 1, 2)) == [[-1, -1, -1]] * 2
    assert of(backend, (0, 1, 2), (2, 1, 0)) == [[-1, -1, -1]] * 2


def test_a_face_with_a_vertex_twice_is_none(backend: Backend) -> None:
    assert of(backend, (1, 1, 2), (0, 1, 2)) == [[-1, -1, -1]] * 2


def test_empty(backend: Backend) -> None:
    assert edge_adjacency(backend, torch.zeros(0, 3, dtype=torch.int32)).shape == (0, 3)


def test_negative_indices(backend: Backend) -> None:
    with pytest.raises(IndexError, match="-1"):
        of(backend, (0, 1, -1))


def test_a_hub_with_many_faces(backend: Backend) -> None:
    """A fan of 2000 around one vertex: no quadratic cost, right neighbours."""
    k = torch.arange(2000)
    fan = torch.stack([torch.zeros_like(k), k + 1, (k + 1) % 2000 + 1], dim=-1)
    found = vertices(edge_adjacency(backend, fan), fan)
    assert (found[:, 0] == -1).all()
    assert torch.equal(found[:, 1], ((k + 2) % 2000 + 1).int())  # across (corner 2, hub)


def soup(faces: int) -> Tensor:
    """Random triangles over few vertices: borders, crowds, copies and degenerate ones."""
    return torch.randint(25, (faces, 3), generator=torch.Generator().manual_seed(faces))


@pytest.mark.parametrize("faces", [1, 30, 100, 400])
def test_the_backends_agree(backend: Backend, faces: int) -> None:
    one, other = (edge_adjacency(b, soup(faces)) for b in (backends.reference(), backend))
    assert torch.equal(one, other)
    assert (one >= 0).any() or faces in (1, 400)


def test_the_order_of_faces_does_not_matter(backend: Backend) -> None:
    faces = soup(60)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    found, moved = (vertices(edge_adjacency(backend, f), f) for f in (faces, faces[order]))
    assert torch.equal(found[order], moved)


def test_it_leads_back(backend: Backend) -> None:
    """The corner across an edge has the first one across that edge."""
    opposite = edge_adjacency(backend, soup(100)).reshape(-1).long()
    corner = torch.arange(300)
    paired = opposite >= 0
    assert paired.any()
    assert torch.equal(opposite[opposite[paired]], corner[paired])


def test_as_trimesh_has_it(backend: Backend) -> None:
    ball = trimesh.creation.icosphere(subdivisions=3)
    found = edge_adjacency(backend, torch.tensor(ball.faces.copy()))
    assert (found >= 0).all()
    found = vertices(found, torch.tensor(ball.faces.copy()))
    pairs = np.sort(ball.face_adjacency_unshared, axis=-1)
    corners = torch.tensor(ball.faces.copy())
    ours = torch.stack([corners, found.long()], dim=-1).reshape(-1, 2).sort(dim=-1).values
    assert np.array_equal(np.unique(pairs, axis=0), torch.unique(ours, dim=0).numpy())
