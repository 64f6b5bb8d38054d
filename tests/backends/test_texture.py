"""Laws of texture lookups, for each backend."""

import pytest
import torch
from emulated import emulated
from torch import Tensor
from torch.autograd import gradcheck

from isolux import backends
from isolux.backends import Backend
from isolux.backends.cpu import pool
from isolux.backends.cuda.launch import use_host
from isolux.backends.sample import Boundary, mip_chain, mipmapped, texture2d

BOUNDARIES: list[Boundary] = ["wrap", "clamp"]


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64).to(dtype)


def centres(height: int, width: int) -> Tensor:
    """(u, v) of all texel centres, row after row."""
    v, u = torch.meshgrid(
        (torch.arange(height, dtype=torch.float64) + 0.5) / height,
        (torch.arange(width, dtype=torch.float64) + 0.5) / width,
        indexing="ij",
    )
    return torch.stack([u, v], -1).reshape(-1, 2)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_texel_centre_gives_the_texel(backend: Backend, boundary: Boundary) -> None:
    """Also says where things are: u along the columns, v down the rows, from the top left."""
    texture = random(5, 3, 2)
    found = texture2d(backend, [texture], centres(5, 3), boundary=boundary)
    torch.testing.assert_close(found, texture.reshape(-1, 2))


@pytest.mark.parametrize("size", [(8, 8), (6, 10), (7, 5), (1, 6), (13, 1)])
def test_a_ramp_is_kept(backend: Backend, size: tuple[int, int]) -> None:
    """Lookups, mips of even extents and blends of them are exact on linear functions."""
    slope = torch.tensor([[2.0, 1.0], [-1.0, 3.0]], dtype=torch.float64)
    texture = (centres(*size) @ slope).reshape(*size, 2)
    uv = 0.5 + 0.2 * (random(40, 2) - 0.5)
    footprint = torch.zeros(40, 4, dtype=torch.float64)
    footprint[:, 0] = 2.0 * random(40, seed=1) / size[1]  # up to level 1
    found = texture2d(backend, mip_chain(texture)[:2], uv, footprint, "clamp")
    held = torch.where(torch.tensor(size).flip(0) == 1, 0.5, uv)
    if size[0] % 2 == size[1] % 2 == 0:
        torch.testing.assert_close(found, held @ slope)
    base = texture2d(backend, [texture], uv, None, "clamp")
    torch.testing.assert_close(base, held @ slope)


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 6), (13, 1), (9, 12)])
def test_mips_keep_the_mean(size: tuple[int, int]) -> None:
    chain = mip_chain(random(*size, 3))
    for level in chain:
        torch.testing.assert_close(level.mean((0, 1)), chain[0].mean((0, 1)))
    assert chain[-1].shape == (1, 1, 3)
    assert [level.shape[0] for level in chain[:2]] == [size[0], max(size[0] // 2, 1)]


def test_an_odd_extent_is_cut_in_equal_shares() -> None:
    five = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])[:, None, None]
    shares = torch.tensor([(1 + 2 + 0.5 * 4) / 2.5, (0.5 * 4 + 8 + 16) / 2.5])
    torch.testing.assert_close(mip_chain(five)[1].flatten(), shares)


@pytest.mark.parametrize(
    ("footprint", "level"),
    [
        ([0.0, 0.0, 0.0, 0.0], 0.0),  # no footprint
        ([1 / 16, 0.0, 0.0, 1 / 8], 0.0),  # a texel a pixel
        ([4 / 16, 0.0, 0.0, 1 / 8], 1.0),  # four texels by one count as two
        ([2 / 16, 2 / 16, -1 / 8, 1 / 8], 1.0),  # ... along the diagonals as well
        ([0.0, 32 / 16, 0.0, 0.0], 3.0),  # thinner than a sixteenth
        ([9.0, 0.0, 0.0, 9.0], 4.0),  # past the last level
        ([float("nan")] * 4, 0.0),
    ],
)
def test_the_level_is_log2_of_the_mean_axis(
    backend: Backend, footprint: list[float], level: float
) -> None:
    levels = [
        torch.full((max(8 >> k, 1), 16 >> k, 1), float(k), dtype=torch.float64)
        for k in range(5)
    ]
    uv_da = torch.tensor([footprint], dtype=torch.float64)
    found = texture2d(backend, levels, torch.full((1, 2), 0.3, dtype=torch.float64), uv_da)
    torch.testing.assert_close(found, torch.tensor([[level]], dtype=torch.float64))


