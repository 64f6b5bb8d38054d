"""Hash grid kernels. Letters as in `isolux.backends.encode`.

A level's table stays in cache while the points pass by, so the level is the outer loop
everywhere: going point by point costs twice as much because the tables evict each other.
A task owns the table slice of a level (scatters) or a range of points (everything else), so
nothing is added by two tasks and results do not depend on the number of threads.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from isolux.backends.cpu.jit import SHADING_MATH, kernel
from isolux.backends.cpu.pool import chunks, parallel_for

if TYPE_CHECKING:
    from isolux.backends.encode import HashGridSpec

__all__ = ["backward", "forward", "second"]

_CHUNK = 65536  # points of a task where a level's points are divided
_PRIME_Y = np.uint64(2654435761)  # Müller et al. 2022, equation 4; the prime of x is 1
_PRIME_Z = np.uint64(805459861)


def forward(points: Tensor, table: Tensor, spec: "HashGridSpec", levels: int) -> Tensor:
    """Encoding [p, c], stored by columns; those of levels from `levels` on are zero."""
    columns = points.new_empty(spec.out_dim, len(points))
    columns[levels * spec.features :] = 0.0
    flat = points.numpy().reshape(-1), table.numpy().reshape(-1), columns.numpy().reshape(-1)
    tasks = [
        (*flat, *_level(points, spec, level), start, stop, len(points))
        for level in range(levels)
        for start, stop in chunks(len(points), _CHUNK)
    ]
    parallel_for(_forward, tasks)
    return columns.T


def backward(
    points: Tensor,
    table: Tensor,
    grad: Tensor,
    spec: "HashGridSpec",
    levels: int,
    need_points: bool,
    need_table: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients to points and to the table, None where not needed."""
    columns = grad.T.contiguous()
    flat = points.numpy().reshape(-1), table.numpy().reshape(-1), columns.numpy().reshape(-1)
    to_points = to_table = None
    if need_table:
        to_table = torch.zeros_like(table)
        out = to_table.numpy().reshape(-1)
        parallel_for(
            _to_table,
            [
                (flat[0], flat[2], out, *_level(points, spec, level), len(points))
                for level in range(levels)
            ],
        )
    if need_points:
        to_points = torch.zeros_like(points)
        out = to_points.numpy().reshape(-1)
        parallel_for(
            _to_points_all,
            [
                (*flat, out, *_all_levels(points, spec, levels), start, stop, len(points))
                for start, stop in chunks(len(points), _CHUNK)
            ],
        )
    return to_points, to_table


