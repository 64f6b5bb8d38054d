"""Charts cover the mesh without overlap, in the square, and leave positions alone."""

import logging

import pytest
import torch
from torch import Tensor

from isolux.geometry.atlas import triangle_charts, unwrap
from isolux.geometry.mesh import Mesh
from isolux.geometry.simplify import simplify
from isolux.geometry.statistics import statistics_of


def areas(uvs: Tensor, faces: Tensor) -> Tensor:
    a, b, c = (uvs[faces[:, i].long()] for i in range(3))
    (px, py), (qx, qy) = (b - a).unbind(-1), (c - a).unbind(-1)
    return (px * qy - py * qx) / 2


def owners(uvs: Tensor, faces: Tensor, size: int) -> Tensor:
    """How many triangles cover each texel's centre."""
    steps = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    at = torch.stack([x, y], -1).reshape(-1, 1, 2)
    corner = uvs[faces.long()].double()  # [f, 3, 2]
    edge, to = corner.roll(-1, 1) - corner, at[:, :, None] - corner
    side = edge[..., 0] * to[..., 1] - edge[..., 1] * to[..., 0]
    return ((side > 1e-9).all(-1) | (side < -1e-9).all(-1)).sum(-1)


def test_charts_by_xatlas(sphere: Mesh) -> None:
    beats: list[float] = []
    made = unwrap(sphere, 128, progress=beats.append)
    assert torch.equal(made.vertices, sphere.vertices)
    assert torch.equal(made.faces, sphere.faces)
    assert made.uvs is not None
    assert made.uv_faces is not None
    assert made.uv_faces.dtype == sphere.faces.dtype
    assert (made.uvs >= 0).all()
    assert (made.uvs <= 1).all()
    assert len(made.uvs) < 2 * len(sphere.vertices)  # charts, not single triangles
    assert (areas(made.uvs, made.uv_faces) != 0).all()
    assert owners(made.uvs, made.uv_faces, 64).max() == 1
    # One position for each texture coordinate.
    place = torch.full((len(made.uvs),), -1)
    place[made.uv_faces.long()] = made.faces.long()
    assert torch.equal(place[made.uv_faces.long()], made.faces.long())


def test_a_slow_atlas_is_replaced(sphere: Mesh, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        made = unwrap(sphere, 256, timeout=0.0)
    assert "each triangle becomes a chart" in caplog.text
    assert made.uvs is not None
    assert len(made.uvs) == 3 * len(sphere.faces)


@pytest.mark.parametrize("faces", [1, 2, 7, 50])
def test_triangle_charts_do_not_touch(faces: int) -> None:
    uvs, rows = triangle_charts(faces, 128)
    assert uvs.shape == (3 * faces, 2)
    assert (uvs > 0).all()
    assert (uvs < 1).all()
    assert areas(uvs, rows).abs().min() > 0
    assert owners(uvs, rows, 128).max() == 1


def test_no_faces_no_charts() -> None:
    made = unwrap(Mesh(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.int32)), 64)
    assert made.uvs is not None
    assert made.uvs.shape == (0, 2)
    assert triangle_charts(0, 64)[0].shape == (0, 2)


def test_bad_meshes_are_refused(square: Mesh) -> None:
    broken = square.vertices.clone()
    broken[1, 2] = float("nan")
    with pytest.raises(ValueError, match="1 of 4 vertices"):
        unwrap(Mesh(broken, square.faces), 64)
    with pytest.raises(ValueError, match="0 to 9"):
        unwrap(Mesh(square.vertices, torch.tensor([[0, 1, 9]])), 64)


def test_simplify_keeps_the_shape(sphere: Mesh) -> None:
    fewer = simplify(sphere, 400)
    assert 380 <= len(fewer.faces) <= 400
    assert (fewer.vertices.norm(dim=-1) - 1).abs().max() < 0.05
    assert len(fewer.faces.unique()) == len(fewer.vertices)
    assert statistics_of(fewer).components == 1
    assert torch.equal(simplify(sphere, 10**6).faces, sphere.faces)
    with pytest.raises(ValueError, match="at least 4"):
        simplify(sphere, 3)
