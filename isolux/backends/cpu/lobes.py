"""Tables that are computed once: lobes on cube maps, and the split-sum table.

They serve every backend, so they stand beside the operators rather than among them.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from isolux.backends import cubes
from isolux.backends.cpu.jit import SHADING_MATH, kernel
from isolux.backends.cpu.pool import chunks, parallel_for

__all__ = ["build", "split_sum_table"]

_ENTRIES = 2**26  # most entries of a map: 768 MiB
_BLOCK = 8  # texels along the edge of a block that is rejected at once


def build(
    size: int, roughness: float | None, cutoff: float, ceiling: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of the symmetric matrix of a lobe's values between texels.

    Args:
        roughness: of the GGX lobe times cosine; None for the clamped cosine alone.
        cutoff: smallest cosine between texels that has an entry.
        ceiling: cosines above count as this.

    Returns:
        Row starts [n + 1], columns [e] (int32), weights [e] (float64).

    Raises:
        ValueError: when there are more entries than a map may have.
    """
    look = cubes.texel_directions(size).numpy().reshape(-1)
    centre, reach = _blocks(size, look, cutoff)
    alpha_square = -1.0 if roughness is None else roughness**4
    rows = 6 * size * size
    count = np.zeros(rows, dtype=np.int64)
    none, nowhere = np.zeros(0), np.zeros(0, dtype=np.int32)
    common = (look, size, centre, reach, cutoff, alpha_square, ceiling)
    tasks = chunks(rows, 1024)
    parallel_for(
        _rows, [(*common, count, count, nowhere, none, False, *task) for task in tasks]
    )
    starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(count)])
    entries = int(starts[-1])
    if entries > _ENTRIES:
        lobe = "cosine" if roughness is None else f"roughness {roughness:g}"
        raise ValueError(
            f"filtering a cube of {size} texels with lobe '{lobe}' needs {entries} weights, "
            f"more than {_ENTRIES}; reduce the cube first"
        )
    columns, weights = np.empty(entries, dtype=np.int32), np.empty(entries)
    parallel_for(
        _rows, [(*common, count, starts, columns, weights, True, *task) for task in tasks]
    )
    return torch.from_numpy(starts), torch.from_numpy(columns), torch.from_numpy(weights)


def _blocks(size: int, look: Any, cutoff: float) -> tuple[Any, Any]:
    """Mean direction of each block of texels, and the smallest cosine that can touch it."""
    edge = -(-size // _BLOCK)
    texel = look.reshape(6, size, size, 3)
    centre, reach = [], []
    for face in range(6):
        for row in range(edge):
            for column in range(edge):
                part = texel[
                    face,
                    row * _BLOCK : (row + 1) * _BLOCK,
                    column * _BLOCK : (column + 1) * _BLOCK,
                ].reshape(-1, 3)
                mean = part.mean(axis=0)
                mean /= np.linalg.norm(mean)
                radius = np.arccos(np.clip((part @ mean).min(), -1.0, 1.0))
                angle = np.arccos(cutoff) + radius + 1e-6
                centre.append(mean)
                reach.append(np.cos(angle) if angle < np.pi else -2.0)
    return np.array(centre).reshape(-1), np.array(reach)


@kernel
def _rows(
    look: Any,
    size: int,
    centre: Any,
    reach: Any,
    cutoff: float,
    alpha_square: float,
    ceiling: float,
    count: Any,
    starts: Any,
    columns: Any,
    weights: Any,
    fill: bool,
    first: int,
    last: int,
) -> None:
    """Count the entries of rows [first, last), or write them."""
    edge = (size + _BLOCK - 1) // _BLOCK
    for i in range(first, last):
        x, y, z = look[3 * i], look[3 * i + 1], look[3 * i + 2]
        found = 0
        for b in range(reach.size):
            if x * centre[3 * b] + y * centre[3 * b + 1] + z * centre[3 * b + 2] < reach[b]:
                continue
            face, row, column = b // (edge * edge), b // edge % edge, b % edge
            for r in range(row * _BLOCK, min((row + 1) * _BLOCK, size)):
                for c in range(column * _BLOCK, min((column + 1) * _BLOCK, size)):
                    j = (face * size + r) * size + c
                    # Equal for (i, j) and (j, i): nothing here may be contracted or reordered.
                    cosine = x * look[3 * j] + y * look[3 * j + 1] + z * look[3 * j + 2]
                    if cosine < cutoff or cosine <= 0.0:
                        continue
                    if fill:
                        at = starts[i] + found
                        columns[at] = j
                        weights[at] = _lobe_value(cosine, alpha_square, ceiling)
                    found += 1
        if not fill:
            count[i] = found


@kernel
def _lobe_value(cosine: float, alpha_square: float, ceiling: float) -> float:
    value = min(cosine, ceiling)
    if alpha_square < 0.0:
        return value
    # h is half-way between the two directions: (v.h)^2 = (1 + v.l) / 2.
    half = min(0.5 + 0.5 * cosine, 1.0) * (alpha_square - 1.0) + 1.0
    return value * alpha_square / (4.0 * np.pi * half * half)


def split_sum_table(size: int, azimuths: int = 24, heights: int = 192) -> Tensor:
    """Split-sum factors [size, size, 2] (roughness, cosine, (A, B)), float32."""
    table = np.zeros(size * size * 2)
    parallel_for(
        _split_sum_rows,
        [(table, size, azimuths, heights, first, last) for first, last in chunks(size, 16)],
    )
    return torch.from_numpy(table).reshape(size, size, 2).float()


@kernel(fastmath=SHADING_MATH)
def _split_sum_rows(
    table: Any, size: int, azimuths: int, heights: int, first: int, last: int
) -> None:
    """Half vectors by GGX's own density, on a product grid: half the azimuths, by symmetry."""
    cos_azimuth = np.cos((np.arange(azimuths) + 0.5) * (np.pi / azimuths))
    cos_theta, sin_theta, weight = np.empty(heights), np.empty(heights), np.empty(heights)
    for i in range(first, last):
        alpha = ((i + 0.5) / size) ** 2
        square = alpha * alpha
        for k in range(heights):
            # The integrand goes with the root of the share at both ends; this makes it smooth.
            t = (k + 0.5) / heights
            share = t * t * (3.0 - 2.0 * t)
            weight[k] = 6.0 * t * (1.0 - t) / (heights * azimuths)
            cos_square = (1.0 - share) / (1.0 + (square - 1.0) * share)
            cos_theta[k] = np.sqrt(cos_square)
            sin_theta[k] = np.sqrt(1.0 - cos_square)
        for j in range(size):
            view_z = (j + 0.5) / size
            view_x = np.sqrt(1.0 - view_z * view_z)
            scale, bias = 0.0, 0.0
            root = np.sqrt(view_z * view_z * (1.0 - square) + square)
            for k in range(heights):
                for m in range(azimuths):
                    half_z = cos_theta[k]
                    view_half = view_x * sin_theta[k] * cos_azimuth[m] + view_z * half_z
                    light_z = 2.0 * view_half * half_z - view_z
                    if light_z <= 0.0 or view_half <= 0.0:
                        continue
                    other = np.sqrt(light_z * light_z * (1.0 - square) + square)
                    visible = 2.0 * light_z * view_half / half_z * weight[k]
                    visible /= light_z * root + view_z * other
                    up = 1.0 - view_half
                    fresnel = up * up * up * up * up
                    scale += (1.0 - fresnel) * visible
                    bias += fresnel * visible
            table[2 * (i * size + j)] = scale
            table[2 * (i * size + j) + 1] = bias
