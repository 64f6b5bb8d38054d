"""Rasterisation on the processor: homogeneous edge functions and a z-buffer.

A triangle's corners are taken as vectors p = (x, y, w). The three cross products of two of
them are edge functions, linear in the pixel's position f = (fx, fy, 1): a_i = f . e_i. The
pixel lies inside when all three have the sign of det(p0, p1, p2), the perspective-correct
weights are a_i / (a_0 + a_1 + a_2), and z/w is linear in f as well. No corner is divided by
w, so a triangle that reaches behind the camera needs no clipping (Olano and Greer 1997,
"Triangle scan conversion using 2D homogeneous coordinates"). Two triangles evaluate a shared
edge with the same numbers up to an exact sign, so no pixel falls between them.

Set-up and pixels are computed in float64 whatever the input; only what is stored has the
input's type. A pixel depends on its triangles alone, not on how the image was cut into bands.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from isolux.backends.cpu.arrays import check_indices, flat, flat_index
from isolux.backends.cpu.bands import bands
from isolux.backends.cpu.jit import kernel
from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.backends.cpu.raster_slopes import backward, screen_derivatives

__all__ = ["backward", "forward", "screen_derivatives"]


def forward(
    clip: Tensor, faces: Tensor, height: int, width: int, behind: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Raw `rasterize`: triangle ids (int32, 0 = empty), weights of corners 0 and 1, depth."""
    views, count = clip.shape[:2]
    check_indices("faces", faces, count)
    triangle = torch.zeros(views, height, width, dtype=torch.int32)
    uv = clip.new_zeros(views, height, width, 2)
    depth = clip.new_full((views, height, width), 2.0)  # farther than anything drawn
    p, corners = flat(clip), flat_index(faces)
    screen = np.empty(views * count * 2, dtype=np.float32)
    parallel_for(
        _project,
        [(p, screen, width, height, *part) for part in chunks(views * count, 16384)],
    )
    t, w, d = flat(triangle), flat(uv), flat(depth)
    b = d[:0] if behind is None else flat(behind)
    parallel_for(
        _draw,
        [
            (p, corners, screen, b, t, w, d, count, height, width, *band)
            for band in bands(views, height)
        ],
    )
    return triangle, uv, depth


@kernel
def _project(p: Any, screen: Any, width: int, height: int, start: int, stop: int) -> None:
    """Pixel positions of vertices; NaN marks those that need care (w <= 0 or not finite)."""
    for i in range(np.uint64(start), np.uint64(stop)):
        k = np.uint64(4) * i
        x, y, z, w = p[k], p[k + np.uint64(1)], p[k + np.uint64(2)], p[k + np.uint64(3)]
        sx = np.nan
        sy = np.nan
        if w > 0 and np.isfinite(x + y + z + w):
            inverse = 1.0 / np.float64(w)
            sx = (x * inverse + 1.0) * (0.5 * width)
            sy = (1.0 - y * inverse) * (0.5 * height)
        screen[np.uint64(2) * i] = sx
        screen[np.uint64(2) * i + np.uint64(1)] = sy


@kernel
def _box_of_clipped(p: Any, ka: Any, kb: Any, kc: Any, width: int, height: int) -> Any:
    """Pixel box (x0, x1, y0, y1) of the part of a triangle in front of the near plane.

    Empty (x0 > x1) when nothing is, or when a corner is not finite; the whole image where
    even the clipped part reaches w <= 0.
    """
    keys = (ka, kb, kc)
    box = (np.inf, -np.inf, np.inf, -np.inf)
    for i in range(3):
        k = keys[i]
        if not np.isfinite(p[k] + p[k + 1] + p[k + 2] + p[k + 3]):
            return (np.inf, -np.inf, np.inf, -np.inf)
    for i in range(3):
        k, m = keys[i], keys[(i + 1) % 3]
        near_k = np.float64(p[k + 2]) + p[k + 3]
        near_m = np.float64(p[m + 2]) + p[m + 3]
        for end in range(2):  # the corner itself, then the cut of the edge that leaves it
            if end == 0:
                if near_k < 0.0:
                    continue
                t = 0.0
            else:
                if (near_k < 0.0) == (near_m < 0.0):
                    continue
                t = near_k / (near_k - near_m)
            x = (1.0 - t) * p[k] + t * p[m]
            y = (1.0 - t) * p[k + 1] + t * p[m + 1]
            w = (1.0 - t) * p[k + 3] + t * p[m + 3]
            if not w > 0.0:
                return (-np.inf, np.inf, -np.inf, np.inf)
            sx = (x / w + 1.0) * (0.5 * width)
            sy = (1.0 - y / w) * (0.5 * height)
            box = (min(box[0], sx), max(box[1], sx), min(box[2], sy), max(box[3], sy))
    return box


