"""Where points lie: how far a fit can be trusted, and what stands for it beyond.

Letters: n points asked for, s points of the cloud, c clusters of them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree
from torch import Tensor

from isolux.backends.cpu.jit import kernel
from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.geometry.points.centres import choose_centres

__all__ = ["Far", "Support"]

_NEIGHBOURS = 6
_RING = 1.3  # distance to the sixth neighbour in spacings, between 1.1 (regular) and 1.4
_REACH = 3.0  # spacings that a fit is trusted for
_CLUSTERS = 1024
_TASK = 1024


@dataclass(frozen=True)
class Far:
    """What takes a fit's place far from points."""

    value: Float[Tensor, " n"]
    gradient: Float[Tensor, "n 3"]
    share_gradient: Float[Tensor, "n 3"]


class Support:
    """The points of a cloud, with how dense they are.

    Attributes:
        spacing: between points, typically.
        noise: standard deviation of the points along their normals, about.

    Args:
        points: float64, of which at least two differ.
        normals: unit, outward.
    """

    def __init__(self, points: Float[Tensor, "s 3"], normals: Float[Tensor, "s 3"]) -> None:
        self.points = points
        self._middle = points.mean(0)
        self._local: Any = (points - self._middle).numpy()
        self._tree = cKDTree(self._local)
        among = min(_NEIGHBOURS + 1, len(points))
        ring, near = self._tree.query(self._local, among)
        spacing = ring[:, -1] / _RING
        typical = float(np.median(spacing[spacing > 0])) if (spacing > 0).any() else 0.0
        self.spacing = typical
        # The mean over neighbours: a point that stands alone does not reach farther for that.
        self._reach: Any = _REACH * np.maximum(
            np.minimum(spacing[near].mean(1), 4.0 * typical), typical
        )
        self.noise = _noise(self._local, normals.double().numpy(), near[:, 1])
        area = 0.5 * (spacing + np.median(spacing[near], 1)) ** 2
        self._flux = _Flux(self._local, normals.double().numpy() * area[:, None])

    def far(self, points: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, " n"], Far]:
        """How little the fit is trusted, from 0 to 1, and what stands for it."""
        local = (points - self._middle).numpy()
        distance, owner = self._query(local, 1)
        reach = self._reach[owner]
        t = np.clip(distance / reach - 1.0, 0.0, 1.0)
        share = t * t * (3.0 - 2.0 * t)
        away = np.flatnonzero(t > 0)
        value, gradient = np.zeros(len(local)), np.zeros((len(local), 3))
        share_gradient = np.zeros((len(local), 3))
        if len(away):
            sign = self._flux.sign(local[away])
            unit = (local[away] - self._local[owner[away]]) / distance[away, None]
            value[away] = sign * distance[away]
            gradient[away] = sign[:, None] * unit
            rise = 6.0 * t[away] * (1.0 - t[away]) / reach[away]
            share_gradient[away] = rise[:, None] * unit
        found = Far(*(torch.from_numpy(part) for part in (value, gradient, share_gradient)))
        return torch.from_numpy(share), found

    def near(
        self, points: Float[Tensor, "n 3"], limit: float | None, slack: float = 0.0
    ) -> Bool[Tensor, " n"]:
        """Within `limit` and `slack` of the second nearest point; None: within the reach."""
        local = (points - self._middle).numpy()
        if limit is None:
            distance, owner = self._query(local, 1)
            return torch.from_numpy(distance <= self._reach[owner] + slack)
        distance, _ = self._query(local, 2)
        return torch.from_numpy(distance <= limit + slack)

    def _query(self, local: Any, which: int) -> tuple[Any, Any]:
        """Distance to the `which`-th nearest point, and its row."""
        which = min(which, len(self._local))
        parts = parallel_for(
            lambda start, stop: self._tree.query(local[start:stop], [which]),
            chunks(len(local), 16384),
        )
        if not parts:
            return np.zeros(0), np.zeros(0, np.int64)
        distance = np.concatenate([part[0][:, 0] for part in parts])
        return distance, np.concatenate([part[1][:, 0] for part in parts])


