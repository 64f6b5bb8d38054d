"""Colours of a cloud carried to any place: smooth interpolation between the nearest points.

Letters: n points, m places, k neighbours.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.geometry.mesh import Mesh
from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.neighbours import Neighbours, distinct

__all__ = ["ColorField", "vertex_colors"]

_PART = 1 << 14  # places of a task
_SPACING = 4  # neighbours that say how dense points lie


class ColorField:
    """Colours everywhere: means of the nearest points', weighted by a Gaussian of distance.

    The Gaussian is as wide as the points there are apart, so dense parts keep their detail and
    sparse ones show no cells. Constant colours come back exactly, and values never leave the
    range of the points'.

    Args:
        cloud: finite points with colours; those in one place count as their mean.
        neighbours: points that are averaged.

    Raises:
        ValueError: no points, no colours, points that are not finite, no neighbour.
    """

    def __init__(self, cloud: PointCloud, neighbours: int = 8) -> None:
        if cloud.colors is None:
            raise ValueError("the cloud has no colours")
        if not len(cloud):
            raise ValueError("a cloud without points has no colours")
        if neighbours < 1:
            raise ValueError(f"neighbours: need at least 1, got {neighbours}")
        xyz = cloud.xyz.detach().double().cpu().numpy()
        colors = cloud.colors.detach().double().cpu().numpy()
        if not (np.isfinite(xyz).all() and np.isfinite(colors).all()):
            raise ValueError("the cloud has rows that are not finite: clean it first")
        once = distinct(xyz)
        if once is not None:
            first, place = once
            size = np.bincount(place)
            colors = np.stack(
                [np.bincount(place, column) / size for column in colors.T], axis=1
            )
            xyz = xyz[first]
        self._tree = Neighbours(xyz)
        self._colors = np.ascontiguousarray(colors[self._tree.order])
        self._count = min(neighbours, len(xyz))
        self._spacing = np.ones(len(xyz))
        if len(xyz) > 1:
            near = min(_SPACING + 1, len(xyz))
            parallel_for(self._measure, [(near, *part) for part in chunks(len(xyz), _PART)])

    def __call__(self, points: Float[Tensor, "m 3"]) -> Float[Tensor, "m 3"]:
        """Linear colours in [0, 1] at places of the world, float32, on the places' device.

        Raises:
            ValueError: places that are not finite.
        """
        places = points.detach().double().cpu().numpy()
        if not np.isfinite(places).all():
            raise ValueError("colours are asked for at places that are not finite")
        out = np.empty((len(places), 3), np.float32)
        parallel_for(self._fill, [(places, out, *part) for part in chunks(len(places), _PART)])
        return torch.from_numpy(out).to(points.device)

    def _measure(self, near: int, start: int, stop: int) -> None:
        distance, _ = self._tree.among(near, slice(start, stop))
        self._spacing[start:stop] = distance[:, 1:].mean(1)

    def _fill(self, places: Any, out: Any, start: int, stop: int) -> None:
        distance, index = self._tree.near(places[start:stop], self._count)
        width = self._spacing[index[:, :1]]
        # Less the nearest one's: far away all weights would vanish.
        square = distance**2 - distance[:, :1] ** 2
        weight = np.exp(-0.5 * square / np.maximum(width, 1e-150) ** 2)
        weight /= weight.sum(1, keepdims=True)
        mean = (weight[..., None] * self._colors[index]).sum(1)
        out[start:stop] = np.clip(mean, 0.0, 1.0)


def vertex_colors(mesh: Mesh, cloud: PointCloud, neighbours: int = 8) -> Float[Tensor, "n 3"]:
    """The cloud's colours at a mesh's vertices, linear, float32; as `ColorField`."""
    return ColorField(cloud, neighbours)(mesh.vertices)
