"""Points with what is known of them, and the frame that they are worked on in.

Letters: n points.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Frame", "PointCloud"]


@dataclass(frozen=True)
class PointCloud:
    """Points in the world; what is not known of them is None."""

    xyz: Float[Tensor, "n 3"]  # float64
    normals: Float[Tensor, "n 3"] | None = None  # float32, unit, outward
    sensor: Float[Tensor, "n 3"] | None = None  # float64: where each was seen from
    colors: Float[Tensor, "n 3"] | None = None  # float32, linear, in [0, 1]

    def __len__(self) -> int:
        """The number of points."""
        return len(self.xyz)

    def __getitem__(self, rows: Tensor | slice) -> "PointCloud":
        """The points at `rows`, with all that is known of them."""
        parts = (self.xyz, self.normals, self.sensor, self.colors)
        return PointCloud(*(None if part is None else part[rows] for part in parts))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Frame:
    """Where a cloud is worked on: world = origin + scale * local.

    Coordinates of a survey are millions of metres; what is left beside the origin fits in
    single precision.
    """

    origin: Float[Tensor, " 3"]  # float64
    scale: float

    def local(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """World points in the frame, float64."""
        return (points.double() - self.origin) / self.scale

    def world(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Points of the frame in the world, float64."""
        return self.origin + self.scale * points.double()

    @property
    def world_from_local(self) -> Float[Tensor, "4 4"]:
        """The same as a matrix, float64."""
        matrix = torch.eye(4, dtype=torch.float64) * self.scale
        matrix[:3, 3], matrix[3, 3] = self.origin, 1.0
        return matrix
