"""The hash grid's inner loops. Letters as in `isolux.backends.encode`.

Written for speed where measuring asked for it: two features at a time, because their loads then
become one; rows computed in units of table entries, because shifting goes through xor and
mask; and each loop pasted in twice, for direct and for hashed levels, because a branch inside
costs a third of the time.
"""

from typing import Any

import numpy as np

from isolux.backends.cpu.jit import SHADING_MATH, kernel

__all__ = ["gather", "scatter", "slope", "slope_gather", "slope_scatter", "slope_slope"]

_PRIME_Y = np.uint64(2654435761)  # Müller et al. 2022, equation 4; the prime of x is 1
_PRIME_Z = np.uint64(805459861)


@kernel(fastmath=SHADING_MATH)
def _locate(x: Any, scale: Any) -> Any:
    """Cell, place in the cell, and whether the coordinate moves the place (1) or not (0)."""
    real = type(scale)
    zero, one, half = real(0), real(1), real(0.5)
    inner = one if zero <= x <= one else zero
    # This order sends NaN to 0, so a bad point reads a wrong row but never a foreign one.
    place = min(max(zero, x), one) * scale + half
    cell = np.int64(place)
    return np.uint64(cell), place - real(cell), inner


@kernel
def _wrapped(row: Any, rows: Any) -> Any:
    """Corners past the last one, half a cell outside, share rows with the next line."""
    return row if row < rows else row - rows


@kernel(fastmath=SHADING_MATH)
def _entries(
    x: Any, y: Any, z: Any, resolution: Any, first: Any, rows: Any, shift: Any, direct: bool
) -> Any:
    """Table entries of a cell's corners; in corner k, bit 0 is x, bit 1 is y and bit 2 is z."""
    one = np.uint64(1)
    wide = one << shift
    if direct:
        plane = resolution * resolution
        a = x + resolution * y + plane * z
        b, c, d = a + resolution, a + plane, a + plane + resolution
        return (
            first + (a << shift),
            first + (_wrapped(a + one, rows) << shift),
            first + (_wrapped(b, rows) << shift),
            first + (_wrapped(b + one, rows) << shift),
            first + (_wrapped(c, rows) << shift),
            first + (_wrapped(c + one, rows) << shift),
            first + (_wrapped(d, rows) << shift),
            first + (_wrapped(d + one, rows) << shift),
        )
    mask = (rows - one) << shift
    x0, y0, z0 = x << shift, (y * _PRIME_Y) << shift, (z * _PRIME_Z) << shift
    x1, y1, z1 = x0 + wide, y0 + (_PRIME_Y << shift), z0 + (_PRIME_Z << shift)
    a, b, c, d = y0 ^ z0, y1 ^ z0, y0 ^ z1, y1 ^ z1
    return (
        first + ((x0 ^ a) & mask),
        first + ((x1 ^ a) & mask),
        first + ((x0 ^ b) & mask),
        first + ((x1 ^ b) & mask),
        first + ((x0 ^ c) & mask),
        first + ((x1 ^ c) & mask),
        first + ((x0 ^ d) & mask),
        first + ((x1 ^ d) & mask),
    )


@kernel(fastmath=SHADING_MATH)
def _weights(x: Any, y: Any, z: Any) -> Any:
    """Trilinear weights of the corners."""
    one = type(x)(1)
    x0, y0, z0 = one - x, one - y, one - z
    a, b, c, d = y0 * z0, y * z0, y0 * z, y * z
    return x0 * a, x * a, x0 * b, x * b, x0 * c, x * c, x0 * d, x * d


@kernel(fastmath=SHADING_MATH)
def _slopes(x: Any, y: Any, z: Any, u: Any, v: Any, w: Any) -> Any:
    """Derivatives of the corners' weights along (u, v, w)."""
    one = type(x)(1)
    x0, y0, z0 = one - x, one - y, one - z
    a, b, c, d = u * y0 * z0, u * y * z0, u * y0 * z, u * y * z
    e, f, g, h = v * x0 * z0, v * x * z0, v * x0 * z, v * x * z
    i, j, k, m = w * x0 * y0, w * x * y0, w * x0 * y, w * x * y
    return (
        -a - e - i,
        a - f - j,
        e - b - k,
        b + f - m,
        i - c - g,
        c + j - h,
        k + g - d,
        d + h + m,
    )


