"""Fields by kernel regression: shapes to a stated error, invariances, and bad input."""

import dataclasses
import math
from typing import Any

import pytest
import torch
import trimesh
from torch import Tensor

from isolux.backends.cpu.pool import set_threads
from isolux.geometry.bvh import TriangleTree
from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.spline_field import KernelSum
from isolux.geometry.points.spline_options import SplineOptions
from isolux.geometry.points.splines import _averaged, fit_splines

SMALL = SplineOptions(grid_size=32)


def ball(count: int = 300) -> PointCloud:
    """Spread evenly over the unit sphere."""
    k = torch.arange(count, dtype=torch.float64) + 0.5
    height, turn = 1 - 2 * k / count, k * 2.399963229728653
    flat = (1 - height**2).sqrt()
    xyz = torch.stack([flat * turn.cos(), flat * turn.sin(), height], 1)
    return PointCloud(xyz, xyz.float())


def torus(count: int = 700) -> PointCloud:
    """Radii 1 and 0.4, drawn at random."""
    u, v = (
        2 * math.pi * torch.rand(2, count, generator=torch.Generator().manual_seed(0)).double()
    )
    flat = torch.stack([u.cos(), u.sin(), torch.zeros_like(u)], 1)
    normal = v.cos()[:, None] * flat
    normal[:, 2] = v.sin()
    return PointCloud(flat + 0.4 * normal, normal.float())


def to_torus(x: Tensor) -> Tensor:
    return ((x[:, :2].norm(dim=1) - 1).square() + x[:, 2].square()).sqrt() - 0.4


