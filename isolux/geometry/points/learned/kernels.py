"""Kernels of the learned part: the transpose of fields at samples, neighbours, convolution.

Letters: m rows, c cells, s samples. Arrays are flat; keys are those of `octree_kernels`.
"""

from typing import Any

import numpy as np

from isolux.backends.cpu.jit import kernel
from isolux.geometry.points.basis import splines
from isolux.geometry.points.octree_kernels import seek

__all__ = ["bends", "convolve", "neighbours", "spread_mean", "transposed"]


@kernel
def transposed(
    rows: Any,
    cells: Any,
    first: Any,
    fraction: Any,
    of_value: Any,
    of_slope: Any,
    out: Any,
    start: int,
    stop: int,
) -> None:
    """What values [s] and gradients [3 s] give to rows: the transpose of `evaluate`."""
    near = np.zeros(9, np.int64)
    value, slope = np.empty(9), np.empty(9)
    for i in range(start, stop):
        total = 0.0
        for line in range(9):
            ox, oy = line // 3, line % 3  # plus one
            low = rows[i] + (np.int64(ox - 1) << 40) + (np.int64(oy - 1) << 20) - 1
            at = seek(cells, low, near[line])
            near[line] = at
            while at < len(cells) and cells[at] <= low + 2:
                qx, qy, qz = 2 - ox, 5 - oy, 8 - (cells[at] - low)
                for s in range(first[at], first[at + 1]):
                    for axis in range(3):
                        splines(np.float64(fraction[3 * s + axis]), value, slope, 3 * axis)
                    x, y, z = value[qx], value[qy], value[qz]
                    total += of_value[s] * x * y * z
                    total += of_slope[3 * s] * slope[qx] * y * z
                    total += of_slope[3 * s + 1] * x * slope[qy] * z
                    total += of_slope[3 * s + 2] * x * y * slope[qz]
                at += 1
        out[i] = total


@kernel
def neighbours(queries: Any, keys: Any, out: Any, start: int, stop: int) -> None:
    """Where the 27 cells about each query (x slowest) are among sorted keys; -1 if nowhere."""
    near = np.zeros(9, np.int64)
    for i in range(start, stop):
        for line in range(9):
            low = (
                queries[i]
                + (np.int64(line // 3 - 1) << 40)
                + (np.int64(line % 3 - 1) << 20)
                - 1
            )
            at = seek(keys, low, near[line])
            near[line] = at
            for k in range(3):
                out[27 * i + 3 * line + k] = -1
                if at < len(keys) and keys[at] == low + k:
                    out[27 * i + 3 * line + k] = at
                    at += 1


@kernel
def spread_mean(rows: Any, cells: Any, x: Any, out: Any, start: int, stop: int) -> None:
    """For each row the mean of what the cells among the 27 about it hold; zero of none."""
    near = np.zeros(9, np.int64)
    for i in range(start, stop):
        total, count = 0.0, 0
        for line in range(9):
            low = rows[i] + (np.int64(line // 3 - 1) << 40) + (np.int64(line % 3 - 1) << 20) - 1
            at = seek(cells, low, near[line])
            near[line] = at
            while at < len(cells) and cells[at] <= low + 2:
                total += x[at]
                count += 1
                at += 1
        out[i] = total / max(count, 1)


@kernel
def bends(rows: Any, one: Any, two: Any, out: Any, start: int, stop: int) -> None:
    """At each row the product of two functions' second differences, summed over the axes."""
    near = np.zeros(6, np.int64)
    for i in range(start, stop):
        total = 0.0
        for axis in range(3):
            step = np.int64(1) << (40 - 20 * axis)
            low = seek(rows, rows[i] - step, near[2 * axis])
            high = seek(rows, rows[i] + step, near[2 * axis + 1])
            near[2 * axis], near[2 * axis + 1] = low, high
            if (
                rows[low] == rows[i] - step
                and high < len(rows)
                and rows[high] == rows[i] + step
            ):
                first = np.float64(one[low]) - 2 * np.float64(one[i]) + np.float64(one[high])
                second = np.float64(two[low]) - 2 * np.float64(two[i]) + np.float64(two[high])
                total += first * second
        out[i] = total


@kernel
def convolve(
    x: Any,
    near: Any,
    weight: Any,
    bias: Any,
    taps: int,
    inside: int,
    outside: int,
    out: Any,
    start: int,
    stop: int,
) -> None:
    """A sparse convolution: out [c, outside] of x [c, inside], weight [taps, inside, outside].

    `near` [taps c] says which cell stands at each tap, or -1: what `neighbours` of the cells
    among themselves says, or for one tap each cell's own number. Rows of the weight are added
    four at a time, in their order, so that no sum depends on how the loop is cut.
    """
    total = np.empty(outside, np.float32)
    for c in range(start, stop):
        for o in range(outside):
            total[o] = bias[o]
        for k in range(taps):
            other = near[taps * c + k]
            if other < 0:
                continue
            i = 0
            while i + 4 <= inside:
                at = other * inside + i
                a, b, d, e = x[at], x[at + 1], x[at + 2], x[at + 3]
                w = (k * inside + i) * outside
                w1, w2, w3 = w + outside, w + 2 * outside, w + 3 * outside
                for o in range(outside):
                    total[o] += (a * weight[w + o] + b * weight[w1 + o]) + (
                        d * weight[w2 + o] + e * weight[w3 + o]
                    )
                i += 4
            while i < inside:
                a, w = x[other * inside + i], (k * inside + i) * outside
                for o in range(outside):
                    total[o] += a * weight[w + o]
                i += 1
        for o in range(outside):
            out[c * outside + o] = total[o]
