"""Fields from oriented points: exact planes, symmetry, signs, closed meshes, bad input."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from isolux.backends.cpu.pool import set_threads
from isolux.geometry.mesh import Mesh
from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.hierarchy import fit_hierarchy
from isolux.geometry.points.hierarchy_options import HierarchyOptions

FIXED = HierarchyOptions(depth=5, value_weight=1.0, smoothness=1e-3)


def ball(count: int = 2000, seed: int = 0) -> PointCloud:
    """Points on the unit sphere."""
    normals = torch.nn.functional.normalize(
        torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)), dim=-1
    )
    return PointCloud(normals.double(), normals)


def sheet(slope: tuple[float, float], count: int = 1500) -> PointCloud:
    """Points on the plane z = a x + b y over a square."""
    xy = torch.rand(count, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a, b = slope
    normal = torch.nn.functional.normalize(torch.tensor([-a, -b, 1.0]), dim=0)
    height = xy @ torch.tensor([a, b], dtype=torch.float64)
    return PointCloud(torch.cat([xy, height[:, None]], 1), normal.expand(count, 3))


def boundary_edges(mesh: Mesh) -> int:
    """Directed edges without their opposite."""
    faces = mesh.faces.long()
    start, end = faces.reshape(-1), faces.roll(-1, 1).reshape(-1)
    size = len(mesh.vertices)
    there, back = start * size + end, end * size + start
    assert len(there.unique()) == len(there), "an edge is used twice in one direction"
    return int((~torch.isin(there, back)).sum())


@pytest.mark.parametrize("slope", [(0.0, 0.0), (0.3, -0.2), (1.0, 0.5)])
def test_a_plane_is_found_exactly(slope: tuple[float, float]) -> None:
    """Splines hold linear functions, whose energy is zero."""
    cloud = sheet(slope)
    assert cloud.normals is not None
    field = fit_hierarchy(cloud, HierarchyOptions(depth=5, solver_tol=1e-6))
    middle = cloud.xyz[(cloud.xyz[:, :2] - 0.5).abs().amax(1) < 0.4]
    assert float(field.value(middle).abs().max()) < 2e-3 * field.voxel_size
    turned = field.gradient(middle) - cloud.normals[0].double()
    assert float(turned.norm(dim=-1).max()) < 2e-3


def test_a_ball_is_a_ball() -> None:
    field = fit_hierarchy(ball())
    mesh = field.extract_mesh()
    radius = mesh.vertices.norm(dim=-1)
    assert float((radius - 1).abs().max()) < 8e-3
    assert float((radius - 1).abs().mean()) < 5e-4
    assert boundary_edges(mesh) == 0
    a, b, c = (mesh.vertices[mesh.faces[:, i].long()] for i in range(3))
    volume = float((a * torch.linalg.cross(b, c)).sum() / 6)
    assert volume == pytest.approx(4 / 3 * math.pi, rel=0.01)


def test_signs_hold_everywhere() -> None:
    field = fit_hierarchy(ball(), FIXED)
    points = torch.randn(500, 3, generator=torch.Generator().manual_seed(2)).double() * 2
    outside = points.norm(dim=-1) > 1.05
    inside = points.norm(dim=-1) < 0.95
    value = field.value(points)
    assert bool((value[outside] > 0).all())
    assert bool((value[inside] < 0).all())
    far = field.value(torch.tensor([[1e6, 0.0, 0.0], [0.0, -1e6, 3.0]], dtype=torch.float64))
    assert bool((far > 9e5).all())


def test_the_gradient_is_that_of_the_value() -> None:
    field = fit_hierarchy(ball(), FIXED)
    points = torch.randn(200, 3, generator=torch.Generator().manual_seed(3)).double()
    step = 1e-6 * torch.eye(3, dtype=torch.float64)
    slope = torch.stack(
        [(field.value(points + s) - field.value(points - s)) / 2e-6 for s in step], -1
    )
    torch.testing.assert_close(field.gradient(points), slope, atol=1e-4, rtol=1e-4)


def test_errors_fall_with_the_cells() -> None:
    errors = []
    for depth in (4, 5, 6):
        options = HierarchyOptions(depth=depth, value_weight=1.0, smoothness=1e-4)
        mesh = fit_hierarchy(ball(20000), options).extract_mesh(watertight=True)
        errors.append(float((mesh.vertices.norm(dim=-1) - 1).abs().mean()))
    assert errors[1] < errors[0] / 3
    assert errors[2] < errors[1] / 2


def _turned(cloud: PointCloud, turn: Tensor) -> PointCloud:
    assert cloud.normals is not None
    return PointCloud(cloud.xyz @ turn.T, cloud.normals @ turn.T.float())


def test_a_quarter_turn_turns_the_field() -> None:
    cloud = ball(800)
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    points = torch.randn(100, 3, generator=torch.Generator().manual_seed(4)).double()
    first = fit_hierarchy(cloud, FIXED).value(points)
    second = fit_hierarchy(_turned(cloud, turn), FIXED).value(points @ turn.T)
    torch.testing.assert_close(first, second, atol=5e-3, rtol=0)


def test_order_place_and_scale_do_not_matter() -> None:
    cloud = ball(800)
    assert cloud.normals is not None
    points = torch.randn(100, 3, generator=torch.Generator().manual_seed(5)).double()
    plain = fit_hierarchy(cloud, FIXED).value(points)
    order = torch.randperm(800, generator=torch.Generator().manual_seed(6))
    torch.testing.assert_close(
        fit_hierarchy(cloud[order], FIXED).value(points), plain, atol=2e-3, rtol=0
    )
    shift = torch.tensor([5e5, 5.4e6, 100.0], dtype=torch.float64)  # as of a survey
    moved = PointCloud(cloud.xyz * 50 + shift, cloud.normals)
    there = fit_hierarchy(moved, FIXED).value(points * 50 + shift)
    torch.testing.assert_close(there / 50, plain, atol=2e-3, rtol=0)


def test_large_coordinates_keep_double_vertices() -> None:
    cloud = ball(800)
    shift = torch.tensor([5e5, 5.4e6, 100.0], dtype=torch.float64)
    mesh = fit_hierarchy(PointCloud(cloud.xyz + shift, cloud.normals), FIXED).extract_mesh()
    assert mesh.vertices.dtype == torch.float64
    assert float(((mesh.vertices - shift).norm(dim=-1) - 1).abs().max()) < 0.03


def test_threads_do_not_matter() -> None:
    cloud, results = ball(3000), []
    try:
        for count in (1, 3):
            set_threads(count)
            mesh = fit_hierarchy(cloud).extract_mesh()
            results.append(mesh)
    finally:
        set_threads(None)
    assert torch.equal(results[0].vertices, results[1].vertices)
    assert torch.equal(results[0].faces, results[1].faces)


def test_noise_is_smoothed() -> None:
    cloud = ball(5000)
    noise = 0.02 * torch.randn(5000, 3, generator=torch.Generator().manual_seed(7))
    mesh = fit_hierarchy(PointCloud(cloud.xyz + noise, cloud.normals)).extract_mesh()
    assert float((mesh.vertices.norm(dim=-1) - 1).abs().mean()) < 0.005


def test_outliers_count_for_little() -> None:
    cloud, draw = ball(5000), torch.Generator().manual_seed(8)
    assert cloud.normals is not None
    stray = torch.rand(100, 3, generator=draw).double() * 3 - 1.5
    aimless = torch.nn.functional.normalize(torch.randn(100, 3, generator=draw), dim=-1)
    dirty = PointCloud(torch.cat([cloud.xyz, stray]), torch.cat([cloud.normals, aimless]))
    away = []
    for robust in (False, True):
        options = replace(FIXED, depth=6, smoothness=0.1, robust=robust)
        field = fit_hierarchy(dirty, options)
        away.append(float(field.value(stray).abs().mean()))
    assert away[1] > away[0]  # the field passes the strays by


def test_an_open_sheet_is_trimmed_and_closed_on_request() -> None:
    field = fit_hierarchy(sheet((0.0, 0.0)), FIXED)
    mesh = field.extract_mesh()
    assert float(mesh.vertices[:, 2].abs().max()) < 3.2 * field.voxel_size
    assert boundary_edges(mesh) > 0
    assert boundary_edges(field.extract_mesh(watertight=True)) == 0
    few = field.extract_mesh(trim=0.1 * field.voxel_size)
    assert len(few.faces) < len(mesh.faces)


def test_refinement_keeps_the_surface() -> None:
    field = fit_hierarchy(ball(), FIXED)
    plain, fine = field.extract_mesh(), field.extract_mesh(refine=1)
    assert 3 * len(plain.faces) < len(fine.faces) < 5 * len(plain.faces)
    assert float(field.value(fine.vertices).abs().max()) < 0.01 * field.voxel_size
    assert boundary_edges(fine) == 0
    coarse = field.extract_mesh(resolution=8)
    assert 0 < len(coarse.faces) < len(plain.faces) / 2


def test_detail_grows_with_its_level() -> None:
    sizes = [
        fit_hierarchy(ball(), HierarchyOptions(detail_level=level)).voxel_size
        for level in (0.0, 0.5, 1.0)
    ]
    assert sizes[0] > sizes[1] > sizes[2]


def test_progress_rises_to_one() -> None:
    shares: list[float] = []
    fit_hierarchy(ball(200), FIXED, lambda text, share: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def _cloud(xyz: list[list[float]]) -> PointCloud:
    points = torch.tensor(xyz, dtype=torch.float64).reshape(-1, 3)
    return PointCloud(points, torch.tensor([[0.0, 0, 1]]).expand(len(points), 3))


@pytest.mark.parametrize(
    ("cloud", "message"),
    [
        (PointCloud(torch.rand(9, 3).double()), "normals"),
        (_cloud([]), "at least 4"),
        (_cloud([[0, 0, 0]]), "at least 4"),
        (_cloud([[0, 0, 0], [1, 0, 0], [0, 1, 0]]), "at least 4"),
        (_cloud([[float(i), 2.0 * i, 0] for i in range(20)]), "line"),
        (_cloud([[1.0, 2, 3]] * 20), "line or in one place"),
        (_cloud([[math.nan, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]), "not finite"),
    ],
)
def test_hopeless_clouds_get_one_line(cloud: PointCloud, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        fit_hierarchy(cloud)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"detail_level": 1.5},
        {"voxel_size": 0.0},
        {"voxel_size": math.nan},
        {"depth": 0},
        {"value_weight": -1.0},
        {"solver_tol": 0.0},
        {"max_iter": 0},
        {"depth": 5, "voxel_size": 0.1},
    ],
)
def test_options_say_what_is_wrong(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(reversed(wrong))):
        HierarchyOptions(**wrong)  # type: ignore[arg-type]


def test_too_small_cells_are_refused() -> None:
    with pytest.raises(ValueError, match="voxel_size"):
        fit_hierarchy(ball(100), HierarchyOptions(voxel_size=1e-8))


def test_few_and_flat_points_give_some_mesh() -> None:
    corners = _cloud([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
    mesh = fit_hierarchy(corners).extract_mesh(watertight=True)
    assert bool(mesh.vertices.isfinite().all())
    double = fit_hierarchy(
        PointCloud(corners.xyz.repeat(3, 1), torch.cat([corners.normals] * 3))
    )  # type: ignore[list-item]
    assert len(double.extract_mesh().faces) > 0
