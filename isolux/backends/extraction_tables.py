"""Which crossings make which faces in a tetrahedron or a cube, worked out rather than typed.

A case is a bit mask: bit i is set where corner i is inside.
"""

from functools import cache
from itertools import combinations

import numpy as np
from jaxtyping import Int8

__all__ = [
    "CUBE_EDGES",
    "CUBE_EDGE_AXES",
    "CUBE_EDGE_SLOTS",
    "NEXT_TO_NOTHING",
    "TET_EDGES",
    "tet_faces",
]

NEXT_TO_NOTHING = 1e-30
"""An edge whose values differ by no more is crossed in its middle: a quotient of such numbers,
and its gradient in float32, mean nothing. Infinite values and NaN end there too."""

TET_EDGES = tuple(combinations(range(4), 2))  # corners 01, 02, 03, 12, 13, 23
CUBE_EDGES = (
    *((0, 1), (1, 5), (4, 5), (0, 4), (2, 3), (3, 7)),
    *((6, 7), (2, 6), (2, 0), (3, 1), (7, 5), (6, 4)),
)
"""Corners of a cube's edges, in the order that FlexiCubes' weights have."""

CUBE_EDGE_AXES = tuple((a ^ b).bit_length() - 1 for a, b in CUBE_EDGES)


def _slot(edge: int) -> int:
    """Where a cube stands among the four about this edge of it, counter-clockwise."""
    axis, corner = CUBE_EDGE_AXES[edge], min(CUBE_EDGES[edge])
    u, v = corner >> (axis + 1) % 3 & 1, corner >> (axis + 2) % 3 & 1
    return {(1, 1): 0, (0, 1): 1, (0, 0): 2, (1, 0): 3}[u, v]


CUBE_EDGE_SLOTS = tuple(_slot(edge) for edge in range(12))
_TET_CORNERS = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])


@cache
def tet_faces() -> Int8[np.ndarray, "16 6"]:
    """Triangles of a tetrahedron's cases, as rows of `TET_EDGES`; -1 where there is none.

    Counter-clockwise seen from outside for a positively oriented tetrahedron. A quad is cut
    along the diagonal that joins edges 02 and 13, or 03 and 12 where it is 02 and 13 that are
    not crossed.
    """
    table = np.full((16, 6), -1, np.int8)
    for case in range(1, 15):
        crossed = [
            e for e, (a, b) in enumerate(TET_EDGES) if (case >> a & 1) != (case >> b & 1)
        ]
        if len(crossed) == 3:
            triangles = [crossed]
        else:
            ends = (1, 4) if {1, 4} <= set(crossed) else (2, 3)
            sides = [e for e in crossed if e not in ends]
            triangles = [[ends[0], side, ends[1]] for side in sides]
        row = [e for triangle in triangles for e in _outwards(triangle, case)]
        table[case, : len(row)] = row
    table.flags.writeable = False
    return table


def _outwards(triangle: list[int], case: int) -> list[int]:
    """The triangle turned so that its normal points to the outside corners."""
    middles = [(_TET_CORNERS[a] + _TET_CORNERS[b]) / 2 for a, b in TET_EDGES]
    a, b, c = (middles[e] for e in triangle)
    inside = [bool(case >> i & 1) for i in range(4)]
    outward = _TET_CORNERS[np.logical_not(inside)].mean(0) - _TET_CORNERS[inside].mean(0)
    return triangle if np.cross(b - a, c - a) @ outward > 0 else triangle[::-1]
