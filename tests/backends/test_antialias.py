"""Antialiasing: the picture's sum is the area in front, its gradient the outline's motion.

Areas are in pixels. A silhouette's sum is exact but for the ends of its edges, so the laws are
held to over several positions.
"""

import math
from collections.abc import Callable

import pytest
import torch
from orders import both_orders
from torch import Tensor

from isolux import backends
from isolux.backends import Backend
from isolux.backends.rasterize import Raster, antialias, edge_adjacency, rasterize

Scene = Callable[..., tuple[Tensor, Tensor]]
F64 = torch.float64


def fan(corners: int, turn: float = 0.0) -> tuple[Tensor, Tensor]:
    """A regular polygon of unit radius around a hub, as points of the plane and faces."""
    angle = torch.arange(corners, dtype=F64) * (2 * math.pi / corners) + turn
    rim = torch.stack([angle.cos(), angle.sin()], dim=-1)
    k = torch.arange(corners)
    faces = torch.stack([torch.zeros_like(k), k + 1, (k + 1) % corners + 1], dim=-1)
    return torch.cat([torch.zeros(1, 2, dtype=F64), rim]), faces


def area(points: Tensor) -> float:
    """Of a polygon with the hub first."""
    x, y = points[1:].unbind(-1)
    return 0.5 * float((x * y.roll(-1) - y * x.roll(-1)).sum())


def clip_of(points: Tensor, w: Tensor | float = 1.0) -> Tensor:
    """Points in normalised device coordinates, at depth 0 and with the given w."""
    w = torch.as_tensor(w, dtype=points.dtype).expand(len(points))[:, None]
    return torch.cat([points * w, torch.zeros_like(w), w], dim=-1)[None]


def soften(
    backend: Backend, clip: Tensor, faces: Tensor, height: int, width: int
) -> tuple[Tensor, Raster]:
    """The antialiased silhouette, white on black."""
    raster = rasterize(backend, clip, faces, height, width)
    color = (raster.triangle > 0).to(clip.dtype)[..., None]
    return antialias(
        backend, color, raster, clip, faces, edge_adjacency(backend, faces)
    ), raster


@pytest.mark.parametrize("corners", [3, 5, 16])
def test_the_sum_is_the_area_and_its_gradient_that_of_the_area(
    backend: Backend, corners: int
) -> None:
    """Area, d area / d scale = 2 area / scale, and no change under translation."""
    height, width = 60, 90
    size = torch.tensor([width / 2.0, height / 2.0], dtype=F64)
    relative = []
    for trial in range(6):
        points, faces = fan(corners, turn=0.13 + 0.41 * trial)
        scale = torch.tensor(22.0 + 0.37 * trial, dtype=F64, requires_grad=True)
        shift = torch.tensor([0.31 * trial, -0.17 * trial], dtype=F64, requires_grad=True)
        clip = clip_of((scale * points + shift) / size)
        total = soften(backend, clip, faces, height, width)[0].sum()
        total.backward()
        expected = area(points) * 22.0**2 * (float(scale.detach()) / 22.0) ** 2
        assert float(total.detach()) == pytest.approx(expected, rel=4e-3)
        assert scale.grad is not None
        assert shift.grad is not None
        relative.append(float(scale.grad) * float(scale.detach()) / (2 * expected))
        assert shift.grad.abs().max() < 4.0  # of a perimeter of over 110
    assert sum(relative) / len(relative) == pytest.approx(1.0, abs=0.02)


def test_a_closed_body_of_small_triangles(backend: Backend, sphere: Scene) -> None:
    """A convex body's shadow is half the sum of its faces' (Cauchy), and grows as any area.

    Its triangles are about a pixel wide, so few edges of the outline belong to the triangle
    that the pixel beside them shows.
    """
    size, ratios = 64, []
    for turn in range(3):
        clip, faces = sphere(3, views=1, bumps=0.0, turn=0.7 * turn)
        points = clip[0, :, :2] * (0.1 * size)  # orthographic, in pixels
        a, b, c = (points[faces[:, i].long()] for i in range(3))
        cross = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
        shadow = 0.25 * float(cross.abs().sum())
        scale = torch.ones((), dtype=F64, requires_grad=True)
        flat = torch.zeros(1, len(points), 4, dtype=F64)
        flat[..., 2], flat[..., 3] = 0.1 * clip[..., 3], 1.0
        moved = flat + torch.nn.functional.pad(scale * points * (2.0 / size), (0, 2))
        total = soften(backend, moved, faces, size, size)[0].sum()
        total.backward()
        assert scale.grad is not None
        assert float(total.detach()) == pytest.approx(shadow, rel=4e-3)
        ratios.append(float(scale.grad) / (2.0 * shadow))
    assert sum(ratios) / len(ratios) == pytest.approx(1.0, abs=0.03)


