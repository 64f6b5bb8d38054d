"""Normals with a side from Gauss's formula, for points too few or too noisy for planes.

Letters: n points, k neighbours.
"""

from typing import Any

import numpy as np

from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.geometry.points.gauss_kernels import flux_of, lengths_of, pull_of
from isolux.geometry.points.neighbours import Neighbours

__all__ = ["gauss_normals", "witnesses"]

_PART = 128  # points of a task
_NEAR = 7  # neighbours whose mean distance is a point's width
_DAMPING = 1.0  # of the diagonal, on top of it
_ENOUGH, _MOST = 1e-3, 100  # of the residual; steps
_FEW = 1000  # points that speak for a large cloud


def gauss_normals(tree: Neighbours) -> Any:
    """Unit vectors [n, 3] that point outward where the points are a closed surface's.

    Parametric Gauss reconstruction (Lin et al. 2022): the least vectors m, normals times
    areas, for which Gauss's formula sum over j of K(x_i, y_j) . m_j is one half at each point,
    as it is on the surface of a shape whose inside has one and whose outside has zero. All
    points take part in each one's side, and a cavity's wall faces into the cavity. An open
    sheet has no such side, and what comes back means nothing there.

    The cost grows with n^2: for up to a few thousand points.
    """
    points = tree.points
    count = len(points)
    size = float(np.ptp(points, axis=0).max()) if count else 0.0
    if count < 2 or size <= 0.0:
        return np.zeros((count, 3))
    distance, _ = tree.among(min(_NEAR + 1, count))
    square = (np.maximum(distance[:, 1:].mean(1), 1e-9 * size) / size) ** 2
    axes = [np.ascontiguousarray(column) for column in points.T / size]
    spans = chunks(count, _PART)

    def flux(sources: Any) -> Any:
        out = np.empty(count)
        parallel_for(flux_of, [(*axes, square, *sources, out, *span) for span in spans])
        return out

    def pull(weight: Any) -> Any:
        out = np.empty((3, count))
        parallel_for(pull_of, [(*axes, square, weight, *out, *span) for span in spans])
        return out

    diagonal = np.empty(count)
    parallel_for(lengths_of, [(*axes, square, diagonal, *span) for span in spans])
    solution = _solved(lambda v: flux(pull(v)) + _DAMPING * diagonal * v, diagonal, count)
    vectors = pull(solution).T
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(length, 1e-300)


def witnesses(tree: Neighbours) -> Any:
    """`gauss_normals` of a few points along the curve, each point's those of the nearest."""
    count = len(tree.points)
    if count <= _FEW:
        return gauss_normals(tree)
    few = Neighbours(tree.points[np.linspace(0, count - 1, _FEW).astype(np.int64)])
    _, nearest = few.near(tree.points, 1)
    return gauss_normals(few)[nearest[:, 0]]


def _solved(product: Any, diagonal: Any, count: int) -> Any:
    """Conjugate gradients for `product`(v) = 1/2, preconditioned by the diagonal."""
    scale = 1.0 / np.maximum(diagonal, 1e-300)
    v, residual = np.zeros(count), np.full(count, 0.5)
    ahead = scale * residual
    direction, energy = ahead.copy(), float((residual * ahead).sum())
    least = _ENOUGH**2 * energy
    for _ in range(_MOST):
        image = product(direction)
        step = energy / max(float((direction * image).sum()), 1e-300)
        v += step * direction
        residual -= step * image
        ahead = scale * residual
        before, energy = energy, float((residual * ahead).sum())
        if energy <= least:
            break
        direction = ahead + energy / before * direction
    return v
