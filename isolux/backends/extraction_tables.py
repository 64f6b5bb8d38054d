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
    "cube_groups",
    "cube_twists",
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


def _cube_faces() -> tuple[tuple[int, ...], ...]:
    """Corners of a cube's faces in cyclic order; face 2 a + s is on side s of axis a."""
    faces = []
    for axis in range(3):
        u, v = 1 << (axis + 1) % 3, 1 << (axis + 2) % 3
        for side in (0, 1 << axis):
            faces.append((side, side + u, side + u + v, side + v))
    return tuple(faces)


_EDGE_OF_ENDS = {frozenset(ends): edge for edge, ends in enumerate(CUBE_EDGES)}


def _links(case: int, face: tuple[int, ...], flipped: bool) -> list[tuple[int, int]]:
    """Which crossed edges of a cube's face the surface joins within that face.

    Where all four are crossed it cuts off the inside corners, or the outside ones if flipped.
    """
    inside = [bool(case >> corner & 1) for corner in face]
    edges = [_EDGE_OF_ENDS[frozenset((face[i], face[i - 3]))] for i in range(4)]
    crossed = [i for i in range(4) if inside[i] != inside[i - 3]]
    if len(crossed) < 4:
        return [(edges[crossed[0]], edges[crossed[1]])] if crossed else []
    # Edge i leaves corner i, edge i - 1 comes to it.
    return [(edges[i - 1], edges[i]) for i in range(4) if inside[i] != flipped]


def _groups(case: int, flipped_face: int) -> list[int]:
    """For each edge of a cube the number of the surface patch that crosses it, or -1."""
    links = [
        link
        for number, face in enumerate(_cube_faces())
        for link in _links(case, face, number == flipped_face)
    ]
    label = {edge: edge for link in links for edge in link}
    for _ in range(12):  # the lowest edge's number spreads round each patch's outline
        for a, b in links:
            label[a] = label[b] = min(label[a], label[b])
    order = {low: number for number, low in enumerate(sorted(set(label.values())))}
    return [order[label[edge]] if edge in label else -1 for edge in range(12)]


@cache
def cube_twists() -> Int8[np.ndarray, " 256"]:
    """The face through which one patch of a cube's case passes twice, or -1.

    Two cubes that both do so at the face they share would make an edge with four faces. The
    cure (Wenger 2013, "Isosurfaces", section 3.3) is to cut that face the other way in both.
    """
    table = np.full(256, -1, np.int8)
    for case in range(256):
        groups = _groups(case, -1)
        for number, face in enumerate(_cube_faces()):
            links = _links(case, face, False)
            if len(links) == 2 and groups[links[0][0]] == groups[links[1][0]]:
                table[case] = number
    table.flags.writeable = False
    return table


@cache
def cube_groups() -> Int8[np.ndarray, "512 12"]:
    """For each case, and edge of the cube, the dual vertex that the edge belongs to, or -1.

    Rows from 256 on are the cases with the face of `cube_twists` cut the other way.
    """
    twists = cube_twists()
    table = np.array(
        [_groups(case, -1) for case in range(256)]
        + [_groups(case, int(twists[case])) for case in range(256)],
        np.int8,
    )
    table.flags.writeable = False
    return table
