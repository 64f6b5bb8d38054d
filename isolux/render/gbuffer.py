"""What stands at each covered pixel: the surface as seen by the cameras.

Letters: v views, n vertices, f faces, p covered pixels (of all views, in order). Where sizes
must not depend on what is seen, p are all pixels, the covered ones first, and `GBuffer.covered`
tells them apart.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from isolux.backends import Backend
from isolux.backends.normals import vertex_normals
from isolux.backends.rasterize import (
    Raster,
    antialias,
    edge_adjacency,
    interpolate,
    rasterize,
    screen_derivatives,
)
from isolux.geometry.cameras import Cameras, clip_from_world

__all__ = ["GBuffer", "Surface", "compose", "draw_surface"]


@dataclass(frozen=True)
class Surface:
    """A mesh made ready for drawing: normals, adjacency, and texture frames if it has any."""

    vertices: Float[Tensor, "n 3"]
    faces: Int[Tensor, "f 3"]
    normals: Float[Tensor, "n 3"]  # unit, or zero where nothing defines one
    opposite: Int[Tensor, "f 3"]  # edge_adjacency of the faces
    uvs: Float[Tensor, "t 2"] | None = None
    uv_faces: Int[Tensor, "f 3"] | None = None
    tangents: Float[Tensor, "t 3"] | None = None  # along growing u, one per texture coordinate

    @staticmethod
    def of(
        backend: Backend,
        vertices: Float[Tensor, "n 3"],
        faces: Int[Tensor, "f 3"],
        opposite: Int[Tensor, "f 3"] | None = None,
    ) -> "Surface":
        """A surface without texture coordinates."""
        if opposite is None:
            opposite = edge_adjacency(backend, faces)
        return Surface(vertices, faces, vertex_normals(backend, vertices, faces), opposite)


@dataclass(frozen=True)
class GBuffer:
    """The nearest surface at each covered pixel, as flat lists over those pixels.

    In the rows that are not `covered` stands some point of the surface, finite, of no meaning.
    """

    surface: Surface
    raster: Raster
    clip: Float[Tensor, "v n 4"]
    pixels: Int[Tensor, " p"]  # index into views x rows x columns
    view: Int[Tensor, " p"]
    triangle: Int[Tensor, " p"]
    uv: Float[Tensor, "p 2"]  # weights of the triangle's corners 0 and 1
    position: Float[Tensor, "p 3"]  # world
    normal: Float[Tensor, "p 3"]  # interpolated, not unit
    face_normals: Float[Tensor, "f 3"]  # unit, one per triangle; no gradient
    camera: Float[Tensor, "v 3"]  # positions
    texcoord: Float[Tensor, "p 2"] | None = None
    texcoord_da: Float[Tensor, "p 4"] | None = None
    tangent: Float[Tensor, "p 3"] | None = None  # along growing u, not unit
    handedness: Float[Tensor, "p 1"] | None = None  # -1 where a chart is mirrored
    covered: Bool[Tensor, " p"] | None = None  # None: all rows are

    @property
    def face_normal(self) -> Float[Tensor, "p 3"]:
        """Unit normals of the triangles at the pixels."""
        return self.face_normals.index_select(0, self.triangle)

    @property
    def to_camera(self) -> Float[Tensor, "p 3"]:
        """Unit directions to the cameras."""
        away = self.camera.index_select(0, self.view) - self.position
        return functional.normalize(away, dim=-1)


def draw_surface(
    backend: Backend,
    surface: Surface,
    cameras: Cameras,
    near: float,
    far: float,
    behind: Float[Tensor, "v h w"] | None = None,
    all_pixels: bool = False,
) -> GBuffer:
    """Rasterise a surface and interpolate what shading needs.

    Args:
        backend: the operators.
        surface: zero faces give a G-buffer of zero pixels.
        cameras: the views.
        near: near plane, scene units.
        far: far plane, scene units.
        behind: depth of a layer already drawn; the nearest surface behind it is drawn.
        all_pixels: give every pixel a row, so that sizes are known beforehand and a device is
            not waited for. The covered ones come first, in the order that they have without
            it. Needs a face.
    """
    clip = _to_clip(surface.vertices, cameras, near, far)
    raster = rasterize(backend, clip, surface.faces, cameras.height, cameras.width, behind)
    flat = raster.triangle.reshape(-1)
    covered = None
    if all_pixels:
        pixels = (flat > 0).sort(descending=True, stable=True).indices
        triangle = flat.index_select(0, pixels) - 1
        covered = triangle >= 0
        # Spread over the faces: what they add to gradients is zero, but one after the other.
        spread = torch.arange(len(pixels), dtype=torch.int32, device=flat.device)
        triangle = torch.where(covered, triangle, spread % len(surface.faces))
    else:
        pixels = flat.nonzero().squeeze(-1)  # sync: the count is data-dependent
        triangle = flat.index_select(0, pixels) - 1
    uv = raster.uv.reshape(-1, 2).index_select(0, pixels)
    view = pixels // (cameras.height * cameras.width)
    attributes = torch.cat([surface.vertices, surface.normals], dim=-1)
    mixed = interpolate(backend, attributes, surface.faces, triangle, uv)
    position, normal = torch.split(mixed, 3, dim=-1)
    framed = {}
    if surface.uvs is not None and surface.uv_faces is not None:
        framed = _texture_frame(backend, surface, clip, raster, pixels, triangle, uv)
    return GBuffer(
        surface=surface,
        raster=raster,
        clip=clip,
        pixels=pixels,
        view=view,
        triangle=triangle,
        uv=uv,
        position=position,
        normal=normal,
        face_normals=_face_normals(surface),
        camera=cameras.positions,
        covered=covered,
        **framed,
    )


def compose(
    backend: Backend,
    gbuffer: GBuffer,
    values: Float[Tensor, "p c"],
    background: Float[Tensor, "v h w c"],
) -> Float[Tensor, "v h w c"]:
    """Lay pixel values over a background, silhouettes antialiased.

    Positions get the gradients of the silhouettes here; everything else of them comes through
    `values`.
    """
    shape = background.shape
    empty = background.reshape(-1, shape[-1])
    if gbuffer.covered is not None:
        under = empty.index_select(0, gbuffer.pixels)
        values = torch.where(gbuffer.covered[:, None], values, under)
    image = empty.index_copy(0, gbuffer.pixels, values)
    return antialias(
        backend,
        image.reshape(shape),
        gbuffer.raster,
        gbuffer.clip,
        gbuffer.surface.faces,
        gbuffer.surface.opposite,
    )


def _to_clip(
    vertices: Float[Tensor, "n 3"], cameras: Cameras, near: float, far: float
) -> Float[Tensor, "v n 4"]:
    matrix = clip_from_world(cameras, near, far)
    return vertices @ matrix[:, :, :3].transpose(1, 2) + matrix[:, None, :, 3]


def _face_normals(surface: Surface) -> Float[Tensor, "f 3"]:
    a, b, c = surface.vertices.detach()[surface.faces.long()].unbind(1)
    return functional.normalize(torch.linalg.cross(b - a, c - a, dim=-1), dim=-1, eps=1e-20)


def _texture_frame(
    backend: Backend,
    surface: Surface,
    clip: Float[Tensor, "v n 4"],
    raster: Raster,
    pixels: Int[Tensor, " p"],
    triangle: Int[Tensor, " p"],
    uv: Float[Tensor, "p 2"],
) -> dict[str, Tensor]:
    """Texture coordinates, their screen derivatives (no gradient), tangent and handedness."""
    assert surface.uvs is not None
    assert surface.uv_faces is not None
    with torch.no_grad():
        bary = screen_derivatives(backend, clip.detach(), surface.faces, raster, pixels)
        a, b, c = surface.uvs[surface.uv_faces.long()].unbind(1)  # [f, 2] each
        ac, bc = a - c, b - c
        # Rows run downwards in a texture: a chart seen from outside has negative area.
        area = ac[:, 0] * bc[:, 1] - ac[:, 1] * bc[:, 0]
        mirrored = torch.where(area > 0.0, -1.0, 1.0)[:, None]
        sides = torch.cat([ac, bc, mirrored], dim=-1).index_select(0, triangle)
        # d(uv) = d(u) (a - c) + d(v) (b - c), for each of the two screen directions; a column
        # at a time, as products of small matrices would cost ten times as much.
        along = torch.empty_like(bary)
        for axis in range(2):
            for screen in range(2):
                column = along[:, 2 * axis + screen]
                torch.mul(bary[:, screen], sides[:, axis], out=column)
                column.addcmul_(bary[:, 2 + screen], sides[:, 2 + axis])
        handedness = sides[:, 4:5]
    attributes = surface.uvs
    if surface.tangents is not None:
        attributes = torch.cat([attributes, surface.tangents], dim=-1)
    mixed = interpolate(backend, attributes, surface.uv_faces, triangle, uv)
    texcoord, tangent = torch.split(mixed, [2, mixed.shape[1] - 2], dim=-1)
    frame = {"texcoord": texcoord, "texcoord_da": along}
    if surface.tangents is not None:
        frame |= {"tangent": tangent, "handedness": handedness}
    return frame
