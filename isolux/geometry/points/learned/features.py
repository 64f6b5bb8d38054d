"""What the network sees of a cell: its samples, and what the coarser levels say there.

Letters: s samples, c cells. Lengths are in cells of the level, so that all levels look alike.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from isolux.geometry.points.octree import Samples
from isolux.geometry.points.weights import Weights

__all__ = ["SCALARS", "VECTORS", "Features", "features_of"]

SCALARS, VECTORS = 14, 5
_FAR = 4.0  # cells, to which residuals are clipped


@dataclass(frozen=True)
class Features:
    """Of each cell, float32."""

    scalars: Any  # [c, SCALARS]
    vectors: Any  # [c, VECTORS, 3]


def features_of(
    samples: Samples, value: Any, slope: Any, mass: Any, weights: Weights
) -> Features:
    """The features of a level's cells.

    Args:
        samples: of the level.
        value: [s], of the coarser levels' function at the samples.
        slope: [s, 3], its gradient.
        mass: [s], of the samples: one for a cell, on average.
        weights: of the level.
    """
    begin = samples.first[:-1]
    normal, place = samples.normal.reshape(-1, 3), samples.fraction.reshape(-1, 3)
    r, g = np.clip(value, -_FAR, _FAR), np.clip(slope, -_FAR, _FAR)
    off = g - normal
    away = np.sqrt((off * off).sum(1))
    columns = np.concatenate(
        [
            *(normal, place - np.float32(0.5), g, off, r[:, None] * normal),
            np.stack(
                [
                    *(r, r * r, np.abs(r), away, away * away),
                    *(np.sqrt((normal * normal).sum(1)), np.sqrt((g * g).sum(1))),
                    (g * normal).sum(1),
                ],
                -1,
            ),
        ],
        1,
    )
    total = np.add.reduceat(mass, begin)
    mean = np.add.reduceat(columns * mass[:, None], begin, axis=0)
    mean /= np.maximum(total, 1e-12)[:, None]
    points = np.add.reduceat(samples.weight, begin)
    count = (samples.first[1:] - begin).astype(np.float32)
    rest = mean[:, 3 * VECTORS :]
    spread = np.maximum(rest[:, 1] - rest[:, 0] ** 2, 0)
    whole = np.sqrt((mean[:, :3] ** 2).sum(1))
    log = [np.log(max(x, 1e-4)) for x in (weights.value, weights.smoothness, weights.normal)]
    scalars = [
        *(0.5 * np.log(np.maximum(total, 1e-3)), 0.3 * np.log(points), count / 8),
        *(rest[:, 0], np.sqrt(spread), 0.3 * np.log(rest[:, 2] + 1e-3)),
        *(rest[:, 3], 0.3 * np.log(rest[:, 4] + 1e-3), rest[:, 5], rest[:, 6], rest[:, 7]),
        *(whole, np.full(len(total), 0.3 * log[0]), np.full(len(total), 0.3 * log[1])),
    ]
    scalars[-2] = scalars[-2] - np.float32(0.3 * log[2])
    scalars[-1] = scalars[-1] - np.float32(0.3 * log[2])
    return Features(
        np.stack(scalars, -1).astype(np.float32),
        mean[:, : 3 * VECTORS].reshape(-1, VECTORS, 3).astype(np.float32),
    )
