"""Laws of whole pictures."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from isolux.backends import Backend
from isolux.geometry.cameras import Cameras
from isolux.geometry.mesh import Mesh
from isolux.render.draw import Lens, Picture, draw, photograph
from isolux.render.gbuffer import Surface
from isolux.render.light import EnvironmentLight, cube_from_latlong

FRONT = torch.tensor([[0.0, 0.0, 3.0]])
AROUND = torch.tensor([[0.0, 0.3, 3.0], [2.0, -1.0, 1.5]])
SurfaceOf = Callable[[Backend, Mesh], Surface]
CamerasAt = Callable[..., Cameras]


def grey(radiance: float = 1.0, learn: bool = False) -> EnvironmentLight:
    return EnvironmentLight(EnvironmentLight.constant(16, radiance), learn)


def inside(picture: Picture) -> Tensor:
    """Colours of fully covered pixels."""
    return picture.rgb[(picture.alpha > 0.999)[..., 0]]


@pytest.mark.parametrize("radiance", [1.0, 0.3])
def test_white_furnace(
    radiance: float,
    backend: Backend,
    sphere: Mesh,
    surface_of: SurfaceOf,
    cameras_at: CamerasAt,
    uniform: type,
) -> None:
    """A white rough body in a uniform light gives back what falls on it, and what its coat of
    4 % mirrors besides (the split sum does not take that from the diffuse part)."""
    light = grey(radiance).maps(backend)
    picture = draw(
        backend, surface_of(backend, sphere), uniform(), light, cameras_at(AROUND), Lens()
    )
    colour = inside(picture) / radiance
    assert len(colour) > 500
    assert bool((colour > 0.995).all())
    assert bool((colour < 1.1).all())


@pytest.mark.parametrize("roughness", [0.1, 0.5, 1.0])
def test_a_white_metal_in_the_furnace_never_gains(
    roughness: float,
    backend: Backend,
    sphere: Mesh,
    surface_of: SurfaceOf,
    cameras_at: CamerasAt,
    uniform: type,
) -> None:
    """Single scattering loses what bounces twice: the more the rougher."""
    light, material = grey().maps(backend), uniform(orm=(0.0, roughness, 1.0))
    picture = draw(
        backend, surface_of(backend, sphere), material, light, cameras_at(FRONT), Lens()
    )
    colour = inside(picture)
    assert bool((colour < 1.01).all())
    assert bool((colour > {0.1: 0.95, 0.5: 0.8, 1.0: 0.3}[roughness]).all())


def test_occlusion_darkens_all_of_it(
    backend: Backend, sphere: Mesh, surface_of: SurfaceOf, cameras_at: CamerasAt, uniform: type
) -> None:
    light, surface = grey().maps(backend), surface_of(backend, sphere)
    plain, dark = (
        draw(backend, surface, uniform(orm=(o, 0.5, 0.2)), light, cameras_at(FRONT), Lens()).rgb
        for o in (0.0, 0.75)
    )
    torch.testing.assert_close(dark, 0.25 * plain)


def uneven_light() -> Tensor:
    """A lat-long map with a bright spot and a gradient."""
    v, u = torch.meshgrid(torch.linspace(0, 1, 16), torch.linspace(0, 1, 32), indexing="ij")
    spot = 8.0 * torch.exp(-60 * ((u - 0.35) ** 2 + (v - 0.3) ** 2))
    return torch.stack([spot + v, spot + 0.5, spot + 1 - v], dim=-1)


def turned(cameras: Cameras, turn: Tensor) -> Cameras:
    pose = cameras.world_from_camera.clone()
    pose[:, :3] = turn @ pose[:, :3]
    return Cameras(pose, cameras.focal_px, cameras.centre_px, cameras.height, cameras.width)


def test_everything_turned_together_looks_the_same(
    backend: Backend, sphere: Mesh, surface_of: SurfaceOf, cameras_at: CamerasAt, uniform: type
) -> None:
    """Body, light and cameras by 90 degrees about y: a lat-long map moves by a quarter."""
    turn = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])  # +z to +x
    body = Mesh(sphere.vertices * torch.tensor([0.6, 0.9, 0.4]), sphere.faces)
    material, map_ = uniform((0.8, 0.4, 0.2), (0.0, 0.3, 0.5)), uneven_light()
    cameras = cameras_at(AROUND)
    # The middle column looks to -z, columns grow towards +x: +z to +x is a quarter back.
    moved = map_.roll(-8, dims=1)
    pictures = []
    for mesh, light, views in (
        (body, map_, cameras),
        (Mesh(body.vertices @ turn.T, body.faces), moved, turned(cameras, turn)),
        (body, moved, cameras),  # the light alone
    ):
        maps = EnvironmentLight(cube_from_latlong(light, 32), False).maps(backend)
        pictures.append(draw(backend, surface_of(backend, mesh), material, maps, views, Lens()))
    torch.testing.assert_close(pictures[0].alpha, pictures[1].alpha, rtol=0, atol=1e-4)
    torch.testing.assert_close(pictures[0].rgb, pictures[1].rgb, rtol=0.01, atol=0.01)
    assert (pictures[0].rgb - pictures[2].rgb).abs().max() > 0.1


def test_a_light_in_camera_space_turns_with_the_camera(
    backend: Backend, sphere: Mesh, surface_of: SurfaceOf, cameras_at: CamerasAt, uniform: type
) -> None:
    """A sphere looks the same from everywhere then, and not otherwise."""
    maps = EnvironmentLight(cube_from_latlong(uneven_light(), 32), False).maps(backend)
    cameras = cameras_at(torch.tensor([[0.0, 0.0, 3.0], [3.0, 0.0, 0.0]]))
    surface, material = surface_of(backend, sphere), uniform(orm=(0.0, 0.2, 1.0))
    fixed, with_camera = (
        draw(backend, surface, material, maps, cameras, Lens(light_in_camera_space=flag)).rgb
        for flag in (False, True)
    )
    assert (with_camera[0] - with_camera[1]).abs().max() < 0.02
    assert (fixed[0] - fixed[1]).abs().max() > 0.1


def test_coverage_grows_with_the_body_as_its_derivative_says(
    backend: Backend, sphere: Mesh, surface_of: SurfaceOf, cameras_at: CamerasAt, uniform: type
) -> None:
    """d(area) / d(scale), from the silhouettes' gradients and from the circle's area."""
    size, light, material = 48, grey().maps(backend), uniform()
    cameras = cameras_at(torch.tensor([[0.0, 0.0, 6.0]]), size, 1.5)

    def covered(scale: Tensor) -> Tensor:
        body = surface_of(backend, Mesh(sphere.vertices * scale, sphere.faces))
        return draw(backend, body, material, light, cameras, Lens()).alpha.sum()

    def disc(scale: float) -> float:
        """Pixels of a sphere's outline: sin, not tan, of the angle that it fills."""
        tan = scale / (36.0 - scale**2) ** 0.5
        return torch.pi * (1.5 * size * tan) ** 2

    slopes, areas = [], []
    for step in range(8):  # averaged over places of the outline on the pixel grid
        scale = torch.tensor(0.9 + 0.02 * step, requires_grad=True)
        area = covered(scale)
        slopes.append(float(torch.autograd.grad(area, scale)[0]))
        areas.append(float(area.detach()))
    middle = 0.97
    expected = (disc(middle + 0.01) - disc(middle - 0.01)) / 0.02
    assert sum(areas) / 8 == pytest.approx(disc(middle), rel=0.03)
    assert sum(slopes) / 8 == pytest.approx(expected, rel=0.15)