def test_wrapping_repeats_and_clamping_goes_on(backend: Backend) -> None:
    texture, uv = random(4, 6, 2), random(50, 2)
    shifted = uv + torch.tensor([3.0, -2.0])
    torch.testing.assert_close(
        texture2d(backend, [texture], shifted), texture2d(backend, [texture], uv)
    )
    far = torch.tensor([[-3.0, 9.0], [0.01, 0.99]], dtype=torch.float64)
    found = texture2d(backend, [texture], far, boundary="clamp")
    torch.testing.assert_close(found, texture[-1:, 0].expand(2, 2))


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_it_is_continuous(backend: Backend, boundary: Boundary) -> None:
    texture = random(4, 6, 2)
    u = (torch.arange(-6, 20, dtype=torch.float64) * 0.5) / 6  # centres and edges of texels
    uv = torch.stack([u, torch.full_like(u, 0.4)], -1)
    step = torch.tensor([1e-9, 0.0], dtype=torch.float64)
    before, after = (
        texture2d(backend, [texture], uv + sign * step, boundary=boundary) for sign in (-1, 1)
    )
    torch.testing.assert_close(before, after, atol=1e-7, rtol=0)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_gradients_match_finite_differences(backend: Backend, boundary: Boundary) -> None:
    levels = [level.requires_grad_() for level in mip_chain(random(5, 3, 2))]
    uv = (3.0 * random(6, 2, seed=2) - 1.0).requires_grad_()
    footprint = 0.6 * random(6, 4, seed=3)
    assert gradcheck(
        lambda uv, *levels: texture2d(backend, levels, uv, footprint, boundary), (uv, *levels)
    )
    assert gradcheck(
        lambda uv, base: texture2d(backend, [base], uv, None, boundary), (uv, levels[0])
    )


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 6), (13, 1), (9, 12), (6, 5), (1, 1)])
def test_a_mipmapped_lookup_is_one_in_the_chain(
    backend: Backend, size: tuple[int, int]
) -> None:
    texture = random(*size, 3).requires_grad_()
    uv, footprint = random(60, 2, seed=1).requires_grad_(), 0.8 * random(60, 4, seed=2)
    above = random(60, 3, seed=4)
    found, expected = (
        (out, *torch.autograd.grad(out, (texture, uv), above))
        for out in (
            mipmapped(backend, texture, uv, footprint, "clamp"),
            texture2d(backends.reference(), mip_chain(texture), uv, footprint, "clamp"),
        )
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_mips_do_not_depend_on_the_number_of_threads() -> None:
    texture = random(300, 256, 9, dtype=torch.float32).requires_grad_()
    uv = random(5000, 2, seed=1, dtype=torch.float32)
    footprint = 0.02 * random(5000, 4, seed=2, dtype=torch.float32)
    found = []
    try:
        for threads in (1, 3):
            pool.set_threads(threads)
            out = mipmapped(backends.cpu(), texture, uv, footprint, "clamp")
            found.append((out, *torch.autograd.grad(out.square().sum(), texture)))
    finally:
        pool.set_threads(None)
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_no_points_give_no_rows_and_zero_gradients(backend: Backend) -> None:
    levels = [level.requires_grad_() for level in mip_chain(random(4, 4, 3))]
    uv = torch.zeros(0, 2, dtype=torch.float64, requires_grad=True)
    found = texture2d(backend, levels, uv, torch.zeros(0, 4, dtype=torch.float64))
    assert found.shape == (0, 3)
    found.sum().backward()
    assert all((level.grad == 0).all() for level in levels if level.grad is not None)


def test_a_bad_coordinate_is_finite_and_has_no_gradient(backend: Backend) -> None:
    bad = torch.tensor([[float("nan"), 0.5], [0.5, float("inf")]], requires_grad=True)
    found = texture2d(backend, [random(4, 4, 1, dtype=torch.float32)], bad)
    assert found.isfinite().all()
    (gradient,) = torch.autograd.grad(found.sum(), bad)
    assert gradient[0, 0] == 0
    assert gradient[1, 1] == 0


def test_no_level_is_refused(backend: Backend) -> None:
    with pytest.raises(ValueError, match="at least one level"):
        texture2d(backend, [], random(1, 2))


def test_any_number_of_threads_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    from isolux.backends.cpu import texture2d as kernels

    monkeypatch.setattr(kernels, "_CHUNK", 64)
    monkeypatch.setattr(kernels, "_BAND", 64)
    backend = backends.select("cpu")
    results = []
    for count in (1, 3):
        pool.set_threads(count)
        levels = [t.requires_grad_() for t in mip_chain(random(40, 30, 3, dtype=torch.float32))]
        uv = random(2000, 2, dtype=torch.float32).requires_grad_()
        footprint = 0.2 * random(2000, 4, seed=1, dtype=torch.float32)
        found = texture2d(backend, levels, uv, footprint)
        gradients = torch.autograd.grad(found.square().sum(), (uv, *levels))
        results.append((found.detach(), *gradients))
    pool.set_threads(None)
    for one, many in zip(*results, strict=True):
        assert torch.equal(one, many)


def _backwards_and_forwards(deterministic: bool) -> list[tuple[Tensor, ...]]:
    """Gradients to texture and uv, by two orders of the threads."""
    torch.use_deterministic_algorithms(deterministic)
    try:
        found = []
        for backwards in (False, True):
            texture = random(15, 12, 3, dtype=torch.float32).requires_grad_()
            uv = random(3000, 2, seed=1, dtype=torch.float32).requires_grad_()
            footprint = 0.3 * random(3000, 4, seed=2, dtype=torch.float32)
            out = mipmapped(emulated(backwards), texture, uv, footprint)
            found.append(torch.autograd.grad(out.square().sum(), (texture, uv)))
    finally:
        torch.use_deterministic_algorithms(False)
        use_host(None)
    return found


def test_sums_in_fixed_point_do_not_depend_on_the_order_of_threads() -> None:
    plain, fixed = _backwards_and_forwards(False), _backwards_and_forwards(True)
    assert not torch.equal(plain[0][0], plain[1][0])
    assert torch.equal(plain[0][1], plain[1][1])  # to uv: no threads share a sum
    assert torch.equal(fixed[0][0], fixed[1][0])
    torch.testing.assert_close(plain[0][0], fixed[0][0])