def around(count: int = 200, extent: float = 3.0, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return extent * (torch.rand(count, 3, generator=generator).double() - 0.5)


def test_a_sphere_to_a_thousandth() -> None:
    mesh = fit_splines(ball(), SMALL).extract_mesh()
    assert float((mesh.vertices.norm(dim=1) - 1).abs().max()) < 1e-3
    assert len(mesh.vertices) - len(mesh.faces) // 2 == 2  # Euler: one closed sphere
    a, b, c = (mesh.vertices[mesh.faces[:, i].long()] for i in range(3))
    volume = (a * torch.linalg.cross(b, c)).sum() / 6
    assert float(volume) == pytest.approx(4 / 3 * math.pi, rel=0.01)  # faces look outwards


@pytest.mark.parametrize("gradients", ["exact", "triples"])
@pytest.mark.parametrize("sampling", ["blue-noise", "random", "k-means"])
def test_a_torus_both_ways(gradients: Any, sampling: Any) -> None:
    options = SplineOptions(grid_size=48, gradients=gradients, sampling=sampling, centres=800)
    mesh = fit_splines(torus(), options).extract_mesh()
    assert float(to_torus(mesh.vertices).abs().max()) < 0.012
    assert float(to_torus(mesh.vertices).abs().mean()) < 0.002
    distance, _ = TriangleTree(mesh.vertices, mesh.faces).closest(torus(3000).xyz)
    assert float(distance.max()) < 0.015


@pytest.mark.parametrize("kernel", ["neural-spline", "spherical-laplace", "linear-angle"])
@pytest.mark.parametrize("placement", ["pairs", "alternate"])
def test_every_kernel_meets_the_points(kernel: Any, placement: Any) -> None:
    cloud = ball(200)
    options = dataclasses.replace(SMALL, kernel=kernel, placement=placement)
    field = fit_splines(cloud, options)
    assert float(field.value(cloud.xyz).abs().max()) < 0.02
    assert float(field.value(0.9 * cloud.xyz).mean()) == pytest.approx(-0.1, abs=0.02)


def test_values_are_distances_next_to_the_surface() -> None:
    cloud = ball()
    assert cloud.normals is not None
    field = fit_splines(cloud, SMALL)
    for share in (0.9, 0.97, 1.0, 1.03, 1.1):
        value = field.value(share * cloud.xyz)
        torch.testing.assert_close(value, torch.full_like(value, share - 1), rtol=0, atol=3e-3)
    slope = field.gradient(cloud.xyz)
    torch.testing.assert_close(slope.float(), cloud.normals, rtol=0, atol=0.02)


def test_gradients_are_true_everywhere() -> None:
    """Next to the points, far away, and where one passes into the other."""
    field, h = fit_splines(torus(), SMALL), 1e-6
    at = around()
    share, _ = field.support.far(at)
    assert int(((share > 0) & (share < 1)).sum()) > 20
    for axis, step in enumerate(h * torch.eye(3, dtype=torch.float64)):
        rise = (field.value(at + step) - field.value(at - step)) / (2 * h)
        gap = (field.gradient(at)[:, axis] - rise).abs()
        assert float(gap.median()) < 1e-6
        # Where the nearest point changes the distance has a crease.
        assert int((gap > 1e-3).sum()) <= 2


def test_a_sign_everywhere() -> None:
    """Ten sizes away as well, where sums of kernels have zeros that mean nothing."""
    field = fit_splines(torus(), SMALL)
    at = torch.cat([around(3000, 4.0), around(1000, 30.0)])
    exact = to_torus(at)
    value, clear = field.value(at), exact.abs() > 0.05
    assert bool(((value < 0) == (exact < 0))[clear].all())
    far = exact > 2.0
    torch.testing.assert_close(value[far], exact[far], rtol=0.1, atol=0.1)


def test_a_sign_deep_inside() -> None:
    """The middle of a ball is many spacings away from all points."""
    field = fit_splines(ball(2000), dataclasses.replace(SMALL, centres=300))
    radius = torch.linspace(0, 3, 61).double()
    value = field.value(radius[:, None] * torch.tensor([[0.6, 0.48, 0.64]]))
    torch.testing.assert_close(value, radius - 1, rtol=0, atol=0.03)


def sheet() -> PointCloud:
    """A flat square with a square hole."""
    steps = torch.linspace(-1, 1, 25).double()
    x, y = torch.meshgrid(steps, steps, indexing="ij")
    xyz = torch.stack([x, y, torch.zeros_like(x)], -1).reshape(-1, 3)
    xyz = xyz[xyz[:, :2].abs().amax(1) > 0.5]
    return PointCloud(xyz, torch.tensor([0.0, 0, 1]).expand(len(xyz), 3).clone())


def test_an_open_surface_ends_where_its_points_do() -> None:
    field = fit_splines(sheet(), SMALL)
    mesh = field.extract_mesh()
    assert float(mesh.vertices[:, 2].abs().max()) < 2e-3
    middle = mesh.vertices[mesh.faces.long()].mean(1)
    assert float(middle[:, :2].abs().amax(1).min()) > 0.15  # the hole is kept
    narrow = field.extract_mesh(trim=0.1)
    assert float(narrow.vertices[:, :2].abs().amax(1).min()) > 0.4
    filled = field.extract_mesh(watertight=True)
    assert float(filled.vertices[:, :2].abs().amax(1).min()) < 0.1
    low, high = field.bounds
    room = 0.25 * float((high - low).max()) + 1e-6
    assert bool(
        (filled.vertices >= low - room).all() and (filled.vertices <= high + room).all()
    )
    solid = trimesh.Trimesh(filled.vertices.numpy(), filled.faces.numpy(), process=False)
    assert solid.is_watertight
    assert solid.volume > 1
    above = torch.tensor([[0.9, 0.9, 0.1], [0.9, 0.9, -0.1], [0, 0.8, 5], [0, 0.8, -5]])
    assert field.value(above).sign().tolist() == [1, -1, 1, -1]


def test_cells_become_one_where_the_surface_is_flat() -> None:
    field = fit_splines(sheet(), SMALL)
    fine, coarse = field.extract_mesh(), field.extract_mesh(adaptive=0.03)
    assert 2 * len(coarse.faces) < len(fine.faces)
    assert float(coarse.vertices[:, 2].abs().max()) < 2e-3
    for corner in (torch.amin, torch.amax):  # it ends where it did
        assert torch.equal(corner(coarse.vertices[:, :2], 0), corner(fine.vertices[:, :2], 0))
    closed = field.extract_mesh(adaptive=0.1, watertight=True)
    solid = trimesh.Trimesh(closed.vertices.numpy(), closed.faces.numpy(), process=False)
    assert solid.is_watertight
    assert solid.volume > 1
    for wrong in ({"trim": 0.0}, {"adaptive": 0.0}, {"trim": float("nan")}):
        with pytest.raises(ValueError, match="must be positive"):
            field.extract_mesh(**wrong)


def test_trimming_leaves_no_far_sheets() -> None:
    field = fit_splines(torus(300), dataclasses.replace(SMALL, trim=2.0))
    voxel = field.voxel_size * 3**0.5
    mesh = field.extract_mesh()
    assert len(mesh.faces) > 100
    near = torch.cdist(mesh.vertices.double(), field.support.points).sort(1).values
    assert float(near[:, 1].max()) <= 2 * voxel  # the second nearest
    assert len(field.extract_mesh(trim=1e-4).faces) == 0


@pytest.mark.parametrize("gradients", ["exact", "triples"])
@pytest.mark.parametrize("cells", [1, 2])
@pytest.mark.parametrize("scale", [2.0**-10, 2.0**12])
def test_scale_and_place_change_nothing(gradients: Any, cells: int, scale: float) -> None:
    """Options count in voxels, so that millimetres and kilometres are fitted alike."""
    options = dataclasses.replace(
        SMALL, gradients=gradients, cells_per_axis=cells, eps=0.5, regularization=1e-9
    )
    cloud, at = torus(300), around(100, 2.5)
    plain = fit_splines(cloud, options).value(at)
    shift = torch.tensor([1024.0, -512, 64]).double() * scale
    moved = PointCloud(cloud.xyz * scale + shift, cloud.normals)
    found = fit_splines(moved, options).value(at * scale + shift) / scale
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-4)


