"""Smooth normals on the device: a thread a face, which adds to its corners."""

import torch
from torch import Tensor

from isolux.backends.cuda import fixed_point
from isolux.backends.cuda.arrays import check_indices, index
from isolux.backends.cuda.launch import launch

__all__ = ["backward", "forward"]


def forward(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Raw `vertex_normals`: unit normals, and the length that each sum had (0: none)."""
    check_indices("faces", faces, len(vertices))
    normals = _over_faces("normals_sum", [vertices.contiguous(), index(faces)], vertices)
    length = vertices.new_empty(len(vertices))
    launch("normals", "normals_unit", len(length), normals, length, len(length))
    return normals, length


def backward(
    vertices: Tensor, faces: Tensor, normals: Tensor, length: Tensor, grad: Tensor
) -> Tensor:
    """Raw adjoint."""
    across = torch.empty_like(normals)
    launch(
        "normals", "normals_across", len(length),
        normals, length, grad.contiguous(), across, len(length),
    )  # fmt: skip
    given = [vertices.contiguous(), index(faces), across]
    return _over_faces("normals_backward", given, vertices)


def _over_faces(kernel: str, given: list[Tensor], like: Tensor) -> Tensor:
    """What a kernel's faces add to the vertices."""
    count = len(given[1])

    def bound() -> Tensor:
        sizes = like.new_zeros(count)
        launch("normals", kernel, count, *given, sizes, None, None, None, count)
        return fixed_point.largest(sizes)

    sums = fixed_point.start(like.new_zeros(like.shape), bound, 3 * count)
    launch("normals", kernel, count, *given, None, *sums, count)
    return fixed_point.finish(*sums)
