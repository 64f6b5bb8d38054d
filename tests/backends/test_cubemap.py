"""Laws of cube map lookups, for each backend, and the geometry they stand on."""

import math

import pytest
import torch
from emulated import emulated
from torch import Tensor
from torch.autograd import gradcheck

from isolux import backends
from isolux.backends import Backend, cubes
from isolux.backends.cpu import pool
from isolux.backends.cuda.launch import use_host
from isolux.backends.sample import cubemap


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64).to(dtype)


def directions(count: int, seed: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, generator=generator, dtype=torch.float64)


def test_texels_look_where_opengl_says() -> None:
    """(right, down) in a face's picture, as the six formulas of the OpenGL specification."""
    points = cubes.face_points(4)
    x, y = points.new_tensor(0.75), points.new_tensor(-0.25)  # column 3, row 1
    one = torch.ones_like(x)
    expected = [
        (one, -y, -x),
        (-one, -y, x),
        (x, one, y),
        (x, -one, -y),
        (x, -y, one),
        (-x, -y, -one),
    ]
    torch.testing.assert_close(points[:, 1, 3], torch.stack([torch.stack(p) for p in expected]))


@pytest.mark.parametrize("size", [1, 2, 7])
def test_solid_angles_make_a_sphere(size: int) -> None:
    torch.testing.assert_close(6 * float(cubes.solid_angles(size).sum()), 4 * math.pi)


def test_areas_of_nvdiffrec_are_theirs() -> None:
    assert 6 * float(cubes.nvdiffrec_areas(16).sum()) == pytest.approx(13.59, abs=0.005)
    assert 6 * float(cubes.nvdiffrec_areas(512).sum()) == pytest.approx(14.77, abs=0.005)


def test_padding_shows_the_nearest_texel_across_the_edge() -> None:
    """The two texels at an edge are mirror images in the plane between their faces."""
    points, padded = cubes.face_points(4).reshape(-1, 3), cubes.padding(4)
    own, across = points[padded[:, 1:-1, 1]], points[padded[:, 1:-1, 0]]
    gap = (own - across).norm(dim=-1)
    torch.testing.assert_close(gap, torch.full_like(gap, 0.25 * 2**0.5))
    assert (padded[:, [0, 0, -1, -1], [0, -1, 0, -1]] == -1).all()
    assert (padded >= 0).sum() == 6 * (36 - 4)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_texel_centre_gives_the_texel(backend: Backend, size: int) -> None:
    texels = random(6, size, size, 2)
    found = cubemap(backend, [texels], 3.0 * cubes.texel_directions(size).reshape(-1, 3))
    torch.testing.assert_close(found, texels.reshape(-1, 2))


def test_a_constant_is_kept_everywhere(backend: Backend) -> None:
    levels = [torch.full((6, s, s, 3), 0.7, dtype=torch.float64) for s in (8, 3, 1)]
    found = cubemap(backend, levels, directions(300), 3.0 * random(300) - 0.5)
    torch.testing.assert_close(found, torch.full_like(found, 0.7))


def test_there_is_no_seam(backend: Backend) -> None:
    """Across each edge, and round each corner, values differ as little as directions."""
    texels = random(6, 4, 4, 1)
    along = 2.0 * random(200, seed=1) - 1.0
    along[:4] = torch.tensor([1.0, -1.0, 0.999, -0.999])
    for axis in range(3):
        for signs in range(4):
            at = torch.empty(200, 3, dtype=torch.float64)
            at[:, axis] = along
            at[:, (axis + 1) % 3] = 1.0 if signs & 1 else -1.0
            at[:, (axis + 2) % 3] = 1.0 if signs & 2 else -1.0
            jitter = 1e-9 * (random(2, 200, 3, seed=2) - 0.5)
            one, other = (cubemap(backend, [texels], at + j) for j in jitter)
            torch.testing.assert_close(one, other, atol=1e-7, rtol=0)


def test_where_three_faces_meet_the_mean_of_three_counts(backend: Backend) -> None:
    texels = random(6, 4, 4, 1)
    corner = torch.tensor([[1.0, 1.0, 1.0]], dtype=torch.float64)
    # At (1, 1, 1): top left of +x (its columns go to -z), bottom right of +y, top right of +z.
    three = torch.stack([texels[0, 0, 0], texels[2, -1, -1], texels[4, 0, -1]])
    torch.testing.assert_close(cubemap(backend, [texels], corner), three.mean(0)[None])


def test_a_plane_wave_is_smooth_enough(backend: Backend) -> None:
    """A linear function of direction comes back to second order in the texels' size."""
    look = torch.nn.functional.normalize(directions(400), dim=1)
    errors = []
    for size in (16, 32):
        texels = cubes.texel_directions(size)
        errors.append(float((cubemap(backend, [texels], look) - look).abs().mean()))
    assert errors[0] < 0.002
    assert errors[1] < 0.3 * errors[0]


def test_the_length_of_a_direction_does_not_matter(backend: Backend) -> None:
    texels, look = random(6, 4, 4, 2), directions(50)
    torch.testing.assert_close(
        cubemap(backend, [texels], 1e-3 * look), cubemap(backend, [texels], 1e3 * look)
    )


