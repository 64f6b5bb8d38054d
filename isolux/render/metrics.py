"""How close pictures are, as users of the field report it.

Colours are compared as they are looked at: rounded to 8-bit sRGB. What comes in is linear and
composited over the background that the caller reports. Letters: v views, h w pixels, c
channels. Every function gives one value a view, so that means can be taken over views.
"""

import torch
from jaxtyping import Float, UInt8
from pytorch_msssim import ssim as _windowed_ssim
from torch import Tensor

from isolux.render.colour import srgb_from_linear

__all__ = ["composite", "image_metrics", "psnr", "silhouette_iou", "srgb8", "ssim"]

# Two pictures without a single different byte have no error to take the logarithm of, and
# JSON has no infinity. One byte of a 4096 x 4096 picture off by one is 125 dB.
_HIGHEST_PSNR = 150.0


_BACKGROUNDS = {"white": 1.0, "black": 0.0}
_CHECKER_TILE = 8  # pixels
_CHECKER = (0.66, 0.33)  # linear grey of the two tiles


def composite(
    colour: Float[Tensor, "v h w 3"], alpha: Float[Tensor, "v h w 1"], background: str
) -> Float[Tensor, "v h w 3"]:
    """Straight linear colour over a background, mixed in linear light.

    Args:
        colour: linear, not premultiplied.
        alpha: coverage in [0, 1].
        background: `white`, `black` or `checker` (grey tiles of 8 pixels).

    Raises:
        ValueError: for another background.
    """
    if background == "checker":
        height, width = colour.shape[1:3]
        y = torch.arange(height, device=colour.device)[:, None] // _CHECKER_TILE
        x = torch.arange(width, device=colour.device)[None, :] // _CHECKER_TILE
        behind = torch.where((x + y) % 2 == 0, *_CHECKER).to(colour.dtype)[..., None]
    elif background in _BACKGROUNDS:
        behind = colour.new_tensor(_BACKGROUNDS[background])
    else:
        raise ValueError(f"background must be white, black or checker, got {background!r}")
    return colour * alpha + behind * (1.0 - alpha)


def srgb8(linear: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """The bytes of a picture: linear light, clipped to [0, 1], as rounded 8-bit sRGB.

    NaN becomes zero, so that a broken pixel is visible rather than undefined.
    """
    clipped = linear.detach().nan_to_num(0.0, 1.0, 0.0).clamp(0.0, 1.0)
    return (srgb_from_linear(clipped) * 255.0).round().to(torch.uint8)


def psnr(
    picture: Float[Tensor, "v h w c"], reference: Float[Tensor, "v h w c"]
) -> Float[Tensor, " v"]:
    """Peak signal-to-noise ratio of every view over the full frame, in dB.

    Args:
        picture, reference: linear, over the same background; compared as 8-bit sRGB.

    Returns:
        At most 150, which equal pictures have. Zero where a view has no pixel.
    """
    if picture.numel() == 0:
        return torch.zeros(picture.shape[0], dtype=torch.float64, device=picture.device)
    difference = (srgb8(picture).double() - srgb8(reference).double()) / 255.0
    error = difference.square().mean(dim=(1, 2, 3))
    return -10.0 * error.clamp_min(10.0 ** (-_HIGHEST_PSNR / 10.0)).log10()


def ssim(
    picture: Float[Tensor, "v h w c"], reference: Float[Tensor, "v h w c"]
) -> Float[Tensor, " v"]:
    """Structural similarity of every view, at most one, with the usual window.

    Gaussian of 11 pixels and sigma 1.5, valid positions only, mean over the channels (Wang
    et al. 2004). A picture smaller than the window gets the largest odd one that fits.

    Args:
        picture, reference: linear, over the same background; compared as 8-bit sRGB.

    Returns:
        Zero where a view has no pixel.
    """
    views, height, width = picture.shape[:3]
    if picture.numel() == 0:
        return torch.zeros(views, dtype=torch.float64, device=picture.device)
    first, second = (_channels_first(srgb8(image)) for image in (picture, reference))
    shortest = min(height, width)
    window = min(11, shortest - 1 + shortest % 2)
    score: Tensor = _windowed_ssim(
        first, second, data_range=255.0, size_average=False, win_size=window
    )
    return score.double()


def _channels_first(image: UInt8[Tensor, "v h w c"]) -> Float[Tensor, "v c k l"]:
    """The layout that the library wants, which drops axes of one pixel unless doubled."""
    image = image.repeat(1, 1 + (image.shape[1] == 1), 1 + (image.shape[2] == 1), 1)
    return image.permute(0, 3, 1, 2).to(torch.float64)


def silhouette_iou(
    alpha: Float[Tensor, "v h w 1"], reference: Float[Tensor, "v h w 1"]
) -> Float[Tensor, " v"]:
    """Intersection over union of what is more than half covered, of every view.

    Returns:
        One where both are empty: they agree.
    """
    ours, theirs = (image.flatten(1) > 0.5 for image in (alpha, reference))
    shared = (ours & theirs).sum(dim=1).double()
    either = (ours | theirs).sum(dim=1).double()
    return torch.where(either > 0, shared / either.clamp_min(1.0), 1.0)


def image_metrics(
    picture: Float[Tensor, "v h w 3"],
    reference: Float[Tensor, "v h w 3"],
    alpha: Float[Tensor, "v h w 1"] | None = None,
    reference_alpha: Float[Tensor, "v h w 1"] | None = None,
) -> dict[str, Float[Tensor, " v"]]:
    """All of the above, of every view, by the names of `metrics.json`.

    Args:
        picture, reference: linear, over the same background.
        alpha, reference_alpha: coverage; without both there is no `silhouette_iou`.
    """
    values = {"psnr": psnr(picture, reference), "ssim": ssim(picture, reference)}
    if alpha is not None and reference_alpha is not None:
        values["silhouette_iou"] = silhouette_iou(alpha, reference_alpha)
    return values
