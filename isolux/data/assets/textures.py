"""The textures of a surface, and a mesh that has them.

Letters: h, w texels, n vertices. Row 0 is the top: uv (0, 0) is the corner of texel (0, 0).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from isolux.geometry.mesh import Mesh

__all__ = ["MeshAsset", "TextureSet", "constant_textures"]


@dataclass(frozen=True)
class TextureSet:
    """Physically based textures; the three need not be of one size."""

    albedo: Float[Tensor, "h w 3"]  # linear
    orm: Float[Tensor, "ho wo 3"]  # occlusion (0: no darkening), roughness, metalness
    normal: Float[Tensor, "hn wn 3"] | None = None  # unit, tangent space, z out, y as -v

    def to(self, device: torch.device | str) -> "TextureSet":
        """The same textures on another device."""
        normal = None if self.normal is None else self.normal.to(device)
        return TextureSet(self.albedo.to(device), self.orm.to(device), normal)


@dataclass(frozen=True)
class MeshAsset:
    """A mesh as files know it."""

    mesh: Mesh
    material: TextureSet | None
    name: str
    colors: Float[Tensor, "n 3"] | None = None  # of vertices, linear, in [0, 1]


def constant_textures(
    albedo: tuple[float, float, float] = (0.5, 0.5, 0.5),
    orm: tuple[float, float, float] = (0.0, 0.5, 0.0),
) -> TextureSet:
    """One texel of each."""
    return TextureSet(torch.tensor([[albedo]]), torch.tensor([[orm]]))
