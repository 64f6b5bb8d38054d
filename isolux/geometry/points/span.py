"""Whether points can have a surface: how far they reach, and along how many axes.

Letters: n points.
"""

from typing import Any

import numpy as np

__all__ = ["check_span", "extent_of_most"]

_LEAST, _MOST = 1e-30, 1e30  # what single precision keeps whole, also squared in doubles
_FLAT = 1e-6  # of the longest axis
_ENDS = 0.01  # of the points, at each end of an axis


def check_span(xyz: Any) -> None:
    """Look whether points span a surface.

    Args:
        xyz: finite, float64 [n, 3], at least one.

    Raises:
        ValueError: they lie on one line or in one place, or are so close together or so far
            apart that their mesh has no coordinates.
    """
    extent = float(np.ptp(xyz, axis=0).max())
    if extent > 0 and not _LEAST <= extent <= _MOST:
        raise ValueError(
            f"the points extend over {extent:.4g}, need {_LEAST:g} to {_MOST:g}; "
            "take another unit"
        )
    spread = np.linalg.svd((xyz - xyz.mean(0)) / (extent or 1.0), compute_uv=False)
    if len(spread) < 2 or not spread[1] > _FLAT * spread[0]:
        raise ValueError("the points lie on one line or in one place; they span no surface")


def extent_of_most(xyz: Any) -> float:
    """The longest side of the box of the points but a hundredth at each end of each axis.

    At least one point is left out at each end, so that one stray never counts.
    """
    count = len(xyz)
    ends = max(int(_ENDS * count), 1)
    if count <= 2 * ends:
        return 0.0
    parted = np.partition(xyz, (ends, count - 1 - ends), axis=0)
    return float((parted[count - 1 - ends] - parted[ends]).max())
