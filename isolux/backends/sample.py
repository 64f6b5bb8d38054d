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

from isolux.backends.table import Backend

__all__ = ["Boundary", "cubemap", "mip_chain", "texture2d"]

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
            is log2 of the footprint's longer axis in texels. None: the first level only.
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
        height, width = chain[-1].shape[:2]
        if height % 2 or width % 2:
            chain.append(_halve(_halve(chain[-1], 0), 1))
        else:  # the usual case, in one pass: rows of channels are torch's "channels last"
            pooled = torch.nn.functional.avg_pool2d(chain[-1].permute(2, 0, 1)[None], 2)
            chain.append(pooled[0].permute(1, 2, 0).contiguous())
    return chain


def _halve(texture: Tensor, axis: int) -> Tensor:
    count = texture.shape[axis]
    if count < 2:
        return texture
    half = count // 2
    if count % 2 == 0:
        shape = texture.shape
        pairs = texture.reshape(*shape[:axis], half, 2, *shape[axis + 1 :])
        even: Tensor = 0.5 * (pairs.select(axis + 1, 0) + pairs.select(axis + 1, 1))
        return even
    index = torch.arange(half, dtype=texture.dtype, device=texture.device)
    index = index.reshape([-1] + [1] * (2 - axis))
    left, centre, right = (texture.narrow(axis, k, 2 * half - 1) for k in (0, 1, 2))
    every_other = (*[slice(None)] * axis, slice(None, None, 2))
    left, centre, right = left[every_other], centre[every_other], right[every_other]
    odd: Tensor = ((half - index) * left + half * centre + (index + 1) * right) / count
    return odd


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
