"""Lookups in textures and cube maps.

Letters: p points, h rows, w columns, c channels, s texels along a cube face's edge.
A texture's (u, v) = (0, 0) is the top left corner of its first texel, whose centre lies at
(0.5 / w, 0.5 / h). Cube faces are +x, -x, +y, -y, +z, -z as OpenGL has them.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from isolux.backends.reference import mips
from isolux.backends.table import Backend

__all__ = ["Boundary", "cubemap", "mip_chain", "mipmapped", "texture2d"]

Boundary = Literal["wrap", "clamp"]


def texture2d(
    backend: Backend,
    levels: Sequence[Float[Tensor, "_ _ c"]],
    uv: Float[Tensor, "p 2"],
    uv_da: Float[Tensor, "p 4"] | None = None,
    boundary: Boundary = "wrap",
) -> Float[Tensor, "p c"]:
    """Bilinear values of a texture, between mip levels where the pixel's footprint is known.

    Args:
        levels: the texture, then its mips (`mip_chain`), each of any size.
        uv: texture coordinates; outside [0, 1] the boundary decides.
        uv_da: how u and v change from pixel to pixel: (du/dX, du/dY, dv/dX, dv/dY). The level
            is log2 of the geometric mean of the footprint's axes in texels, the shorter one
            counted as a sixteenth of the longer at least. None: the first level only.
        boundary: "wrap" repeats the texture, "clamp" goes on with its outermost texels.

    Returns:
        Values, differentiable in the levels and in uv (zero along axes that were clamped).
        A uv that is not finite gets the value at 0, and no gradient.
    """
    if not levels:
        raise ValueError("texture2d needs at least one level")
    footprint = None if uv_da is None or len(levels) == 1 else uv_da.detach().contiguous()
    chain = [level.contiguous() for level in levels]
    out: Tensor = _Texture2d.apply(uv.contiguous(), backend, footprint, boundary, *chain)  # type: ignore[no-untyped-call]
    return out


class _Texture2d(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        uv: Tensor,
        backend: Backend,
        uv_da: Tensor | None,
        boundary: Boundary,
        *levels: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(uv, *levels)
        ctx.rest = backend, uv_da, boundary
        out: Tensor = backend.texture2d.forward(levels, uv, uv_da, boundary)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        uv, *levels = ctx.saved_tensors
        backend, uv_da, boundary = ctx.rest
        to_levels, to_uv = backend.texture2d.backward(
            levels,
            uv,
            uv_da,
            boundary,
            grad.contiguous(),
            any(ctx.needs_input_grad[4:]),
            ctx.needs_input_grad[0],
        )
        return to_uv, None, None, None, *(to_levels or [None] * len(levels))


def mip_chain(texture: Float[Tensor, "h w c"]) -> list[Float[Tensor, "_ _ c"]]:
    """The texture and its mips: sizes halve, rounded down, until one texel is left.

    An even extent averages pairs. An odd one, 2m + 1, is cut in m shares of equal width, so
    that the mean is kept there as well (the polyphase box filter of Guthe and Heckbert 2005).
    """
    chain = [texture]
    while max(chain[-1].shape[:2]) > 1:
        chain.append(mips.forward(chain[-1]))
    return chain


def mipmapped(
    backend: Backend,
    texture: Float[Tensor, "h w c"],
    uv: Float[Tensor, "p 2"],
    uv_da: Float[Tensor, "p 4"],
    boundary: Boundary = "wrap",
) -> Float[Tensor, "p c"]:
    """`texture2d(backend, mip_chain(texture), uv, uv_da, boundary)` for a texture in training.

    The mips live inside and their gradients are added to the texture's in place, which for a
    large texture is most of the time that the two would take.

    Args:
        texture: at least one texel.
        uv: as in `texture2d`.
        uv_da: as in `texture2d`.
        boundary: as in `texture2d`.

    Returns:
        Values, differentiable in texture and uv.
    """
    out: Tensor = _Mipmapped.apply(  # type: ignore[no-untyped-call]
        uv.contiguous(), texture.contiguous(), backend, uv_da.detach().contiguous(), boundary
    )
    return out


class _Mipmapped(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        uv: Tensor,
        texture: Tensor,
        backend: Backend,
        uv_da: Tensor,
        boundary: Boundary,
    ) -> Tensor:
        levels = [texture.detach()]
        while max(levels[-1].shape[:2]) > 1:
            levels.append(backend.halve.forward(levels[-1]))
        footprint = uv_da if len(levels) > 1 else None
        ctx.save_for_backward(uv, texture, *levels[1:])
        ctx.rest = backend, footprint, boundary
        out: Tensor = backend.texture2d.forward(levels, uv, footprint, boundary)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        uv, *levels = ctx.saved_tensors
        backend, uv_da, boundary = ctx.rest
        needs = ctx.needs_input_grad
        to_levels, to_uv = backend.texture2d.backward(
            levels, uv, uv_da, boundary, grad.contiguous(), needs[1], needs[0]
        )
        if to_levels is None:
            return to_uv, None, None, None, None
        for smaller, larger in zip(to_levels[:0:-1], to_levels[-2::-1], strict=True):
            backend.halve.backward(smaller, larger)
        return to_uv, to_levels[0], None, None, None


def cubemap(
    backend: Backend,
    levels: Sequence[Float[Tensor, "6 _ _ c"]],
    direction: Float[Tensor, "p 3"],
    level: Float[Tensor, " p"] | None = None,
) -> Float[Tensor, "p c"]:
    """Values of a cube map along directions, without seams at the faces' edges.

    Args:
        levels: the map, then further ones of any sizes, e.g. prefiltered for rougher surfaces.
        direction: of any length.
        level: which map; between whole numbers, two are blended. Held to [0, last]; not a
            number is 0. None: the first.

    Returns:
        Values, differentiable in levels, direction, and level. A direction that is zero or not
        finite gets zero and no gradient. Where three faces meet, the mean of their three
        texels stands for the fourth.
    """
    if not levels:
        raise ValueError("cubemap needs at least one level")
    at = None if level is None or len(levels) == 1 else level.contiguous()
    chain = [texels.contiguous() for texels in levels]
    out: Tensor = _Cubemap.apply(direction.contiguous(), at, backend, *chain)  # type: ignore[no-untyped-call]
    return out


class _Cubemap(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, direction: Tensor, level: Tensor | None, backend: Backend, *levels: Tensor
    ) -> Tensor:
        ctx.save_for_backward(direction, level, *levels)
        ctx.backend = backend
        out: Tensor = backend.cubemap.forward(levels, direction, level)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        direction, level, *levels = ctx.saved_tensors
        to_levels, to_direction, to_level = ctx.backend.cubemap.backward(
            levels,
            direction,
            level,
            grad.contiguous(),
            any(ctx.needs_input_grad[3:]),
            any(ctx.needs_input_grad[:2]),
        )
        return to_direction, to_level, None, *(to_levels or [None] * len(levels))
