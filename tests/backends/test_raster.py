"""Rasterisation: what covers a pixel, with which weights, and how the weights move."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from isolux import backends
from isolux.backends import Backend
from isolux.backends.rasterize import interpolate, rasterize, screen_derivatives

Scene = Callable[..., tuple[Tensor, Tensor]]

TRIANGLE = torch.tensor([[0, 1, 2]])


def quad(depth: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """Four corners that reach past the image, at one depth."""
    corners = torch.tensor([[-2.0, -2], [2, -2], [2, 2], [-2, 2]], dtype=dtype)
    rest = torch.tensor([depth, 1.0], dtype=dtype).expand(4, 2)
    return torch.cat([corners, rest], dim=-1)


QUAD = torch.tensor([[0, 1, 2], [0, 2, 3]])


def test_row_zero_is_the_top(backend: Backend) -> None:
    """A triangle over the upper left half: y = +1 is row 0, x = -1 column 0."""
    clip = torch.tensor([[[-1.0, 1, 0, 1], [1, 1, 0, 1], [-1, -1, 0, 1]]])
    triangle = rasterize(backend, clip, TRIANGLE, 8, 8).triangle[0]
    row, column = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    assert torch.equal(triangle[row + column < 7], torch.ones(28, dtype=torch.int32))
    assert not triangle[row + column > 7].any()


def test_weights_of_a_flat_triangle(backend: Backend) -> None:
    """With w = 1 they are the areas over the pixel, divided by the whole."""
    clip = torch.tensor([[[-1.0, 1, 0.5, 1], [1, 1, 0.5, 1], [-1, -1, 0.5, 1]]])
    raster = rasterize(backend, clip, TRIANGLE, 4, 4)
    torch.testing.assert_close(raster.uv[0, 0, 0], torch.tensor([0.75, 0.125]))
    torch.testing.assert_close(raster.uv[0, 1, 2], torch.tensor([0.0, 0.625]))
    torch.testing.assert_close(raster.depth[0, 0, 0], torch.tensor(0.5))
    assert raster.depth[0, 3, 3] == 1.0
    assert not raster.uv[0, 3, 3].any()


@pytest.mark.parametrize("distance", [3.0, 0.6, 0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_lead_back_to_the_pixel(
    backend: Backend, sphere: Scene, distance: float, dtype: torch.dtype
) -> None:
    """Corners mixed by the weights project to the pixel's centre, at the stored depth."""
    clip, faces = sphere(2, views=2, distance=distance, dtype=dtype)
    height, width = 21, 34
    raster = rasterize(backend, clip, faces, height, width)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-9
    for view in range(2):
        row, column = raster.triangle[view].nonzero(as_tuple=True)
        assert len(row) > 0.3 * height * width
        face = raster.triangle[view, row, column] - 1
        p = interpolate(backend, clip[view], faces, face, raster.uv[view, row, column])
        assert (p[:, 3] > 0).all()
        centre = torch.stack(
            [
                (column.double() + 0.5) * 2 / width - 1,
                1 - (row.double() + 0.5) * 2 / height,
            ],
            dim=-1,
        )
        torch.testing.assert_close(
            p[:, :2] / p[:, 3:], centre.to(dtype), atol=tolerance, rtol=0
        )
        depth = raster.depth[view, row, column]
        torch.testing.assert_close(p[:, 2] / p[:, 3], depth, atol=20 * tolerance, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_cracks_from_inside(backend: Backend, sphere: Scene, dtype: torch.dtype) -> None:
    """A closed surface around the camera covers every pixel, with corners behind it or not."""
    for distance in (0.0, 0.31, 0.7):
        clip, faces = sphere(2, views=3, distance=distance, near=1e-3, dtype=dtype)
        assert rasterize(backend, clip, faces, 40, 53).triangle.all()


def test_no_cracks_between_slivers(backend: Backend) -> None:
    """Random fans over the whole image leave no pixel out, also where centres lie on edges."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        angle = torch.rand(40, generator=generator).sort().values * 6.2831853
        rim = 9.0 * torch.stack([angle.cos(), angle.sin()], dim=-1)
        hub = torch.tensor([[1.0 / 16, -1.0 / 16]])  # a pixel's centre
        points = torch.cat([hub, rim, torch.tensor([[9.0, 0.0]])])
        clip = torch.cat([points, torch.zeros(42, 1), torch.ones(42, 1)], dim=-1)[None]
        k = torch.arange(1, 42)
        faces = torch.stack([torch.zeros(41, dtype=torch.long), k, k % 41 + 1], dim=-1)
        assert rasterize(backend, clip, faces, 16, 16).triangle.all()


def test_ground_ends_at_the_horizon(backend: Backend) -> None:
    """A plane that passes under the camera, with corners behind it, fills the lower half."""
    x = torch.tensor([-1e3, 1e3, 1e3, -1e3], dtype=torch.float64)
    z = torch.tensor([-50.0, -50, 1e3, 1e3], dtype=torch.float64)
    near, far = 0.01, 1e4
    depth = (z * (far + near) - 2 * far * near) / (far - near)
    clip = torch.stack([x, -torch.ones_like(x), depth, z], dim=-1)[None]
    triangle = rasterize(backend, clip, QUAD, 20, 30).triangle[0]
    assert not triangle[:10].any()
    assert triangle[10:].all()


def test_the_near_and_far_planes_cut_at_each_pixel(backend: Backend) -> None:
    """A ramp in depth from -2 to 2 shows where |z| <= w only."""
    clip = quad(0.0)
    clip[:, 2] = clip[:, 0]
    clip[:, 0] *= 0.5  # z = 2 x, over the image
    raster = rasterize(backend, clip[None], QUAD, 4, 16)
    seen = (torch.arange(16) >= 4) & (torch.arange(16) < 12)
    assert torch.equal(raster.triangle[0] > 0, seen.expand(4, 16))
    assert raster.depth.abs().max() <= 1.0


def test_both_sides_are_drawn(backend: Backend, sphere: Scene) -> None:
    clip, faces = sphere(1)
    raster = rasterize(backend, clip, faces, 24, 24)
    turned = rasterize(backend, clip, faces.flip(-1), 24, 24)
    assert torch.equal(raster.triangle, turned.triangle)
    torch.testing.assert_close(
        1.0 - raster.uv.sum(-1)[raster.triangle > 0], turned.uv[..., 0][raster.triangle > 0]
    )


def test_the_lower_face_keeps_a_tie(backend: Backend) -> None:
    clip = quad(0.25)[None]
    faces = torch.cat([QUAD, QUAD.flip(0), QUAD])
    raster = rasterize(backend, clip, faces, 6, 6)
    once = rasterize(backend, clip, QUAD, 6, 6)
    assert torch.equal(raster.triangle, once.triangle)
    assert set(raster.triangle.unique().tolist()) == {1, 2}


def test_peeling_goes_through_the_layers(backend: Backend) -> None:
    """Layers come nearest first whatever their order in the list, and then nothing."""
    clip = torch.cat([quad(0.5), quad(-0.5), quad(0.0)])[None]
    faces = torch.cat([QUAD + 4 * k for k in range(3)])
    behind, seen = None, []
    for _ in range(4):
        raster = rasterize(backend, clip, faces, 5, 7, behind)
        behind = raster.depth
        seen.append((raster.depth.unique().tolist(), (raster.triangle > 0).all().item()))
    assert seen == [([-0.5], True), ([0.0], True), ([0.5], True), ([1.0], False)]
    assert not raster.triangle.any()


def test_degenerate_and_broken_triangles_are_left_out(backend: Backend) -> None:
    broken = torch.tensor([[float("nan"), 0, 0, 1], [0, float("inf"), 0, 1], [0, 0, 0, 0]])
    clip = torch.cat([quad(0.0, torch.float32), broken.to(torch.float32)])[None]
    faces = torch.tensor([[0, 0, 1], [1, 1, 1], [0, 4, 1], [5, 2, 3], [4, 5, 6], [0, 6, 6]])
    clip.requires_grad_()
    alone = rasterize(backend, clip, faces, 8, 8)
    assert not alone.triangle.any()
    among = rasterize(backend, clip, torch.cat([faces, QUAD]), 8, 8)
    assert (among.triangle > len(faces)).all()
    among.uv.sum().backward()
    assert clip.grad is not None
    assert clip.grad.isfinite().all()


def test_points_at_w_zero_do_no_harm(backend: Backend) -> None:
    generator = torch.Generator().manual_seed(5)
    clip = torch.randn(3, 60, 4, generator=generator)
    clip[:, ::3, 3] = 0.0
    clip.requires_grad_()
    faces = torch.randint(60, (80, 3), generator=generator)
    raster = rasterize(backend, clip, faces, 9, 11)
    assert raster.triangle.any()
    assert raster.uv.isfinite().all()
    assert (raster.uv >= 0).all()
    assert (raster.uv.sum(-1) <= 1 + 1e-6).all()
    raster.uv.square().sum().backward()
    assert clip.grad is not None
    assert clip.grad.isfinite().all()


@pytest.mark.parametrize(
    ("views", "vertices", "faces"), [(2, 5, 0), (2, 0, 0), (0, 3, 1), (0, 0, 0)]
)
def test_empty(backend: Backend, views: int, vertices: int, faces: int) -> None:
    clip = torch.zeros(views, vertices, 4, requires_grad=True)
    raster = rasterize(backend, clip, torch.zeros(faces, 3, dtype=torch.int32), 3, 4)
    assert raster.triangle.shape == (views, 3, 4)
    assert not raster.triangle.any()
    assert (raster.depth == 1.0).all()
    raster.uv.sum().backward()
    assert clip.grad is not None
    assert not clip.grad.any()
    pixels = torch.zeros(0, dtype=torch.int64)
    none = screen_derivatives(
        backend, clip, torch.zeros(faces, 3, dtype=torch.int32), raster, pixels
    )
    assert none.shape == (0, 4)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (9, 1), (130, 2)])
def test_any_image_size(backend: Backend, height: int, width: int) -> None:
    raster = rasterize(backend, quad(0.5)[None], QUAD, height, width)
    assert raster.triangle.shape == (1, height, width)
    assert raster.triangle.all()


def test_mistakes_are_named(backend: Backend) -> None:
    with pytest.raises(IndexError, match=r"\[0, 4\)"):
        rasterize(backend, quad(0.0)[None], torch.tensor([[0, 1, 4]]), 4, 4)
    with pytest.raises(IndexError, match="-1"):
        rasterize(backend, quad(0.0)[None], torch.tensor([[0, 1, -1]]), 4, 4)
    with pytest.raises(ValueError, match="0 x 4"):
        rasterize(backend, quad(0.0)[None], QUAD, 0, 4)


def test_scaling_homogeneous_positions_changes_nothing(backend: Backend, sphere: Scene) -> None:
    clip, faces = sphere(1, distance=0.5)
    one = rasterize(backend, clip, faces, 17, 17)
    other = rasterize(backend, clip * 2.0**-20, faces, 17, 17)
    assert torch.equal(one.triangle, other.triangle)
    torch.testing.assert_close(one.uv, other.uv)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("distance", [3.0, 0.7, 0.2])
def test_the_backends_agree(sphere: Scene, distance: float, dtype: torch.dtype) -> None:
    clip, faces = sphere(3, views=2, distance=distance, dtype=dtype)
    pixels = torch.arange(2 * 37 * 50)
    found = []
    for name in ("reference", "cpu"):
        leaf = clip.clone().requires_grad_()
        backend = backends.select(name)
        raster = rasterize(backend, leaf, faces, 37, 50)
        weights = torch.linspace(-1, 1, raster.uv.numel(), dtype=dtype).view_as(raster.uv)
        (raster.uv * weights).sum().backward()
        slopes = screen_derivatives(backend, leaf, faces, raster, pixels)
        behind = rasterize(backend, leaf, faces, 37, 50, raster.depth).triangle
        found.append((raster.triangle, behind, raster.uv.detach(), slopes, leaf.grad))
    a, b = found
    assert torch.equal(a[0], b[0])
    assert (a[1] != b[1]).float().mean() < 1e-3
    for one, other in zip(a[2:], b[2:], strict=True):
        assert one is not None
        assert other is not None
        tolerance = 2e-6 if dtype == torch.float32 else 1e-10
        torch.testing.assert_close(
            one, other, rtol=1e-4, atol=tolerance * float(other.abs().max())
        )


def test_gradients_are_those_of_the_weights(backend: Backend) -> None:
    """In float64, on the kernels that production runs; corners behind the camera included."""
    generator = torch.Generator().manual_seed(0)
    clip = torch.randn(2, 9, 4, generator=generator, dtype=torch.float64)
    clip[..., 3] = clip[..., 3].abs() + 0.4
    clip[..., 2] *= 0.2
    clip[0, 4, 3] = -0.3
    faces = torch.tensor([[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 1, 3]])
    clip.requires_grad_()
    triangle = rasterize(backend, clip, faces, 13, 17).triangle
    assert set(triangle.unique().tolist()) >= {0, 1, 2, 3}

    def weights(clip: Tensor) -> Tensor:
        raster = rasterize(backend, clip, faces, 13, 17)
        assert torch.equal(raster.triangle, triangle)
        return raster.uv

    assert torch.autograd.gradcheck(weights, (clip,), eps=1e-7, atol=1e-5)


def test_screen_derivatives_are_slopes(backend: Backend) -> None:
    """Halving the pixel by moving the picture: a difference quotient a tiny step aside."""
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(1, 3, 4, generator=generator, dtype=torch.float64)
    corners = torch.tensor([[-1.0, -1, 0, 1], [1, -1, 0, 1], [0, 1, 0, 1]])
    clip = corners + noise * torch.tensor([0.1, 0.1, 0.1, 0.3])
    height, width, step = 11, 19, 1e-5
    raster = rasterize(backend, clip, TRIANGLE, height, width)
    pixels = raster.triangle.reshape(-1).nonzero().squeeze(-1)
    assert len(pixels) > 5
    slopes = screen_derivatives(backend, clip, TRIANGLE, raster, pixels)
    for axis, size, sign in ((0, width, -1.0), (1, height, 1.0)):
        quotient = torch.zeros(len(pixels), 2, dtype=torch.float64)
        for way in (1.0, -1.0):
            moved = clip.clone()
            moved[..., axis] += way * sign * step * 2.0 / size * clip[..., 3]
            aside = rasterize(backend, moved, TRIANGLE, height, width)
            assert torch.equal(aside.triangle, raster.triangle)
            quotient += way * aside.uv.reshape(-1, 2)[pixels] / (2 * step)
        torch.testing.assert_close(slopes[:, [axis, axis + 2]], quotient, atol=1e-7, rtol=1e-6)


def test_threads_do_not_change_a_bit(
    sphere: Scene, with_threads: Callable[[int | None], None]
) -> None:
    backend = backends.select("cpu")
    clip, faces = sphere(3, views=1, distance=0.8, dtype=torch.float32)
    found = []
    for count in (1, 2, 3):
        with_threads(count)
        leaf = clip.clone().requires_grad_()
        raster = rasterize(backend, leaf, faces, 300, 200)
        (raster.uv * torch.linspace(0, 1, 200)[:, None]).sum().backward()
        assert leaf.grad is not None
        found.append((raster.triangle, raster.uv.detach(), raster.depth, leaf.grad))
    for other in found[1:]:
        assert all(torch.equal(x, y) for x, y in zip(found[0], other, strict=True))


@pytest.mark.parametrize("distance", [3.0, 0.5])
def test_rays_see_the_same_triangles(sphere: Scene, distance: float) -> None:
    """Embree is independent of all this; edge pixels may differ."""
    pytest.importorskip("embreex", reason="embreex, an optional ray caster, is not installed")
    from trimesh import Trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    clip, faces = sphere(3, views=1, distance=distance, near=1e-4)
    size = 96
    triangle = rasterize(backends.select("cpu"), clip, faces, size, size).triangle[0]
    points = clip[0, :, [0, 1, 3]]  # (x, y, w): rays leave the origin along (fx, fy, 1)
    mesh = Trimesh(points.numpy(), faces.numpy(), process=False)
    at = (torch.arange(size, dtype=torch.float64) + 0.5) * 2.0 / size - 1.0
    fy, fx = torch.meshgrid(-at, at, indexing="ij")
    rays = torch.stack([fx, fy, torch.ones_like(fx)], dim=-1).reshape(-1, 3)
    hit = RayMeshIntersector(mesh).intersects_first(
        torch.zeros_like(rays).numpy(), rays.numpy()
    )
    differ = torch.from_numpy(hit + 1).view(size, size) != triangle
    assert differ.float().mean() < 1e-3
