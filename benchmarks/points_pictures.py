"""Pictures of points.py: a row for each shape, its truth, the peer's mesh, ours, their errors.

Letters: h w pixels, p covered ones, n points of a cloud.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from points_clouds import Sampling, cloud_of
from points_shapes import load
from points_systems import System, open3d_command, reconstruct, systems_for
from torch import Tensor
from torch.nn import functional

from isolux import backends
from isolux.geometry.cameras import Cameras, look_at
from isolux.geometry.mesh import Mesh, face_normals
from isolux.render.gbuffer import Surface, draw_surface
from isolux.render.picture import Panel, grid, heat_map, plain_picture, write_png

__all__ = ["Eye", "draw_all", "error_picture", "panels", "shaded", "splatted"]

_SIZE = 360  # pixels
_INK = 0.75  # brightness of the brightest point, to stand out from white
_WORST = 0.01  # the error that is drawn brightest, in longest sides
_SHOWN = (Sampling(10_000, 0.5), Sampling(100_000, 0.0))
_DEPTH = 8


@dataclass(frozen=True)
class Eye:
    """Where a picture is taken from."""

    place: tuple[float, float, float] = (0.9, 0.75, 1.35)
    target: tuple[float, float, float] = (0.0, 0.0, 0.0)
    up: tuple[float, float, float] = (0.0, 1.0, 0.0)
    focal: float = 1.6  # in picture widths
    inward: bool = False  # leave out what turns its back, to look into a room from outside
    size: int = _SIZE  # pixels of an edge

    def camera(self) -> Cameras:
        """One square view."""
        pose = look_at(*(torch.tensor(v) for v in ([self.place], self.target, self.up)))
        return Cameras(
            pose,
            torch.full((1, 2), self.focal * self.size),
            torch.full((1, 2), 0.5 * self.size),
            self.size,
            self.size,
        )


def _pixels(mesh: Mesh, eye: Eye) -> tuple[Tensor, Tensor, Tensor]:
    """Which pixels [p] are covered, the surface's places [p, 3], and its light [p]."""
    backend = backends.select("cpu")
    vertices, faces = mesh.vertices.float(), mesh.faces.int()
    if eye.inward:
        toward = torch.tensor(eye.place) - vertices[faces[:, 0].long()]
        faces = faces[(face_normals(vertices, faces) * toward).sum(-1) > 0]
    surface = Surface.of(backend, vertices, faces)
    reach = float(torch.tensor(eye.place).norm()) + 10.0
    buffer = draw_surface(backend, surface, eye.camera(), 0.001 * reach, 100.0 * reach)
    normal = buffer.face_normal  # interpolated ones would hide sharp edges
    return buffer.pixels, buffer.position, _light(normal, buffer.to_camera)


def _light(normal: Tensor, to_camera: Tensor) -> Tensor:
    """Brightness [p] of surfaces of unit normals [p, 3], seen along unit vectors [p, 3]."""
    facing = (normal * to_camera).sum(-1)
    lamp = functional.normalize(torch.tensor([-0.3, 0.9, 0.5]), dim=0)
    return 0.12 + 0.6 * facing.abs() + 0.28 * (normal @ lamp).clamp_min(0.0)


def shaded(mesh: Mesh, eye: Eye) -> Tensor:
    """A grey picture [h, w, 3] of the mesh, lit from the eye and from above."""
    picture = torch.ones(eye.size**2, 3)
    if len(mesh.faces):
        pixels, _, light = _pixels(mesh, eye)
        picture[pixels] = light[:, None].clamp(0.0, 1.0).expand(-1, 3)
    return plain_picture(picture.reshape(eye.size, eye.size, 3))


def splatted(xyz: Tensor, normals: Tensor, eye: Eye, radius: int = 1) -> Tensor:
    """A grey picture [h, w, 3] of points [n, 3] as discs, those that turn their back left out.

    Args:
        xyz: places.
        normals: [n, 3], unit.
        eye: whence.
        radius: of a disc, in pixels.
    """
    camera, size, normals = eye.camera(), eye.size, normals.float()
    away = torch.tensor(eye.place) - xyz.float()
    toward = functional.normalize(away, dim=-1)
    front = ((normals * toward).sum(-1) > 0).nonzero().squeeze(-1)
    inverse = torch.linalg.inv(camera.world_from_camera[0])
    seen = xyz[front].float() @ inverse[:3, :3].T + inverse[:3, 3]
    place = (seen[:, :2] / seen[:, 2:] * camera.focal_px + camera.centre_px).floor().long()
    nearest = seen[:, 2].argsort(descending=True)  # the last one written stays
    place, front = place[nearest], front[nearest]
    light = _INK * _light(normals[front], toward[front]).clamp(0.0, 1.0)
    disc = torch.cartesian_prod(*2 * [torch.arange(-radius, radius + 1)]).reshape(-1, 2)
    disc = disc[disc.square().sum(-1) <= radius**2 + 1]
    spot = place[:, None] + disc
    inside = ((spot >= 0) & (spot < size)).all(-1)
    shade = light[:, None].expand(inside.shape)[inside].numpy()
    picture = np.ones((size, size), np.float32)
    x, y = spot[inside].T.numpy()
    picture[y, x] = shade
    return plain_picture(torch.from_numpy(picture)[..., None].expand(-1, -1, 3))


def error_picture(
    mesh: Mesh, eye: Eye, error: Callable[[Tensor], Tensor], worst: float = _WORST
) -> Tensor:
    """How far the surface is off where it is seen [h, w, 3]; white where nothing is."""
    picture = torch.full((eye.size**2, 3), 255, dtype=torch.uint8)
    if len(mesh.faces):
        pixels, position, _ = _pixels(mesh, eye)
        picture[pixels] = heat_map(error(position.double())[None], worst)[0]
    return picture.reshape(eye.size, eye.size, 3)


def panels(
    results: list[tuple[System, Mesh]],
    eye: Eye,
    error: Callable[[Tensor], Tensor],
    worst: float,
) -> list[Panel]:
    """Meshes, then their errors."""
    drawn = [Panel(system.name, shaded(mesh, eye)) for system, mesh in results]
    return drawn + [
        Panel(f"{system.name}, 0 to {worst:g}", error_picture(mesh, eye, error, worst))
        for system, mesh in results
    ]


def draw_all(args: argparse.Namespace, names: Sequence[str]) -> None:
    """Draw each shape once for each of the shown clouds, what fails left out."""
    for sampling in _SHOWN[: 1 if args.quick else None]:
        rows = []
        for name in names:
            sys.stderr.write(f"picture of {name}/{sampling.name} ...\n")
            rows.append(_row(name, sampling, args))
        path = Path(args.out, f"points_{sampling.name.replace('/', '_').replace('%', '')}.png")
        title = f"{sampling.points} points, noise {sampling.noise:g} % of the longest side"
        write_png(path, grid(rows, title=title))


def _row(name: str, sampling: Sampling, args: argparse.Namespace) -> list[Panel]:
    shape = load(name, args.data / "meshes" if args.data else None)
    cloud, results = cloud_of(shape, sampling), []
    for system in systems_for(sampling.points, 1.0, [_DEPTH])[:2]:
        try:
            mesh, _ = reconstruct(system, cloud, open3d_command(args.open3d))
        except RuntimeError as error:
            sys.stderr.write(f"  {system.name}: {error}\n")
            continue
        results.append((system, mesh))
    eye = Eye()
    truth = Panel(name, shaded(shape.mesh, eye))
    return [truth, *panels(results, eye, lambda p: shape.nearest(p)[0], _WORST)]