def test_quarter_turns_change_nothing() -> None:
    cloud, at = torus(300), around(100, 2.5)
    assert cloud.normals is not None
    turn = torch.tensor([[0.0, -1, 0], [0, 0, 1], [-1, 0, 0]]).double()
    turned = PointCloud(cloud.xyz @ turn.T, cloud.normals @ turn.T.float())
    plain = fit_splines(cloud, SMALL).value(at)
    found = fit_splines(turned, SMALL).value(at @ turn.T)
    torch.testing.assert_close(found, plain, rtol=0, atol=2e-4)


def test_the_order_of_points_does_not_matter() -> None:
    cloud, at = torus(200), around(100, 2.5)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(5))
    plain = fit_splines(cloud, SMALL).value(at)
    found = fit_splines(cloud[order], SMALL).value(at)
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-5)


def test_survey_coordinates_lose_nothing() -> None:
    shift = torch.tensor([500_000.0, 5_000_000.0, 300.0]).double()
    cloud = ball()
    field = fit_splines(PointCloud(cloud.xyz + shift, cloud.normals), SMALL)
    mesh = field.extract_mesh()
    assert mesh.vertices.dtype == torch.float64
    assert float(((mesh.vertices - shift).norm(dim=1) - 1).abs().max()) < 1e-3
    middle = field.world_from_field @ torch.tensor([0.0, 0, 0, 1]).double()
    torch.testing.assert_close(middle[:3], shift, rtol=0, atol=0.05)
    low, high = field.bounds
    assert bool((low < shift - 1).all())
    assert bool((high > shift + 1).all())


def test_seeds_decide_zero_as_well() -> None:
    values = []
    for seed in (0, 0, 1):
        options = dataclasses.replace(SMALL, centres=200, seed=seed)
        values.append(fit_splines(torus(), options).value(around()))
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])


def test_threads_and_memory_do_not_change_the_bits() -> None:
    meshes = []
    try:
        for threads, memory in ((1, 2**30), (3, 2**30), (2, 2**20)):
            set_threads(threads)
            options = dataclasses.replace(SMALL, centres=400, memory=memory)
            meshes.append(fit_splines(torus(), options).extract_mesh())
    finally:
        set_threads(None)
    for mesh in meshes[1:]:
        assert torch.equal(mesh.vertices, meshes[0].vertices)
        assert torch.equal(mesh.faces, meshes[0].faces)


def test_blocks_of_points_are_as_good_as_one() -> None:
    field, at = fit_splines(ball(100), SMALL), around(700)
    whole = field.value(at)
    parts = torch.cat([field.value(part) for part in torch.split(at, 101)])
    assert torch.equal(whole, parts)
    assert field.value(at[:0]).shape == (0,)
    assert field.gradient(at[:0]).shape == (0, 3)
    assert field.value(at.float()).dtype == torch.float32


