"""The scene that ships as code: a horned ring with fins, its materials, and a sky.

One closed surface of genus 1 without hidden parts: a tube of varying thickness along a loop.
The thick part is painted and has three thin fins, the thin part is a metal handle with two
horns. Letters: a stations along the loop, b around the tube, h, w texels or pixels.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Int

from isolux.data.assets.textures import MeshAsset, TextureSet
from isolux.geometry.mesh import Mesh

__all__ = ["demo_asset", "demo_scene", "demo_sky"]

_FINS = (-1.05, 0.0, 1.05)  # where they stand around the tube, radians from the outside
_HORNS = (0.435, 0.565)  # where they stand along the loop, of [0, 1)
_LOOP = (0.52, 0.60)  # half axes of the loop, scene units


def demo_scene() -> tuple[MeshAsset, Float[torch.Tensor, "h w 3"]]:
    """The mesh with its material, and the probe that lights it. Always the same."""
    return demo_asset(), demo_sky()


def demo_asset(along: int = 224, around: int = 88, texels: int = 512) -> MeshAsset:
    """The horned ring, within [-1, 1] along each axis, y up.

    Args:
        along: stations along the loop.
        around: stations around the tube.
        texels: edge of the textures.
    """
    u = _spread(along, lambda t: 1.0 + 5.0 * _horn_weight(t) + 0.6 * _body_weight(t))
    v = _spread(around, lambda t: 1.0 + 2.5 * _fin_weight(2.0 * math.pi * t))
    position = _surface(u[:-1, None], v[None, :-1]).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(along), np.arange(around), indexing="ij")
    vertex = _quads(i, j, around, wrap=(along, around))
    texel = _quads(i, j, around + 1, wrap=None)
    uvs = np.stack(np.broadcast_arrays(u[:, None], 1.0 - v[None, :]), axis=-1).reshape(-1, 2)
    mesh = Mesh(
        torch.from_numpy(position.astype(np.float32)),
        torch.from_numpy(vertex.astype(np.int32)),
        torch.from_numpy(uvs.astype(np.float32)),
        torch.from_numpy(texel.astype(np.int32)),
    )
    return MeshAsset(mesh, _paint(texels), "demo")


def _spread(count: int, density: object) -> Float[np.ndarray, " a"]:
    """`count` intervals of [0, 1], shorter where the density is higher."""
    assert callable(density)
    fine = np.linspace(0.0, 1.0, 8193)
    mass = np.concatenate([[0.0], np.cumsum(density(0.5 * (fine[1:] + fine[:-1])))])
    return np.interp(np.linspace(0.0, mass[-1], count + 1), mass, fine)


def _quads(
    i: Int[np.ndarray, "a b"],
    j: Int[np.ndarray, "a b"],
    stride: int,
    wrap: tuple[int, int] | None,
) -> Int[np.ndarray, "f 3"]:
    """Two triangles for each cell of the grid, counter-clockwise seen from outside."""
    next_i, next_j = i + 1, j + 1
    if wrap is not None:
        next_i, next_j = next_i % wrap[0], next_j % wrap[1]
    a, b = i * stride + j, next_i * stride + j
    c, d = next_i * stride + next_j, i * stride + next_j
    return np.stack([a, b, c, a, c, d], axis=-1).reshape(-1, 3)


def _turn(difference: np.ndarray, period: float) -> np.ndarray:
    """The shortest way round a circle."""
    return np.asarray((difference + 0.5 * period) % period - 0.5 * period)


def _body_weight(t: np.ndarray) -> np.ndarray:
    """1 in the middle of the thick part, 0 on the handle."""
    return np.asarray(np.exp(-((_turn(t, 1.0) / 0.185) ** 4)))


def _horn_weight(t: np.ndarray) -> np.ndarray:
    return np.asarray(sum(np.exp(-((_turn(t - at, 1.0) / 0.016) ** 2)) for at in _HORNS))


def _fin_weight(angle: np.ndarray) -> np.ndarray:
    turned = [_turn(angle - at, 2.0 * math.pi) for at in _FINS]
    return np.asarray(sum(np.exp(-((d / 0.062) ** 4)) for d in turned))


def _fin_height(t: np.ndarray) -> np.ndarray:
    return np.asarray(0.15 * np.clip(1.0 - (_turn(t, 1.0) / 0.15) ** 2, 0.0, None) ** 0.75)


def _surface(u: np.ndarray, v: np.ndarray) -> Float[np.ndarray, "*shape 3"]:
    """Points at loop and tube coordinates in [0, 1]; u = 0 is the bottom, v = 0 outside."""
    phase, angle = 2.0 * math.pi * u, 2.0 * math.pi * v
    centre_x, centre_y = _LOOP[0] * np.sin(phase), -_LOOP[1] * np.cos(phase)
    normal = np.stack(np.broadcast_arrays(np.sin(phase) / _LOOP[0], -np.cos(phase) / _LOOP[1]))
    normal = normal / np.linalg.norm(normal, axis=0)  # of the loop, away from its middle
    radius = 0.085 + 0.29 * _body_weight(u) + _fin_height(u) * _fin_weight(angle)
    horn = 0.30 * np.exp(-((_turn(angle, 2.0 * math.pi) / 0.55) ** 2))
    radius = radius + horn * _horn_weight(u)
    out, side = radius * np.cos(angle), radius * np.sin(angle)
    x, y = (
        centre_x + out * normal[0],
        centre_y + out * normal[1] + 0.114,
    )  # in the middle of its box
    return 0.95 * np.stack(np.broadcast_arrays(x, y, side), axis=-1)


def _smooth_step(x: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t))


def _noise(points: Float[np.ndarray, "*shape 3"], cells: float) -> Float[np.ndarray, "*shape"]:
    """Smooth value noise in [0, 1] with `cells` cells a unit, from integer hashing."""
    scaled = points * cells
    cell = np.floor(scaled).astype(np.int64)
    inside = scaled - cell
    inside = inside * inside * (3.0 - 2.0 * inside)
    total = np.zeros(points.shape[:-1])
    for corner in np.ndindex(2, 2, 2):
        at = cell + np.array(corner)
        bits = (
            at[..., 0] * 374761393 + at[..., 1] * 668265263 + at[..., 2] * 2147483647
        ) & 0xFFFFFFFF
        bits = ((bits ^ (bits >> 13)) * 1274126177) & 0xFFFFFFFF
        value = ((bits ^ (bits >> 16)) & 0xFFFF) / 65535.0
        weight = np.where(np.array(corner) == 1, inside, 1.0 - inside).prod(axis=-1)
        total += weight * value
    return total


def _paint(texels: int) -> TextureSet:
    """Textures from the place on the surface and the position in space of each texel."""
    centre = (np.arange(texels) + 0.5) / texels
    u, v = np.meshgrid(centre, 1.0 - centre)
    place = _surface(u, v)
    cloud = 0.6 * _noise(place, 4.0) + 0.4 * _noise(place + 7.0, 9.0)

    # Enamel in two blues with cream tiles, rough where it is cream.
    waves = np.sin(2 * math.pi * 14 * u) * np.sin(2 * math.pi * 6 * v)
    tiles = _smooth_step(waves, -0.12, 0.12)[..., None]
    blue = np.array([0.03, 0.13, 0.38]) + cloud[..., None] * np.array([0.04, 0.20, 0.22])
    cream = np.array([0.72, 0.62, 0.42]) * (0.75 + 0.35 * cloud[..., None])
    albedo = blue + tiles * (cream - blue)
    rough = 0.28 + 0.42 * tiles[..., 0]
    metal = np.zeros_like(rough)

    def lay(
        weight: np.ndarray, colour: np.ndarray, roughness: np.ndarray, is_metal: float
    ) -> None:
        nonlocal albedo, rough, metal
        albedo = albedo + weight[..., None] * (colour - albedo)
        rough = rough + weight * (roughness - rough)
        metal = metal + weight * (is_metal - metal)

    fin = _smooth_step(_fin_weight(2 * math.pi * v) * _fin_height(u), 0.015, 0.05)
    stripes = _smooth_step(np.sin(2 * math.pi * 30 * u), -0.3, 0.3)[..., None]
    red = np.array([0.70, 0.11, 0.04]) * (0.7 + 0.5 * stripes)
    lay(fin, red, np.full_like(rough, 0.45), 0.0)
    handle = 1.0 - _smooth_step(_body_weight(u), 0.10, 0.22)
    gold = np.array([0.92, 0.66, 0.30]) * (0.85 + 0.15 * cloud[..., None])
    lay(handle, gold, 0.22 + 0.25 * cloud, 1.0)
    collar = np.exp(-(((np.abs(_turn(u, 1.0)) - 0.225) / 0.012) ** 4))
    lay(collar, np.array([0.04, 0.04, 0.045]), np.full_like(rough, 0.6), 0.0)
    lobe = np.exp(-((_turn(2 * math.pi * v, 2 * math.pi) / 0.9) ** 4))
    horn = _smooth_step(_horn_weight(u) * lobe, 0.25, 0.45)
    green = np.array([0.05, 0.42, 0.22]) * (0.6 + 0.8 * _noise(place, 14.0)[..., None])
    lay(horn, green, np.full_like(rough, 0.35), 0.0)

    orm = np.stack([np.zeros_like(rough), rough, metal], axis=-1)
    return TextureSet(
        torch.from_numpy(albedo.clip(0.0, 1.0).astype(np.float32)),
        torch.from_numpy(orm.clip(0.0, 1.0).astype(np.float32)),
    )


def demo_sky(height: int = 128) -> Float[torch.Tensor, "h w 3"]:
    """A lat-long sky: blue above, warm at the horizon, a soft sun, brown ground.

    Its mean radiance is near 0.6; the sun's is near 45.
    """
    theta = (np.arange(height) + 0.5) / height * math.pi
    phi = ((np.arange(2 * height) + 0.5) / height - 1.0) * math.pi
    theta, phi = np.meshgrid(theta, phi, indexing="ij")
    x, y = np.sin(theta) * np.sin(phi), np.cos(theta)
    z = -np.sin(theta) * np.cos(phi)
    direction = np.stack([x, y, z], axis=-1)
    up = np.clip(y, 0.0, 1.0)[..., None] ** 0.6
    sky = np.array([1.05, 0.92, 0.78]) * (1.0 - up) + np.array([0.22, 0.42, 0.85]) * up
    ground = np.array([0.30, 0.24, 0.18]) * (1.0 + 0.5 * y[..., None])
    image = ground + _smooth_step(y, -0.06, 0.06)[..., None] * (sky - ground)
    clouds = _smooth_step(_noise(direction * np.array([1.0, 2.5, 1.0]), 2.6), 0.5, 0.8)
    image += (clouds * np.clip(y, 0.0, None))[..., None] * 0.9
    for toward, width, colour in (
        ((0.55, 0.60, 0.58), 0.105, (36.0, 30.0, 22.0)),
        ((-0.80, 0.25, -0.35), 0.30, (1.1, 1.4, 2.2)),
    ):
        axis = np.array(toward) / np.linalg.norm(toward)
        away = np.arccos(np.clip(direction @ axis, -1.0, 1.0))
        image += np.exp(-((away / width) ** 4))[..., None] * np.array(colour)
    return torch.from_numpy((1.3 * image.clip(0.0, None)).astype(np.float32))
