"""Adapters against stand-ins for the packages, and against the packages where they are.

A stand-in keeps a package's documented conventions and computes by the reference, so what is
compared is the conversions: the same picture, the same gradients.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
import stub_kaolin
import stub_nvdiffrast
import stub_tinycudann
import torch
from torch import Tensor

from isolux import backends
from isolux.backends import Backend
from isolux.backends.adapters import ADAPTERS, kaolin, nvdiffrast, tinycudann
from isolux.backends.encode import HashGridSpec, hash_grid, mlp
from isolux.backends.extract import flexicubes
from isolux.backends.rasterize import (
    Raster,
    antialias,
    edge_adjacency,
    interpolate,
    rasterize,
)
from isolux.backends.sample import Boundary, mip_chain, texture2d
from isolux.geometry.lattice import cube_lattice

Scene = Callable[..., tuple[Tensor, Tensor]]
STUBS = {
    "nvdiffrast": stub_nvdiffrast,
    "tinycudann": stub_tinycudann,
    "kaolin": stub_kaolin,
}
HOMES: dict[str, Any] = {"nvdiffrast": nvdiffrast, "tinycudann": tinycudann, "kaolin": kaolin}
PLAIN = backends.reference()


def with_operators(name: str, package: ModuleType) -> Backend:
    """The reference with an adapter's operators in it."""
    found = HOMES[name].operators(package, PLAIN)
    assert tuple(found) == ADAPTERS[name].operators
    return replace(PLAIN, **found)


def one_of(name: str, kind: str) -> tuple[Backend, str]:
    """A backend with the stand-in or the package in it, and the device of its tensors."""
    if kind == "stub":
        return with_operators(name, STUBS[name]), "cpu"
    package = pytest.importorskip(ADAPTERS[name].module)
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return with_operators(name, package), "cuda"


# What packages and their builds warn of is not ours to mend.
REAL = pytest.param("real", marks=[pytest.mark.gpu, pytest.mark.filterwarnings("default")])
KINDS = ["stub", REAL]


@pytest.fixture(params=KINDS)
def drawing(request: pytest.FixtureRequest) -> tuple[Backend, str]:
    return one_of("nvdiffrast", request.param)


@pytest.fixture(params=KINDS)
def encoding(request: pytest.FixtureRequest) -> tuple[Backend, str]:
    return one_of("tinycudann", request.param)


@pytest.fixture(params=KINDS)
def extracting(request: pytest.FixtureRequest) -> tuple[Backend, str]:
    return one_of("kaolin", request.param)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def same_triangles(found: Raster, expected: Raster) -> Tensor:
    """Where both show the same triangle. The package rounds corners to 1/16 of a pixel."""
    same = found.triangle.cpu() == expected.triangle.cpu()
    assert same.float().mean() > (0.999 if found.triangle.is_cuda else 0.99999)
    return same


# Rasterising


@pytest.mark.parametrize("distance", [3.0, 0.6])
def test_a_picture_is_ours(
    drawing: tuple[Backend, str], sphere: Scene, distance: float
) -> None:
    """Ids, weights and depths, from outside and from within; and the weights' gradient."""
    backend, device = drawing
    clip, faces = sphere(2, views=2, distance=distance, dtype=torch.float32)
    mix = random(2, 37, 50, 2, seed=2) - 0.5
    leaf, plain = (clip.clone().to(where).requires_grad_() for where in (device, "cpu"))
    found = rasterize(backend, leaf, faces.to(device), 37, 50)
    expected = rasterize(PLAIN, plain, faces, 37, 50)
    assert found.triangle.dtype == torch.int32
    same = same_triangles(found, expected)
    for one, other in ((found.uv, expected.uv), (found.depth, expected.depth)):
        torch.testing.assert_close(one.cpu()[same], other[same], rtol=1e-3, atol=1e-4)
    mix *= same[..., None]
    (found.uv * mix.to(device)).sum().backward()
    (expected.uv * mix).sum().backward()
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad.cpu(), plain.grad, rtol=1e-3, atol=1e-3)


def test_row_zero_is_the_top(drawing: tuple[Backend, str]) -> None:
    backend, device = drawing
    clip = torch.tensor([[[-1.0, 1, 0, 1], [1, 1, 0, 1], [-1, -1, 0, 1]]], device=device)
    raster = rasterize(backend, clip, torch.tensor([[0, 1, 2]], device=device), 8, 8)
    drawn = raster.triangle[0].cpu() > 0
    row, column = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    assert drawn[row + column < 7].all()
    assert not drawn[row + column > 7].any()
    assert (raster.depth[0].cpu()[~drawn] == 1.0).all()
    assert not raster.uv[0].cpu()[~drawn].any()


