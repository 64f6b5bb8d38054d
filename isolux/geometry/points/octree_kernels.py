"""Kernels of the sparse levels: keys of cells, averages of points, neighbours, prolongation.

A cell's key holds its three whole coordinates, x in the highest bits, 20 bits each, so that
sorted keys run along z first. A sample's key is its cell's key and three bits more, for the
eighth of the cell that it lies in.
"""

from typing import Any

import numpy as np

from isolux.backends.cpu.jit import kernel

__all__ = [
    "cells_of",
    "children_of",
    "merge",
    "parent_keys",
    "prolong",
    "sample_keys",
    "seek",
    "spread",
    "union",
]


@kernel
def seek(keys: Any, target: int, near: int) -> int:
    """The first place whose key is not below `target`; the search starts from place `near`."""
    size, step = len(keys), 1
    if near < size and keys[near] < target:
        low, high = near, near + 1
        while high < size and keys[high] < target:
            low = high
            high += step
            step *= 2
        high = min(high, size)
    else:
        low, high = near - 1, near
        while low >= 0 and keys[low] >= target:
            high = low
            low -= step
            step *= 2
        low = max(low, -1)
    while high - low > 1:
        middle = (low + high) >> 1
        if keys[middle] < target:
            low = middle
        else:
            high = middle
    return high


@kernel
def sample_keys(local: Any, keys: Any, fraction: Any, start: int, stop: int) -> None:
    """Keys of points given in cells (float64), and where in their cells they lie."""
    for i in range(start, stop):
        cell, eighth = 0, 0
        for axis in range(3):
            at = local[3 * i + axis]
            whole = int(np.floor(at))
            part = np.float32(at - whole)
            fraction[3 * i + axis] = part
            cell = cell << 20 | whole
            eighth = eighth << 1 | (1 if part >= 0.5 else 0)
        keys[i] = cell << 3 | eighth


@kernel
def parent_keys(keys: Any, parents: Any, start: int, stop: int) -> None:
    """Sample keys one level up."""
    mask = (1 << 20) - 1
    for i in range(start, stop):
        cell = keys[i] >> 3
        x, y, z = cell >> 40, cell >> 20 & mask, cell & mask
        eighth = (x & 1) << 2 | (y & 1) << 1 | (z & 1)
        parents[i] = ((x >> 1) << 40 | (y >> 1) << 20 | z >> 1) << 3 | eighth


@kernel
def merge(
    order: Any,
    keys: Any,
    fraction: Any,
    normal: Any,
    weight: Any,
    up: bool,
    out_key: Any,
    out_fraction: Any,
    out_normal: Any,
    out_weight: Any,
) -> int:
    """Average samples of one key; returns how many are left.

    `keys` are the new ones, taken in `order`. With `up`, fractions are those of the cells one
    level below, of which the new key's last bits say which they were.
    """
    count = -1
    last = -1
    total = 0.0
    mean = np.zeros(6)
    for place in range(len(order)):
        i = order[place]
        key = keys[i]
        if key != last:
            if count >= 0:
                _write(mean, total, count, out_fraction, out_normal, out_weight)
            count += 1
            out_key[count] = key
            last = key
            total = 0.0
            mean[:] = 0.0
        w = np.float64(weight[i])
        total += w
        for axis in range(3):
            part = np.float64(fraction[3 * i + axis])
            if up:
                part = 0.5 * (part + (key >> (2 - axis) & 1))
            mean[axis] += w * part
            mean[3 + axis] += w * normal[3 * i + axis]
    if count >= 0:
        _write(mean, total, count, out_fraction, out_normal, out_weight)
    return count + 1


@kernel
def _write(mean: Any, total: float, at: int, fraction: Any, normal: Any, weight: Any) -> None:
    weight[at] = total
    for axis in range(3):
        fraction[3 * at + axis] = mean[axis] / total
        normal[3 * at + axis] = mean[3 + axis] / total


@kernel
def cells_of(keys: Any, cells: Any, first: Any) -> int:
    """The cells of sorted sample keys, and where the samples of each begin; how many."""
    count, last = 0, -1
    for i in range(len(keys)):
        cell = keys[i] >> 3
        if cell != last:
            cells[count] = cell
            first[count] = i
            count += 1
            last = cell
    first[count] = len(keys)
    return count


@kernel
def spread(keys: Any, offset: int, out: Any) -> int:
    """The sorted union of keys - offset, keys and keys + offset; returns its size."""
    size = len(keys)
    a, b, c, count = 0, 0, 0, 0
    most = np.int64(0x7FFFFFFFFFFFFFFF)
    while c < size:
        low = keys[a] - offset if a < size else most
        middle = keys[b] if b < size else most
        high = keys[c] + offset
        value = min(low, min(middle, high))
        a += 1 if low == value else 0
        b += 1 if middle == value else 0
        c += 1 if high == value else 0
        out[count] = value
        count += 1
    return count


@kernel
def union(one: Any, two: Any, out: Any) -> int:
    """The sorted union of two sorted arrays of keys; returns its size."""
    a, b, count = 0, 0, 0
    while a < len(one) or b < len(two):
        if b == len(two) or (a < len(one) and one[a] < two[b]):
            out[count] = one[a]
            a += 1
        else:
            a += 1 if a < len(one) and one[a] == two[b] else 0
            out[count] = two[b]
            b += 1
        count += 1
    return count


@kernel
def children_of(keys: Any, out: Any) -> None:
    """The eight cells in each cell, not sorted."""
    mask = (1 << 20) - 1
    for i in range(len(keys)):
        x, y, z = keys[i] >> 40, keys[i] >> 20 & mask, keys[i] & mask
        low = x << 41 | y << 21 | z << 1
        for k in range(8):
            out[8 * i + k] = low + ((k >> 2 & 1) << 40 | (k >> 1 & 1) << 20 | (k & 1))


@kernel
def prolong(fine: Any, coarse: Any, coefficient: Any, out: Any, start: int, stop: int) -> None:
    """Coefficients on the fine cells that give the coarse level's function.

    A quadratic B-spline is a sum of four of half its width, weights 1/4, 3/4, 3/4, 1/4. A
    coarse cell that is missing counts as the fine cell's own parent, or as zero.
    """
    mask = (1 << 20) - 1
    near = np.zeros(4, np.int64)
    for i in range(start, stop):
        key = fine[i]
        x, y, z = key >> 40, key >> 20 & mask, key & mask
        own = (x >> 1) << 40 | (y >> 1) << 20 | z >> 1
        sx = (1 if x & 1 else -1) << 40
        sy = (1 if y & 1 else -1) << 20
        dz = 0 if z & 1 else -1  # the lower of the two cells along z
        total, missing, parent = 0.0, 0.0, 0.0
        for line in range(4):
            weight = (0.25 if line & 1 else 0.75) * (0.25 if line & 2 else 0.75)
            target = own + (sx if line & 1 else 0) + (sy if line & 2 else 0) + dz
            at = seek(coarse, target, near[line])
            near[line] = at
            for k in range(2):
                share = weight * (0.75 if k + dz == 0 else 0.25)
                if at < len(coarse) and coarse[at] == target + k:
                    total += share * coefficient[at]
                    if line == 0 and k + dz == 0:
                        parent = coefficient[at]
                    at += 1
                else:
                    missing += share
        out[i] = total + missing * parent
