"""Planes through neighbourhoods: weighted covariance and its eigenvectors, point by point."""

from typing import Any

import numpy as np

from isolux.backends.cpu.jit import kernel

__all__ = ["fit_planes", "fit_sides"]


@kernel
def _eigen(a: Any, v: Any) -> None:
    """Jacobi's rotations on a symmetric 3 x 3: `a` (9 values) ends diagonal, `v` holds columns.

    Exact to rounding for any spectrum, where the closed form loses half the digits.
    """
    for i in range(9):
        v[i] = 0.0
    v[0] = v[4] = v[8] = 1.0
    for _sweep in range(12):
        off = a[1] * a[1] + a[2] * a[2] + a[5] * a[5]
        total = a[0] * a[0] + a[4] * a[4] + a[8] * a[8]
        if off <= 1e-30 * total:
            return
        for turn in range(3):
            p, q = (0, 1) if turn == 0 else ((0, 2) if turn == 1 else (1, 2))
            apq = a[3 * p + q]
            if apq == 0.0:
                continue
            theta = (a[4 * q] - a[4 * p]) / (2.0 * apq)
            t = (1.0 if theta >= 0 else -1.0) / (abs(theta) + np.sqrt(theta * theta + 1.0))
            c = 1.0 / np.sqrt(t * t + 1.0)
            s = t * c
            a[4 * p] -= t * apq
            a[4 * q] += t * apq
            a[3 * p + q] = a[3 * q + p] = 0.0
            r = 3 - p - q
            arp, arq = a[3 * r + p], a[3 * r + q]
            a[3 * r + p] = a[3 * p + r] = c * arp - s * arq
            a[3 * r + q] = a[3 * q + r] = s * arp + c * arq
            for k in range(3):
                vp, vq = v[3 * k + p], v[3 * k + q]
                v[3 * k + p] = c * vp - s * vq
                v[3 * k + q] = s * vp + c * vq


@kernel
def fit_planes(
    points: Any, index: Any, rows: Any, count: int, rounds: int,
    normal: Any, values: Any, start: int, stop: int,
) -> None:  # fmt: skip
    """The plane through the `count` neighbours of each of `rows`[start:stop].

    Points far from the plane count less in each further round (Geman and McClure's weight of
    the residual over its root mean square): an edge or a stray point turns it less.

    Args:
        points: [3 n].
        index: neighbours, [rows * count], into `points`.
        rows: what is filled, [rows].
        normal: unit, [3 * rows], of no certain side.
        values: eigenvalues of the covariance, rising, [3 * rows].
    """
    a, v = np.empty(9), np.empty(9)
    weight = np.empty(count)
    for i in range(start, stop):
        centre = 3 * int(rows[i])
        for j in range(count):
            weight[j] = 1.0
        for repeat in range(rounds + 1):
            total, mx, my, mz = 0.0, 0.0, 0.0, 0.0
            for j in range(count):
                at, w = 3 * int(index[i * count + j]), weight[j]
                total += w
                mx += w * (points[at] - points[centre])
                my += w * (points[at + 1] - points[centre + 1])
                mz += w * (points[at + 2] - points[centre + 2])
            mx /= total
            my /= total
            mz /= total
            for k in range(9):
                a[k] = 0.0
            for j in range(count):
                at, w = 3 * int(index[i * count + j]), weight[j]
                x = points[at] - points[centre] - mx
                y = points[at + 1] - points[centre + 1] - my
                z = points[at + 2] - points[centre + 2] - mz
                a[0] += w * x * x
                a[1] += w * x * y
                a[2] += w * x * z
                a[4] += w * y * y
                a[5] += w * y * z
                a[8] += w * z * z
            for k in range(9):
                a[k] /= total
            a[3], a[6], a[7] = a[1], a[2], a[5]
            _eigen(a, v)
            low = 0
            for k in range(1, 3):
                if a[4 * k] < a[4 * low]:
                    low = k
            nx, ny, nz = v[low], v[3 + low], v[6 + low]
            spread = max(a[4 * low], 0.0)
            if repeat == rounds or spread <= 1e-20 * (a[0] + a[4] + a[8]):
                break
            for j in range(count):
                at = 3 * int(index[i * count + j])
                away = (
                    nx * (points[at] - points[centre] - mx)
                    + ny * (points[at + 1] - points[centre + 1] - my)
                    + nz * (points[at + 2] - points[centre + 2] - mz)
                )
                share = 1.0 / (1.0 + away * away / (9.0 * spread))
                weight[j] = share * share
        normal[3 * i], normal[3 * i + 1], normal[3 * i + 2] = nx, ny, nz
        one = (low + 1) % 3
        two = (low + 2) % 3
        values[3 * i] = spread
        values[3 * i + 1] = max(min(a[4 * one], a[4 * two]), 0.0)
        values[3 * i + 2] = max(a[4 * one], a[4 * two], 0.0)


