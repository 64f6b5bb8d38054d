"""What kind of surface triangles make. Letters: v vertices, f faces."""

from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


def _linked(pairs: Any, size: int) -> int:
    graph = coo_matrix((np.ones(len(pairs)), tuple(pairs.T)), shape=(size, size))
    return int(connected_components(graph, directed=False)[0])


def _directed(faces: Any) -> tuple[Any, Any]:
    """The edges (start, end) [3 f] in the order corner 0 of all faces, corner 1, corner 2."""
    return faces.T.reshape(-1), np.roll(faces, -1, 1).T.reshape(-1)


def open_edges(faces: Any) -> int:
    """Edges of one face only. An edge used twice in one direction is an error."""
    start, end = (part.astype(np.int64) for part in _directed(faces))
    size = int(faces.max(initial=0)) + 1
    there, back = start * size + end, end * size + start
    assert len(np.unique(there)) == len(there), "an edge is used twice in one direction"
    return int((~np.isin(there, back)).sum())


def fans(faces: Any) -> int:
    """Fans of faces about vertices: as many as vertices, more where some only touch."""
    count = len(faces)
    face = np.tile(np.arange(count), 3)
    start, end = _directed(faces)
    order = np.lexsort((np.maximum(start, end), np.minimum(start, end)))
    low, high = np.minimum(start, end)[order], np.maximum(start, end)[order]
    same = (low[1:] == low[:-1]) & (high[1:] == high[:-1])
    first, second = face[order[:-1][same]], face[order[1:][same]]

    def corner(of: Any, vertex: Any) -> Any:
        return 3 * of + (faces[of] == vertex[:, None]).argmax(1)

    ends = (low[:-1][same], high[:-1][same])
    pairs = [np.stack([corner(first, v), corner(second, v)], 1) for v in ends]
    return _linked(np.concatenate(pairs), 3 * count)


def parts(faces: Any) -> int:
    """Connected components of the faces."""
    used, at = np.unique(faces, return_inverse=True)
    at = at.reshape(faces.shape)
    return _linked(at[:, [0, 1, 1, 2]].reshape(-1, 2), len(used))


def euler(faces: Any) -> int:
    """The Euler characteristic of a closed surface."""
    return len(np.unique(faces)) - 3 * len(faces) // 2 + len(faces)


def volume(vertices: Any, faces: Any) -> float:
    """What a closed surface encloses; positive when faces turn to the outside."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return float((a * np.cross(b, c)).sum() / 6)
