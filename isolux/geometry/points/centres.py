"""Few points out of many, for the centres of kernel functions.

Letters: n points, m centres.
"""

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from isolux.backends.cpu.jit import kernel

__all__ = ["Sampling", "blue_noise", "choose_centres", "k_means"]

Sampling = Literal["blue-noise", "random", "k-means"]

_ROUNDS = 40  # of bisection
_LLOYD = 10  # rounds, as Neural Splines has


def choose_centres(
    points: Float[Tensor, "n 3"], count: int, sampling: Sampling, seed: int
) -> tuple[Float[Tensor, "m 3"], Int[Tensor, " m"]]:
    """Centres among or between the points.

    Args:
        points: to choose from.
        count: how many; negative, or more than there are: every point.
        sampling: `blue-noise` keeps a least distance, `random` takes any, `k-means` moves the
            centres to the middles of what is nearest to them.
        seed: of the draws; 0 is as good as any.

    Returns:
        Positions, float64, and the number of the point that each is, or is nearest to.
    """
    if count < 0 or count >= len(points):
        return points.double(), torch.arange(len(points))
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(points), generator=generator)
    if sampling == "blue-noise":
        chosen, _ = blue_noise(points, count, order)
        return points.double()[chosen], chosen
    chosen = order[:count].sort().values
    if sampling == "random":
        return points.double()[chosen], chosen
    return k_means(points, points.double()[chosen])


def blue_noise(
    points: Float[Tensor, "n 3"], count: int, order: Int[Tensor, " n"]
) -> tuple[Int[Tensor, " m"], float]:
    """Rows of exactly `count` points, none nearer to another than a distance as wide as can be.

    A point is taken, in the given order, unless one that was taken is within the distance;
    the distance is found by bisection, and the few too many, 1 % at most, are left out again.

    Returns:
        Rows in rising order, and the distance that they keep: zero where points coincide.
    """
    flat = np.ascontiguousarray(points.double().numpy()[order.numpy()])
    low = flat.min(0)
    flat = (flat - low).reshape(-1)
    if count < 1:
        return order[:0], 0.0
    short, wide = 0.0, float(flat.max()) * 2 + 1e-300
    taken, radius = np.arange(len(points)), 0.0
    for _ in range(_ROUNDS):
        middle = 0.5 * (short + wide)
        found = _keep_apart(flat, middle)
        if len(found) < count:
            wide = middle
            continue
        short, taken, radius = middle, found, middle
        if len(found) <= 1.01 * count:
            break
    left_out = np.linspace(0, len(taken) - 1, len(taken) - count).astype(np.int64)
    kept = np.delete(taken, left_out) if len(taken) > count else taken
    return order[torch.from_numpy(kept)].sort().values, radius


def k_means(
    points: Float[Tensor, "n 3"], start: Float[Tensor, "m 3"]
) -> tuple[Float[Tensor, "m 3"], Int[Tensor, " m"]]:
    """Lloyd's rounds from `start`: the means, and the points nearest to them.

    A centre that nothing is nearest to stays where it is.
    """
    cloud, centre = points.double().numpy(), start.double().numpy().copy()
    for _ in range(_LLOYD):
        _, owner = cKDTree(centre).query(cloud)
        size = np.bincount(owner, minlength=len(centre))
        for axis in range(3):
            total = np.bincount(owner, cloud[:, axis], minlength=len(centre))
            centre[:, axis] = np.where(size > 0, total / np.maximum(size, 1), centre[:, axis])
    _, nearest = cKDTree(cloud).query(centre)
    return torch.from_numpy(centre), torch.from_numpy(np.asarray(nearest, np.int64))


_MOST_CELLS = 2**20  # along an axis: 20 bits each in a cell's number


@kernel
def _keep_apart(flat: Any, radius: float) -> Any:
    """Places of the points that keep `radius` from those before them; equal ones go as well."""
    count = len(flat) // 3
    extent = 0.0
    for value in flat:
        extent = max(extent, value)
    size = max(radius, extent / (_MOST_CELLS - 2), 1e-300)
    bits = 1
    while (1 << bits) < 2 * count:
        bits += 1
    mask = np.uint64((1 << bits) - 1)
    key = np.full(1 << bits, -1, np.int64)  # open addressing: a cell's number
    head = np.full(1 << bits, -1, np.int64)  # the last point taken in it
    before = np.full(count, -1, np.int64)
    taken = np.empty(count, np.int64)
    number = 0
    for i in range(count):
        x, y, z = flat[3 * i], flat[3 * i + 1], flat[3 * i + 2]
        cx, cy, cz = np.int64(x / size), np.int64(y / size), np.int64(z / size)
        free = True
        for near in range(27):
            if not free:
                break
            ax, ay, az = cx + near // 9 - 1, cy + near // 3 % 3 - 1, cz + near % 3 - 1
            slot = _slot(key, mask, (ax + 1) << 42 | (ay + 1) << 21 | (az + 1))
            j = head[slot] if key[slot] >= 0 else -1
            while j >= 0:
                dx, dy, dz = x - flat[3 * j], y - flat[3 * j + 1], z - flat[3 * j + 2]
                if dx * dx + dy * dy + dz * dz < radius * radius:
                    free = False
                    break
                j = before[j]
        if free:
            cell = (cx + 1) << 42 | (cy + 1) << 21 | (cz + 1)
            slot = _slot(key, mask, cell)
            key[slot] = cell
            before[i] = head[slot]
            head[slot] = i
            taken[number] = i
            number += 1
    return taken[:number].copy()


@kernel
def _slot(key: Any, mask: Any, cell: Any) -> Any:
    mixed = np.uint64(cell) * np.uint64(0x9E3779B97F4A7C15)
    slot = (mixed ^ (mixed >> np.uint64(32))) & mask
    while key[np.int64(slot)] != -1 and key[np.int64(slot)] != cell:
        slot = (slot + np.uint64(1)) & mask
    return np.int64(slot)
