"""One view looked at from all sides: ours, the reference, what ours is made of, the error.

Letters: h w pixels of the view, k l texels of the light.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from isolux.render.colour import srgb_from_linear
from isolux.render.metrics import composite, psnr, srgb8
from isolux.render.picture import (
    Panel,
    grid,
    heat_map,
    light_picture,
    normal_picture,
    plain_picture,
)

__all__ = ["ComparedView", "comparison_row"]

_WORST = 0.2  # mean difference of sRGB that the error map shows as its brightest


@dataclass(frozen=True)
class ComparedView:
    """What was drawn for a view, beside its reference."""

    name: str
    ours: Float[Tensor, "h w 3"]  # linear, over the background
    reference: Float[Tensor, "h w 3"]  # linear, over the same
    alpha: Float[Tensor, "h w 1"]  # our coverage, in [0, 1]
    albedo: Float[Tensor, "h w 3"]  # linear
    orm: Float[Tensor, "h w 3"]  # occlusion, roughness, metalness
    normal: Float[Tensor, "h w 3"]  # world space, unit; zero where nothing is


def comparison_row(
    view: ComparedView, light: Float[Tensor, "k l 3"] | None = None
) -> UInt8[Tensor, "rows columns 3"]:
    """A labelled row of panels: ours, reference, error, albedo, ORM, normal, light.

    Args:
        view: albedo, ORM and normals are shown on white where they are not covered.
        light: lat-long radiance, the same for all views; none leaves its panel out.
    """
    ratio = psnr(view.ours[None], view.reference[None])[0].item()
    difference = (_seen(view.ours) - _seen(view.reference)).abs().mean(dim=-1)
    white = torch.ones_like(view.orm)
    panels = [
        Panel("ours", srgb8(view.ours)),
        Panel("reference", srgb8(view.reference)),
        Panel(f"error, 0 to {_WORST}", heat_map(difference, _WORST)),
        Panel("albedo", srgb8(composite(view.albedo[None], view.alpha[None], "white")[0])),
        Panel("occl., rough., metal.", plain_picture(white.lerp(view.orm, view.alpha))),
        Panel("normal", normal_picture(view.normal)),
    ]
    if light is not None:
        panels.append(Panel("light", light_picture(light)))
    return grid([panels], title=f"{view.name}   PSNR {ratio:.2f} dB")


def _seen(linear: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w 3"]:
    return srgb_from_linear(linear.nan_to_num(0.0).clamp(0.0, 1.0))
