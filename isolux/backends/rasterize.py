"""Drawing triangles: which one a pixel sees, what stands there, and soft silhouettes.

Letters: v views, n vertices, f faces, h and w rows and columns, p pixels of a flat list, c
channels. Clip space is OpenGL's with row 0 of the image at y/w = +1; a pixel's centre lies at
+0.5. The weights `uv` belong to a triangle's corners 0 and 1, the rest to corner 2, and they
are perspective-correct. The design follows Laine et al. 2020, "Modular primitives for
high-performance differentiable rendering".
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor
from torch.autograd.function import once_differentiable

from isolux.backends.table import Backend

__all__ = [
    "Raster",
    "antialias",
    "edge_adjacency",
    "interpolate",
    "interpolate_derivatives",
    "rasterize",
    "screen_derivatives",
]


@dataclass(frozen=True)
class Raster:
    """What each pixel's centre sees."""

    triangle: Int32[Tensor, "v h w"]  # face index + 1; 0 where empty
    uv: Float[Tensor, "v h w 2"]  # weights of corners 0 and 1, in [0, 1]; 0 where empty
    depth: Float[Tensor, "v h w"]  # z/w in [-1, 1]; 1 where empty; carries no gradient


def rasterize(
    backend: Backend,
    clip: Float[Tensor, "v n 4"],
    faces: Int[Tensor, "f 3"],
    height: int,
    width: int,
    behind: Float[Tensor, "v h w"] | None = None,
) -> Raster:
    """The nearest triangle at each pixel's centre.

    Both sides of a triangle are drawn. It may reach behind the camera: the near and far planes
    cut it at each pixel, and edges that faces share leave no gap. Of two at the same depth the
    lower face index is kept. Degenerate triangles and those with a NaN or infinite corner are
    left out.

    Args:
        backend: the operators.
        clip: homogeneous positions (x, y, z, w), one set a view. The weights are
            differentiable in x, y and w.
        faces: corners of the triangles; zero faces give an empty raster.
        height: rows, at least 1.
        width: columns, at least 1.
        behind: depth of the layer drawn before. The nearest surface strictly behind it is
            drawn (depth peeling, Everitt 2001).

    Raises:
        ValueError: for an image without pixels.
        IndexError: for a face that names a vertex which does not exist.
    """
    if height < 1 or width < 1:
        raise ValueError(f"need an image of at least 1 x 1 pixels, got {height} x {width}")
    drawn = _Rasterize.apply(  # type: ignore[no-untyped-call]
        clip, faces, height, width, behind, backend
    )
    return Raster(*drawn)


def screen_derivatives(
    backend: Backend,
    clip: Float[Tensor, "v n 4"],
    faces: Int[Tensor, "f 3"],
    raster: Raster,
    pixels: Int[Tensor, " p"],
) -> Float[Tensor, "p 4"]:
    """How the weights change over the screen: du/dX, du/dY, dv/dX, dv/dY.

    A unit is one pixel, X to the right and Y down. No gradient passes through.

    Args:
        backend: the operators.
        clip: as drawn.
        faces: as drawn.
        raster: what was drawn.
        pixels: indices into views x rows x columns; an empty pixel gives zeros.

    Raises:
        IndexError: for a pixel outside the raster.
    """
    with torch.no_grad():
        out: Tensor = backend.screen_derivatives(
            clip, faces, raster.triangle, raster.uv, pixels
        )
    return out


def interpolate(
    backend: Backend,
    attributes: Float[Tensor, "n c"],
    corners: Int[Tensor, "f 3"],
    triangle: Int[Tensor, " p"],
    uv: Float[Tensor, "p 2"],
) -> Float[Tensor, "p c"]:
    """Values at pixels from values at corners: u a_0 + v a_1 + (1 - u - v) a_2.

    Args:
        backend: the operators.
        attributes: rows that `corners` names, of any meaning; differentiable.
        corners: rows at each face's corners. They need not be the faces that were drawn, only
            as many in the same order (texture coordinates have corners of their own).
        triangle: the face at each pixel, counted from 0; zero pixels give zero rows.
        uv: the weights at each pixel; differentiable.

    Raises:
        IndexError: for a face or a row that does not exist.
    """
    out: Tensor = _Interpolate.apply(  # type: ignore[no-untyped-call]
        attributes, corners, triangle, uv, backend
    )
    return out