@pytest.mark.parametrize("wanted", [-1, 10_000, None])
def test_all_centres(wanted: int | None) -> None:
    piece = fit_splines(ball(100), dataclasses.replace(SMALL, centres=wanted)).piece
    assert isinstance(piece, KernelSum)
    assert len(piece.weights) == 200


@pytest.mark.parametrize(
    ("placement", "wanted", "count"),
    [("pairs", 50, 50), ("pairs", 51, 50), ("pairs", 1, 1), ("points", 51, 51), (None, 51, 51)],
)
def test_as_many_centres_as_asked(placement: Any, wanted: int, count: int) -> None:
    options = dataclasses.replace(SMALL, centres=wanted, placement=placement)
    piece = fit_splines(ball(100), options).piece
    assert piece.world_centres.shape == (count, 3)
    gap = (piece.world_centres.norm(dim=1) - 1).abs()
    assert bool((gap < 1e-9).all()) == (placement == "points")


def test_values_on_a_grid() -> None:
    field = fit_splines(ball(100), SMALL)
    values = field.sample_grid(10)
    assert values.shape == (10, 10, 10)
    low, high = field.bounds
    at = low + (high - low) * (torch.tensor([2, 3, 4]).double() + 0.5) / 10
    assert float(values[2, 3, 4]) == pytest.approx(float(field.value(at[None])), rel=1e-9)


@pytest.mark.parametrize("dtype", ["mixed", "float64", "float32"])
def test_precisions(dtype: Any) -> None:
    cloud = ball(200)
    field = fit_splines(cloud, dataclasses.replace(SMALL, dtype=dtype))
    assert float(field.value(cloud.xyz).abs().max()) < 1e-3


def test_many_points_are_averaged() -> None:
    options = dataclasses.replace(SMALL, grid_size=12, downsample_threshold=1000)
    field = fit_splines(ball(1500), options)
    count = len(field.support.points)
    assert 200 < count < 800
    radius = field.support.points.norm(dim=1)
    assert float(radius.min()) > 0.97
    again = fit_splines(ball(900), options)
    assert len(again.support.points) == 900  # few enough


def test_averaged_normals_are_unit() -> None:
    points = torch.tensor([[0.1, 0, 0], [0.2, 0, 0], [1.5, 0, 0], [1.6, 0, 0]]).double()
    normals = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, -1]]).double()
    mean, unit = _averaged(points, normals, torch.zeros(3).double(), 1.0)
    torch.testing.assert_close(mean[:, 0], torch.tensor([0.15, 1.55]).double())
    half = 0.5**0.5
    # The second pair cancels, as on both sides of a thin wall: the first of them stands.
    torch.testing.assert_close(unit, torch.tensor([[half, half, 0], [0, 0, 1]]).double())


def test_noise_is_smoothed_away() -> None:
    cloud = ball(1000)
    noise = 0.01 * torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)).double()
    noisy = PointCloud(cloud.xyz + noise, cloud.normals)
    options = dataclasses.replace(SMALL, centres=800)
    field = fit_splines(noisy, options)
    assert field.support.noise == pytest.approx(0.01, rel=0.15)
    error = (field.extract_mesh().vertices.norm(dim=1) - 1).abs().mean()
    tight = fit_splines(noisy, dataclasses.replace(options, regularization=1e-13))
    worse = (tight.extract_mesh().vertices.norm(dim=1) - 1).abs().mean()
    assert float(error) < 0.004
    assert float(error) < 0.9 * float(worse)


def test_rows_that_say_nothing_are_left_out() -> None:
    cloud = ball(100)
    assert cloud.normals is not None
    xyz, normals = cloud.xyz.repeat(2, 1), cloud.normals.repeat(2, 1)
    extra = torch.tensor([[float("nan"), 0, 0], [0, 0, float("inf")], [5, 5, 5], [4, 4, 4]])
    dull = torch.tensor([[0.0, 0, 1], [0, 0, 1], [0, 0, 0], [0, float("nan"), 1]])
    dirty = PointCloud(torch.cat([xyz, extra.double()]), torch.cat([3 * normals, dull]))
    at = around()
    plain, found = fit_splines(cloud, SMALL), fit_splines(dirty, SMALL)
    torch.testing.assert_close(found.value(at), plain.value(at), rtol=0, atol=1e-6)


