"""Directions of shading in plain torch. Letters as in `isolux.backends.frame`."""

import torch
from torch import Tensor

__all__ = ["backward", "forward"]

_BEND = 0.1  # cosine to the viewer under which a normal is bent towards the face's
_LEAST = 1e-3  # of a perturbation's z
_EPS = 1e-30  # squared length under which a vector counts as zero


def forward(
    position: Tensor,
    normal: Tensor,
    face_normal: Tensor,
    triangle: Tensor,
    camera: Tensor,
    view: Tensor,
    tangent: Tensor | None,
    handedness: Tensor | None,
    perturbation: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Raw `shading_frame`: unit normal, mirrored direction, cosine."""
    to_camera = _unit(camera[view.long()] - position)
    face = face_normal[triangle.long()]
    n = _unit(normal)
    if tangent is not None and handedness is not None and perturbation is not None:
        t = _unit(tangent - n * _dot(n, tangent))
        x, y, z = torch.split(perturbation, 1, dim=-1)
        b = torch.linalg.cross(n, t, dim=-1) * handedness
        n = _unit(t * x + b * y + n * z.clamp(min=_LEAST))
    side = torch.where(_dot(to_camera, face) < 0.0, -1.0, 1.0).to(n)
    n, face = n * side, face * side
    weight = (_dot(to_camera, n) / _BEND).clamp(0.0, 1.0)
    s = _unit(face + weight * (n - face))
    cosine = _dot(to_camera, s)
    return s, 2.0 * cosine * s - to_camera, cosine.squeeze(-1)


def backward(*inputs: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients to position, normal, tangent and perturbation, by torch's differentiation."""
    *given, to_normal, to_mirrored, to_cosine = inputs
    assert to_normal is not None
    assert to_mirrored is not None
    assert to_cosine is not None
    moving = (0, 1, 6, 8)
    with torch.enable_grad():
        leaves = [None if t is None else t.detach() for t in given]
        for i in moving:
            leaf = leaves[i]
            if leaf is not None:
                leaves[i] = leaf.requires_grad_()
        wanted = [leaf for i in moving if (leaf := leaves[i]) is not None]
        out = forward(*leaves)  # type: ignore[arg-type]
        found = iter(torch.autograd.grad(out, wanted, (to_normal, to_mirrored, to_cosine)))
    return tuple(None if leaves[i] is None else next(found) for i in moving)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=-1, keepdim=True)


def _unit(a: Tensor) -> Tensor:
    square = _dot(a, a)
    length = torch.where(square > _EPS, square, 1.0).sqrt()
    return torch.where(square > _EPS, a / length, 0.0)
