"""Rows of kernel matrices, and sums over them, as compiled loops.

Letters: n points, m centres. `flat` and `length` are the points' unit vectors [n * 4] and
lengths, `axes` the centres' unit vectors by axes [4 * m]. Tables `c` (of values) and `d` (of
slopes) come from `spline_kernels`; `poly` says whether they hold a series.
"""

import math
from typing import Any

import numpy as np

from isolux.backends.cpu.jit import SHADING_MATH, SUM_MATH, kernel

__all__ = ["gradient_sums", "slope_rows", "value_rows", "value_sums"]


@kernel(fastmath=SHADING_MATH)
def _series_row(px: Any, py: Any, pz: Any, pw: Any, axes: Any, c: Any, out: Any) -> None:
    """The kernel's function of the angle for one point and all centres."""
    m = len(axes) // 4
    ux, uy, uz, uw = axes[:m], axes[m : 2 * m], axes[2 * m : 3 * m], axes[3 * m :]
    for j in range(np.uint32(m)):
        dx, dy, dz, dw = ux[j] - px, uy[j] - py, uz[j] - pz, uw[j] - pw
        q = (dx * dx + dy * dy + dz * dz + dw * dw) * c[0]
        far = q > c[1]
        g = max(c[2] - q if far else q, c[3])
        s = c[len(c) - 1]
        # Two short loops are unrolled and run over several centres at once; a long one is not.
        for k in range(9):
            s = s * g + c[len(c) - 2 - k]
        for k in range(9, len(c) - 9):
            s = s * g + c[len(c) - 2 - k]
        s *= math.sqrt(g)
        out[j] = c[5] + c[6] * g + c[7] * s if far else c[4] + s


@kernel(fastmath=SHADING_MATH)
def _series_slope_row(px: Any, py: Any, pz: Any, pw: Any, axes: Any, c: Any, out: Any) -> None:
    """Its derivative by u = 1 - cos t = 2 q; zero at the centre."""
    m = len(axes) // 4
    ux, uy, uz, uw = axes[:m], axes[m : 2 * m], axes[2 * m : 3 * m], axes[3 * m :]
    for j in range(np.uint32(m)):
        dx, dy, dz, dw = ux[j] - px, uy[j] - py, uz[j] - pz, uw[j] - pw
        q = (dx * dx + dy * dy + dz * dz + dw * dw) * c[0]
        far = q > c[1]
        g = max(c[2] - q if far else q, c[3])
        s = c[len(c) - 1]
        for k in range(9):
            s = s * g + c[len(c) - 2 - k]
        for k in range(9, len(c) - 9):
            s = s * g + c[len(c) - 2 - k]
        s = s / math.sqrt(g) if g > c[3] else c[3]
        out[j] = -(c[1] * c[6] + c[7] * s) if far else s


@kernel(fastmath=SHADING_MATH)
def _laplace_row(px: Any, py: Any, pz: Any, pw: Any, axes: Any, c: Any, out: Any) -> None:
    m = len(axes) // 4
    ux, uy, uz, uw = axes[:m], axes[m : 2 * m], axes[2 * m : 3 * m], axes[3 * m :]
    for j in range(np.uint32(m)):
        dx, dy, dz, dw = ux[j] - px, uy[j] - py, uz[j] - pz, uw[j] - pw
        u = (dx * dx + dy * dy + dz * dz + dw * dw) * c[1]
        out[j] = math.exp(c[4] * (math.sqrt(u) if c[5] == c[1] else u ** c[5]))


@kernel(fastmath=SHADING_MATH)
def _laplace_slope_row(px: Any, py: Any, pz: Any, pw: Any, axes: Any, c: Any, out: Any) -> None:
    m = len(axes) // 4
    ux, uy, uz, uw = axes[:m], axes[m : 2 * m], axes[2 * m : 3 * m], axes[3 * m :]
    for j in range(np.uint32(m)):
        dx, dy, dz, dw = ux[j] - px, uy[j] - py, uz[j] - pz, uw[j] - pw
        u = (dx * dx + dy * dy + dz * dz + dw * dw) * c[1]
        grown = math.sqrt(u) if c[5] == c[1] else u ** c[5]
        out[j] = c[4] * c[5] * grown / u * math.exp(c[4] * grown) if u > c[3] else c[3]


@kernel(fastmath=SHADING_MATH)
def value_rows(
    flat: Any,
    length: Any,
    axes: Any,
    lengths: Any,
    c: Any,
    poly: bool,
    normed: bool,
    out: Any,
    start: int,
    stop: int,
) -> None:
    count = len(axes) // 4
    for i in range(start, stop):
        row = out[(i - start) * count : (i - start + 1) * count]
        px, py, pz, pw = flat[4 * i], flat[4 * i + 1], flat[4 * i + 2], flat[4 * i + 3]
        if poly:
            _series_row(px, py, pz, pw, axes, c, row)
        else:
            _laplace_row(px, py, pz, pw, axes, c, row)
        if normed:
            for j in range(np.uint32(count)):
                row[j] *= length[i] * lengths[j]


