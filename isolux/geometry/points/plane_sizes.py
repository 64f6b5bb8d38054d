"""Planes through neighbours, and how many neighbours a plane should go through.

Letters: n points, r rows asked for, k neighbours.
"""

from typing import Any

import numpy as np

from isolux.geometry.points.neighbours import Neighbours
from isolux.geometry.points.noise import aligned, local_noise
from isolux.geometry.points.plane_kernels import fit_planes

__all__ = ["FEW", "LEAST", "by_noise", "fitted", "steadiest"]

_SIZES = (16, 24, 36, 54, 80, 120, 160)  # neighbours, of which noise and shape choose
LEAST = _SIZES[0]
FEW = 8
_STEADY = 0.05  # squared sine: 13 degrees


def fitted(tree: Neighbours, rows: Any, near: Any) -> tuple[Any, Any]:
    """Normals [r, 3] and rising eigenvalues of planes through `near` [r, k] of the points."""
    normals, values = np.empty((len(rows), 3)), np.empty((len(rows), 3))
    fit_planes(
        tree.points.reshape(-1), np.ascontiguousarray(near).reshape(-1), rows, near.shape[1], 1,
        normals.reshape(-1), values.reshape(-1), 0, len(rows),
    )  # fmt: skip
    return normals, values


def steadiest(tree: Neighbours) -> int:
    """Enough neighbours for the noise, and no more than the shape bears.

    More of them average the noise, and round off the shape. Planes through every other
    neighbour tell what noise there is left; how far planes have turned from the first ones that
    noise has not turned anyhow tells what the shape has lost. The least sum is taken. What
    noise does to these turns is not taken off, as Mallows' C_p (1973) would: a field that is
    fitted to normals averages their noise once more, and never what all of them have lost.
    """
    count, rows = len(tree.points), _some(tree)
    if count <= LEAST or _sparse(tree, rows):
        return min(count, FEW if count > LEAST else LEAST)
    near = tree.among(min(count, _SIZES[-1]), rows)[1]
    best, least, first = 0, np.inf, None
    for size in (size for size in _SIZES if size <= count):
        whole, one, other = (
            fitted(tree, rows, near[:, start:size:step])[0]
            for start, step in ((0, 1), (0, 2), (1, 2))
        )
        # Of halves that differ by v, the whole has a quarter: half a half's, which is v / 2.
        noise = float(_turn(one, other).mean()) / 4
        if first is None and (noise <= _STEADY or size == _SIZES[-1]):
            first = whole
        lost = 0.0 if first is None else float(_turn(whole, first).mean())
        if first is None or lost + noise < least:
            best, least = size, np.inf if first is None else lost + noise
    return best


def _turn(a: Any, b: Any) -> Any:
    """The squared sine between unit vectors [n, 3] of no certain side."""
    return 1 - np.einsum("nk,nk->n", a, b) ** 2


def by_noise(tree: Neighbours) -> int:
    """Neighbours about which a neighbourhood is wider than noise, whatever that rounds off."""
    count, rows = len(tree.points), _some(tree)
    if count <= LEAST or _sparse(tree, rows):
        return min(count, FEW if count > LEAST else LEAST)
    spacing = float(np.median(tree.among(2, rows)[0][:, 1]))
    share = local_noise(tree, 1000) / max(spacing, 1e-300)
    return int(np.clip(round(LEAST + 96 * max(share - 0.05, 0.0)), LEAST, _SIZES[-1]))


def _some(tree: Neighbours) -> Any:
    """Points to judge by."""
    count = len(tree.points)
    return np.linspace(0, count - 1, min(count, 2000)).astype(np.int32)


def _sparse(tree: Neighbours, rows: Any) -> bool:
    """Whether the sixteenth neighbour is a part of the shape elsewhere."""
    thick, thin = (aligned(tree, rows, size)[1] for size in (LEAST, FEW))
    return thick > 0.2 and thin < 0.6 * thick
