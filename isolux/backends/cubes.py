"""Geometry of cube maps: where texels look, how much sky they cover, who their neighbours are.

Faces are +x, -x, +y, -y, +z, -z with OpenGL's directions: in a face's picture x goes right and
y goes down, both in [-1, 1]. Letters: s texels along an edge.
"""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = [
    "AXES",
    "face_points",
    "nvdiffrec_areas",
    "padding",
    "solid_angles",
    "texel_directions",
]

# A face's picture (right, down, outwards) as axes of the world.
AXES = np.array(
    [
        [[0, 0, -1], [0, -1, 0], [1, 0, 0]],
        [[0, 0, 1], [0, -1, 0], [-1, 0, 0]],
        [[1, 0, 0], [0, 0, 1], [0, 1, 0]],
        [[1, 0, 0], [0, 0, -1], [0, -1, 0]],
        [[1, 0, 0], [0, -1, 0], [0, 0, 1]],
        [[-1, 0, 0], [0, -1, 0], [0, 0, -1]],
    ],
    dtype=np.float64,
)


def face_points(size: int) -> Float[Tensor, "6 s s 3"]:
    """Texel centres on the cube [-1, 1]^3, float64."""
    centre = (2.0 * np.arange(size) + 1.0) / size - 1.0
    down, right = np.meshgrid(centre, centre, indexing="ij")
    local = np.stack([right, down, np.ones_like(right)], axis=-1)  # [s, s, 3]
    return torch.from_numpy(np.einsum("ija,fab->fijb", local, AXES))


def texel_directions(size: int) -> Float[Tensor, "6 s s 3"]:
    """Unit vectors to texel centres, float64."""
    return torch.nn.functional.normalize(face_points(size), dim=-1)


def solid_angles(size: int) -> Float[Tensor, "s s"]:
    """Steradians of a face's texels, float64; six faces make 4 pi."""
    edge = torch.linspace(-1.0, 1.0, size + 1, dtype=torch.float64)
    y, x = torch.meshgrid(edge, edge, indexing="ij")
    # The solid angle of the rectangle from the face's centre to (x, y).
    corner = torch.atan2(x * y, (x * x + y * y + 1.0).sqrt())
    return corner[1:, 1:] - corner[1:, :-1] - corner[:-1, 1:] + corner[:-1, :-1]


def nvdiffrec_areas(size: int) -> Float[Tensor, "s s"]:
    """What nvdiffrec weighs texels with: a product of two angles, and lopsided. float64.

    It sums to 13.59 instead of 4 pi = 12.57 at 16 texels; results that are to be compared with
    nvdiffrec's, and its light probes, want it.
    """
    half = size / 2
    distance = (torch.arange(size, dtype=torch.float64) - half).abs()
    angle = torch.atan((distance + 1.0) / half) - torch.atan(distance / half)
    return angle[:, None] * angle[None, :]


@lru_cache(maxsize=32)
def padding(size: int) -> Int[Tensor, "6 t t"]:
    """For each texel of faces padded by one, the flat index of the texel that it shows.

    The padding shows the neighbouring face's outermost row; -1 stands in the four corners,
    where three faces meet and no fourth texel exists (t = s + 2).
    """
    # A point beyond an edge is folded over it: as far as it lies outside, it sinks.
    at = (2.0 * np.arange(-1, size + 1) + 1.0) / size - 1.0
    down, right = np.meshgrid(at, at, indexing="ij")
    beyond = np.maximum(np.abs(right) - 1.0, 0.0) + np.maximum(np.abs(down) - 1.0, 0.0)
    local = np.stack([right.clip(-1, 1), down.clip(-1, 1), 1.0 - beyond], axis=-1)
    index = _texel(np.einsum("ija,fab->fijb", local, AXES), size)
    index[:, [0, 0, -1, -1], [0, -1, 0, -1]] = -1
    return torch.from_numpy(index)


def _texel(point: np.ndarray, size: int) -> np.ndarray:
    """Flat index of the texel that holds a point of the cube's surface, off the edges."""
    axis = np.abs(point).argmax(axis=-1)
    positive = np.take_along_axis(point, axis[..., None], axis=-1)[..., 0] > 0
    face = 2 * axis + np.where(positive, 0, 1)
    place = np.einsum("...b,...ab->...a", point, AXES[face])  # right, down, 1
    column, row = (
        np.floor((place[..., k] + 1.0) / 2.0 * size).astype(np.int64).clip(0, size - 1)
        for k in (0, 1)
    )
    return np.asarray((face * size + row) * size + column)
