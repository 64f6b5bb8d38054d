"""Analytic antialiasing of silhouettes in plain torch: one list of pixel pairs an axis.

Letters: v views, n vertices, f faces, h and w rows and columns, c channels, m pairs of pixels.
The method stands in the processor's version; gradients come from autograd here.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["backward", "forward"]

_STEPS = 64  # triangles that are followed from one pixel to the next, at most
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
    flat = color.flatten(0, 2)
    out = flat.clone()
    for axis in (0, 1):
        first, second = _pairs(triangle, axis)
        good, edge = _edges(
            first, second, axis, triangle, depth, clip.detach(), faces.long(), opposite
        )
        first, second = first[good], second[good]
        alpha = _alpha(first, edge[good], axis, clip, *triangle.shape[1:])
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


def _edges(
    first: Int[Tensor, " m"],
    second: Int[Tensor, " m"],
    axis: int,
    triangle: Int[Tensor, "v h w"],
    depth: Float[Tensor, "v h w"],
    clip: Float[Tensor, "v n 4"],
    faces: Int[Tensor, "f 3"],
    opposite: Int[Tensor, "f 3"],
) -> tuple[Bool[Tensor, " m"], Int[Tensor, "m 2"]]:
    """Which pairs a silhouette parts, and its vertices: follow the line between centres."""
    height, width = triangle.shape[1:]
    ids, z = triangle.reshape(-1), depth.reshape(-1)
    mine = (ids[second] == 0) | ((ids[first] != 0) & (z[first] <= z[second]))
    view = first // (height * width)
    side = torch.where(mine, 1.0, -1.0).to(torch.float64)[:, None]
    face = ids[torch.where(mine, first, second)].long() - 1
    goal = ids[torch.where(mine, second, first)].long() - 1
    origin = _centres(torch.where(mine, first, second), height, width)
    screen, fold = _screen(clip, height, width), _folds(clip, faces, opposite)
    walking = torch.arange(len(face), device=clip.device)
    entry, edge = torch.full_like(face, -1), face.new_zeros(len(face), 2)
    good = torch.zeros_like(mine)
    for _ in range(_STEPS):
        if not len(walking):  # sync
            break
        m, f = walking, face[walking]
        corner = 3 * f[:, None] + torch.arange(3, device=clip.device)
        ends = torch.stack([faces[f].roll(-1, dims=1), faces[f].roll(-2, dims=1)], dim=-1)
        at = screen[view[m][:, None, None], ends] - origin[m][:, None, None]  # [m, 3, 2, 2]
        place, crosses, steep = _crossing(at[:, :, 0], at[:, :, 1], axis)
        reach = torch.where(crosses & (corner != entry[m, None]), side[m] * place, -torch.inf)
        distance, leaves = reach.max(dim=1)
        row = torch.arange(len(m), device=clip.device)
        on = (distance > -_SLACK) & (distance < 1.0 + _SLACK)
        stops = fold[view[m], f, leaves]
        good[m] = on & stops & steep[row, leaves]
        edge[m] = ends[row, leaves]
        entry[m] = opposite[f, leaves].long()
        face[m] = entry[m] // 3
        walking = m[on & ~stops & (face[m] != goal[m])]
    return good, edge


def _alpha(
    first: Int[Tensor, " m"],
    edge: Int[Tensor, "m 2"],
    axis: int,
    clip: Float[Tensor, "v n 4"],
    height: int,
    width: int,
) -> Float[Tensor, " m"]:
    """The share that goes over: to the first pixel where positive, else to the second."""
    ends = clip[(first // (height * width))[:, None], edge][:, None]  # [m, 1, 2, 4]
    at = _screen(ends, height, width) - _centres(first, height, width)[:, None, None]
    place, _, _ = _crossing(at[:, :, 0], at[:, :, 1], axis)
    alpha: Tensor = (0.5 - place[:, 0]).clamp(-0.5, 0.5)
    return alpha


def _centres(pixel: Int[Tensor, " m"], height: int, width: int) -> Float[Tensor, "m 2"]:
    return torch.stack([pixel % width, pixel // width % height], dim=-1).double() + 0.5


def _screen(clip: Float[Tensor, "*p 4"], height: int, width: int) -> Float[Tensor, "*p 2"]:
    """Pixel positions; NaN for those at w <= 0."""
    clip = clip.double()
    size = clip.new_tensor([0.5 * width, 0.5 * height])
    w = torch.where(clip[..., 3:] > 0, clip[..., 3:], torch.nan)
    return (clip[..., :2] / w * clip.new_tensor([1.0, -1.0]) + 1.0) * size


def _folds(
    clip: Float[Tensor, "v n 4"], faces: Int[Tensor, "f 3"], opposite: Int[Tensor, "f 3"]
) -> Bool[Tensor, "v f 3"]:
    """Whether edges are silhouettes: both triangles on one side of it, or only one triangle."""
    p = clip.double()[:, faces][..., [0, 1, 3]]  # [v, f, 3, 3]
    x, y, w = p.unbind(-1)
    turn = w * (
        x.roll(-1, dims=2) * y.roll(-2, dims=2) - x.roll(-2, dims=2) * y.roll(-1, dims=2)
    )
    sign = (turn[..., 0] + turn[..., 1] + turn[..., 2]).nan_to_num().sign()  # [v, f]
    other = opposite.long().clamp(min=0)
    # Neighbours that go the same way round run along their edge in opposite directions.
    ahead = faces.roll(-1, dims=1)
    same = torch.where(ahead == ahead.reshape(-1)[other], 1.0, -1.0)
    return (opposite < 0) | (sign[..., None] * sign[:, other // 3] * same >= 0)


def _crossing(
    i: Float[Tensor, "m e 2"], j: Float[Tensor, "m e 2"], axis: int
) -> tuple[Float[Tensor, "m e"], Bool[Tensor, "m e"], Bool[Tensor, "m e"]]:
    """Where edges cross an axis, whether they do, and if they are steep enough for it."""
    steps = (j - i).abs()
    steep = steps[..., 1] >= steps[..., 0]
    if axis == 1:
        i, j, steep = i.flip(-1), j.flip(-1), ~steep
    crosses = ((i[..., 1] < 0) != (j[..., 1] < 0)) & (i + j).isfinite().all(dim=-1)
    rise = torch.where(crosses, j[..., 1] - i[..., 1], 1.0)
    return (i[..., 0] * j[..., 1] - j[..., 0] * i[..., 1]) / rise, crosses, steep
