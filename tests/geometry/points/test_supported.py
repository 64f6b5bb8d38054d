"""What is left out of a surface: far cells early, and parts that no point lies on."""

import numpy as np
import pytest
import torch

from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.hierarchy import fit_hierarchy
from isolux.geometry.points.hierarchy_field import HierarchyField
from isolux.geometry.points.hierarchy_options import HierarchyOptions
from isolux.geometry.points.trimming import Support, with_points


def caps() -> PointCloud:
    """Two open caps of spheres, far from each other, seen from above."""
    i = np.arange(4000) + 0.5
    z, turn = 1 - 0.6 * i / 4000, np.pi * (1 + 5**0.5) * i
    flat = np.sqrt(1 - z * z)
    normal = np.stack([flat * np.cos(turn), flat * np.sin(turn), z], -1)
    xyz = np.concatenate([normal, normal + np.array([9.0, 2.0, 1.0])])
    return PointCloud(torch.from_numpy(xyz), torch.from_numpy(np.tile(normal, (2, 1))).float())


@pytest.mark.parametrize("trim", [None, 0.3])
def test_cells_that_are_passed_over_hold_nothing(
    trim: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = fit_hierarchy(caps(), HierarchyOptions(depth=8))
    mesh = field.extract_mesh(trim=trim)
    passed = 0

    def counted(self: HierarchyField, cells: object, size: float, limit: float) -> object:
        nonlocal passed
        passed += len(cells) - len(within(self, cells, size, limit))  # type: ignore[arg-type]
        return cells

    within = HierarchyField._within
    monkeypatch.setattr(HierarchyField, "_within", counted)
    whole = field.extract_mesh(trim=trim)
    assert passed > 0
    assert torch.equal(mesh.vertices, whole.vertices)
    assert torch.equal(mesh.faces, whole.faces)


def tetrahedron(size: float, place: float) -> tuple[np.ndarray, np.ndarray]:
    vertices = size * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float) + place
    return vertices, np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)


def test_parts_without_points_go() -> None:
    (a, faces), (b, _) = tetrahedron(4.0, 0.0), tetrahedron(0.1, -0.3)
    vertices, both = np.concatenate([a, b]), np.concatenate([faces, faces + 4])
    box = (np.zeros(3), np.ones(3))
    on_a = Support(a.astype(np.float32), 1.0, box)
    left, kept = with_points(vertices, both, on_a)
    assert np.array_equal(left, a)
    assert np.array_equal(kept, faces)
    on_both = Support(vertices.astype(np.float32), 1.0, box)
    assert with_points(vertices, both, on_both)[1].shape == (8, 3)
    nothing = with_points(np.zeros((0, 3)), np.zeros((0, 3), np.int32), on_a)
    assert [len(part) for part in nothing] == [0, 0]
