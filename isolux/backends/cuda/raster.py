"""Rasterisation on the device, by the arithmetic of `isolux.backends.cpu.raster`."""

import torch
from torch import Tensor

from isolux.backends.cuda import fixed_point
from isolux.backends.cuda.arrays import check_indices, index
from isolux.backends.cuda.launch import launch

__all__ = ["backward", "forward", "screen_derivatives"]

_SMALL = 256  # pixels of a box that one thread goes through; larger ones get a thread a row
_ROWS = 1 << 18  # threads for those rows: how many there are is known on the device only


def forward(
    clip: Tensor, faces: Tensor, height: int, width: int, behind: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Raw `rasterize`: triangle ids (int32, 0 = empty), weights of corners 0 and 1, depth."""
    views, vertices = clip.shape[:2]
    check_indices("faces", faces, vertices)
    shape, device = (views, height, width), clip.device
    p, f = clip.contiguous(), index(faces)
    b = None if behind is None else behind.contiguous()
    screen = torch.empty(views, vertices, 2, device=device)
    key = torch.full(shape, -1, dtype=torch.int64, device=device)  # no key is greater
    exact = clip.dtype == torch.float64
    lowest = torch.full(
        shape if exact else (1,), torch.iinfo(torch.int32).max, dtype=torch.int32, device=device
    )
    listed = torch.zeros(1, dtype=torch.int32, device=device)
    items, triangles = views * len(f), len(f)
    list_ = torch.empty(max(items, 1), dtype=torch.int32, device=device)
    launch("raster", "raster_project", views * vertices, p, screen, width, height,
           views * vertices)  # fmt: skip
    for number in range(2 if exact else 1):
        launch(
            "raster", "raster_draw", items, p, f, screen, b, key, lowest, listed, list_,
            _SMALL, vertices, triangles, width, height, number, items,
        )  # fmt: skip
        launch(
            "raster", "raster_draw_listed", _ROWS if items else 0,
            p, f, screen, b, key, lowest, listed, list_, vertices, triangles, width, height,
            number,
        )  # fmt: skip
    triangle = torch.empty(shape, dtype=torch.int32, device=device)
    uv, depth = clip.new_empty(*shape, 2), clip.new_empty(shape)
    launch(
        "raster", "raster_resolve", key.numel(),
        p, f, key, lowest, triangle, uv, depth, vertices, width, height, key.numel(),
    )  # fmt: skip
    return triangle, uv, depth


def backward(
    clip: Tensor, faces: Tensor, triangle: Tensor, uv: Tensor, grad_uv: Tensor
) -> Tensor:
    """Raw gradient of `rasterize`: from the weights to clip x, y, w; none to z."""
    height, width = triangle.shape[1:]
    given = clip.contiguous(), index(faces), triangle.contiguous(), grad_uv.contiguous()
    numbers = clip.shape[1], width, height, triangle.numel()

    def bound() -> Tensor:
        sizes = clip.new_zeros(triangle.shape)
        launch("raster", "raster_backward", triangle.numel(),
               *given, sizes, None, None, None, *numbers)  # fmt: skip
        return fixed_point.largest(sizes)

    # A vertex belongs to one view; a face may have it three times.
    sums = fixed_point.start(clip.new_zeros(clip.shape), bound, 3 * height * width)
    launch("raster", "raster_backward", triangle.numel(),
           *given, None, *sums, *numbers)  # fmt: skip
    return fixed_point.finish(*sums)


def screen_derivatives(
    clip: Tensor, faces: Tensor, triangle: Tensor, uv: Tensor, pixels: Tensor
) -> Tensor:
    """Raw `screen_derivatives`: du/dX, du/dY, dv/dX, dv/dY a pixel step at the given pixels."""
    height, width = triangle.shape[1:]
    check_indices("pixels", pixels, triangle.numel())
    out = clip.new_empty(len(pixels), 4)
    launch(
        "raster", "raster_screen_derivatives", len(pixels),
        clip.contiguous(), index(faces), triangle.contiguous(), uv.contiguous(),
        pixels.to(torch.int64).contiguous(), out, clip.shape[1], width, height, len(pixels),
    )  # fmt: skip
    return out
