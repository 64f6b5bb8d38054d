"""Kernels that give normals a common side."""

from typing import Any

import numpy as np

from isolux.backends.cpu.jit import kernel

__all__ = ["agreement", "costs", "spanning_signs"]


@kernel
def costs(
    points: Any, normal: Any, index: Any, width: int, cost: Any, flip: Any,
    start: int, stop: int,
) -> None:  # fmt: skip
    """How unsure it is that two neighbours have the same side, and whether they have not.

    Two answers are compared. Plain: the sign of n_i.n_j (Hoppe et al. 1992). Turned: the
    normal is taken along a circular arc from one point to the other, n - 2 e (e.n), which is
    exact on spheres, across creases and for the two sides of a thin plate (Koenig and Gumhold
    2009), but not where noise puts one point above the other. Where both agree the edge is
    good, and better the more they say so; where they differ the stronger one is taken, late.

    Args:
        index: neighbours [n * width]; a point itself or -1 stands for none.
        cost: uint16 [n * width], 65535 for no edge.
        flip: uint8 [n * width].
    """
    for i in range(start, stop):
        ax, ay, az = normal[3 * i], normal[3 * i + 1], normal[3 * i + 2]
        for k in range(width):
            at = i * width + k
            j = int(index[at])
            cost[at] = 65535
            flip[at] = 0
            if j < 0 or j == i:
                continue
            ex = points[3 * j] - points[3 * i]
            ey = points[3 * j + 1] - points[3 * i + 1]
            ez = points[3 * j + 2] - points[3 * i + 2]
            square = ex * ex + ey * ey + ez * ez
            if square <= 0.0:
                continue
            bx, by, bz = normal[3 * j], normal[3 * j + 1], normal[3 * j + 2]
            plain = ax * bx + ay * by + az * bz
            along = (ax * ex + ay * ey + az * ez) * (bx * ex + by * ey + bz * ez) / square
            turned = plain - 2.0 * along
            if plain * turned > 0.0:
                unsure = 1.0 - min(min(abs(plain), abs(turned)), 1.0)
            else:
                unsure = 2.0 - min(abs(abs(turned) - abs(plain)), 1.0)
            side = turned if abs(turned) > abs(plain) else plain
            cost[at] = int(unsure * 32000.0)
            flip[at] = 1 if side < 0.0 else 0


@kernel
def spanning_signs(index: Any, width: int, cost: Any, flip: Any, root: Any, sign: Any) -> None:
    """The signs that a minimum spanning forest gives each point, relative to its tree's root.

    Kruskal's algorithm over edges in buckets of equal cost. The sets of points that are joined
    carry a parity beside the parent, so no tree is ever built or walked.

    Args:
        root: int32 [n], filled with the number of each tree's root.
        sign: int8 [n], filled with 1 or -1.
    """
    count = len(root)
    parent = np.empty(count, np.int32)
    parity = np.zeros(count, np.uint8)  # relative to the parent; a root's is zero
    size = np.ones(count, np.int32)
    for i in range(count):
        parent[i] = i
    place = np.zeros(65537, np.int64)
    for at in range(len(cost)):
        place[int(cost[at]) + 1] += 1
    for value in range(65536):
        place[value + 1] += place[value]
    edges = place[65535]  # those that cost 65535 are none
    order = np.empty(edges, np.int64)
    for at in range(len(cost)):
        value = int(cost[at])
        if value < 65535:
            order[place[value]] = at
            place[value] += 1
    for number in range(edges):
        at = order[number]
        a, odd_a = _find(parent, parity, at // width)
        b, odd_b = _find(parent, parity, int(index[at]))
        if a == b:
            continue
        if size[a] < size[b]:
            a, b = b, a
        parent[b] = a
        parity[b] = odd_a ^ odd_b ^ int(flip[at])
        size[a] += size[b]
    for i in range(count):
        root[i], odd = _find(parent, parity, i)
        sign[i] = -1 if odd else 1


@kernel
def _find(parent: Any, parity: Any, i: int) -> tuple[int, int]:
    """The root of a point's set, and the point's parity to it; halves the path on its way."""
    odd = 0
    while parent[i] != i:
        up = parent[i]
        parity[i] ^= parity[up]
        parent[i] = parent[up]
        odd ^= int(parity[i])
        i = parent[i]
    return i, odd


@kernel
def agreement(normal: Any, index: Any, width: int, share: Any, start: int, stop: int) -> None:
    """The mean of n_i.n_j over the neighbours, not below zero."""
    for i in range(start, stop):
        score, count = 0.0, 0
        for k in range(width):
            j = int(index[i * width + k])
            if j >= 0 and j != i:
                count += 1
                score += (
                    normal[3 * i] * normal[3 * j]
                    + normal[3 * i + 1] * normal[3 * j + 1]
                    + normal[3 * i + 2] * normal[3 * j + 2]
                )
        share[i] = max(score / count, 0.0) if count else 0.0
