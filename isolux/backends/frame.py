"""The directions that a covered pixel is shaded with. Letters: p pixels, v views, f faces."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from isolux.backends.table import Backend

__all__ = ["shading_frame"]


def shading_frame(
    backend: Backend,
    position: Float[Tensor, "p 3"],
    normal: Float[Tensor, "p 3"],
    face_normal: Float[Tensor, "f 3"],
    triangle: Int[Tensor, " p"],
    camera: Float[Tensor, "v 3"],
    view: Int[Tensor, " p"],
    tangent: Float[Tensor, "p 3"] | None = None,
    handedness: Float[Tensor, "p 1"] | None = None,
    perturbation: Float[Tensor, "p 3"] | None = None,
) -> tuple[Float[Tensor, "p 3"], Float[Tensor, "p 3"], Float[Tensor, " p"]]:
    """Unit normal to shade with, mirrored view direction, and the cosine to the viewer.

    The interpolated normal is perturbed in the tangent frame (as glTF reads a normal map: +x
    along growing u, +y against v), turned to the viewer's side by the face, and where it still
    looks away it is bent towards the face's, which cannot; otherwise silhouettes would sparkle.

    Args:
        backend: the operators.
        position: of the surface, world.
        normal: of any length, world.
        face_normal: of each triangle, unit; carries no gradient.
        triangle: of each pixel, in [0, f).
        camera: positions of the cameras; carry no gradient.
        view: of each pixel, in [0, v).
        tangent: along growing u, of any length, not across the normal necessarily.
        handedness: -1 where a chart is mirrored, else 1; carries no gradient.
        perturbation: tangent-space normal, of any length; z is held to at least 0.001. The
            last three are given together or not at all.

    Returns:
        Unit normal s, 2 (v.s) s - v and v.s, v being the unit direction to the camera.
        Differentiable in position, normal, tangent and perturbation. A vector of no length
        stays zero and has no gradient.

    Raises:
        IndexError: for a triangle or a view that does not exist.
    """
    bumps = tangent is not None and perturbation is not None and handedness is not None
    extra = (tangent, handedness, perturbation) if bumps else (None, None, None)
    given = (position, normal, face_normal.detach(), triangle, camera.detach(), view, *extra)
    found: tuple[Tensor, Tensor, Tensor] = _ShadingFrame.apply(  # type: ignore[no-untyped-call]
        backend, *(None if t is None else t.contiguous() for t in given)
    )
    return found


class _ShadingFrame(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, backend: Backend, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        ctx.backend = backend
        ctx.save_for_backward(*inputs)
        found: tuple[Tensor, ...] = backend.shading_frame.forward(*inputs)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        position, normal, tangent, perturbation = ctx.backend.shading_frame.backward(
            *ctx.saved_tensors, *(g.contiguous() for g in grads)
        )
        return None, position, normal, *[None] * 4, tangent, None, perturbation