def test_of_equal_depths_the_lower_index_is_kept(drawing: tuple[Backend, str]) -> None:
    backend, device = drawing
    clip = torch.tensor([[[-3.0, -3, 0, 1], [3, -3, 0, 1], [0, 3, 0, 1]]], device=device)
    faces = torch.tensor([[0, 1, 2], [1, 2, 0], [0, 1, 2]], device=device)
    triangle = rasterize(backend, clip, faces, 6, 6).triangle
    assert sorted(triangle.unique().tolist())[-1] == 1


def test_a_face_with_a_bad_corner_is_left_out(drawing: tuple[Backend, str]) -> None:
    backend, device = drawing
    clip = torch.tensor([[-3.0, -3, 0, 1], [3, -3, 0, 1], [0, 5, 0, 1]]).repeat(2, 1)
    clip[3, 2] = torch.nan
    clip[3:, 2] -= 0.5  # and it would be in front
    faces = torch.tensor([[0, 1, 2], [3, 4, 5]], device=device)
    raster = rasterize(backend, clip[None].to(device), faces, 6, 6)
    assert set(raster.triangle.unique().tolist()) <= {0, 1}
    assert raster.depth.isfinite().all()


def test_the_layer_behind_is_ours(drawing: tuple[Backend, str], sphere: Scene) -> None:
    backend, device = drawing
    clip, faces = sphere(1, views=2, dtype=torch.float32)
    near = rasterize(PLAIN, clip, faces, 20, 20)
    far = rasterize(PLAIN, clip, faces, 20, 20, behind=near.depth)
    moved = near.depth.to(device)
    found = rasterize(backend, clip.to(device), faces.to(device), 20, 20, behind=moved)
    assert torch.equal(found.triangle.cpu(), far.triangle)


@pytest.mark.parametrize(("views", "count"), [(2, 0), (0, 3)])
def test_nothing_to_draw(drawing: tuple[Backend, str], views: int, count: int) -> None:
    backend, device = drawing
    clip = torch.zeros(views, 3, 4, device=device, requires_grad=True)
    faces = torch.zeros(count, 3, dtype=torch.int32, device=device)
    raster = rasterize(backend, clip, faces, 3, 4)
    assert raster.triangle.shape == (views, 3, 4)
    color = torch.rand(views, 3, 4, 2, device=device)
    opposite = torch.full((count, 3), -1, dtype=torch.int32, device=device)
    assert torch.equal(antialias(backend, color, raster, clip, faces, opposite), color)


def test_a_vertex_that_does_not_exist(drawing: tuple[Backend, str]) -> None:
    backend, device = drawing
    faces = torch.tensor([[0, 1, 3]], device=device)
    with pytest.raises(IndexError, match="3"):
        rasterize(backend, torch.rand(1, 3, 4, device=device), faces, 3, 3)


def test_large_indices_pass_as_bits() -> None:
    """The package's rasters hold indices as floats up to 2^24 and as shifted bits beyond."""
    index = torch.tensor([0, 1, 2, 77, 2**24 - 1, 2**24, 2**24 + 1, 2**24 + 2, 2**26 + 3])
    stored = nvdiffrast._float_of(index)
    assert torch.equal(stored[:6], index[:6].float())
    assert torch.equal(stub_nvdiffrast._number(index.int()), stored)
    assert torch.equal(nvdiffrast._index_of(stored).long(), index)


# Interpolating


