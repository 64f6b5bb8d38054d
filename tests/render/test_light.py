"""Lat-long maps, cube maps, and the way between them."""

import torch

from isolux.backends import reference
from isolux.render.light import (
    EnvironmentLight,
    cube_directions,
    cube_from_latlong,
    latlong_directions,
    latlong_from_cube,
)


def test_orientation_of_lat_long_maps() -> None:
    """The centre looks to -z, columns grow towards +x, the top row is +y."""
    direction = latlong_directions(64, 128)
    torch.testing.assert_close(
        direction[31:33, 63:65].mean((0, 1)), torch.tensor([0.0, 0.0, -1.0]), atol=1e-2, rtol=0
    )
    torch.testing.assert_close(
        direction[31:33, 95:97].mean((0, 1)), torch.tensor([1.0, 0.0, 0.0]), atol=1e-2, rtol=0
    )
    assert (direction[0, :, 1] > 0.99).all()


def test_a_map_comes_back_from_the_cube() -> None:
    """A map that is linear in the direction is nearly linear within every texel."""
    direction = latlong_directions(64, 128)
    image = 1.0 + 0.5 * direction
    cube = cube_from_latlong(image, 32)
    torch.testing.assert_close(cube, 1.0 + 0.5 * cube_directions(32), atol=3e-3, rtol=0)
    back = latlong_from_cube(reference(), [cube], 64, 128)
    torch.testing.assert_close(back, image, atol=5e-3, rtol=0)


def test_white_furnace() -> None:
    """A constant environment stays constant at every roughness."""
    maps = EnvironmentLight(EnvironmentLight.constant(32, 0.7)).maps(reference())
    for level in (maps.diffuse, *maps.specular):
        torch.testing.assert_close(level, torch.full_like(level, 0.7), atol=2e-3, rtol=0)


def test_levels_follow_roughness() -> None:
    maps = EnvironmentLight(EnvironmentLight.constant(16, 1.0)).maps(reference())
    got = maps.level(torch.tensor([0.0, 0.08, 0.29, 0.5, 0.75, 1.0]))
    torch.testing.assert_close(got, torch.tensor([0.0, 0.0, 2.0, 4.0, 4.5, 5.0]))