def test_the_way_faces_turn_does_not_matter(backend: Backend, sphere: Scene) -> None:
    clip, faces = sphere(2, views=2)
    turned = torch.where((torch.arange(len(faces)) % 3 == 0)[:, None], faces.flip(-1), faces)
    one, _ = soften(backend, clip, faces, 40, 40)
    other, _ = soften(backend, clip, turned, 40, 40)
    torch.testing.assert_close(one, other)


def test_the_first_moment_follows_a_translation(backend: Backend) -> None:
    """d/dt of the sum of x over the shape is its area."""
    points, faces = fan(12, turn=0.2)
    shift = torch.zeros(2, dtype=F64, requires_grad=True)
    image, _ = soften(backend, clip_of(0.7 * points + shift / 40), faces, 80, 80)
    column = torch.arange(80, dtype=F64)[None, None, :, None]
    (image * column).sum().backward()
    assert shift.grad is not None
    assert float(shift.grad[0]) == pytest.approx(area(points) * 28.0**2, rel=0.01)
    assert abs(float(shift.grad[1])) < 0.02 * float(shift.grad[0])


def test_perspective_does_not_matter(backend: Backend) -> None:
    """The same outline with another w at each corner is the same picture."""
    points, faces = fan(7, turn=0.3)
    w = torch.linspace(0.5, 4.0, 8, dtype=F64)
    flat, _ = soften(backend, clip_of(0.8 * points), faces, 40, 50)
    steep, _ = soften(backend, clip_of(0.8 * points, w), faces, 40, 50)
    torch.testing.assert_close(flat, steep)


@pytest.mark.parametrize(
    ("edge", "row"), [(4.7, [1.0, 1.0, 1.0, 1.0, 0.7]), (4.3, [1.0, 1.0, 1.0, 1.0, 0.3])]
)
def test_a_vertical_edge_by_hand(backend: Backend, edge: float, row: list[float]) -> None:
    """A half plane left of x = 4.7 covers 0.7 of pixel 4, and its right neighbour nothing."""
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    x = edge / 8 * 2 - 1
    points = torch.tensor([[-3.0, -3], [x, -3], [x, 3], [-3, 3]], dtype=F64)
    image, _ = soften(backend, clip_of(points), faces, 6, 8)
    expected = torch.tensor([*row, 0.0, 0.0, 0.0], dtype=F64).expand(6, 8)
    torch.testing.assert_close(image[0, :, :, 0], expected)


def test_edges_of_45_degrees_count_once(backend: Backend) -> None:
    """They are as steep as flat; d area / d scale is 2 area / scale."""
    points = torch.tensor([[0.0, 0], [0.5, 0], [0, 0.5], [-0.5, 0], [0, -0.5]], dtype=F64)
    _, faces = fan(4)
    scale = torch.tensor(1.03125, dtype=F64, requires_grad=True)
    image, _ = soften(backend, clip_of(scale * points), faces, 64, 64)
    image.sum().backward()
    whole = 0.5 * 32.0**2
    assert float(image.detach().sum()) == pytest.approx(whole * 1.03125**2, rel=0.01)
    assert scale.grad is not None
    assert float(scale.grad) == pytest.approx(2 * whole * 1.03125, rel=0.05)


def test_inner_edges_stay_sharp(backend: Backend, sphere: Scene) -> None:
    """Colours of the faces mix along the outline only, never within the surface."""
    clip, faces = sphere(2, views=2)
    raster = rasterize(backend, clip, faces, 40, 40)
    color = torch.rand(len(faces) + 1, 3, dtype=F64)[raster.triangle.long()]
    out = antialias(backend, color, raster, clip, faces, edge_adjacency(backend, faces))
    empty = (raster.triangle == 0).to(F64)[:, None]
    near = torch.nn.functional.max_pool2d(empty, 3, stride=1, padding=1)[:, 0] > 0
    changed = (out != color).any(dim=-1)
    assert changed[near].any()
    inside = changed & ~near
    assert inside.float().sum() <= 0.1 * changed.float().sum()  # folds of the bumps