@kernel
def _draw(
    p: Any,
    faces: Any,
    screen: Any,
    behind: Any,
    triangle: Any,
    uv: Any,
    depth: Any,
    count: int,
    height: int,
    width: int,
    view: int,
    row0: int,
    row1: int,
) -> None:
    """Draw all triangles into the rows [row0, row1) of one view."""
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    first = np.uint64(view * count)
    peel = behind.size > 0
    margin = np.float32(1.0 / 128.0)  # of a pixel: boxes are rounded, edge functions decide
    half = np.float32(0.5)
    left, right = np.float32(0.0), np.float32(width - 1)
    top, bottom = np.float32(row0), np.float32(row1 - 1)
    step_x, step_y = 2.0 / width, 2.0 / height
    for face in range(np.uint64(faces.size // 3)):
        ia = first + np.uint64(faces[three * face])
        ib = first + np.uint64(faces[three * face + one])
        ic = first + np.uint64(faces[three * face + two])
        xa, ya = screen[two * ia], screen[two * ia + one]
        xb, yb = screen[two * ib], screen[two * ib + one]
        xc, yc = screen[two * ic], screen[two * ic + one]
        y_low = min(ya, min(yb, yc)) - half
        y_high = max(ya, max(yb, yc)) - half
        x_low = min(xa, min(xb, xc)) - half
        x_high = max(xa, max(xb, xc)) - half
        if np.isnan(xa + xb + xc):
            low_x, high_x, low_y, high_y = _box_of_clipped(
                p, np.int64(4 * ia), np.int64(4 * ib), np.int64(4 * ic), width, height
            )
            x_low, x_high = np.float32(low_x) - half, np.float32(high_x) - half
            y_low, y_high = np.float32(low_y) - half, np.float32(high_y) - half
        y_low = max(np.ceil(y_low - margin), top)
        y_high = min(np.floor(y_high + margin), bottom)
        x_low = max(np.ceil(x_low - margin), left)
        x_high = min(np.floor(x_high + margin), right)
        if not (x_low <= x_high and y_low <= y_high):
            continue
        ka, kb, kc = np.uint64(4) * ia, np.uint64(4) * ib, np.uint64(4) * ic
        x0, y0, w0 = np.float64(p[ka]), np.float64(p[ka + one]), np.float64(p[ka + three])
        x1, y1, w1 = np.float64(p[kb]), np.float64(p[kb + one]), np.float64(p[kb + three])
        x2, y2, w2 = np.float64(p[kc]), np.float64(p[kc + one]), np.float64(p[kc + three])
        # Cross products. Swapping the two corners of an edge negates each term exactly.
        e0x, e0y, e0w = y1 * w2 - y2 * w1, x2 * w1 - x1 * w2, x1 * y2 - x2 * y1
        e1x, e1y, e1w = y2 * w0 - y0 * w2, x0 * w2 - x2 * w0, x2 * y0 - x0 * y2
        e2x, e2y, e2w = y0 * w1 - y1 * w0, x1 * w0 - x0 * w1, x0 * y1 - x1 * y0
        det = w0 * e0w + w1 * e1w + w2 * e2w
        if det == 0.0 or not np.isfinite(det):
            continue
        if det < 0.0:
            det = -det
            e0x, e0y, e0w = -e0x, -e0y, -e0w
            e1x, e1y, e1w = -e1x, -e1y, -e1w
            e2x, e2y, e2w = -e2x, -e2y, -e2w
        inverse = 1.0 / det
        z0, z1, z2 = p[ka + two] * inverse, p[kb + two] * inverse, p[kc + two] * inverse
        dx = z0 * e0x + z1 * e1x + z2 * e2x
        dy = z0 * e0y + z1 * e1y + z2 * e2y
        dw = z0 * e0w + z1 * e1w + z2 * e2w
        number = np.int32(face + one)
        begin, end = int(x_low), int(x_high) + 1
        for row in range(int(y_low), int(y_high) + 1):
            fy = 1.0 - (row + 0.5) * step_y
            c0, c1, c2 = e0y * fy + e0w, e1y * fy + e1w, e2y * fy + e2w
            cd = dy * fy + dw
            base = (view * height + row) * width
            for column in range(begin, end):
                fx = (column + 0.5) * step_x - 1.0
                a0, a1, a2 = e0x * fx + c0, e1x * fx + c1, e2x * fx + c2
                d = depth.dtype.type(dx * fx + cd)
                k = np.uint64(base + column)
                inside = (min(a0, min(a1, a2)) >= 0.0) & (abs(d) <= 1.0) & (d < depth[k])
                if peel:
                    inside &= d > behind[k]
                if inside:
                    total = 1.0 / (a0 + a1 + a2)
                    depth[k] = d
                    triangle[k] = number
                    uv[two * k] = a0 * total
                    uv[two * k + one] = a1 * total
    for place in range((view * height + row0) * width, (view * height + row1) * width):
        depth[place] = min(depth[place], 1.0)
