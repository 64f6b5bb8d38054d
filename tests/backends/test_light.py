"""Laws of filtered light, for each backend, and of the split-sum table."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from isolux import backends
from isolux.backends import Backend, cubes
from isolux.backends.cpu import pool
from isolux.backends.light import SolidAngles, fg_lut, irradiance, lobe_cutoff, prefilter

BOTH: list[SolidAngles] = ["exact", "nvdiffrec"]


def random_cube(size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(6, size, size, 3, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("solid_angles", BOTH)
@pytest.mark.parametrize("roughness", [0.08, 0.3, 1.0])
def test_a_white_furnace_stays_white(
    backend: Backend, roughness: float, solid_angles: SolidAngles
) -> None:
    white = torch.full((6, 8, 8, 3), 0.7, dtype=torch.float64)
    torch.testing.assert_close(prefilter(backend, white, roughness, solid_angles), white)


def test_diffuse_light_of_a_white_furnace_is_white(backend: Backend) -> None:
    white = torch.full((6, 8, 8, 3), 0.7, dtype=torch.float64)
    torch.testing.assert_close(irradiance(backend, white), white)


def test_nvdiffrec_makes_it_too_bright_as_measured(backend: Backend) -> None:
    found = irradiance(backend, torch.ones(6, 16, 16, 3), "nvdiffrec")
    assert float(found.mean()) == pytest.approx(1.081, abs=1e-3)
    assert float(found.min()) == pytest.approx(1.046, abs=2e-3)
    assert float(found.max()) == pytest.approx(1.116, abs=2e-3)
    faces = found.mean((1, 2, 3)).tolist()
    assert faces == pytest.approx([1.091, 1.070, 1.060, 1.101, 1.081, 1.081], abs=1.5e-3)


def test_a_linear_sky_loses_a_third(backend: Backend) -> None:
    """The cosine lobe shrinks the first spherical harmonics by 2/3 (Ramamoorthi 2001)."""
    sky = cubes.texel_directions(16)
    torch.testing.assert_close(irradiance(backend, sky), sky * 2 / 3, atol=4e-3, rtol=0)


@pytest.mark.parametrize(
    ("roughness", "cosine"),
    [
        (0.08, 0.999767),
        (0.185, 0.993212),
        (0.29, 0.955017),
        (0.395, 0.805819),
        (0.5, 0.446214),
        (1.0, 0.015706),
    ],
)
def test_lobes_end_where_nvdiffrec_ends_them(roughness: float, cosine: float) -> None:
    assert lobe_cutoff(roughness) == pytest.approx(cosine, abs=2e-6)


@pytest.mark.parametrize("solid_angles", BOTH)
@pytest.mark.parametrize(("size", "roughness"), [(4, 0.5), (8, 0.29), (12, 0.7)])
def test_it_is_the_sum_that_defines_it(
    backend: Backend, size: int, roughness: float, solid_angles: SolidAngles
) -> None:
    look = cubes.texel_directions(size).reshape(-1, 3)
    area = (cubes.solid_angles if solid_angles == "exact" else cubes.nvdiffrec_areas)(size)
    cosine = look @ look.T
    half = torch.nn.functional.normalize(look[:, None] + look[None], dim=-1)
    v_h = (half * look[:, None]).sum(-1)
    square = roughness**4
    density = square / (np.pi * (v_h**2 * (square - 1) + 1) ** 2)
    weight = cosine.clamp(min=0) * density / 4 * area.expand(6, -1, -1).reshape(-1)
    weight = torch.where(cosine >= lobe_cutoff(roughness), weight, 0.0)
    weight = weight / weight.sum(1, keepdim=True)
    cube = random_cube(size)
    expected = (weight @ cube.reshape(-1, 3)).reshape(cube.shape)
    torch.testing.assert_close(prefilter(backend, cube, roughness, solid_angles), expected)


def test_a_mirror_shows_the_cube_itself(backend: Backend) -> None:
    cube = random_cube(8)
    torch.testing.assert_close(prefilter(backend, cube, 0.03), cube)


def test_light_turns_with_the_filter(backend: Backend) -> None:
    """A half turn about y takes +x to -x and +z to -z, and turns the pictures of +-y."""
    cube = random_cube(8)
    turned = torch.stack([cube[1], cube[0], *cube[2:4].flip(1, 2), cube[5], cube[4]])
    found = prefilter(backend, cube, 0.4)
    expected = torch.stack([found[1], found[0], *found[2:4].flip(1, 2), found[5], found[4]])
    torch.testing.assert_close(prefilter(backend, turned, 0.4), expected)


def test_gradients_match_finite_differences(backend: Backend) -> None:
    cube = random_cube(2).requires_grad_()
    assert gradcheck(lambda cube: prefilter(backend, cube, 0.6), (cube,))
    assert gradcheck(lambda cube: irradiance(backend, cube, "nvdiffrec"), (cube,))


def test_mistakes_are_named(backend: Backend) -> None:
    with pytest.raises(ValueError, match="roughness must lie"):
        prefilter(backend, random_cube(2), 0.0)
    with pytest.raises(ValueError, match="reduce the cube first"):
        irradiance(backend, torch.zeros(6, 48, 48, 3))


def test_any_number_of_threads_gives_the_same_bits() -> None:
    backend = backends.select("cpu")
    found = []
    for count in (1, 3):
        pool.set_threads(count)
        cube = random_cube(16, torch.float32).requires_grad_()
        out = prefilter(backend, cube, 0.4)
        found.append((out.detach(), *torch.autograd.grad(out.square().sum(), cube)))
    pool.set_threads(None)
    for one, many in zip(*found, strict=True):
        assert torch.equal(one, many)


def monte_carlo(roughness: float, n_dot_v: float, count: int = 400_000) -> tuple[float, float]:
    """The split-sum integral with microfacet normals drawn at random, as it is written."""
    rng = np.random.default_rng(0)
    alpha = roughness**2
    share, azimuth = rng.random(count), 2 * np.pi * rng.random(count)
    cos_h = np.sqrt((1 - share) / (1 + (alpha**2 - 1) * share))
    sin_h = np.sqrt(1 - cos_h**2)
    half = np.stack([sin_h * np.cos(azimuth), sin_h * np.sin(azimuth), cos_h], -1)
    view = np.array([np.sqrt(1 - n_dot_v**2), 0.0, n_dot_v])
    v_h = half @ view
    n_l = (2 * v_h[:, None] * half - view)[:, 2]
    ok = (n_l > 0) & (v_h > 0)
    v_h, n_l, cos_h = v_h[ok], n_l[ok], cos_h[ok]

    def smith(cosine: np.ndarray | float) -> np.ndarray | float:
        return (np.sqrt(1 + alpha**2 * (1 / cosine**2 - 1)) - 1) / 2

    shadowing = 1 / (1 + smith(n_l) + smith(n_dot_v))  # height-correlated
    visible = shadowing * v_h / (cos_h * n_dot_v)
    fresnel = (1 - v_h) ** 5
    return (
        float(((1 - fresnel) * visible).sum() / count),
        float((fresnel * visible).sum() / count),
    )


@pytest.mark.parametrize("row", [20, 80, 128, 250])
@pytest.mark.parametrize("column", [10, 100, 240])
def test_the_table_is_the_split_sum_integral(row: int, column: int) -> None:
    table = fg_lut(256)
    expected = monte_carlo((row + 0.5) / 256, (column + 0.5) / 256)
    assert table[row, column].tolist() == pytest.approx(expected, abs=2.5e-3)


def test_the_table_keeps_energy_and_knows_the_mirror() -> None:
    table = fg_lut(64)
    assert table.shape == (64, 64, 2)
    assert table.min() >= 0
    assert table.sum(-1).max() <= 1 + 2e-3
    cosine = (torch.arange(64) + 0.5) / 64
    mirror = torch.stack([1 - (1 - cosine) ** 5, (1 - cosine) ** 5], -1)
    torch.testing.assert_close(table[1, 4:], mirror[4:], atol=4e-3, rtol=0)
