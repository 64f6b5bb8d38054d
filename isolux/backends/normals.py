"""Smooth normals at vertices. Letters: n vertices, f faces."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from isolux.backends.table import Backend

__all__ = ["vertex_normals"]


def vertex_normals(
    backend: Backend, vertices: Float[Tensor, "n 3"], faces: Int[Tensor, "f 3"]
) -> Float[Tensor, "n 3"]:
    """Unit normals at the vertices, each the area-weighted mean of its faces' normals.

    Args:
        backend: the operators.
        vertices: positions; gradients flow to them.
        faces: any triangle soup, indices in [0, n); it need not be closed or manifold.

    Returns:
        Unit vectors. A vertex that no face uses, or whose faces cancel, gets the zero
        vector, and the gradient through it is zero rather than NaN.
    """
    result: Tensor = _VertexNormals.apply(  # type: ignore[no-untyped-call]
        backend, vertices.contiguous(), faces
    )
    return result


class _VertexNormals(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, backend: Backend, vertices: Tensor, faces: Tensor) -> Tensor:
        normals: Tensor
        normals, length = backend.vertex_normals.forward(vertices, faces)
        ctx.backend = backend
        ctx.save_for_backward(vertices, faces, normals, length)
        return normals

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        vertices, faces, normals, length = ctx.saved_tensors
        found = ctx.backend.vertex_normals.backward(
            vertices, faces, normals, length, grad.contiguous()
        )
        return None, found, None