UP = torch.tensor([[0.0, 0, 1]])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_points(count: int) -> None:
    cloud = PointCloud(around(count), UP.expand(count, 3))
    with pytest.raises(ValueError, match="at least 3 different points with normals, got"):
        fit_splines(cloud)
    same = PointCloud(torch.zeros(9, 3).double(), UP.expand(9, 3))
    with pytest.raises(ValueError, match="got 1"):
        fit_splines(same)


def test_no_normals() -> None:
    with pytest.raises(ValueError, match="need normals"):
        fit_splines(PointCloud(around(10)))


@pytest.mark.parametrize(
    "xyz",
    [
        torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]),
        torch.stack([torch.linspace(0, 1, 40), torch.zeros(40), torch.zeros(40)], 1),
        torch.cat([torch.zeros(5, 3) + 1e-9 * torch.eye(5, 3), torch.ones(1, 3)]),
    ],
    ids=["three in a line", "a line", "nearly one and another"],
)
def test_points_on_a_line_have_no_surface(xyz: Tensor) -> None:
    with pytest.raises(ValueError, match="on one line or in one place"):
        fit_splines(PointCloud(xyz.double(), UP.expand(len(xyz), 3)), SMALL)


def test_three_points_end_in_a_finite_mesh() -> None:
    xyz = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]).double()
    cloud = PointCloud(xyz, UP.expand(3, 3))
    mesh = fit_splines(cloud, dataclasses.replace(SMALL, grid_size=16)).extract_mesh()
    assert bool(mesh.vertices.isfinite().all())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("grid_size", 1, "between 2 and"),
        ("scale", 0.9, "between 1 and"),
        ("scale", float("nan"), "got nan"),
        ("regularization", -1e-9, "between 0 and"),
        ("variance", -0.1, "between 0 and"),
        ("cg_iterations", 0, "between 1 and"),
        ("cg_tolerance", -1.0, "between 0 and"),
        ("memory", 0, "between"),
        ("overlap", 1.5, "between 0 and 1"),
        ("cells_per_axis", 0, "between 1 and"),
        ("min_points_per_cell", -1, "between 0 and"),
        ("seed", -1, "between 0 and"),
        ("downsample_threshold", 0, "between 1 and"),
        ("eps", 0.0, "positive"),
        ("eps", float("inf"), "positive"),
        ("trim", -1.0, "positive"),
        ("trim", 0.0, "positive"),
        ("centres", 0, "at least 1, or negative for all"),
        ("laplace_decay", 0.5, "negative"),
        ("laplace_power", 0.0, "between"),
    ],
)
def test_options_out_of_range(name: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        SplineOptions(**{name: value})
    assert name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("kernel", "gauss", "one of neural-spline"),
        ("gradients", "none", "one of exact, triples"),
        ("sampling", "poisson", "one of blue-noise"),
        ("placement", "x", "one of pairs"),
        ("dtype", "float16", "one of mixed"),
        ("weights", "cubic", "one of smooth"),
    ],
)
def test_words_that_are_no_choice(name: str, value: str, said: str) -> None:
    options = SplineOptions()
    object.__setattr__(options, name, value)  # past the tests' own type checks
    with pytest.raises(ValueError, match=f"{name} must be {said}"):
        options.__post_init__()


def test_a_mesh_takes_one_size() -> None:
    field = fit_splines(ball(50), SMALL)
    with pytest.raises(ValueError, match="not both"):
        field.extract_mesh(10, voxel_size=0.1)
    with pytest.raises(ValueError, match="resolution must be at least 1"):
        field.extract_mesh(0)
    with pytest.raises(ValueError, match="voxel_size: must be positive"):
        field.extract_mesh(voxel_size=-1.0)
    few = field.extract_mesh(8)
    many = field.extract_mesh(voxel_size=field.voxel_size / 2)
    assert len(few.faces) < len(field.extract_mesh().faces) < len(many.faces)


@pytest.mark.parametrize("cells", [1, 2])
def test_progress_rises(cells: int) -> None:
    told: list[float] = []
    options = dataclasses.replace(SMALL, cells_per_axis=cells)
    fit_splines(torus(300), options, lambda text, share: told.append(share))
    assert told == sorted(told)
    assert 0 <= told[0] < 0.2
    assert 0.9 < told[-1] <= 1
