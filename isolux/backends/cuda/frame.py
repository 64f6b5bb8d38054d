"""Directions of shading on the device: a thread a pixel."""

import torch
from torch import Tensor

from isolux.backends.cuda.arrays import check_indices, index
from isolux.backends.cuda.launch import launch

__all__ = ["backward", "forward"]


def forward(position: Tensor, normal: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
    """Raw `shading_frame`: unit normal, mirrored direction, cosine."""
    given = _given(position, normal, *rest)
    count = len(normal)
    found = torch.empty_like(normal), torch.empty_like(normal), normal.new_empty(count)
    launch("frame", "frame_forward", count, *given, *found, count)
    return found


def backward(*inputs: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients to position, normal, tangent and perturbation."""
    given = _given(*inputs[:9])
    above = [t.contiguous() for t in inputs[9:] if t is not None]
    found = [
        None if t is None else torch.empty_like(t) for t in (*inputs[:2], inputs[6], inputs[8])
    ]
    count = len(above[2])
    launch("frame", "frame_backward", count, *given, *above, *found, count)
    return tuple(found)


def _given(*inputs: Tensor | None) -> list[Tensor | None]:
    """The inputs as kernels read them; the last three may be absent."""
    position, normal, face_normal, triangle, camera, view, *bumps = inputs
    assert face_normal is not None
    assert triangle is not None
    assert camera is not None
    assert view is not None
    check_indices("triangle", triangle, len(face_normal))
    check_indices("view", view, len(camera))
    given = [position, normal, face_normal, index(triangle), camera, index(view), *bumps]
    return [None if t is None else t.contiguous() for t in given]
