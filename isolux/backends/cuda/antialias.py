"""Analytic antialiasing of silhouettes on the device.

The method and its arithmetic are those of `isolux.backends.cpu.antialias` and `silhouettes`.
What each pixel shares with its right and its lower neighbour is kept for all pixels, not as a
list: nobody has to wait for the list's length, and each pixel gathers from its four neighbours
in one order, so pictures and gradients of colours never depend on the order of threads.
"""

import torch
from torch import Tensor

from isolux.backends.cuda import fixed_point
from isolux.backends.cuda.arrays import check_indices, index
from isolux.backends.cuda.launch import launch

__all__ = ["backward", "forward"]


def forward(
    color: Tensor,
    triangle: Tensor,
    depth: Tensor,
    clip: Tensor,
    faces: Tensor,
    opposite: Tensor,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Raw `antialias`: the picture, and the blends that made it, for `backward`.

    `alpha` [2, v, h, w] is how much goes over between a pixel and its right (0) or lower (1)
    neighbour, `edge` the corner opposite to the silhouette edge between them or -1; then the
    faces.
    """
    check_indices("faces", faces, clip.shape[1])
    corners = index(faces)
    alpha, edge = _find(triangle.contiguous(), depth.contiguous(), clip, corners, opposite)
    c = color.detach().contiguous()
    out = torch.empty_like(c)
    _, height, width, channels = color.shape
    launch(
        "antialias", "antialias_blend", out.numel(),
        c, alpha, out, channels, height, width, out.numel(),
    )  # fmt: skip
    return out, (alpha, edge, corners)


def backward(
    color: Tensor,
    clip: Tensor,
    blends: tuple[Tensor, ...],
    grad: Tensor,
    need_color: bool,
    need_clip: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Raw gradients of `antialias`, to the colours and to clip x, y, w, where needed."""
    alpha, edge, corners = blends
    _, height, width, channels = color.shape
    above = grad.contiguous()
    to_color = to_clip = None
    if need_color:
        to_color = torch.empty_like(above)
        launch(
            "antialias", "antialias_blend_backward", above.numel(),
            above, alpha, to_color, channels, height, width, above.numel(),
        )  # fmt: skip
    if need_clip:
        given = color.contiguous(), clip.contiguous(), above, alpha, edge, corners
        sizes = channels, clip.shape[1], height, width, alpha.numel()
        to_clip = _moved(given, sizes)
    return to_color, to_clip


def _find(
    triangle: Tensor, depth: Tensor, clip: Tensor, corners: Tensor, opposite: Tensor
) -> tuple[Tensor, Tensor]:
    """`alpha` and `edge` of all pairs of neighbouring pixels."""
    views, count = clip.shape[:2]
    height, width = triangle.shape[1:]
    p, far = clip.detach().contiguous(), index(opposite)
    device, faces = clip.device, len(corners)
    screen = torch.empty(views, count, 2, dtype=torch.float64, device=device)
    turn = torch.empty(views, faces, dtype=torch.int32, device=device)
    near = torch.zeros(triangle.shape, dtype=torch.bool, device=device)
    alpha = clip.new_empty(2, *triangle.shape)
    edge = torch.empty_like(alpha, dtype=torch.int32)
    launch("antialias", "antialias_project", views * count, p, screen, height, width,
           views * count)  # fmt: skip
    launch("antialias", "antialias_turns", turn.numel(), p, corners, turn, count, faces,
           turn.numel())  # fmt: skip
    launch(
        "antialias", "antialias_mark", 3 * turn.numel(),
        p, corners, far, turn, near, count, faces, height, width, 3 * turn.numel(),
    )  # fmt: skip
    launch(
        "antialias", "antialias_find", alpha.numel(),
        depth, triangle, screen, corners, far, turn, near, alpha, edge,
        count, faces, height, width, alpha.numel(),
    )  # fmt: skip
    return alpha, edge


def _moved(given: tuple[Tensor, ...], sizes: tuple[int, ...]) -> Tensor:
    """The gradient to the clip positions."""
    clip, alpha, (height, width) = given[1], given[3], sizes[2:4]

    def bound() -> Tensor:
        largest = torch.zeros_like(alpha)
        launch("antialias", "antialias_move_backward", alpha.numel(),
               *given, largest, None, None, None, *sizes)  # fmt: skip
        return fixed_point.largest(largest)

    # A vertex has pairs of one view, each pair two ends.
    sums = fixed_point.start(clip.new_zeros(clip.shape), bound, 4 * height * width)
    launch("antialias", "antialias_move_backward", alpha.numel(),
           *given, None, *sums, *sizes)  # fmt: skip
    return fixed_point.finish(*sums)