def test_levels_are_blended_and_held(backend: Backend) -> None:
    levels = [torch.full((6, 4, 4, 1), v, dtype=torch.float64) for v in (1.0, 3.0, 7.0)]
    level = torch.tensor([-1, 0, 0.25, 1, 1.5, 2, 9, float("nan")], dtype=torch.float64)
    found = cubemap(backend, levels, directions(8), level)
    expected = torch.tensor([1, 1, 1.5, 3, 5, 7, 7, 1], dtype=torch.float64)
    torch.testing.assert_close(found[:, 0], expected)


def test_gradients_match_finite_differences(backend: Backend) -> None:
    levels = [random(6, s, s, 2, seed=s).requires_grad_() for s in (3, 2, 1)]
    look = torch.cat([directions(8), torch.tensor([[1.0, 0.93, 0.95], [-0.9, -1.0, 0.1]])])
    level = torch.linspace(-0.35, 2.4, 10, dtype=torch.float64)
    assert gradcheck(
        lambda look, level, *levels: cubemap(backend, levels, look, level),
        (look.requires_grad_(), level.requires_grad_(), *levels),
    )
    assert gradcheck(lambda look, base: cubemap(backend, [base], look), (look, levels[0]))


@pytest.mark.parametrize("channels", [1, 3])
def test_many_points_add_up_in_few_texels(backend: Backend, channels: int) -> None:
    """More points than texels by far, a third of them in one place."""
    levels = [random(6, s, s, channels).requires_grad_() for s in (4, 2)]
    look = directions(5000)
    look[::3] = torch.tensor([1.0, 0.9, -0.2])
    level = 1.5 * random(5000)
    above = random(5000, channels, seed=9)
    found, expected = (
        torch.autograd.grad(cubemap(b, levels, look, level), levels, above)
        for b in (backend, backends.reference())
    )
    torch.testing.assert_close(found, expected)
    # Every point's weights sum to one.
    torch.testing.assert_close(sum(g.sum((0, 1, 2)) for g in found), above.sum(0))


def test_no_direction_gives_zero_and_no_gradient(backend: Backend) -> None:
    bad = torch.tensor(
        [[0.0, 0.0, 0.0], [float("nan"), 1.0, 0.0], [float("inf"), 0.0, 1.0]],
        dtype=torch.float64,
        requires_grad=True,
    )
    texels = random(6, 4, 4, 2).requires_grad_()
    found = cubemap(backend, [texels], bad)
    assert (found == 0).all()
    to_bad, to_texels = torch.autograd.grad(found.sum(), (bad, texels))
    assert (to_bad == 0).all()
    assert (to_texels == 0).all()


def test_no_points_give_no_rows_and_zero_gradients(backend: Backend) -> None:
    texels = random(6, 4, 4, 2).requires_grad_()
    found = cubemap(backend, [texels], torch.zeros(0, 3, dtype=torch.float64))
    assert found.shape == (0, 2)
    found.sum().backward()
    assert texels.grad is not None
    assert (texels.grad == 0).all()


def test_no_level_is_refused(backend: Backend) -> None:
    with pytest.raises(ValueError, match="at least one level"):
        cubemap(backend, [], directions(1))


def test_any_number_of_threads_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    from isolux.backends.cpu import cubemap as kernels

    monkeypatch.setattr(kernels, "_CHUNK", 64)
    backend = backends.select("cpu")
    results = []
    for count in (1, 3):
        pool.set_threads(count)
        levels = [random(6, s, s, 3, dtype=torch.float32).requires_grad_() for s in (16, 8, 4)]
        look = directions(3000).float().requires_grad_()
        level = (2 * random(3000, dtype=torch.float32)).requires_grad_()
        found = cubemap(backend, levels, look, level)
        gradients = torch.autograd.grad(found.square().sum(), (look, level, *levels))
        results.append((found.detach(), *gradients))
    pool.set_threads(None)
    for one, many in zip(*results, strict=True):
        assert torch.equal(one, many)


def test_fixed_point_sums_do_not_depend_on_the_order_of_threads() -> None:
    levels = [random(6, s, s, 3, dtype=torch.float32).requires_grad_() for s in (8, 4)]
    look, level = directions(3000).float(), 2 * random(3000, dtype=torch.float32)
    found = []
    torch.use_deterministic_algorithms(True)
    try:
        for backwards in (False, True):
            out = cubemap(emulated(backwards), levels, look, level)
            found.append(torch.autograd.grad(out.square().sum(), levels))
    finally:
        torch.use_deterministic_algorithms(False)
        use_host(None)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    out = cubemap(backends.cpu(), levels, look, level)
    torch.testing.assert_close(found[0], torch.autograd.grad(out.square().sum(), levels))


def test_on_a_device_a_direction_too_short_to_divide_by_is_none() -> None:
    texels = random(6, 4, 4, 3, dtype=torch.float32).requires_grad_()
    look = torch.tensor([[1e-42, 0.0, 0.0], [0.0, -1e-40, 1e-40]], requires_grad=True)
    try:
        out = cubemap(emulated(), [texels], look)
        gradients = torch.autograd.grad(out.sum(), (texels, look))
    finally:
        use_host(None)
    assert (out == 0).all()
    assert all((gradient == 0).all() for gradient in gradients)