def _noise(points: Any, normals: Any, nearest: Any) -> float:
    """Standard deviation of the points along their normals.

    Between two points of a circle the chord is at a right angle to the sum of their normals,
    so that curvature does not count.
    """
    chord = points[nearest] - points
    gap = np.abs((chord * (0.5 * (normals + normals[nearest]))).sum(1))
    return float(1.4826 / 2**0.5 * np.median(gap))


class _Flux:
    """The sign by the points' winding number (Barill et al. 2018), clusters as dipoles.

    The middle between inside and outside is the number's median at the points themselves: a
    half for a closed surface, next to nothing for an open one.
    """

    def __init__(self, points: Any, flux: Any) -> None:
        given = torch.from_numpy(points)
        centres, _ = choose_centres(given, _CLUSTERS, "blue-noise", 0)
        _, owner = cKDTree(centres.numpy()).query(points)
        order = np.argsort(owner, kind="stable")
        count = np.bincount(owner, minlength=len(centres))
        self.begin: Any = np.concatenate([[0], np.cumsum(count)])
        self.points: Any = np.ascontiguousarray(points[order]).reshape(-1)
        self.flux: Any = np.ascontiguousarray(flux[order]).reshape(-1)
        size = np.maximum(count, 1)[:, None]
        middle: Any = np.stack(
            [np.bincount(owner, points[:, i], len(centres)) for i in range(3)], 1
        )
        total = np.stack([np.bincount(owner, flux[:, i], len(centres)) for i in range(3)], 1)
        middle /= size
        away = np.sqrt(((points - middle[owner]) ** 2).sum(1))
        radius = np.zeros(len(centres))
        np.maximum.at(radius, owner, away)
        self.cluster: Any = np.concatenate([middle, total, radius[:, None]], 1).reshape(-1)
        some = points[:: max(1, len(points) // 512)]
        self.middle = float(np.median(self._number(some)))

    def sign(self, points: Any) -> Any:
        """-1 inside and 1 outside."""
        return np.where(self._number(points) > self.middle, -1.0, 1.0)

    def _number(self, points: Any) -> Any:
        flat, out = np.ascontiguousarray(points).reshape(-1), np.empty(len(points))
        parallel_for(
            _winding,
            [
                (flat, self.cluster, self.begin, self.points, self.flux, out, *part)
                for part in chunks(len(points), _TASK)
            ],
        )
        return out


@kernel
def _winding(
    flat: Any,
    cluster: Any,
    begin: Any,
    points: Any,
    flux: Any,
    out: Any,
    start: int,
    stop: int,
) -> None:
    for i in range(start, stop):
        x, y, z = flat[3 * i], flat[3 * i + 1], flat[3 * i + 2]
        total = 0.0
        for c in range(len(begin) - 1):
            at = 7 * c
            dx, dy, dz = cluster[at] - x, cluster[at + 1] - y, cluster[at + 2] - z
            square = dx * dx + dy * dy + dz * dz
            radius = cluster[at + 6]
            if square > 9.0 * radius * radius and square > 0:
                along = dx * cluster[at + 3] + dy * cluster[at + 4] + dz * cluster[at + 5]
                total += along / (square * np.sqrt(square))
                continue
            for j in range(begin[c], begin[c + 1]):
                dx, dy, dz = points[3 * j] - x, points[3 * j + 1] - y, points[3 * j + 2] - z
                square = dx * dx + dy * dy + dz * dz
                if square > 0:
                    along = dx * flux[3 * j] + dy * flux[3 * j + 1] + dz * flux[3 * j + 2]
                    total += along / (square * np.sqrt(square))
        out[i] = total / (4.0 * np.pi)
