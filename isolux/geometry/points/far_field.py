"""What the coarsest level takes for the field where no point lies: distances with a sign.

The sign follows from the points' flux through a grid: with chi one inside and zero outside,
grad chi is minus the normal on the surface, so that laplace chi is known wherever there are
points (Kazhdan et al. 2006, "Poisson surface reconstruction"). Letters: c cells of the grid.
"""

from typing import Any

import numpy as np
from scipy.fft import dstn, idstn
from scipy.ndimage import distance_transform_edt

from isolux.backends.cpu.jit import kernel
from isolux.geometry.points.basis import splines
from isolux.geometry.points.octree import LINE, PLANE, Samples

__all__ = ["far_field"]


def far_field(samples: Samples, shape: tuple[int, int, int]) -> tuple[Any, Any]:
    """Signed distances on a box of cells that holds all samples.

    Args:
        samples: of a level whose cells lie in the box from (0, 0, 0) to `shape`.
        shape: number of cells along each axis.

    Returns:
        Signed distance to the nearest cell with a sample, in cells (float32 [c], negative
        inside, x slowest; across a wide hole it passes smoothly through zero), and the
        distance without sign.
    """
    cells = samples.cells
    place = (cells // PLANE * shape[1] + cells // LINE % LINE) * shape[2] + cells % LINE
    flux = np.zeros(int(np.prod(shape)))
    _splat(place, samples.first, *_flat(samples), shape[1], shape[2], flux)
    frequencies = [2 - 2 * np.cos(np.pi * np.arange(1, n + 1) / (n + 1)) for n in shape]
    total = frequencies[0][:, None, None] + frequencies[1][:, None] + frequencies[2]
    inside = idstn(dstn(-flux.reshape(shape), 1) / total, 1).reshape(-1)
    level = _mean_at_samples(place, samples.first, *_flat(samples), shape[1], shape[2], inside)
    empty = np.ones(shape, bool)
    empty.reshape(-1)[place] = False
    distance = distance_transform_edt(empty).reshape(-1)
    side = np.clip((level - inside) / max(abs(level), 1e-300), -1, 1)
    return (side * distance).astype(np.float32), distance


def _flat(samples: Samples) -> tuple[Any, Any, Any]:
    return samples.fraction, samples.normal, samples.weight


@kernel
def _splat(
    place: Any, first: Any, fraction: Any, normal: Any, weight: Any, ny: int, nz: int, flux: Any
) -> None:
    """Add weight * normal . grad B of each sample to the 27 cells about its own."""
    value, slope = np.empty(9), np.empty(9)
    for c in range(len(place)):
        for s in range(first[c], first[c + 1]):
            for axis in range(3):
                splines(np.float64(fraction[3 * s + axis]), value, slope, 3 * axis)
            for k in range(27):
                i, j, m = k // 9, k // 3 % 3, k % 3
                x, y, z = value[i], value[3 + j], value[6 + m]
                at = place[c] + ((i - 1) * ny + j - 1) * nz + m - 1
                flux[at] += weight[s] * (
                    normal[3 * s] * slope[i] * y * z
                    + normal[3 * s + 1] * x * slope[3 + j] * z
                    + normal[3 * s + 2] * x * y * slope[6 + m]
                )


@kernel
def _mean_at_samples(
    place: Any,
    first: Any,
    fraction: Any,
    normal: Any,
    weight: Any,
    ny: int,
    nz: int,
    coefficient: Any,
) -> float:
    value, slope = np.empty(9), np.empty(9)
    total, mass = 0.0, 0.0
    for c in range(len(place)):
        for s in range(first[c], first[c + 1]):
            for axis in range(3):
                splines(np.float64(fraction[3 * s + axis]), value, slope, 3 * axis)
            for k in range(27):
                i, j, m = k // 9, k // 3 % 3, k % 3
                at = place[c] + ((i - 1) * ny + j - 1) * nz + m - 1
                total += weight[s] * value[i] * value[3 + j] * value[6 + m] * coefficient[at]
            mass += weight[s]
    return total / mass