@kernel(fastmath=SHADING_MATH)
def _corners(
    points: Any,
    along: Any,
    p: int,
    scale: Any,
    resolution: Any,
    first: Any,
    rows: Any,
    shift: Any,
    direct: bool,
    derivative: bool,
) -> Any:
    """Entries around a point, and their weights or the weights' derivatives along `along`."""
    x, fx, ix = _locate(points[3 * p], scale)
    y, fy, iy = _locate(points[3 * p + 1], scale)
    z, fz, iz = _locate(points[3 * p + 2], scale)
    entry = _entries(x, y, z, resolution, first, rows, shift, direct)
    if derivative:
        u, v, w = along[3 * p] * ix, along[3 * p + 1] * iy, along[3 * p + 2] * iz
        return entry, _slopes(fx, fy, fz, u * scale, v * scale, w * scale)
    return entry, _weights(fx, fy, fz)


@kernel(fastmath=SHADING_MATH, inline=True)
def _gather(
    points: Any,
    along: Any,
    table: Any,
    out: Any,
    level: Any,
    direct: bool,
    derivative: bool,
    column: int,
    start: int,
    stop: int,
) -> None:
    scale, resolution, first, rows, shift = level
    count, one = points.size // 3, np.uint64(1)
    for p in range(start, stop):
        e, w = _corners(
            points, along, p, scale, resolution, first, rows, shift, direct, derivative
        )
        out[column * count + p] = (
            (w[0] * table[e[0]] + w[1] * table[e[1]])
            + (w[2] * table[e[2]] + w[3] * table[e[3]])
            + (w[4] * table[e[4]] + w[5] * table[e[5]])
            + (w[6] * table[e[6]] + w[7] * table[e[7]])
        )
        out[(column + 1) * count + p] = (
            (w[0] * table[e[0] + one] + w[1] * table[e[1] + one])
            + (w[2] * table[e[2] + one] + w[3] * table[e[3] + one])
            + (w[4] * table[e[4] + one] + w[5] * table[e[5] + one])
            + (w[6] * table[e[6] + one] + w[7] * table[e[7] + one])
        )


@kernel(fastmath=SHADING_MATH)
def gather(
    points: Any,
    table: Any,
    out: Any,
    level: Any,
    direct: bool,
    column: int,
    start: int,
    stop: int,
) -> None:
    """Two columns of the encoding for points in [start, stop)."""
    if direct:
        _gather(points, points, table, out, level, True, False, column, start, stop)
    else:
        _gather(points, points, table, out, level, False, False, column, start, stop)


@kernel(fastmath=SHADING_MATH)
def slope_gather(
    points: Any,
    along: Any,
    table: Any,
    out: Any,
    level: Any,
    direct: bool,
    column: int,
    start: int,
    stop: int,
) -> None:
    """Derivatives of two columns of the encoding, along a direction for each point."""
    if direct:
        _gather(points, along, table, out, level, True, True, column, start, stop)
    else:
        _gather(points, along, table, out, level, False, True, column, start, stop)


@kernel(fastmath=SHADING_MATH, inline=True)
def _scatter(
    points: Any,
    along: Any,
    grad: Any,
    out: Any,
    level: Any,
    direct: bool,
    derivative: bool,
    column: int,
) -> None:
    scale, resolution, first, rows, shift = level
    count, one = points.size // 3, np.uint64(1)
    for p in range(count):
        e, w = _corners(
            points, along, p, scale, resolution, first, rows, shift, direct, derivative
        )
        g, h = grad[column * count + p], grad[(column + 1) * count + p]
        out[e[0]] += w[0] * g
        out[e[0] + one] += w[0] * h
        out[e[1]] += w[1] * g
        out[e[1] + one] += w[1] * h
        out[e[2]] += w[2] * g
        out[e[2] + one] += w[2] * h
        out[e[3]] += w[3] * g
        out[e[3] + one] += w[3] * h
        out[e[4]] += w[4] * g
        out[e[4] + one] += w[4] * h
        out[e[5]] += w[5] * g
        out[e[5] + one] += w[5] * h
        out[e[6]] += w[6] * g
        out[e[6] + one] += w[6] * h
        out[e[7]] += w[7] * g
        out[e[7] + one] += w[7] * h


