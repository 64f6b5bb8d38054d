"""Morton's curve through space: neighbours along it are near in space. Letters: n points."""

from typing import Any

import numpy as np

__all__ = ["curve_order"]


def curve_order(xyz: Any) -> Any:
    """The order of points [n, 3] along the curve; points of one cell keep theirs."""
    if not len(xyz):
        return np.zeros(0, np.int64)
    low = xyz.min(0)
    extent = max(float((xyz - low).max()), 1e-300)
    cell = np.minimum((xyz - low) * (2**20 / extent), 2**20 - 1).astype(np.uint64)
    key = np.zeros(len(xyz), np.uint64)
    for axis in range(3):
        spread = cell[:, axis]
        for shift, mask in _SPREAD:
            spread = (spread | spread << np.uint64(shift)) & np.uint64(mask)
        key |= spread << np.uint64(axis)
    return np.argsort(key, kind="stable")


# Steps that put two zero bits after each bit of a number of 21 bits.
_SPREAD = (
    (32, 0x1F00000000FFFF),
    (16, 0x1F0000FF0000FF),
    (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3),
    (2, 0x1249249249249249),
)