def test_backgrounds_show_where_nothing_is(
    backend: Backend, sphere: Mesh, surface_of: SurfaceOf, cameras_at: CamerasAt, uniform: type
) -> None:
    light, surface, cameras = (
        grey().maps(backend),
        surface_of(backend, sphere),
        cameras_at(FRONT),
    )
    behind = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    over = draw(backend, surface, uniform(), light, cameras, Lens(), behind)
    black = draw(backend, surface, uniform(), light, cameras, Lens())
    outside = (over.alpha == 0)[..., 0]
    assert torch.equal(over.rgb[outside], behind[outside])
    assert bool((black.rgb[outside] == 0).all())
    assert torch.equal(over.alpha, black.alpha)


def test_nothing_to_draw(
    backend: Backend, surface_of: SurfaceOf, cameras_at: CamerasAt, uniform: type
) -> None:
    """No faces, and no cameras."""
    empty = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int32))
    light, behind = grey(learn=True), torch.full((1, 32, 32, 3), 0.25)
    maps = light.maps(backend)
    picture = draw(
        backend, surface_of(backend, empty), uniform(), maps, cameras_at(FRONT), Lens(), behind
    )
    assert torch.equal(picture.rgb, behind)
    assert not picture.alpha.any()
    none = cameras_at(torch.zeros(0, 3))
    picture = draw(backend, surface_of(backend, empty), uniform(), maps, none, Lens())
    assert picture.rgb.shape == (0, 32, 32, 3)


def test_gradients_reach_everything(
    backend: Backend, sphere: Mesh, surface_of: SurfaceOf, cameras_at: CamerasAt, uniform: type
) -> None:
    light, vertices = grey(0.5, learn=True), sphere.vertices.clone().requires_grad_()
    surface = surface_of(backend, Mesh(vertices, sphere.faces))
    picture = draw(backend, surface, uniform(), light.maps(backend), cameras_at(AROUND), Lens())
    picture.rgb.square().sum().backward()
    for grad in (vertices.grad, light.base.grad):
        assert grad is not None
        assert bool(grad.isfinite().all())
        assert float(grad.abs().sum()) > 0


def test_a_photograph_takes_the_mean_over_a_pixel(
    backend: Backend,
    sphere: Mesh,
    surface_of: SurfaceOf,
    cameras_at: CamerasAt,
    uniform: type,
) -> None:
    """Of a white body in white light, colour is coverage, and that sums up to its area."""
    cameras, surface = cameras_at(FRONT).resized(12, 12), surface_of(backend, sphere)
    maps = grey(0.9).maps(backend)
    rgb, alpha = photograph(backend, surface, uniform(), maps, cameras, Lens())
    fine = draw(backend, surface, uniform(), maps, cameras.resized(384, 384), Lens()).alpha
    assert alpha.mean().item() == pytest.approx(fine.mean().item(), rel=0.005)
    assert 0.0 < alpha[alpha > 0.0].min() < 0.9
    torch.testing.assert_close(rgb, (0.9 * alpha).expand_as(rgb), atol=0.03, rtol=0.0)
