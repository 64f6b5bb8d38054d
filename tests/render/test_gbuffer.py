"""What stands at each covered pixel."""

from collections.abc import Callable

import torch

from isolux.backends import Backend
from isolux.geometry.cameras import Cameras
from isolux.geometry.mesh import Mesh
from isolux.render.gbuffer import Surface, compose, draw_surface

SurfaceOf = Callable[[Backend, Mesh], Surface]
CamerasAt = Callable[..., Cameras]
PLACES = torch.tensor([[0.0, 0.0, 3.0], [1.0, 2.0, 2.0]])


def test_positions_lie_on_their_pixels_rays(
    backend: Backend, sphere: Mesh, surface_of: SurfaceOf, cameras_at: CamerasAt
) -> None:
    cameras = cameras_at(PLACES)
    gbuffer = draw_surface(backend, surface_of(backend, sphere), cameras, 0.1, 100.0)
    inverse = torch.linalg.inv(cameras.world_from_camera)[gbuffer.view]
    here = (inverse[:, :3, :3] @ gbuffer.position[..., None])[..., 0] + inverse[:, :3, 3]
    pixel = here[:, :2] / here[:, 2:] * 32.0 + 16.0
    inside = gbuffer.pixels % (32 * 32)
    centre = torch.stack([inside % 32, inside // 32], -1) + 0.5
    torch.testing.assert_close(pixel, centre, rtol=0, atol=1e-3)
    assert gbuffer.view.tolist() == (gbuffer.pixels // 1024).tolist()
    assert bool((gbuffer.position.norm(dim=-1) > 0.97).all())
    assert bool((gbuffer.position.norm(dim=-1) < 1.0001).all())


def test_directions_are_unit_and_lead_to_the_camera(
    backend: Backend, sphere: Mesh, surface_of: SurfaceOf, cameras_at: CamerasAt
) -> None:
    cameras = cameras_at(PLACES)
    gbuffer = draw_surface(backend, surface_of(backend, sphere), cameras, 0.1, 100.0)
    away = cameras.positions[gbuffer.view] - gbuffer.position
    distance = away.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(gbuffer.to_camera * distance, away)
    torch.testing.assert_close(gbuffer.face_normal.norm(dim=-1), torch.ones(len(away)))
    assert bool(((gbuffer.face_normal * away).sum(-1) > 0).all())  # a closed body's fronts


def test_texture_coordinates_and_how_they_change(
    backend: Backend, quad: Callable[..., Mesh], surface_of: SurfaceOf, cameras_at: CamerasAt
) -> None:
    """A square seen head on: derivatives are differences between pixels."""
    cameras = cameras_at(torch.tensor([[0.0, 0.0, 3.0]]))
    gbuffer = draw_surface(backend, surface_of(backend, quad()), cameras, 0.1, 100.0)
    assert gbuffer.texcoord is not None
    assert gbuffer.texcoord_da is not None
    x, y = gbuffer.position[:, 0], gbuffer.position[:, 1]
    expected = torch.stack([0.5 * (x + 1), 0.5 * (1 - y)], dim=-1)
    torch.testing.assert_close(gbuffer.texcoord, expected)
    step = 3.0 / 32 / 2  # world units a pixel at that distance, and half a texture a unit
    derivative = gbuffer.texcoord_da.mean(0)
    torch.testing.assert_close(
        derivative.abs(), torch.tensor([step, 0.0, 0.0, step]), rtol=1e-3, atol=1e-6
    )
    assert float(derivative[0]) > 0  # to the right, u grows


def test_near_and_far_planes_cut(
    backend: Backend, quad: Callable[..., Mesh], surface_of: SurfaceOf, cameras_at: CamerasAt
) -> None:
    surface, cameras = surface_of(backend, quad()), cameras_at(torch.tensor([[0.0, 0.0, 3.0]]))
    for near, far, count in ((0.1, 10.0, True), (3.5, 10.0, False), (0.1, 2.5, False)):
        assert bool(len(draw_surface(backend, surface, cameras, near, far).pixels)) == count


def test_the_layer_behind(
    backend: Backend, sphere: Mesh, surface_of: SurfaceOf, cameras_at: CamerasAt
) -> None:
    """The far side of a sphere, and nothing behind that."""
    cameras, surface = cameras_at(PLACES[:1]), surface_of(backend, sphere)
    first = draw_surface(backend, surface, cameras, 0.1, 100.0)
    second = draw_surface(backend, surface, cameras, 0.1, 100.0, first.raster.depth)
    third = draw_surface(backend, surface, cameras, 0.1, 100.0, second.raster.depth)
    assert first.pixels.tolist() == second.pixels.tolist()
    assert bool((first.position[:, 2] > second.position[:, 2]).all())
    assert len(third.pixels) == 0


def test_composing_keeps_both_sides(
    backend: Backend, sphere: Mesh, surface_of: SurfaceOf, cameras_at: CamerasAt
) -> None:
    """Values inside, background outside, a mix of the two at silhouettes and only there."""
    gbuffer = draw_surface(backend, surface_of(backend, sphere), cameras_at(PLACES), 0.1, 100.0)
    values = torch.full((len(gbuffer.pixels), 1), 3.0)
    image = compose(backend, gbuffer, values, torch.ones(2, 32, 32, 1))
    assert float(image.min()) == 1.0
    assert float(image.max()) == 3.0
    mixed = ((image > 1.0) & (image < 3.0)).sum()
    assert 20 < int(mixed) < 250