def test_without_neighbours_every_edge_counts(backend: Backend) -> None:
    points, faces = fan(6)
    clip = clip_of(0.9 * points)
    raster = rasterize(backend, clip, faces, 30, 30)
    color = raster.triangle.to(F64)[..., None]
    opposite = edge_adjacency(backend, faces)
    inner = raster.triangle[0, 10:20, 10:20]
    assert len(inner.unique()) > 3
    joined = antialias(backend, color, raster, clip, faces, opposite)
    torch.testing.assert_close(joined[0, 10:20, 10:20], color[0, 10:20, 10:20])
    apart = antialias(backend, color, raster, clip, faces, torch.full_like(opposite, -1))
    assert (apart[0, 10:20, 10:20] != color[0, 10:20, 10:20]).any()


def test_a_nearer_shape_softens_over_a_farther_one(backend: Backend) -> None:
    points, faces = fan(8, turn=0.1)
    low = clip_of(0.5 * points)
    high = clip_of(3.0 * points)
    high[..., 2] = 0.5
    clip = torch.cat([low, high], dim=1).requires_grad_()
    both = torch.cat([faces, faces + len(points)])
    raster = rasterize(backend, clip, both, 40, 40)
    assert raster.triangle.all()
    color = (raster.triangle <= len(faces)).to(F64)[..., None]
    out = antialias(backend, color, raster, clip, both, edge_adjacency(backend, both))
    assert float(out.detach().sum()) == pytest.approx(area(0.5 * points) * 400, rel=5e-3)
    out.sum().backward()
    assert clip.grad is not None
    assert clip.grad[0, 1 : len(points), :2].abs().sum() > 1
    assert not clip.grad[0, len(points) :].any()
    assert not clip.grad[..., 2].any()


