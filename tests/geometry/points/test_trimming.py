"""What is left of a surface near points: limits in world units, none, and nothing."""

from typing import Any

import numpy as np
import pytest
import torch
from spline_levels import sphere_level
from surfaces import open_edges

from isolux.geometry.mesh import Mesh
from isolux.geometry.points.cloud import Frame
from isolux.geometry.points.hierarchy_field import HierarchyField
from isolux.geometry.points.trimming import Support, trimmed

MIDDLE, RADIUS, SCALE = 12.125, 8.0, 0.25
FRAME = Frame(torch.tensor([4e5, 5e6, -3.0], dtype=torch.float64), SCALE)


def cap() -> Any:
    """Points on the upper part of the sphere, float32 [n, 3], in cells."""
    draw = np.random.default_rng(0).normal(size=(800, 3))
    draw /= np.linalg.norm(draw, axis=1, keepdims=True)
    return (MIDDLE + RADIUS * draw[draw[:, 2] > 0.3]).astype(np.float32)


def field(points: Any, spacing: float = 0.5) -> HierarchyField:
    low = np.full(3, 4.0)
    return HierarchyField(
        FRAME, [sphere_level(25, MIDDLE, RADIUS)], Support(points, spacing, (low, low + 16))
    )


def away(mesh: Mesh, points: Any) -> Any:
    """How far the vertices are from the points, in world units."""
    world = FRAME.world(torch.from_numpy(points.astype(np.float64)))
    # By products of large coordinates little would be left of the differences.
    way = torch.cdist(
        mesh.vertices.double(), world, compute_mode="donot_use_mm_for_euclid_dist"
    )
    return way.amin(1)


def corners(mesh: Mesh) -> Any:
    """The faces by their corners, each as a row of nine numbers, in some order."""
    return np.unique(mesh.vertices[mesh.faces.long()].reshape(-1, 9).numpy(), axis=0)


@pytest.mark.parametrize("trim", [0.15, 0.5, 2.0])
def test_faces_are_kept_within_the_limit_and_no_others(trim: float) -> None:
    points = cap()
    some = field(points)
    mesh, whole = some.extract_mesh(trim=trim), some.extract_mesh(watertight=True)
    assert mesh.vertices.dtype == torch.float64  # of a survey
    distance = away(whole, points)
    near = (distance <= trim)[whole.faces.long()].all(1)
    assert 0 < int(near.sum()) < len(near)
    kept = whole.faces[near].long()
    used = torch.unique(kept)
    assert len(mesh.vertices) == len(used)
    expected = np.unique(whole.vertices[kept].reshape(-1, 9).numpy(), axis=0)
    assert np.array_equal(corners(mesh), expected)
    assert float(away(mesh, points).max()) <= trim + 1e-6
    assert open_edges(mesh.faces.numpy()) > 0


@pytest.mark.parametrize(("spacing", "cells"), [(0.2, 2.0), (1.0, 3.0)])
def test_unless_it_is_said_the_surface_ends_after_some_spacings(
    spacing: float, cells: float
) -> None:
    points = cap()
    some = field(points, spacing)
    plain, same = some.extract_mesh(), some.extract_mesh(trim=cells * SCALE)
    assert torch.equal(plain.vertices, same.vertices)
    assert torch.equal(plain.faces, same.faces)
    reach = float(away(plain, points).max())
    assert (cells - 1) * SCALE < reach <= cells * SCALE + 1e-6


def test_limits_do_not_matter_to_what_is_closed() -> None:
    some = field(cap())
    whole = some.extract_mesh(watertight=True)
    assert open_edges(whole.faces.numpy()) == 0
    for trim in (0.01, 0.1):
        same = some.extract_mesh(trim=trim, watertight=True)
        assert torch.equal(same.vertices, whole.vertices)
        assert torch.equal(same.faces, whole.faces)


def test_a_wide_limit_leaves_all() -> None:
    some = field(cap())
    whole, wide = some.extract_mesh(watertight=True), some.extract_mesh(trim=100.0)
    assert torch.equal(wide.faces, whole.faces)
    endless = some.extract_mesh(trim=float("inf"))
    assert torch.equal(endless.faces, whole.faces)


def test_the_limit_holds_whatever_the_cells() -> None:
    points = cap()
    some, areas = field(points), []
    for refine in (0, 1, 2):
        mesh = some.extract_mesh(trim=0.5, refine=refine)
        assert float(away(mesh, points).max()) <= 0.5 + 1e-6
        a, b, c = (mesh.vertices[mesh.faces[:, i].long()] for i in range(3))
        areas.append(float(torch.linalg.cross(b - a, c - a).norm(dim=1).sum() / 2))
    assert areas == sorted(areas)  # smaller faces follow the limit more closely
    assert areas[2] < 1.2 * areas[0]


@pytest.mark.parametrize("trim", [0.01, 0.1])
def test_where_nothing_is_near_nothing_is_left(trim: float) -> None:
    mesh = field(np.zeros((5, 3), np.float32)).extract_mesh(trim=trim)
    assert mesh.vertices.shape == mesh.faces.shape == (0, 3)


def test_nothing_stays_nothing() -> None:
    support = Support(cap(), 1.0, (np.zeros(3), np.ones(3)))
    vertices, faces = trimmed(np.zeros((0, 3)), np.zeros((0, 3), np.int32), support, 1.0)
    assert vertices.shape == faces.shape == (0, 3)


def test_vertices_that_are_left_are_numbered_anew() -> None:
    vertices = np.array([[9.0, 9, 9], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    faces = np.array([[0, 1, 2], [1, 3, 2], [1, 2, 4], [3, 0, 4]], np.int32)
    support = Support(np.zeros((1, 3), np.float32), 1.0, (np.zeros(3), np.ones(3)))
    kept, left = trimmed(vertices, faces, support, 1.5)
    assert np.array_equal(kept, vertices[1:])
    assert left.dtype == np.int32
    assert left.tolist() == [[0, 2, 1], [0, 1, 3]]
