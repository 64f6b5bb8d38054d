"""How far measured points lie off the surface they were taken from.

Letters: s samples, k neighbours.
"""

from typing import Any

import numpy as np

from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.neighbours import Neighbours, distinct

__all__ = ["local_noise", "noise_of"]

_FLAT = 0.15  # thickness over width under which a neighbourhood is a piece of surface
_SIZES = (24, 96, 256)


def noise_of(cloud: PointCloud, samples: int = 2000) -> float:
    """The standard deviation of the points across their surface, in world units.

    The median residual of quadrics through neighbourhoods, which follow curvature; a
    neighbourhood grows until it is wider than the noise. It is an upper bound where detail
    is finer than the points are dense. Zero for fewer than twelve points.

    Raises:
        ValueError: points that are not finite, or less than one sample.
    """
    if samples < 1:
        raise ValueError(f"samples: need at least 1, got {samples}")
    xyz = cloud.xyz.detach().double().cpu().numpy()
    if not np.isfinite(xyz).all():
        raise ValueError("the cloud has points that are not finite: clean it first")
    once = distinct(xyz)
    xyz = xyz if once is None else xyz[once[0]]
    return local_noise(Neighbours(xyz), samples) if len(xyz) >= 12 else 0.0


def local_noise(tree: Neighbours, samples: int) -> float:
    """`noise_of` points that are arranged already, and distinct."""
    count = len(tree.points)
    if count < 12:
        return 0.0
    rows = np.unique(np.linspace(0, count - 1, min(samples, count)).astype(np.int64))
    sizes = sorted({min(size, count) for size in _SIZES})
    for size in sizes:
        _, index = tree.among(size, rows)
        local = tree.points[index]
        local -= local.mean(1, keepdims=True)
        values, axes = np.linalg.eigh(np.einsum("ski,skj->sij", local, local))
        thickness = np.sqrt(np.maximum(values[:, 0], 0) / np.maximum(values[:, 1], 1e-300))
        if np.median(thickness) < _FLAT or size == sizes[-1]:
            break
    return _quadric_residual(np.einsum("ski,sij->skj", local, axes))


def _quadric_residual(local: Any) -> float:
    """The median residual of heights over planes, less what curvature explains.

    Args:
        local: [s, k, 3], height first.
    """
    height, u, v = (local[..., axis] for axis in range(3))
    width = np.maximum(np.sqrt((u * u + v * v).mean(1, keepdims=True)), 1e-300)
    u, v = u / width, v / width
    terms = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=-1)  # [s, k, 6]
    normal = np.einsum("ski,skj->sij", terms, terms) + 1e-9 * np.eye(6)
    weight = np.linalg.solve(normal, np.einsum("ski,sk->si", terms, height)[..., None])
    residual = height - (terms @ weight)[..., 0]
    free = local.shape[1] - 6
    variance = (residual**2).sum(1) / free
    # The median of a chi-squared variable, over its mean (Wilson and Hilferty).
    return float(np.sqrt(np.median(variance)) / (1 - 2 / (9 * free)) ** 1.5)