@pytest.mark.parametrize("count", [0, 1, 7, 8, 131])
def test_interpolation_is_ours(drawing: tuple[Backend, str], count: int) -> None:
    """For lists of any length, though the package takes pictures."""
    backend, device = drawing
    generator = torch.Generator().manual_seed(3)
    corners = torch.randint(9, (20, 3), generator=generator)
    triangle = torch.randint(20, (count,), generator=generator)
    results = []
    for used, where in ((backend, device), (PLAIN, "cpu")):
        attributes = random(9, 5, seed=1).to(where).requires_grad_()
        uv = (0.5 * random(count, 2, seed=4)).to(where).requires_grad_()
        out = interpolate(used, attributes, corners.to(where), triangle.to(where), uv)
        above = (random(count, 5, seed=5) - 0.5).to(where)
        grads = torch.autograd.grad(out, (attributes, uv), above)
        results.append([each.detach().cpu() for each in (out, *grads)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


# Antialiasing


def test_soft_silhouettes_are_ours(drawing: tuple[Backend, str], sphere: Scene) -> None:
    """Of triangles larger than pixels, for which the package looks far enough."""
    backend, device = drawing
    clip, faces = sphere(1, views=2, dtype=torch.float32)
    raster = rasterize(PLAIN, clip, faces, 96, 80)
    results = []
    for used, where in ((backend, device), (PLAIN, "cpu")):
        drawn = Raster(*(x.to(where) for x in (raster.triangle, raster.uv, raster.depth)))
        color = random(2, 96, 80, 3).to(where).requires_grad_()
        leaf = clip.to(where).clone().requires_grad_()
        opposite = edge_adjacency(used, faces.to(where))
        out = antialias(used, color, drawn, leaf, faces.to(where), opposite)
        above = (random(2, 96, 80, 3, seed=1) - 0.5).to(where)
        grads = torch.autograd.grad(out, (color, leaf), above)
        results.append([each.detach().cpu() for each in (out, *grads)])
    (found, *found_grads), (expected, *expected_grads) = results
    assert (expected != random(2, 96, 80, 3)).any()
    if device == "cpu":
        torch.testing.assert_close(found, expected)
        for one, other in zip(found_grads, expected_grads, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    else:
        assert ((found - expected).abs().amax(-1) > 1e-2).float().mean() < 1e-3
        cosine = torch.cosine_similarity(
            found_grads[1].flatten(), expected_grads[1].flatten(), 0
        )
        assert cosine > 0.99


def test_neighbours_are_looked_up_once_for_the_same_faces(sphere: Scene) -> None:
    backend = with_operators("nvdiffrast", stub_nvdiffrast)
    clip, faces = sphere(1, views=1, dtype=torch.float32)
    raster = rasterize(backend, clip, faces, 12, 12)
    color = random(1, 12, 12, 3).requires_grad_()
    before = stub_nvdiffrast.topologies_made

    def soften() -> None:
        antialias(backend, color, raster, clip, faces, faces).sum().backward()

    soften()
    soften()
    assert stub_nvdiffrast.topologies_made == before + 1
    faces[0] = faces[0].roll(1)  # in place: another mesh
    soften()
    assert stub_nvdiffrast.topologies_made == before + 2


# Textures


@pytest.mark.parametrize("boundary", ["wrap", "clamp"])
@pytest.mark.parametrize("size", [(16, 32), (13, 7)])
@pytest.mark.parametrize("footprint", [0.0, 0.2, 3.0])
def test_texture_lookups_are_ours(
    drawing: tuple[Backend, str], boundary: Boundary, size: tuple[int, int], footprint: float
) -> None:
    """Level by level, with a footprint (0: none given) and at points outside."""
    backend, device = drawing
    uv = 3.0 * random(61, 2, seed=1) - 1.0
    uv_da = footprint * (random(61, 4, seed=2) - 0.5) if footprint else None
    results = []
    for used, where in ((backend, device), (PLAIN, "cpu")):
        levels = [texels.to(where) for texels in mip_chain(random(*size, 3))]
        leaves = [texels.detach().requires_grad_() for texels in levels]
        at = uv.to(where).requires_grad_()
        moved = None if uv_da is None else uv_da.to(where)
        out = texture2d(used, leaves, at, moved, boundary)
        above = (random(61, 3, seed=3) - 0.5).to(where)
        grads = torch.autograd.grad(out, (at, *leaves), above, materialize_grads=True)
        results.append([each.detach().cpu() for each in (out, *grads)])
    # The package's lookups have float32 coordinates, and the slope jumps from texel to texel.
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_bad_coordinates_read_the_first_texel(drawing: tuple[Backend, str]) -> None:
    backend, device = drawing
    uv = torch.tensor([[float("nan"), 0.5], [0.5, float("inf")]], device=device)
    uv.requires_grad_()
    texture = random(4, 6, 2)
    found = texture2d(backend, [texture.to(device)], uv)
    expected = texture2d(PLAIN, [texture], uv.detach().cpu())
    torch.testing.assert_close(found.detach().cpu(), expected)
    found.sum().backward()
    assert uv.grad is not None
    assert uv.grad.isfinite().all()
    assert uv.grad[0, 0] == uv.grad[1, 1] == 0.0


def test_levels_that_do_not_halve_are_looked_up_by_the_rest(
    drawing: tuple[Backend, str],
) -> None:
    backend, device = drawing
    levels = [random(8, 8, 1), random(5, 8, 1)]
    uv, uv_da = random(9, 2), random(9, 4)
    found = texture2d(
        backend, [texels.to(device) for texels in levels], uv.to(device), uv_da.to(device)
    )
    torch.testing.assert_close(found.cpu(), texture2d(PLAIN, levels, uv, uv_da))


# Hash grid

SPECS = [
    HashGridSpec(),
    HashGridSpec(levels=8, finest=256),
    HashGridSpec(levels=7, log2_rows=15, coarsest=4, finest=256),  # doubles: whole scales
    HashGridSpec(levels=1, coarsest=16, finest=16),
    HashGridSpec(levels=5, features=4, log2_rows=12, coarsest=3, finest=90),
    HashGridSpec(levels=2, log2_rows=19, coarsest=3, finest=64),  # rounds up to 65 corners
    HashGridSpec(levels=2, features=8, log2_rows=28, coarsest=2, finest=600),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.levels}-{spec.finest}")
def test_the_rows_are_the_packages(spec: HashGridSpec) -> None:
    factor = tinycudann.per_level_scale(spec)
    assert factor == pytest.approx(
        (spec.finest / spec.coarsest) ** (1 / max(spec.levels - 1, 1)), rel=1e-5
    )
    if spec.rows > 2**22:
        return  # too large to make here
    made = stub_tinycudann.Encoding(
        3,
        {
            "otype": "HashGrid",
            "interpolation": "Linear",
            "n_levels": spec.levels,
            "n_features_per_level": spec.features,
            "log2_hashmap_size": spec.log2_rows,
            "base_resolution": spec.coarsest,
            "per_level_scale": factor,
        },
    )
    assert tuple(made.first) == spec.offsets
    assert all(
        n == m for n, m, d in zip(made.sizes, spec.resolutions, spec.direct, strict=True) if d
    )


SMALL = HashGridSpec(levels=4, features=2, log2_rows=11, coarsest=4, finest=32)


def close_by_largest(found: Tensor, expected: Tensor, share: float) -> None:
    """Half precision: errors count against the largest entry."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert (found - expected).abs().max() <= share * expected.abs().max()


@pytest.mark.parametrize("active", [4, 2, 0])
@pytest.mark.parametrize("size", [1e-9, 1.0, 1e7])
def test_the_encoding_is_ours_to_half_precision(
    encoding: tuple[Backend, str], active: int, size: float
) -> None:
    """Values and gradients, whatever the size of the gradients above."""
    backend, device = encoding
    results = []
    for used, where in ((backend, device), (PLAIN, "cpu")):
        points = (1.4 * random(600, 3) - 0.2).to(where).requires_grad_()
        table = (random(SMALL.rows, 2, seed=1) - 0.5).to(where).requires_grad_()
        out = hash_grid(used, points, table, SMALL, active)
        above = size * (random(600, SMALL.out_dim, seed=2) - 0.3).to(where)
        grads = torch.autograd.grad(out, (points, table), above)
        results.append([each.detach().cpu() for each in (out, *grads)])
    for (found, expected), share in zip(
        zip(*results, strict=True), (1e-3, 4e-3, 4e-3), strict=True
    ):
        close_by_largest(found, expected, share)
    outside = ((1.4 * random(600, 3) - 0.2) - 0.5).abs() > 0.5
    assert not results[0][1][outside].any()


def test_bad_points_and_no_points(encoding: tuple[Backend, str]) -> None:
    backend, device = encoding
    table = random(SMALL.rows, 2).to(device).requires_grad_()
    bad = torch.full((2, 3), torch.nan, device=device)
    assert hash_grid(backend, bad, table, SMALL).isfinite().all()
    none = hash_grid(backend, bad[:0], table, SMALL)
    assert none.shape == (0, SMALL.out_dim)
    none.sum().backward()
    assert table.grad is not None
    assert not table.grad.any()


def test_an_unknown_layout_is_refused() -> None:
    class Encoding(stub_tinycudann.Encoding):
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            self.params = torch.nn.Parameter(torch.zeros(len(self.params) + 8))

    package = ModuleType("tinycudann")
    vars(package).update(Encoding=Encoding, Network=stub_tinycudann.Network)
    backend = with_operators("tinycudann", package)
    with pytest.raises(ValueError, match="layout"):
        hash_grid(backend, random(5, 3), random(SMALL.rows, 2), SMALL)


# Networks


@pytest.mark.parametrize("sizes", [(16, 32, 32, 9), (20, 64, 16), (3, 128, 128, 128, 17)])
@pytest.mark.parametrize("size", [1e-9, 1e6])
def test_a_network_is_ours_to_half_precision(
    encoding: tuple[Backend, str], sizes: tuple[int, ...], size: float
) -> None:
    backend, device = encoding
    results = []
    for used, where in ((backend, device), (PLAIN, "cpu")):
        weights = [
            ((random(o, i, seed=k) - 0.5) * 3 / i**0.5).to(where).requires_grad_()
            for k, (i, o) in enumerate(pairwise(sizes))
        ]
        x = random(300, sizes[0], seed=9).to(where).requires_grad_()
        out = mlp(used, x, weights)
        above = size * (random(300, sizes[-1], seed=8) - 0.4).to(where)
        grads = torch.autograd.grad(out, (x, *weights), above)
        results.append([each.detach().cpu() for each in (out, *grads)])
    # A ReLU whose input is rounded past zero switches, for a few in a thousand: on the whole.
    for found, expected in zip(*results, strict=True):
        assert found.shape == expected.shape
        assert (found - expected).norm() <= 5e-2 * expected.norm()


@pytest.mark.parametrize(
    ("sizes", "biased"), [((8, 32, 4), True), ((8, 48, 4), False), ((8, 4), False)]
)
def test_other_networks_are_the_rests(
    encoding: tuple[Backend, str], sizes: tuple[int, ...], biased: bool
) -> None:
    backend, device = encoding
    weights = [random(o, i, seed=i).to(device) for i, o in pairwise(sizes)]
    biases = [random(o).to(device) for o in sizes[1:]] if biased else None
    x = random(11, 8).to(device)
    assert torch.equal(mlp(backend, x, weights, biases), mlp(PLAIN, x, weights, biases))


# FlexiCubes


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_the_surface_is_ours(
    extracting: tuple[Backend, str], training: bool, weighted: bool
) -> None:
    """As a set: its moments, its volume, and the gradients of all of them."""
    backend, device = extracting
    lattice = cube_lattice((5, 6, 7))
    outer = (lattice.vertices.abs() > 0.5 - 1.5 * lattice.spacing).any(-1)
    noise = random(len(lattice.vertices)) - 0.5
    sdf = torch.where(outer, noise.abs() + 0.1, noise)
    count = len(lattice.cubes)
    weights = [random(count, 8) - 0.5, random(count, 12) - 0.5, random(count) - 0.5]
    results = []
    for used, where in ((backend, device), (PLAIN, "cpu")):
        inputs = [
            each.to(where).clone().requires_grad_()
            for each in (lattice.vertices.float(), sdf, *(weights if weighted else ()))
        ]
        more = inputs[2:] if weighted else (None, None, None)
        moved = replace(lattice, cubes=lattice.cubes.to(where))
        if where == "cpu":
            moved = lattice
        vertices, faces, deviation = flexicubes(
            used, moved, inputs[0], inputs[1], *more, training
        )
        assert faces.dtype == torch.int32
        a, b, c = (vertices[faces[:, i].long()] for i in range(3))
        volume = (a * torch.linalg.cross(b, c)).sum() / 6
        told = torch.stack([volume, vertices.pow(3).sum(), 10.0 * deviation.mean()])
        mix = torch.tensor([1.0, 0.1, 1.0], device=where)
        grads = torch.autograd.grad(told @ mix, inputs, retain_graph=True)
        again = torch.autograd.grad(told @ mix, inputs)
        slack = 0.0 if where == "cpu" else 1e-4  # a device's sums have no fixed order
        for x, y in zip(grads, again, strict=True):
            torch.testing.assert_close(x, y, rtol=slack, atol=slack)
        sizes = torch.tensor([float(len(vertices)), float(len(faces))])
        results.append([x.detach().cpu() for x in (sizes, told, *grads)])
    assert results[0][1][0] > 0.01  # outward, so the volume is positive
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_no_surface(extracting: tuple[Backend, str]) -> None:
    backend, device = extracting
    lattice = cube_lattice((3, 3, 3))
    lattice = replace(lattice, cubes=lattice.cubes.to(device))
    sdf = torch.ones(len(lattice.vertices), device=device, requires_grad=True)
    positions = lattice.vertices.float().to(device)
    vertices, faces, deviation = flexicubes(
        backend, lattice, positions, sdf, None, None, None, True
    )
    assert vertices.shape == faces.shape == (0, 3)
    (vertices.sum() + deviation.sum()).backward()
    assert sdf.grad is not None
    assert not sdf.grad.any()
