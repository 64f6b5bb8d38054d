"""How far measured points lie off the surface they were taken from.

Letters: s samples, k neighbours.
"""

from typing import Any

import numpy as np

from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.neighbours import Neighbours, distinct

__all__ = ["aligned", "local_noise", "noise_of"]

_FLAT = 0.15  # thickness over width under which a neighbourhood is a piece of surface
_SIZES = (24, 96, 256)
_FEW = 10  # neighbours that still lie on one of two sheets
_TWO_SHEETS = 1.7  # kurtosis: 3 of noise, 1.8 of a filled slab, 1 of two sheets


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
    # Wider ones are tried while noise blurs the narrow ones, never a good part of the shape.
    sizes = [size for size in _SIZES if size == _SIZES[0] or size <= count // 8]
    least, noise = np.inf, 0.0
    for size in sizes:
        local, thickness = aligned(tree, rows, min(size, count))
        height = local[..., 0]
        peaks = (height**4).mean(1) / np.maximum((height**2).mean(1) ** 2, 1e-300)
        if np.median(peaks) < _TWO_SHEETS:  # a wider one holds more of the other sheet
            if size == sizes[0]:
                noise = _quadric_residual(aligned(tree, rows, _FEW)[0])
            break
        if thickness < least:
            least, noise = thickness, _quadric_residual(local)
        if thickness < _FLAT:
            break
    return noise


def aligned(tree: Neighbours, rows: Any, size: int) -> tuple[Any, float]:
    """Neighbourhoods [s, k, 3] along their axes, height first; and how thick they are."""
    _, index = tree.among(size, rows)
    local = tree.points[index]
    local -= local.mean(1, keepdims=True)
    values, axes = np.linalg.eigh(np.einsum("ski,skj->sij", local, local))
    ratio = np.maximum(values[:, 0], 0) / np.maximum(values[:, 1], 1e-300)
    return np.einsum("ski,sij->skj", local, axes), float(np.median(np.sqrt(ratio)))


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
