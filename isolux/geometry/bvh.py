"""Nearest points on triangles, and winding numbers, through a tree of boxes.

Letters: n vertices, f faces, p points, b boxes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.geometry.bvh_kernels import build, closest, dipoles, winding
from isolux.geometry.morton import curve_order

__all__ = ["TriangleTree"]

_POINTS = 4096  # a task's
_LEAF = 4  # faces


@dataclass(frozen=True)
class _Boxes:
    """Flat arrays: children are 2 integers (first face and -count for a leaf)."""

    corners: Any  # float64 [f * 9], in tree order
    face: Any  # int64 [f], the original number
    bounds: Any  # float64 [b * 6]
    child: Any  # int64 [b * 2]
    dipole: Any  # float64 [b * 7]: centre, area vector, radius


class TriangleTree:
    """Triangles arranged for queries.

    Raises:
        ValueError: when there is no triangle, or a vertex is not finite.
    """

    def __init__(self, vertices: Float[Tensor, "n 3"], faces: Int[Tensor, "f 3"]) -> None:
        if len(faces) == 0:
            raise ValueError("a mesh without faces has no nearest point")
        corner = vertices.detach().double().cpu()[faces.long().cpu()]
        if not bool(corner.isfinite().all()):
            raise ValueError("the mesh has vertices that are not finite")
        order = curve_order(corner.mean(1).numpy())
        corners = np.ascontiguousarray(corner.numpy()[order]).reshape(-1)
        bounds = np.empty(2 * len(faces) * 6)
        child = np.empty(2 * len(faces) * 2, np.int64)
        count = build(corners, bounds, child, _LEAF)
        bounds, child = bounds[: 6 * count].copy(), child[: 2 * count].copy()
        dipole = np.zeros(7 * count)
        dipoles(corners, child, dipole)
        self._boxes = _Boxes(corners, order, bounds, child, dipole)

    def closest(
        self, points: Float[Tensor, "p 3"]
    ) -> tuple[Float[Tensor, " p"], Int[Tensor, " p"]]:
        """Exact distances (float64) to the surface, and the faces where it is nearest."""
        flat = _flat(points)
        distance, face = np.empty(len(points)), np.empty(len(points), np.int64)
        boxes = self._boxes
        parallel_for(
            closest,
            [
                (boxes.corners, boxes.bounds, boxes.child, flat, distance, face, *part)
                for part in chunks(len(points), _POINTS)
            ],
        )
        return torch.from_numpy(distance), torch.from_numpy(boxes.face[face])

    def winding(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, " p"]:
        """How often the surface goes round each point: 1 inside a closed mesh, 0 outside.

        Barill et al. 2018, "Fast winding numbers for soups and clouds": far boxes count as
        dipoles, to about one percent.
        """
        flat, number = _flat(points), np.empty(len(points))
        boxes = self._boxes
        parallel_for(
            winding,
            [
                (boxes.corners, boxes.child, boxes.dipole, flat, number, *part)
                for part in chunks(len(points), _POINTS)
            ],
        )
        return torch.from_numpy(number)


def _flat(points: Tensor) -> Any:
    return points.detach().double().cpu().contiguous().numpy().reshape(-1)