def interpolate_derivatives(
    attributes: Float[Tensor, "n c"],
    corners: Int[Tensor, "f 3"],
    triangle: Int[Tensor, " p"],
    uv_da: Float[Tensor, "p 4"],
) -> Float[Tensor, "p c 2"]:
    """How interpolated values change over the screen, a pixel to the right and one down.

    Args:
        attributes: rows that `corners` names; differentiable.
        corners: rows at each face's corners.
        triangle: the face at each pixel, counted from 0.
        uv_da: what `screen_derivatives` gives for these pixels.
    """
    rows = corners.index_select(0, triangle).long()
    a, b, c = (attributes.index_select(0, rows[:, i])[:, :, None] for i in range(3))
    return uv_da[:, None, 0:2] * (a - c) + uv_da[:, None, 2:4] * (b - c)


def edge_adjacency(backend: Backend, faces: Int[Tensor, "f 3"]) -> Int32[Tensor, "f 3"]:
    """The corner across each edge; entry i of a face is about the edge opposite to corner i.

    A corner is numbered 3 * face + its place in the face, as in a corner table (Rossignac
    2001): `opposite // 3` is the neighbouring face and `faces.reshape(-1)[opposite]` the vertex
    there. The neighbour is the one other face with that edge, whichever way round. -1 stands
    where there is none: at a border, where more than two faces meet, between two copies of one
    triangle, and all around a face that names a vertex twice. Such edges always count as
    silhouettes.
    """
    with torch.no_grad():
        out: Tensor = backend.edge_adjacency(faces)
    return out


def antialias(
    backend: Backend,
    color: Float[Tensor, "v h w c"],
    raster: Raster,
    clip: Float[Tensor, "v n 4"],
    faces: Int[Tensor, "f 3"],
    opposite: Int[Tensor, "f 3"],
) -> Float[Tensor, "v h w c"]:
    """Soften silhouettes, which makes visibility differentiable (Laine et al. 2020, 3.4).

    Where a silhouette edge passes between the centres of two pixels, one of the two takes a
    share of the other's colour, so that the sum over the picture is the area in front. That
    share moves with the edge, and this is where positions get the gradient of coverage. The
    edge need not belong to the triangle that the pixel shows: it is looked for across its
    neighbours, so silhouettes of triangles smaller than a pixel count as well.

    Args:
        backend: the operators.
        color: what to soften, of any number of channels; differentiable.
        raster: what was drawn, of the same size.
        clip: as drawn; differentiable in x, y and w.
        faces: as drawn.
        opposite: `edge_adjacency` of the faces.

    Returns:
        `color` itself, copied, where nothing is drawn.
    """
    out: Tensor = _Antialias.apply(  # type: ignore[no-untyped-call]
        color, clip, raster.triangle, raster.depth, faces, opposite, backend
    )
    return out


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        clip: Tensor,
        faces: Tensor,
        height: int,
        width: int,
        behind: Tensor | None,
        backend: Backend,
    ) -> tuple[Tensor, Tensor, Tensor]:
        triangle, uv, depth = backend.rasterize.forward(clip, faces, height, width, behind)
        ctx.save_for_backward(clip, faces, triangle, uv)
        ctx.backend = backend
        ctx.mark_non_differentiable(triangle, depth)
        return triangle, uv, depth

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _triangle: Any, grad_uv: Tensor, _depth: Any) -> tuple[Any, ...]:
        clip, faces, triangle, uv = ctx.saved_tensors
        grad = ctx.backend.rasterize.backward(clip, faces, triangle, uv, grad_uv)
        return grad, None, None, None, None, None


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        attributes: Tensor,
        corners: Tensor,
        triangle: Tensor,
        uv: Tensor,
        backend: Backend,
    ) -> Tensor:
        ctx.save_for_backward(attributes, corners, triangle, uv)
        ctx.backend = backend
        out: Tensor = backend.interpolate.forward(attributes, corners, triangle, uv)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        to_attributes, to_uv = ctx.backend.interpolate.backward(
            *ctx.saved_tensors, grad, ctx.needs_input_grad[0], ctx.needs_input_grad[3]
        )
        return to_attributes, None, None, to_uv, None


class _Antialias(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        color: Tensor,
        clip: Tensor,
        triangle: Tensor,
        depth: Tensor,
        faces: Tensor,
        opposite: Tensor,
        backend: Backend,
    ) -> Tensor:
        out, blends = backend.antialias.forward(color, triangle, depth, clip, faces, opposite)
        ctx.save_for_backward(color, clip, *blends)
        ctx.backend = backend
        result: Tensor = out
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        color, clip, *blends = ctx.saved_tensors
        to_color, to_clip = ctx.backend.antialias.backward(
            color, clip, tuple(blends), grad, *ctx.needs_input_grad[:2]
        )
        return to_color, to_clip, None, None, None, None, None
