"""One picture from end to end: surface, material and light to composited colour."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from isolux.backends import Backend
from isolux.geometry.cameras import Cameras
from isolux.render.gbuffer import GBuffer, Surface, compose, draw_surface
from isolux.render.light import LightMaps
from isolux.render.material import MaterialSample
from isolux.render.shade import shade

__all__ = ["Lens", "Picture", "SurfaceMaterial", "draw", "photograph"]

_FINER = 2  # samples along each edge of a photograph's pixel


@runtime_checkable
class SurfaceMaterial(Protocol):
    """What can be asked for a material at pixels: a field or textures."""

    def at(self, gbuffer: GBuffer) -> MaterialSample:
        """The material at the pixels of a G-buffer."""
        ...


@dataclass(frozen=True)
class Lens:
    """Clip planes in scene units, and whether the light turns with the camera."""

    near: float = 0.1
    far: float = 1000.0
    light_in_camera_space: bool = False


@dataclass(frozen=True)
class Picture:
    """Views of a scene: colour over the background, coverage, and what they were made of."""

    rgb: Float[Tensor, "v h w 3"]  # linear, composited
    alpha: Float[Tensor, "v h w 1"]
    gbuffer: GBuffer
    material: MaterialSample


def draw(
    backend: Backend,
    surface: Surface,
    material: SurfaceMaterial,
    light: LightMaps,
    cameras: Cameras,
    lens: Lens,
    background: Float[Tensor, "v h w 3"] | None = None,
    all_pixels: bool = False,
) -> Picture:
    """Draw a surface over a background (black without one). Differentiable throughout.

    With `all_pixels` every pixel is shaded, as `draw_surface` has it; the picture is the same.
    """
    gbuffer = draw_surface(
        backend, surface, cameras, lens.near, lens.far, all_pixels=all_pixels
    )
    sample = material.at(gbuffer)
    colour = shade(
        backend, gbuffer, sample, light, cameras if lens.light_in_camera_space else None
    )
    shape = (len(cameras), cameras.height, cameras.width)
    if background is None:
        background = colour.new_zeros(*shape, 3)
    empty, full = functional.pad(background, (0, 1)), functional.pad(colour, (0, 1), value=1.0)
    image = compose(backend, gbuffer, full, empty)
    rgb, alpha = _Parts.apply(image)  # type: ignore[no-untyped-call]
    return Picture(rgb, alpha, gbuffer, sample)


@torch.no_grad()
def photograph(
    backend: Backend,
    surface: Surface,
    material: SurfaceMaterial,
    light: LightMaps,
    cameras: Cameras,
    lens: Lens,
) -> tuple[Float[Tensor, "v h w 3"], Float[Tensor, "v h w 1"]]:
    """Colour over black and coverage, as means over the areas of pixels, which a camera takes.

    `draw` shades a pixel at its centre: right for a step of training, but too sharp inside and
    too coarse at edges beside a photograph. This is the mean of a picture of twice the size.
    """
    fine = cameras.resized(cameras.height * _FINER, cameras.width * _FINER)
    picture = draw(backend, surface, material, light, fine, lens)
    rgba = torch.cat([picture.rgb, picture.alpha], dim=-1).permute(0, 3, 1, 2)
    mean = functional.avg_pool2d(rgba, _FINER).permute(0, 2, 3, 1)
    return mean[..., :3].contiguous(), mean[..., 3:].contiguous()


class _Parts(torch.autograd.Function):
    """Colour and coverage of a picture; two slices would each fill a gradient of all four."""

    @staticmethod
    def forward(ctx: Any, image: Tensor) -> tuple[Tensor, Tensor]:
        return image[..., :3].contiguous(), image[..., 3:].contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, rgb: Tensor, alpha: Tensor) -> Tensor:
        return torch.cat([rgb, alpha], dim=-1)