@kernel(fastmath=SHADING_MATH)
def scatter(points: Any, grad: Any, out: Any, level: Any, direct: bool, column: int) -> None:
    """The adjoint of `gather` in the table, for all points."""
    if direct:
        _scatter(points, points, grad, out, level, True, False, column)
    else:
        _scatter(points, points, grad, out, level, False, False, column)


@kernel(fastmath=SHADING_MATH)
def slope_scatter(
    points: Any, along: Any, grad: Any, out: Any, level: Any, direct: bool, column: int
) -> None:
    """The adjoint of `slope_gather` in the table, for all points."""
    if direct:
        _scatter(points, along, grad, out, level, True, True, column)
    else:
        _scatter(points, along, grad, out, level, False, True, column)


@kernel(fastmath=SHADING_MATH, inline=True)
def _slope(
    points: Any,
    along: Any,
    table: Any,
    grad: Any,
    out: Any,
    level: Any,
    direct: bool,
    mixed: bool,
    column: int,
    start: int,
    stop: int,
) -> None:
    scale, resolution, first, rows, shift = level
    count, next_ = points.size // 3, np.uint64(1)
    one = type(scale)(1)
    square = scale * scale
    for p in range(start, stop):
        x, fx, ix = _locate(points[3 * p], scale)
        y, fy, iy = _locate(points[3 * p + 1], scale)
        z, fz, iz = _locate(points[3 * p + 2], scale)
        at = _entries(x, y, z, resolution, first, rows, shift, direct)
        m, n = grad[column * count + p], grad[(column + 1) * count + p]
        # <gradient above, features> at the corners: one number stands in for the features.
        a = m * table[at[0]] + n * table[at[0] + next_]
        b = m * table[at[1]] + n * table[at[1] + next_]
        c = m * table[at[2]] + n * table[at[2] + next_]
        d = m * table[at[3]] + n * table[at[3] + next_]
        e = m * table[at[4]] + n * table[at[4] + next_]
        f = m * table[at[5]] + n * table[at[5] + next_]
        g = m * table[at[6]] + n * table[at[6] + next_]
        h = m * table[at[7]] + n * table[at[7] + next_]
        gx, gy, gz = one - fx, one - fy, one - fz
        if mixed:  # the Hessian times a direction; a trilinear function has mixed terms only
            xy = square * ix * iy * (gz * (a - b - c + d) + fz * (e - f - g + h))
            xz = square * ix * iz * (gy * (a - b - e + f) + fy * (c - d - g + h))
            yz = square * iy * iz * (gx * (a - c - e + g) + fx * (b - d - f + h))
            u, v, w = along[3 * p], along[3 * p + 1], along[3 * p + 2]
            out[3 * p] += xy * v + xz * w
            out[3 * p + 1] += xy * u + yz * w
            out[3 * p + 2] += xz * u + yz * v
        else:
            dx = gz * (gy * (b - a) + fy * (d - c)) + fz * (gy * (f - e) + fy * (h - g))
            dy = gz * (gx * (c - a) + fx * (d - b)) + fz * (gx * (g - e) + fx * (h - f))
            dz = gy * (gx * (e - a) + fx * (f - b)) + fy * (gx * (g - c) + fx * (h - d))
            out[3 * p] += scale * ix * dx
            out[3 * p + 1] += scale * iy * dy
            out[3 * p + 2] += scale * iz * dz


@kernel(fastmath=SHADING_MATH)
def slope(
    points: Any,
    table: Any,
    grad: Any,
    out: Any,
    level: Any,
    direct: bool,
    column: int,
    start: int,
    stop: int,
) -> None:
    """Add the gradient of <gradient above, two columns> to points in [start, stop)."""
    if direct:
        _slope(points, points, table, grad, out, level, True, False, column, start, stop)
    else:
        _slope(points, points, table, grad, out, level, False, False, column, start, stop)


@kernel(fastmath=SHADING_MATH)
def slope_slope(
    points: Any,
    along: Any,
    table: Any,
    grad: Any,
    out: Any,
    level: Any,
    direct: bool,
    column: int,
    start: int,
    stop: int,
) -> None:
    """Add the Hessian of <gradient above, two columns>, times `along`."""
    if direct:
        _slope(points, along, table, grad, out, level, True, True, column, start, stop)
    else:
        _slope(points, along, table, grad, out, level, False, True, column, start, stop)
