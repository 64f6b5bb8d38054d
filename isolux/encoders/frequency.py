"""Sines and cosines of coordinates at doubling frequencies (Mildenhall et al. 2020)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Frequency"]


class Frequency(nn.Module):
    """The coordinates, then sin and cos of 2^k pi x for k = 0 .. octaves - 1.

    Args:
        in_dim: coordinates of a point.
        octaves: frequencies; 0 gives the coordinates alone.
        scale: of the first frequency; pi has one period over [-1, 1] (NeRF), 1 is IDR's.

    Attributes:
        active: octaves in use, all of them at first; the columns of others are zero.
    """

    def __init__(self, in_dim: int = 3, octaves: int = 6, scale: float = math.pi) -> None:
        super().__init__()
        if in_dim < 1 or octaves < 0:
            raise ValueError(f"need in_dim >= 1 and octaves >= 0, got {in_dim} and {octaves}")
        self.in_dim = in_dim
        self.octaves = octaves
        self.scale = scale
        self.active = octaves

    @property
    def out_dim(self) -> int:
        """Columns of the encoding."""
        return self.in_dim * (1 + 2 * self.octaves)

    def forward(self, points: Float[Tensor, "p d"]) -> Float[Tensor, "p c"]:
        """Columns: the coordinates, then by octave all sines, all cosines."""
        octave = torch.arange(self.octaves, dtype=points.dtype, device=points.device)
        angle = points[:, None, :] * (self.scale * 2.0**octave)[:, None]  # [p, octaves, d]
        waves = torch.stack([angle.sin(), angle.cos()], dim=2)  # [p, octaves, 2, d]
        waves = torch.where((octave < self.active)[:, None, None], waves, 0.0)
        return torch.cat([points, waves.flatten(1)], dim=1)
