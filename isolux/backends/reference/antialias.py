"""Analytic antialiasing of silhouettes in plain torch: one list of pixel pairs an axis.

Letters: v views, n vertices, f faces, h and w rows and columns, c channels, m pairs of pixels.
The method stands in the processor's version; gradients come from autograd here.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["backward", "forward"]

_SLACK = 1.0 / 1024.0  # pixel; coverage is exact, so rounding only


def forward(
    color: Tensor,
    triangle: Tensor,
    depth: Tensor,
    clip: Tensor,
    faces: Tensor,
    opposite: Tensor,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Raw `antialias`: the picture, and what `backward` draws it from again."""
    context = (triangle, depth, faces, opposite)
    return _soften(color, clip, *context), context


def backward(
    color: Tensor,
    clip: Tensor,
    blends: tuple[Tensor, ...],
    grad: Tensor,
    need_color: bool,
    need_clip: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Raw gradients of `antialias`, by differentiating the forward pass."""
    with torch.enable_grad():
        leaves = color.detach().requires_grad_(), clip.detach().requires_grad_()
        out = _soften(*leaves, *blends)
        to_color, to_clip = torch.autograd.grad(
            out, leaves, grad, allow_unused=True, materialize_grads=True
        )
    return to_color if need_color else None, to_clip if need_clip else None


def _soften(
    color: Float[Tensor, "v h w c"],
    clip: Float[Tensor, "v n 4"],
    triangle: Int[Tensor, "v h w"],
    depth: Float[Tensor, "v h w"],
    faces: Int[Tensor, "f 3"],
    opposite: Int[Tensor, "f 3"],
) -> Float[Tensor, "v h w c"]:
    flat = color.reshape(-1, color.shape[-1])
    out = flat.clone()
    for axis in (0, 1):
        first, second = _pairs(triangle, axis)
        alpha = _alpha(first, second, axis, triangle, depth, clip, faces.long(), opposite)
        change = alpha[:, None].to(color.dtype) * (flat[second] - flat[first])
        out = out.index_add(0, torch.where(alpha > 0, first, second), change)
    return out.reshape(color.shape)


def _pairs(
    triangle: Int[Tensor, "v h w"], axis: int
) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
    """Neighbours in a row (axis 0) or a column (axis 1) that show different triangles."""
    index = torch.arange(triangle.numel(), device=triangle.device).view(triangle.shape)
    first, second = (
        (index[:, :, :-1], index[:, :, 1:]) if axis == 0 else (index[:, :-1], index[:, 1:])
    )
    first, second = first.reshape(-1), second.reshape(-1)
    differ = triangle.reshape(-1)[first] != triangle.reshape(-1)[second]
    return first[differ], second[differ]


def _alpha(
    first: Int[Tensor, " m"],
    second: Int[Tensor, " m"],
    axis: int,
    triangle: Int[Tensor, "v h w"],
    depth: Float[Tensor, "v h w"],
    clip: Float[Tensor, "v n 4"],
    faces: Int[Tensor, "f 3"],
    opposite: Int[Tensor, "f 3"],
) -> Float[Tensor, " m"]:
    """The share that goes over: to the first pixel where positive, else to the second."""
    height, width = triangle.shape[1:]
    ids, z = triangle.reshape(-1), depth.reshape(-1)
    mine = (ids[second] == 0) | ((ids[first] != 0) & (z[first] <= z[second]))
    owner = torch.where(mine, first, second)
    side = torch.where(mine, 1.0, -1.0).to(torch.float64)
    face, view = ids[owner].long() - 1, owner // (height * width)
    corners = clip[view[:, None], faces[face]].double()  # [m, 3, 4]
    silhouette = _silhouette(corners.detach(), clip, view, opposite[face].long())
    centre = torch.stack([owner % width, owner // width % height], dim=-1) + 0.5
    begin, end = corners.roll(-1, dims=1), corners.roll(-2, dims=1)  # edge i lies opposite i
    ahead = (begin[..., 3] > 0) & (end[..., 3] > 0)
    place, crosses, steep = _crossing(begin, end, ahead, centre, axis, height, width)
    reach = torch.where(crosses & ahead, side[:, None] * place, -torch.inf)  # [m, 3]
    distance, edge = reach.max(dim=1)
    good = (silhouette & steep).gather(1, edge[:, None])[:, 0]
    good &= (distance > -_SLACK) & (distance < 1.0 + _SLACK)
    alpha: Tensor = torch.where(good, side * (0.5 - distance), 0.0).clamp(-0.5, 0.5)
    return alpha


def _silhouette(
    corners: Float[Tensor, "m 3 4"],
    clip: Float[Tensor, "v n 4"],
    view: Int[Tensor, " m"],
    opposite: Int[Tensor, "m 3"],
) -> Bool[Tensor, "m 3"]:
    """Whether the surface folds back at each edge, or ends there."""
    p = corners[..., [0, 1, 3]]
    own = torch.linalg.det(p)[:, None]
    q = clip.detach()[view[:, None], opposite.clamp(min=0)].double()[..., [0, 1, 3]]
    across = torch.stack([q, p.roll(-1, dims=1), p.roll(-2, dims=1)], dim=2)  # [m, 3, 3, 3]
    folds: Tensor = own * torch.linalg.det(across) >= 0.0
    return folds | (opposite < 0)


def _crossing(
    begin: Float[Tensor, "m 3 4"],
    end: Float[Tensor, "m 3 4"],
    ahead: Bool[Tensor, "m 3"],
    centre: Float[Tensor, "m 2"],
    axis: int,
    height: int,
    width: int,
) -> tuple[Float[Tensor, "m 3"], Bool[Tensor, "m 3"], Bool[Tensor, "m 3"]]:
    """Where edges cross the axis through a pixel's centre, whether, and if steep enough."""
    size = begin.new_tensor([0.5 * width, -0.5 * height])
    shift = begin.new_tensor([0.5 * width, 0.5 * height]) - centre.to(begin.dtype)
    # where() comes before the division: a gradient through 1 / 0 would be NaN.
    i, j = (
        p[..., :2] / torch.where(ahead, p[..., 3], 1.0)[..., None] * size + shift[:, None]
        for p in (begin, end)
    )
    steps = (j - i).abs()
    steep = steps[..., 1] >= steps[..., 0]
    if axis == 1:
        i, j, steep = i.flip(-1), j.flip(-1), ~steep
    crosses = (i[..., 1] < 0) != (j[..., 1] < 0)
    rise = torch.where(crosses, j[..., 1] - i[..., 1], 1.0)
    return (i[..., 0] * j[..., 1] - j[..., 0] * i[..., 1]) / rise, crosses, steep