def second(
    points: Tensor,
    table: Tensor,
    grad: Tensor,
    direction: Tensor,
    spec: "HashGridSpec",
    levels: int,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of <direction, gradient to points> to (gradient above, points, table)."""
    columns = grad.T.contiguous()
    n = len(points)
    flat = points.numpy().reshape(-1), table.numpy().reshape(-1), columns.numpy().reshape(-1)
    along = direction.numpy().reshape(-1)
    to_grad = to_points = to_table = None
    if needs[0]:
        to_columns = torch.zeros_like(columns)
        out = to_columns.numpy().reshape(-1)
        parallel_for(
            _second_to_grad,
            [
                (flat[0], flat[1], along, out, *_level(points, spec, level), start, stop, n)
                for level in range(levels)
                for start, stop in chunks(n, _CHUNK)
            ],
        )
        to_grad = to_columns.T
    if needs[1]:
        to_points = torch.zeros_like(points)
        out = to_points.numpy().reshape(-1)
        parallel_for(
            _second_to_points_all,
            [
                (*flat, along, out, *_all_levels(points, spec, levels), start, stop, n)
                for start, stop in chunks(n, _CHUNK)
            ],
        )
    if needs[2]:
        to_table = torch.zeros_like(table)
        out = to_table.numpy().reshape(-1)
        parallel_for(
            _second_to_table,
            [
                (flat[0], flat[2], along, out, *_level(points, spec, level), n)
                for level in range(levels)
            ],
        )
    return to_grad, to_points, to_table


def _level(points: Tensor, spec: "HashGridSpec", level: int) -> tuple[Any, ...]:
    """What a kernel needs to know of one level."""
    real = np.float64 if points.dtype == torch.float64 else np.float32
    return (
        real(spec.scales[level]),
        np.uint64(spec.resolutions[level]),
        np.uint64(spec.offsets[level]),
        np.uint64(spec.offsets[level + 1] - spec.offsets[level]),
        spec.direct[level],
        spec.features,
        level * spec.features,
    )


def _all_levels(points: Tensor, spec: "HashGridSpec", levels: int) -> tuple[Any, ...]:
    real = np.float64 if points.dtype == torch.float64 else np.float32
    return (
        np.array(spec.scales, dtype=real),
        np.array(spec.resolutions, dtype=np.uint64),
        np.array(spec.offsets, dtype=np.uint64),
        np.array(spec.direct),
        spec.features,
        levels,
    )


@kernel(fastmath=SHADING_MATH)
def _locate(x: Any, scale: Any) -> Any:
    """Cell, place in the cell, and whether the coordinate moves the place (1) or not (0)."""
    real = type(scale)
    zero, one, half = real(0), real(1), real(0.5)
    inner = one if zero <= x <= one else zero
    # This order sends NaN to 0, so a bad point reads a wrong row but never a foreign one.
    place = min(max(zero, x), one) * scale + half
    cell = np.uint64(np.uint32(np.int32(place)))
    return cell, place - real(cell), inner


@kernel(fastmath=SHADING_MATH)
def _rows(x: Any, y: Any, z: Any, resolution: Any, offset: Any, rows: Any, direct: bool) -> Any:
    """Table rows of a cell's corners; in corner k, bit 0 is x, bit 1 is y and bit 2 is z."""
    one = np.uint64(1)
    if direct:
        plane = resolution * resolution
        a = x + resolution * y + plane * z
        b, c, d = a + resolution, a + plane, a + plane + resolution
        # Corners past the last one, half a cell outside, share rows with the next line.
        return (
            offset + (a - rows if a >= rows else a),
            offset + (a + one - rows if a + one >= rows else a + one),
            offset + (b - rows if b >= rows else b),
            offset + (b + one - rows if b + one >= rows else b + one),
            offset + (c - rows if c >= rows else c),
            offset + (c + one - rows if c + one >= rows else c + one),
            offset + (d - rows if d >= rows else d),
            offset + (d + one - rows if d + one >= rows else d + one),
        )
    mask = rows - one
    y0, z0 = y * _PRIME_Y, z * _PRIME_Z
    y1, z1 = y0 + _PRIME_Y, z0 + _PRIME_Z
    a, b, c, d = y0 ^ z0, y1 ^ z0, y0 ^ z1, y1 ^ z1
    return (
        offset + ((x ^ a) & mask),
        offset + (((x + one) ^ a) & mask),
        offset + ((x ^ b) & mask),
        offset + (((x + one) ^ b) & mask),
        offset + ((x ^ c) & mask),
        offset + (((x + one) ^ c) & mask),
        offset + ((x ^ d) & mask),
        offset + (((x + one) ^ d) & mask),
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
def _forward(
    points: Any,
    table: Any,
    out: Any,
    scale: Any,
    resolution: Any,
    offset: Any,
    rows: Any,
    direct: bool,
    features: int,
    column: int,
    start: int,
    stop: int,
    count: int,
) -> None:
    """Encode one level of points in [start, stop)."""
    for p in range(start, stop):
        x, fx, _ = _locate(points[3 * p], scale)
        y, fy, _ = _locate(points[3 * p + 1], scale)
        z, fz, _ = _locate(points[3 * p + 2], scale)
        row = _rows(x, y, z, resolution, offset, rows, direct)
        weight = _weights(fx, fy, fz)
        for pair in range(0, features, 2):
            first = type(scale)(0)
            other = type(scale)(0)
            for k in range(8):
                at = row[k] * np.uint64(features) + np.uint64(pair)
                first += weight[k] * table[at]
                other += weight[k] * table[at + np.uint64(1)]
            out[(column + pair) * count + p] = first
            out[(column + pair + 1) * count + p] = other


@kernel(fastmath=SHADING_MATH)
def _second_to_grad(
    points: Any,
    table: Any,
    along: Any,
    out: Any,
    scale: Any,
    resolution: Any,
    offset: Any,
    rows: Any,
    direct: bool,
    features: int,
    column: int,
    start: int,
    stop: int,
    count: int,
) -> None:
    """As `_forward`, with the weights' derivatives along a direction given for each point."""
    for p in range(start, stop):
        x, fx, ix = _locate(points[3 * p], scale)
        y, fy, iy = _locate(points[3 * p + 1], scale)
        z, fz, iz = _locate(points[3 * p + 2], scale)
        row = _rows(x, y, z, resolution, offset, rows, direct)
        u, v, w = along[3 * p] * ix, along[3 * p + 1] * iy, along[3 * p + 2] * iz
        weight = _slopes(fx, fy, fz, u * scale, v * scale, w * scale)
        for pair in range(0, features, 2):
            first = type(scale)(0)
            other = type(scale)(0)
            for k in range(8):
                at = row[k] * np.uint64(features) + np.uint64(pair)
                first += weight[k] * table[at]
                other += weight[k] * table[at + np.uint64(1)]
            out[(column + pair) * count + p] = first
            out[(column + pair + 1) * count + p] = other


@kernel(fastmath=SHADING_MATH)
def _to_table(
    points: Any,
    grad: Any,
    out: Any,
    scale: Any,
    resolution: Any,
    offset: Any,
    rows: Any,
    direct: bool,
    features: int,
    column: int,
    count: int,
) -> None:
    """Add one level's gradient to its slice of the table."""
    for p in range(count):
        x, fx, _ = _locate(points[3 * p], scale)
        y, fy, _ = _locate(points[3 * p + 1], scale)
        z, fz, _ = _locate(points[3 * p + 2], scale)
        row = _rows(x, y, z, resolution, offset, rows, direct)
        weight = _weights(fx, fy, fz)
        for pair in range(0, features, 2):
            first = grad[(column + pair) * count + p]
            other = grad[(column + pair + 1) * count + p]
            for k in range(8):
                at = row[k] * np.uint64(features) + np.uint64(pair)
                out[at] += weight[k] * first
                out[at + np.uint64(1)] += weight[k] * other


@kernel(fastmath=SHADING_MATH)
def _second_to_table(
    points: Any,
    grad: Any,
    along: Any,
    out: Any,
    scale: Any,
    resolution: Any,
    offset: Any,
    rows: Any,
    direct: bool,
    features: int,
    column: int,
    count: int,
) -> None:
    """As `_to_table`, with the weights' derivatives along a direction given for each point."""
    for p in range(count):
        x, fx, ix = _locate(points[3 * p], scale)
        y, fy, iy = _locate(points[3 * p + 1], scale)
        z, fz, iz = _locate(points[3 * p + 2], scale)
        row = _rows(x, y, z, resolution, offset, rows, direct)
        u, v, w = along[3 * p] * ix, along[3 * p + 1] * iy, along[3 * p + 2] * iz
        weight = _slopes(fx, fy, fz, u * scale, v * scale, w * scale)
        for pair in range(0, features, 2):
            first = grad[(column + pair) * count + p]
            other = grad[(column + pair + 1) * count + p]
            for k in range(8):
                at = row[k] * np.uint64(features) + np.uint64(pair)
                out[at] += weight[k] * first
                out[at + np.uint64(1)] += weight[k] * other


@kernel(fastmath=SHADING_MATH)
def _corner_sums(
    table: Any, row: Any, grad: Any, p: int, first: int, features: int, n: int
) -> Any:
    """<gradient above, features> at each corner: encoding's scalar stand-in."""
    zero = table.dtype.type(0)
    a, b, c, d, e, f, g, h = zero, zero, zero, zero, zero, zero, zero, zero
    for feature in range(features):
        above = grad[(first + feature) * n + p]
        at, wide = np.uint64(feature), np.uint64(features)
        a += above * table[row[0] * wide + at]
        b += above * table[row[1] * wide + at]
        c += above * table[row[2] * wide + at]
        d += above * table[row[3] * wide + at]
        e += above * table[row[4] * wide + at]
        f += above * table[row[5] * wide + at]
        g += above * table[row[6] * wide + at]
        h += above * table[row[7] * wide + at]
    return a, b, c, d, e, f, g, h


@kernel(fastmath=SHADING_MATH)
def _to_points_all(
    points: Any,
    table: Any,
    grad: Any,
    out: Any,
    scales: Any,
    resolutions: Any,
    offsets: Any,
    directs: Any,
    features: int,
    levels: int,
    start: int,
    stop: int,
    count: int,
) -> None:
    """Gradient to points in [start, stop), level after level."""
    for level in range(levels):
        scale, resolution, offset = scales[level], resolutions[level], offsets[level]
        rows, direct = offsets[level + 1] - offset, directs[level]
        one = type(scale)(1)
        for p in range(start, stop):
            x, fx, ix = _locate(points[3 * p], scale)
            y, fy, iy = _locate(points[3 * p + 1], scale)
            z, fz, iz = _locate(points[3 * p + 2], scale)
            row = _rows(x, y, z, resolution, offset, rows, direct)
            a, b, c, d, e, f, g, h = _corner_sums(
                table, row, grad, p, level * features, features, count
            )
            gx, gy, gz = one - fx, one - fy, one - fz
            out[3 * p] += (
                scale
                * ix
                * (gz * (gy * (b - a) + fy * (d - c)) + fz * (gy * (f - e) + fy * (h - g)))
            )
            out[3 * p + 1] += (
                scale
                * iy
                * (gz * (gx * (c - a) + fx * (d - b)) + fz * (gx * (g - e) + fx * (h - f)))
            )
            out[3 * p + 2] += (
                scale
                * iz
                * (gy * (gx * (e - a) + fx * (f - b)) + fy * (gx * (g - c) + fx * (h - d)))
            )


@kernel(fastmath=SHADING_MATH)
def _second_to_points_all(
    points: Any,
    table: Any,
    grad: Any,
    along: Any,
    out: Any,
    scales: Any,
    resolutions: Any,
    offsets: Any,
    directs: Any,
    features: int,
    levels: int,
    start: int,
    stop: int,
    count: int,
) -> None:
    """Hessian of <gradient above, encoding> times a direction: mixed terms only."""
    for level in range(levels):
        scale, resolution, offset = scales[level], resolutions[level], offsets[level]
        rows, direct = offsets[level + 1] - offset, directs[level]
        one = type(scale)(1)
        for p in range(start, stop):
            x, fx, ix = _locate(points[3 * p], scale)
            y, fy, iy = _locate(points[3 * p + 1], scale)
            z, fz, iz = _locate(points[3 * p + 2], scale)
            row = _rows(x, y, z, resolution, offset, rows, direct)
            a, b, c, d, e, f, g, h = _corner_sums(
                table, row, grad, p, level * features, features, count
            )
            square = scale * scale
            xy = square * ix * iy * ((one - fz) * (a - b - c + d) + fz * (e - f - g + h))
            xz = square * ix * iz * ((one - fy) * (a - b - e + f) + fy * (c - d - g + h))
            yz = square * iy * iz * ((one - fx) * (a - c - e + g) + fx * (b - d - f + h))
            u, v, w = along[3 * p], along[3 * p + 1], along[3 * p + 2]
            out[3 * p] += xy * v + xz * w
            out[3 * p + 1] += xy * u + yz * w
            out[3 * p + 2] += xz * u + yz * v
