"""What is done to every pixel, fused: split-sum shading, and the distance between images.

Letters: p points, v views, h rows, w columns, s entries along the edge of the split-sum table.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from isolux.backends.table import Backend

__all__ = ["ImageLoss", "image_loss", "split_sum"]

ImageLoss = Literal["logl1", "logl2", "mse", "smape", "relmse"]


def split_sum(
    backend: Backend,
    albedo: Float[Tensor, "p 3"],
    orm: Float[Tensor, "p 3"],
    n_dot_v: Float[Tensor, " p"],
    diffuse_light: Float[Tensor, "p 3"],
    specular_light: Float[Tensor, "p 3"],
    lut: Float[Tensor, "s s 2"],
) -> Float[Tensor, "p 3"]:
    """Radiance of a metallic-roughness surface under filtered light (Karis 2013).

    (diffuse_light * albedo (1 - m) + specular_light * (c A + B)) (1 - o), where the specular
    colour c goes from 0.04 to the albedo with metalness m, and (A, B) is read from the table at
    the cosine and the roughness, bilinearly.

    Args:
        albedo: linear, in [0, 1].
        orm: occlusion o (0 leaves the light as it is, 1 is black), roughness, metalness m.
        n_dot_v: cosine between normal and view, in [0, 1]; held to the table beyond.
        diffuse_light: irradiance over pi (`light.irradiance`), looked up at the normal.
        specular_light: `light.prefilter` at the mirror direction.
        lut: `light.fg_lut`, of the same dtype.

    Returns:
        Linear radiance, differentiable in all but the table; roughness and cosine have no
        gradient where the table ends.
    """
    out: Tensor = _SplitSum.apply(  # type: ignore[no-untyped-call]
        albedo.contiguous(),
        orm.contiguous(),
        n_dot_v.contiguous(),
        diffuse_light.contiguous(),
        specular_light.contiguous(),
        lut.to(albedo).contiguous(),
        backend,
    )
    return out


class _SplitSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        *tensors, backend = inputs
        ctx.save_for_backward(*tensors)
        ctx.backend = backend
        out: Tensor = backend.split_sum.forward(*tensors)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        found = ctx.backend.split_sum.backward(*ctx.saved_tensors, grad.contiguous())
        return *found, None, None


def image_loss(
    backend: Backend,
    kind: ImageLoss,
    rgb: Float[Tensor, "v h w 3"],
    reference: Float[Tensor, "v h w 3"],
    weight: Float[Tensor, "v h w 1"],
) -> Float[Tensor, ""]:
    """Mean over views, pixels and channels of L(rgb * weight, reference * weight).

    Both are held to [0, 65535] first, and there is no gradient to a value at or beyond those
    ends. With T(x) = sRGB(log(x + 1)), L is |T(x) - T(y)| (logl1), (T(x) - T(y))^2 (logl2),
    (x - y)^2 (mse), |x - y| / (x + y + 0.01) (smape) or (x - y)^2 / (x^2 + y^2 + 0.1)
    (relmse), as in nvdiffrec.

    Args:
        rgb: linear radiance.
        reference: linear radiance.
        weight: usually the reference's coverage.

    Returns:
        A scalar, zero for an empty image; differentiable in rgb, reference and weight. The
        slope of |x| at 0 is 0.
    """
    total: Tensor = _ImageLoss.apply(  # type: ignore[no-untyped-call]
        rgb.contiguous(), reference.contiguous(), weight.contiguous(), backend, kind
    )
    return total


class _ImageLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rgb: Tensor,
        reference: Tensor,
        weight: Tensor,
        backend: Backend,
        kind: ImageLoss,
    ) -> Tensor:
        # The slope costs as much as the value: where it will be wanted, one pass gives both.
        only_rgb = ctx.needs_input_grad[:3] == (True, False, False)
        total: Tensor
        total, slope = backend.image_loss.forward(kind, rgb, reference, weight, only_rgb)
        ctx.save_for_backward(rgb, reference, weight, slope)
        ctx.rest = backend, kind
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        backend, kind = ctx.rest
        *inputs, slope = ctx.saved_tensors
        if slope is not None:
            return slope * grad, None, None, None, None
        found = backend.image_loss.backward(kind, *inputs, grad, ctx.needs_input_grad[:3])
        return *found, None, None