@kernel(fastmath=SHADING_MATH)
def slope_rows(
    flat: Any,
    length: Any,
    axes: Any,
    lengths: Any,
    c: Any,
    d: Any,
    poly: bool,
    normed: bool,
    out: Any,
    start: int,
    stop: int,
) -> None:
    """grad K = r_z [x (f - f' u) - f' (z - x)] for unit x and z.

    Without lengths the first f is absent, and 1 / r_x stands for r_z.
    """
    m = len(axes) // 4
    ux, uy, uz, uw = axes[:m], axes[m : 2 * m], axes[2 * m : 3 * m], axes[3 * m :]
    count = len(axes) // 4
    value, slope = np.empty_like(axes[: len(axes) // 4]), np.empty_like(axes[: len(axes) // 4])
    for i in range(start, stop):
        first = 3 * (i - start) * count
        px, py, pz, pw = flat[4 * i], flat[4 * i + 1], flat[4 * i + 2], flat[4 * i + 3]
        if poly:
            _series_row(px, py, pz, pw, axes, c, value)
            _series_slope_row(px, py, pz, pw, axes, d, slope)
        else:
            _laplace_row(px, py, pz, pw, axes, c, value)
            _laplace_slope_row(px, py, pz, pw, axes, d, slope)
        if not normed:
            value[:] = 0
        over = c[2] / length[i]
        a, b, e = out[first:], out[first + count :], out[first + 2 * count :]
        for j in range(np.uint32(count)):
            dx, dy, dz, dw = ux[j] - px, uy[j] - py, uz[j] - pz, uw[j] - pw
            u = (dx * dx + dy * dy + dz * dz + dw * dw) * c[1]
            along = value[j] - slope[j] * u
            scale = lengths[j] if normed else over
            a[j] = scale * (px * along - slope[j] * dx)
            b[j] = scale * (py * along - slope[j] * dy)
            e[j] = scale * (pz * along - slope[j] * dz)


@kernel(fastmath=SUM_MATH)
def _dot(a: Any, b: Any) -> float:
    total = 0.0
    for j in range(np.uint32(len(a))):
        total += a[j] * b[j]
    return total


@kernel(fastmath=SHADING_MATH)
def value_sums(
    flat: Any,
    length: Any,
    axes: Any,
    weight: Any,
    c: Any,
    poly: bool,
    normed: bool,
    out: Any,
    start: int,
    stop: int,
) -> None:
    row = np.empty_like(axes[: len(axes) // 4])
    for i in range(start, stop):
        px, py, pz, pw = flat[4 * i], flat[4 * i + 1], flat[4 * i + 2], flat[4 * i + 3]
        if poly:
            _series_row(px, py, pz, pw, axes, c, row)
        else:
            _laplace_row(px, py, pz, pw, axes, c, row)
        out[i] = _dot(row, weight) * (length[i] if normed else c[2])


@kernel(fastmath=SUM_MATH)
def _slope_dots(
    px: Any,
    py: Any,
    pz: Any,
    pw: Any,
    axes: Any,
    slope: Any,
    weight: Any,
) -> tuple[float, float, float, float]:
    m = len(axes) // 4
    ux, uy, uz, uw = axes[:m], axes[m : 2 * m], axes[2 * m : 3 * m], axes[3 * m :]
    along, tx, ty, tz = 0.0, 0.0, 0.0, 0.0
    for j in range(np.uint32(m)):
        dx, dy, dz, dw = ux[j] - px, uy[j] - py, uz[j] - pz, uw[j] - pw
        w = slope[j] * weight[j]
        along += 0.5 * w * (dx * dx + dy * dy + dz * dz + dw * dw)
        tx += w * dx
        ty += w * dy
        tz += w * dz
    return along, tx, ty, tz


@kernel(fastmath=SHADING_MATH)
def gradient_sums(
    flat: Any,
    length: Any,
    axes: Any,
    weight: Any,
    c: Any,
    d: Any,
    poly: bool,
    normed: bool,
    out: Any,
    start: int,
    stop: int,
) -> None:
    value, slope = np.empty_like(axes[: len(axes) // 4]), np.empty_like(axes[: len(axes) // 4])
    for i in range(start, stop):
        px, py, pz, pw = flat[4 * i], flat[4 * i + 1], flat[4 * i + 2], flat[4 * i + 3]
        if poly:
            _series_row(px, py, pz, pw, axes, c, value)
            _series_slope_row(px, py, pz, pw, axes, d, slope)
        else:
            _laplace_row(px, py, pz, pw, axes, c, value)
            _laplace_slope_row(px, py, pz, pw, axes, d, slope)
        whole = _dot(value, weight) if normed else 0.0
        scale = 1.0 if normed else 1.0 / length[i]
        along, tx, ty, tz = _slope_dots(px, py, pz, pw, axes, slope, weight)
        out[3 * i] = scale * (px * (whole - along) - tx)
        out[3 * i + 1] = scale * (py * (whole - along) - ty)
        out[3 * i + 2] = scale * (pz * (whole - along) - tz)
