"""Light from far away: a trainable cube map, prefiltered for split-sum shading.

Letters: s texels along a face's edge. Cube faces +x, -x, +y, -y, +z, -z as OpenGL has them;
lat-long maps as `docs/conventions.md` has them. Karis 2013, "Real Shading in Unreal Engine 4",
for the split sum; Munkberg et al. 2022, section 4, for training it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from isolux.backends import Backend
from isolux.backends.light import irradiance, prefilter
from isolux.backends.sample import cubemap

__all__ = ["EnvironmentLight", "LightMaps", "cube_from_latlong", "latlong_from_cube"]

ROUGHNESS = (0.08, 0.185, 0.29, 0.395, 0.5, 1.0)  # of the specular levels
_SMALLEST = 16  # texels: the edge of the roughest levels and of the irradiance


@dataclass(frozen=True)
class LightMaps:
    """A light made ready for shading."""

    diffuse: Float[Tensor, "6 d d 3"]  # irradiance over pi
    specular: tuple[Tensor, ...]  # [6, s, s, 3] each, for the levels of ROUGHNESS

    def level(self, roughness: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
        """Where a roughness stands among the specular levels, linear between them."""
        level = torch.zeros_like(roughness)
        for low, high in pairwise(ROUGHNESS):
            level = level + ((roughness - low) / (high - low)).clamp(0.0, 1.0)
        return level


class EnvironmentLight(nn.Module):
    """A cube map of linear radiance, not negative.

    Args:
        base: radiance, [6, s, s, 3], s a power of two of at least 16.
        learn: whether it is a parameter or stays as it is.
        solid_angles: weights of the prefilter, see `isolux.backends.light`.
    """

    base: Tensor

    def __init__(
        self,
        base: Float[Tensor, "6 s s 3"],
        learn: bool = True,
        solid_angles: Literal["exact", "nvdiffrec"] = "exact",
    ) -> None:
        super().__init__()
        self.base = nn.Parameter(base.clone(), requires_grad=learn)
        self.solid_angles: Literal["exact", "nvdiffrec"] = solid_angles
        self._kept: LightMaps | None = None

    @staticmethod
    def constant(size: int, radiance: float) -> Float[Tensor, "6 s s 3"]:
        """A grey cube map."""
        return torch.full((6, size, size, 3), radiance)

    def maps(self, backend: Backend) -> LightMaps:
        """Prefilter the light; done once when it is not trained."""
        if not self.base.requires_grad and self._kept is not None:
            return self._kept
        chain = [self.base]
        while chain[-1].shape[1] > _SMALLEST:
            chain.append(_halved(chain[-1]))
        specular = tuple(
            prefilter(backend, chain[min(i, len(chain) - 1)], r, self.solid_angles)
            for i, r in enumerate(ROUGHNESS)
        )
        maps = LightMaps(irradiance(backend, chain[-1], self.solid_angles), specular)
        if not self.base.requires_grad:
            self._kept = maps
        return maps

    @torch.no_grad()
    def clamp(self) -> None:
        """Put the radiance back to where it can be."""
        self.base.clamp_(min=0.0)

    def colourfulness(self) -> Float[Tensor, ""]:
        """Mean distance of the texels from their own grey (Munkberg et al. 2022)."""
        return (self.base - self.base.mean(dim=-1, keepdim=True)).abs().mean()


def _halved(cube: Float[Tensor, "6 s s c"]) -> Float[Tensor, "6 r r c"]:
    return functional.avg_pool2d(cube.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def cube_directions(size: int, samples: int = 1) -> Float[Tensor, "6 r r 3"]:
    """Unit directions through the texel centres; `samples` a side within each texel."""
    steps = size * samples
    at = (torch.arange(steps, dtype=torch.float32) + 0.5) / steps * 2.0 - 1.0
    y, x = torch.meshgrid(at, at, indexing="ij")
    one = torch.ones_like(x)
    faces = [
        (one, -y, -x),
        (-one, -y, x),
        (x, one, y),
        (x, -one, -y),
        (x, -y, one),
        (-x, -y, -one),
    ]
    return functional.normalize(torch.stack([torch.stack(f, dim=-1) for f in faces]), dim=-1)


def cube_from_latlong(
    image: Float[Tensor, "h w 3"], size: int, samples: int | None = None
) -> Float[Tensor, "6 s s 3"]:
    """Resample a lat-long map to a cube map, averaging over each texel.

    Args:
        image: linear radiance; row 0 is +y, the centre looks to -z, columns grow towards +x.
        size: edge of a cube face, texels.
        samples: a side within each texel; none takes enough to see every pixel of the map.
    """
    width = image.shape[1]
    if samples is None:
        samples = max(1, -(-width // (4 * size)) * 2)
    direction = cube_directions(size, samples)
    x, y, z = direction.unbind(-1)
    u = torch.atan2(x, -z) / (2.0 * torch.pi) + 0.5
    v = torch.acos(y.clamp(-1.0, 1.0)) / torch.pi
    # Wrapped once around, so that bilinear sampling goes across the seam.
    padded = torch.cat([image[:, -1:], image, image[:, :1]], dim=1).permute(2, 0, 1)[None]
    grid_x = ((u * width + 1.0) / (width + 2)) * 2.0 - 1.0
    grid = torch.stack([grid_x, v * 2.0 - 1.0], dim=-1).reshape(1, 1, -1, 2)
    looked_up = functional.grid_sample(
        padded, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    texels = looked_up[0, :, 0].T.reshape(*direction.shape)
    return texels.reshape(6, size, samples, size, samples, 3).mean(dim=(2, 4))


def latlong_directions(height: int, width: int) -> Float[Tensor, "h w 3"]:
    """Unit directions through the pixel centres of a lat-long map."""
    theta = (torch.arange(height, dtype=torch.float32) + 0.5) / height * torch.pi
    phi = ((torch.arange(width, dtype=torch.float32) + 0.5) / width * 2.0 - 1.0) * torch.pi
    theta, phi = torch.meshgrid(theta, phi, indexing="ij")
    return torch.stack([theta.sin() * phi.sin(), theta.cos(), -theta.sin() * phi.cos()], dim=-1)


def latlong_from_cube(
    backend: Backend, levels: Sequence[Float[Tensor, "6 s s 3"]], height: int, width: int
) -> Float[Tensor, "h w 3"]:
    """A cube map as a lat-long map, bilinear and seamless."""
    direction = latlong_directions(height, width).to(levels[0])
    return cubemap(backend, list(levels[:1]), direction.reshape(-1, 3), None).reshape(
        height, width, 3
    )