@kernel
def fit_sides(
    points: Any, index: Any, count: int, side: Any, trust: float, normal: Any, values: Any,
    start: int, stop: int,
) -> None:  # fmt: skip
    """As `fit_planes`, through those neighbours that lie on the same side of the shape.

    A neighbour counts by the cosine between its vector of `side` and the point's, and not at
    all beyond a right angle: the far side of a tube or a plate takes no part.

    Args:
        side: a unit vector for each point, roughly its normal, [3 n].
        trust: what the vector itself counts for, as a share of the neighbourhood's spread: it
            decides where the points that are left span no plane.
    """
    a, v = np.empty(9), np.empty(9)
    weight = np.empty(count)
    for i in range(start, stop):
        sx, sy, sz = side[3 * i], side[3 * i + 1], side[3 * i + 2]
        total, mx, my, mz = 0.0, 0.0, 0.0, 0.0
        for j in range(count):
            at = 3 * int(index[i * count + j])
            w = max(sx * side[at] + sy * side[at + 1] + sz * side[at + 2], 0.0)
            weight[j] = w
            total += w
            mx += w * (points[at] - points[3 * i])
            my += w * (points[at + 1] - points[3 * i + 1])
            mz += w * (points[at + 2] - points[3 * i + 2])
        total = max(total, 1e-300)
        mx /= total
        my /= total
        mz /= total
        for k in range(9):
            a[k] = 0.0
        for j in range(count):
            at, w = 3 * int(index[i * count + j]), weight[j] / total
            x = points[at] - points[3 * i] - mx
            y = points[at + 1] - points[3 * i + 1] - my
            z = points[at + 2] - points[3 * i + 2] - mz
            a[0] += w * x * x
            a[1] += w * x * y
            a[2] += w * x * z
            a[4] += w * y * y
            a[5] += w * y * z
            a[8] += w * z * z
        spread = trust * (a[0] + a[4] + a[8])
        a[0] -= spread * sx * sx
        a[1] -= spread * sx * sy
        a[2] -= spread * sx * sz
        a[4] -= spread * sy * sy
        a[5] -= spread * sy * sz
        a[8] -= spread * sz * sz
        a[3], a[6], a[7] = a[1], a[2], a[5]
        _eigen(a, v)
        low = 0
        for k in range(1, 3):
            if a[4 * k] < a[4 * low]:
                low = k
        turn = -1.0 if v[low] * sx + v[3 + low] * sy + v[6 + low] * sz < 0.0 else 1.0
        for k in range(3):
            normal[3 * i + k] = turn * v[3 * k + low]
        one, two = a[4 * ((low + 1) % 3)], a[4 * ((low + 2) % 3)]
        values[3 * i] = max(a[4 * low], 0.0)
        values[3 * i + 1] = max(min(one, two), 0.0)
        values[3 * i + 2] = max(one, two, 0.0)
