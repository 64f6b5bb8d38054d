"""Normals to shade with: bumps, back sides, grazing views."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from isolux.backends import Backend
from isolux.geometry.cameras import Cameras
from isolux.geometry.mesh import Mesh
from isolux.render.gbuffer import GBuffer, Surface, draw_surface
from isolux.render.light import EnvironmentLight, cube_from_latlong
from isolux.render.material import MaterialSample
from isolux.render.shade import shade, shading_normal

SurfaceOf = Callable[[Backend, Mesh], Surface]
CamerasAt = Callable[..., Cameras]
FRONT = torch.tensor([[0.0, 0.0, 3.0]])


def seen(backend: Backend, mesh: Mesh, surface_of: SurfaceOf, cameras: Cameras) -> GBuffer:
    return draw_surface(backend, surface_of(backend, mesh), cameras, 0.1, 100.0)


def tilt(gbuffer: GBuffer, x: float, y: float) -> Tensor:
    return torch.tensor([x, y, 1.0]).expand(len(gbuffer.pixels), 3).contiguous()


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_bump_leans_along_growing_u_and_up_the_picture(
    mirrored: bool, backend: Backend, quad: Callable[..., Mesh], surface_of: SurfaceOf,
    cameras_at: CamerasAt,
) -> None:  # fmt: skip
    """glTF: red along u, green against v (the texture's rows go down)."""
    gbuffer = seen(backend, quad(mirrored), surface_of, cameras_at(FRONT))
    along_u, up = (
        shading_normal(gbuffer, tilt(gbuffer, *xy)).mean(0) for xy in ((0.5, 0.0), (0.0, 0.5))
    )
    lean = 0.5 / 1.25**0.5
    sign = -1.0 if mirrored else 1.0
    torch.testing.assert_close(along_u, torch.tensor([sign * lean, 0.0, 2 * lean]))
    torch.testing.assert_close(up, torch.tensor([0.0, lean, 2 * lean]))


def test_a_mirrored_chart_shows_the_same_bump_when_its_picture_is_mirrored(
    backend: Backend, quad: Callable[..., Mesh], surface_of: SurfaceOf, cameras_at: CamerasAt
) -> None:
    """The same relief in both charts shades alike: x turns over with u, y does not."""
    gbuffers = [
        seen(backend, quad(mirrored), surface_of, cameras_at(FRONT))
        for mirrored in (False, True)
    ]
    plain = shading_normal(gbuffers[0], tilt(gbuffers[0], 0.3, 0.2))
    mirror = shading_normal(gbuffers[1], tilt(gbuffers[1], -0.3, 0.2))
    torch.testing.assert_close(plain, mirror)


def test_a_flat_map_changes_nothing(
    backend: Backend, quad: Callable[..., Mesh], surface_of: SurfaceOf, cameras_at: CamerasAt
) -> None:
    gbuffer = seen(backend, quad(), surface_of, cameras_at(FRONT))
    flat = shading_normal(gbuffer, tilt(gbuffer, 0.0, 0.0))
    torch.testing.assert_close(flat, shading_normal(gbuffer, None))


def test_normals_face_the_viewer(
    backend: Backend, sphere: Mesh, surface_of: SurfaceOf, cameras_at: CamerasAt
) -> None:
    """From outside, and from inside, where the back of every face is seen."""
    for place in ([0.0, 0.0, 3.0], [0.2, 0.1, 0.3]):
        cameras = cameras_at(torch.tensor([place]))
        gbuffer = seen(backend, sphere, surface_of, cameras)
        normal = shading_normal(gbuffer, None)
        torch.testing.assert_close(normal.norm(dim=-1), torch.ones(len(normal)))
        assert bool(((normal * gbuffer.to_camera).sum(-1) > 0).all())
        outward = (normal * gbuffer.position).sum(-1)
        assert bool((outward > 0).all()) == (place[2] == 3.0)


def test_normals_are_those_of_the_sphere(
    backend: Backend, sphere: Mesh, surface_of: SurfaceOf, cameras_at: CamerasAt
) -> None:
    gbuffer = seen(backend, sphere, surface_of, cameras_at(FRONT))
    facing = (gbuffer.to_camera * gbuffer.position).sum(-1) > 0.3
    normal = shading_normal(gbuffer, None)[facing]
    true = torch.nn.functional.normalize(gbuffer.position[facing], dim=-1)
    assert (normal - true).norm(dim=-1).max() < 0.02


def test_a_mirror_shows_what_is_behind_the_viewer(
    backend: Backend, quad: Callable[..., Mesh], surface_of: SurfaceOf, cameras_at: CamerasAt
) -> None:
    """A smooth metal square that faces +z mirrors +z: red there, blue on the other side."""
    map_ = torch.zeros(16, 32, 3)
    map_[:, :8, 0] = map_[:, 24:, 0] = 1.0  # the map's middle looks to -z
    map_[:, 8:24, 2] = 1.0
    light = EnvironmentLight(cube_from_latlong(map_, 32), False).maps(backend)
    gbuffer = seen(backend, quad(), surface_of, cameras_at(FRONT))
    count = len(gbuffer.pixels)
    metal = MaterialSample(
        torch.ones(count, 3), torch.tensor([0.0, 0.08, 1.0]).repeat(count, 1)
    )
    colour = shade(backend, gbuffer, metal, light)
    assert bool((colour[:, 0] > 0.9).all())
    assert bool((colour[:, 2] < 0.05).all())


def test_no_pixels(backend: Backend, surface_of: SurfaceOf, cameras_at: CamerasAt) -> None:
    empty = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int32))
    gbuffer = seen(backend, empty, surface_of, cameras_at(FRONT))
    light = EnvironmentLight(EnvironmentLight.constant(16, 1.0), False).maps(backend)
    nothing = MaterialSample(torch.zeros(0, 3), torch.zeros(0, 3))
    assert shade(backend, gbuffer, nothing, light).shape == (0, 3)
