"""How images are cut into tasks."""

from itertools import pairwise

__all__ = ["bands"]

_TASKS = 8  # bands of all views together, as far as that leaves bands of a useful height
_MIN_ROWS = 64


def bands(views: int, height: int) -> list[tuple[int, int, int]]:
    """Tasks `(view, first row, end row)`: fixed by the image's shape."""
    count = max(1, min(_TASKS // max(views, 1), height // _MIN_ROWS))
    cuts = [height * k // count for k in range(count + 1)]
    return [(v, a, b) for v in range(views) for a, b in pairwise(cuts)]