def test_gradients(backend: Backend) -> None:
    """To colours and positions, in float64, on the kernels that production runs."""
    generator = torch.Generator().manual_seed(4)
    clip = torch.randn(2, 9, 4, generator=generator, dtype=F64)
    clip[..., 3] = clip[..., 3].abs() + 0.5
    clip[..., 2] *= 0.2
    clip[0, 5, 3] = -0.4
    faces = torch.tensor([[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 1, 3]])
    color = torch.rand(2, 13, 17, 3, generator=generator, dtype=F64)
    raster = rasterize(backend, clip, faces, 13, 17)
    opposite = edge_adjacency(backend, faces)
    assert (antialias(backend, color, raster, clip, faces, opposite) != color).sum() > 60
    mix = torch.randn(color.numel(), 8, generator=generator, dtype=F64)  # few, dense outputs

    def mixed(color: Tensor, clip: Tensor) -> Tensor:
        return antialias(backend, color, raster, clip, faces, opposite).reshape(-1) @ mix

    clip.requires_grad_()
    assert torch.autograd.gradcheck(mixed, (color, clip), eps=1e-8, atol=1e-5)
    color.requires_grad_()
    assert torch.autograd.gradcheck(mixed, (color, clip), eps=1e-8, atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("distance", [3.0, 0.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_backends_agree(sphere: Scene, distance: float, dtype: torch.dtype) -> None:
    clip, faces = sphere(2, views=2, distance=distance, dtype=dtype)
    faces = faces[:-40]  # leaves a hole, with a border
    raster = rasterize(backends.select("cpu"), clip, faces, 90, 41)
    values = torch.rand(2, 90, 41, 5, dtype=dtype, generator=torch.Generator().manual_seed(1))
    found = []
    for name in ("reference", "cpu"):
        backend = backends.select(name)
        color, leaf = values.clone().requires_grad_(), clip.clone().requires_grad_()
        out = antialias(backend, color, raster, leaf, faces, edge_adjacency(backend, faces))
        (out * values.roll(1, dims=-1)).sum().backward()
        found.append((out.detach(), color.grad, leaf.grad))
    assert (found[0][0] != values).any()
    for one, other in zip(*found, strict=True):
        assert one is not None
        assert other is not None
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_threads_do_not_change_a_bit(
    sphere: Scene, with_threads: Callable[[int | None], None]
) -> None:
    backend = backends.select("cpu")
    clip, faces = sphere(3, views=2, dtype=torch.float32)
    found = []
    for count in (1, 2, 3):
        with_threads(count)
        leaf = clip.clone().requires_grad_()
        image, _ = soften(backend, leaf, faces, 200, 160)
        image.square().sum().backward()
        assert leaf.grad is not None
        found.append((image.detach(), leaf.grad))
    for other in found[1:]:
        assert all(torch.equal(x, y) for x, y in zip(found[0], other, strict=True))


def drawn(
    backend: Backend, clip: Tensor, faces: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """A softened picture of coloured faces, and gradients to its colours and positions."""
    raster = rasterize(backends.cpu(), clip, faces, height, width)
    generator = torch.Generator().manual_seed(2)
    color = torch.rand(len(faces) + 1, 3, dtype=clip.dtype, generator=generator)
    color = color[raster.triangle.long()].requires_grad_()
    leaf = clip.clone().requires_grad_()
    out = antialias(backend, color, raster, leaf, faces, edge_adjacency(backend, faces))
    grads = torch.autograd.grad((out * color.detach().roll(1, dims=-1)).sum(), [color, leaf])
    return out.detach(), *grads


def test_sums_in_fixed_point_do_not_depend_on_the_order_of_threads(sphere: Scene) -> None:
    """Nor do colours in any mode, as pixels gather them."""
    clip, faces = sphere(3, views=2, dtype=torch.float32)

    def run(backend: Backend) -> tuple[Tensor, Tensor, Tensor]:
        return drawn(backend, clip, faces, 90, 120)

    plain, fixed = both_orders(run, deterministic=False), both_orders(run, deterministic=True)
    assert [torch.equal(*pair) for pair in zip(*plain, strict=True)] == [True, True, False]
    assert [torch.equal(*pair) for pair in zip(*fixed, strict=True)] == [True, True, True]
    torch.testing.assert_close(plain[0][2], fixed[0][2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("subdivisions", [0, 1, 4])
@pytest.mark.parametrize("distance", [3.0, 1.05, 0.2])
def test_colours_are_those_of_the_processor_bit_for_bit(
    sphere: Scene, subdivisions: int, distance: float
) -> None:
    """From edges across the whole picture to triangles smaller than a pixel."""
    clip, faces = sphere(subdivisions, views=2, dtype=torch.float32, distance=distance)
    one, other = both_orders(lambda b: drawn(b, clip, faces, 80, 130), deterministic=False)
    expected = drawn(backends.cpu(), clip, faces, 80, 130)
    for found in (one, other):
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
        torch.testing.assert_close(found[2], expected[2], rtol=1e-4, atol=1e-4)


def test_edges_behind_the_camera_do_no_harm(backend: Backend) -> None:
    generator = torch.Generator().manual_seed(6)
    clip = torch.randn(3, 30, 4, generator=generator)
    clip[:, ::3, 3] = 0.0
    clip.requires_grad_()
    faces = torch.randint(30, (40, 3), generator=generator)
    image, raster = soften(backend, clip, faces, 20, 30)
    assert raster.triangle.any()
    assert image.isfinite().all()
    image.sum().backward()
    assert clip.grad is not None
    assert clip.grad.isfinite().all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_any_image_size(backend: Backend, height: int, width: int) -> None:
    points, faces = fan(5, turn=0.2)
    clip = clip_of(0.6 * points).requires_grad_()
    image, _ = soften(backend, clip, faces, height, width)
    image.sum().backward()
    assert image.shape == (1, height, width, 1)
    assert image.isfinite().all()
    assert clip.grad is not None
    assert clip.grad.isfinite().all()


@pytest.mark.parametrize(
    ("views", "vertices", "channels"), [(2, 5, 3), (2, 0, 3), (0, 3, 3), (2, 5, 0)]
)
def test_empty(backend: Backend, views: int, vertices: int, channels: int) -> None:
    clip = torch.zeros(views, vertices, 4, requires_grad=True)
    faces = torch.zeros(0, 3, dtype=torch.int32)
    raster = rasterize(backend, clip, faces, 3, 4)
    color = torch.rand(views, 3, 4, channels, requires_grad=True)
    out = antialias(backend, color, raster, clip, faces, edge_adjacency(backend, faces))
    assert torch.equal(out, color)
    out.sum().backward()
    assert color.grad is not None
    assert (color.grad == 1.0).all()
    assert clip.grad is not None
    assert not clip.grad.any()
