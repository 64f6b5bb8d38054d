"""Physically based materials: a volumetric field at first, textures later.

Channels, in this order everywhere: linear albedo (3), occlusion-roughness-metalness (3) with
occlusion 0 for "nothing is darkened", tangent-space normal (3; textures only).
Letters: p points or pixels.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from isolux.backends import Backend
from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.backends.encode import HashGridSpec
from isolux.backends.sample import mipmapped, texture2d
from isolux.encoders.hashgrid import HashGrid
from isolux.encoders.mlp import MLP
from isolux.render.gbuffer import GBuffer

__all__ = ["Limits", "MaterialField", "MaterialSample", "TextureMaterial"]

_ROWS = 128  # of texels, that are clamped at a time


@dataclass(frozen=True)
class MaterialSample:
    """A material at pixels."""

    albedo: Float[Tensor, "p 3"]
    orm: Float[Tensor, "p 3"]
    normal: Float[Tensor, "p 3"] | None = None  # tangent space, not unit; None is flat


@dataclass(frozen=True)
class Limits:
    """What albedo and occlusion-roughness-metalness may be."""

    albedo_min: tuple[float, float, float] = (0.0, 0.0, 0.0)
    albedo_max: tuple[float, float, float] = (1.0, 1.0, 1.0)
    orm_min: tuple[float, float, float] = (0.0, 0.08, 0.0)
    orm_max: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def tensors(self) -> tuple[Float[Tensor, " 6"], Float[Tensor, " 6"]]:
        """Lower and upper limits of the six channels."""
        return (
            torch.tensor([*self.albedo_min, *self.orm_min]),
            torch.tensor([*self.albedo_max, *self.orm_max]),
        )


class MaterialField(nn.Module):
    """Hash grid and MLP from world positions to albedo and occlusion-roughness-metalness.

    Args:
        spec: the hash grid.
        width: neurons of a hidden layer.
        hidden: hidden layers.
        limits: ranges of the channels, met through a sigmoid.
        bounds: the box [2, 3] in world units that the grid spans; points outside are clamped.
        backend: the operators.
        generator: draws the first weights.
    """

    low: Tensor
    high: Tensor
    bounds: Tensor

    def __init__(
        self,
        spec: HashGridSpec,
        width: int,
        hidden: int,
        limits: Limits,
        bounds: Float[Tensor, "2 3"],
        backend: Backend,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.encoder = HashGrid(spec, backend, generator)
        sizes = (self.encoder.out_dim, *([width] * hidden), 6)
        self.mlp = MLP(sizes, backend, generator)
        low, high = limits.tensors()
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.register_buffer("bounds", bounds.clone())

    def forward(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, "p 6"]:
        """All channels at world positions."""
        low, high = self.bounds.unbind(0)
        unit = ((points - low) / (high - low)).clamp(0.0, 1.0)
        return torch.sigmoid(self.mlp(self.encoder(unit))) * (self.high - self.low) + self.low

    def at(self, gbuffer: GBuffer) -> MaterialSample:
        """The material at the pixels of a G-buffer."""
        albedo, orm = torch.split(self(gbuffer.position), 3, dim=-1)
        return MaterialSample(albedo, orm)


class TextureMaterial(nn.Module):
    """The nine channels as one trainable texture, [size, size, 9].

    The normal is kept as it is used (x, y in [-1, 1], z in [0, 1]), not as files hold it.
    """

    texels: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self,
        texels: Float[Tensor, "h w 9"],
        limits: Limits,
        normal_map: bool,
        backend: Backend,
    ) -> None:
        super().__init__()
        self.texels = nn.Parameter(texels.clone())
        low, high = limits.tensors()
        self.register_buffer("low", torch.cat([low, torch.tensor([-1.0, -1.0, 0.0])]))
        self.register_buffer("high", torch.cat([high, torch.tensor([1.0, 1.0, 1.0])]))
        self.normal_map = normal_map
        self._backend = backend

    def at(self, gbuffer: GBuffer) -> MaterialSample:
        """The material at the pixels of a G-buffer that has texture coordinates."""
        assert gbuffer.texcoord is not None, "the surface has no texture coordinates"
        channels = self.sample(gbuffer.texcoord, gbuffer.texcoord_da)
        # One pass on the way back, where slices would take three.
        albedo, orm, normal = torch.split(channels, 3, dim=-1)
        return MaterialSample(albedo, orm, normal if self.normal_map else None)

    def sample(
        self, uv: Float[Tensor, "p 2"], uv_da: Float[Tensor, "p 4"] | None
    ) -> Float[Tensor, "p 9"]:
        """All channels at texture coordinates, filtered over the pixel's footprint."""
        if uv_da is None:
            return texture2d(self._backend, [self.texels], uv, None, "clamp")
        return mipmapped(self._backend, self.texels, uv, uv_da, "clamp")

    @torch.no_grad()
    def clamp(self) -> None:
        """Put the texels back into their ranges."""

        def run(first: int, last: int) -> None:
            rows = self.texels[first:last]
            torch.clamp(rows, self.low, self.high, out=rows)

        here = self.texels.device.type == "cpu"
        parallel_for(run, chunks(len(self.texels), _ROWS if here else len(self.texels)))
