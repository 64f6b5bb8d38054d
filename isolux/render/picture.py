"""Pictures for people: tone curves, panels with labels, heat maps, light as a flat map.

Letters: h w pixels. What goes in is linear; what comes out are bytes of sRGB, ready for a
file. Nothing here is differentiable.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from isolux.render.files import write_bytes
from isolux.render.metrics import srgb8

__all__ = [
    "Panel",
    "fit_size",
    "grid",
    "heat_map",
    "jpeg_bytes",
    "light_picture",
    "normal_picture",
    "plain_picture",
    "png_bytes",
    "reinhard",
    "write_png",
]

# The heat map: six anchors from black over violet, red and orange to near white. Luminance
# rises steadily, so that it also reads in grey and for the colour-blind.
_HEAT = torch.tensor(
    [
        [0.00, 0.00, 0.02],
        [0.27, 0.05, 0.43],
        [0.66, 0.14, 0.40],
        [0.92, 0.36, 0.22],
        [0.98, 0.70, 0.16],
        [0.99, 0.99, 0.85],
    ]
)
_PAPER = (255, 255, 255)
_INK = (40, 44, 52)


@dataclass(frozen=True)
class Panel:
    """One picture of a grid, with a word to it."""

    label: str
    pixels: UInt8[Tensor, "h w 3"]


def reinhard(linear: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Radiance in [0, inf) to [0, 1) by x / (1 + x) (Reinhard et al. 2002); below 0 is 0."""
    positive = linear.nan_to_num(0.0, 1e9, 0.0).clamp_min(0.0)
    return positive / (1.0 + positive)


def plain_picture(values: Float[Tensor, "h w 3"]) -> UInt8[Tensor, "h w 3"]:
    """Numbers of [0, 1] as they are, without a curve: occlusion, roughness, metalness."""
    return (values.detach().nan_to_num(0.0).clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)


def normal_picture(normals: Float[Tensor, "h w 3"]) -> UInt8[Tensor, "h w 3"]:
    """Unit normals as colours, x to red and so on; the zero vector (nothing there) is white."""
    empty = normals.square().sum(dim=-1, keepdim=True) == 0
    return plain_picture(torch.where(empty, 1.0, normals * 0.5 + 0.5))


def heat_map(error: Float[Tensor, "h w"], highest: float) -> UInt8[Tensor, "h w 3"]:
    """Errors of [0, highest] from black to near white; what is above is shown as highest.

    NaN is shown as highest, since it is one.

    Raises:
        ValueError: unless highest > 0.
    """
    if not highest > 0:
        raise ValueError(f"highest must be above 0, got {highest}")
    position = (error.detach().float() / highest).nan_to_num(1.0, 1.0, 0.0).clamp(0.0, 1.0)
    position = position.cpu() * (len(_HEAT) - 1)
    low: Int64[Tensor, "h w"] = position.floor().long().clamp(max=len(_HEAT) - 2)
    share = (position - low)[..., None]
    return plain_picture(_HEAT[low] * (1.0 - share) + _HEAT[low + 1] * share)


def light_picture(radiance: Float[Tensor, "h w 3"]) -> UInt8[Tensor, "h w 3"]:
    """A lat-long light for the screen: Reinhard's curve, then sRGB."""
    return srgb8(reinhard(radiance.detach()))


def fit_size(
    pixels: UInt8[Tensor, "h w 3"], height: int, width: int
) -> UInt8[Tensor, "{height} {width} 3"]:
    """A picture scaled into a frame with its proportions kept, centred on white."""
    frame = Image.new("RGB", (width, height), _PAPER)
    old_height, old_width = pixels.shape[:2]
    if pixels.numel() and height and width:
        scale = min(width / old_width, height / old_height)
        size = (max(1, round(old_width * scale)), max(1, round(old_height * scale)))
        scaled = _image(pixels).resize(size, Image.Resampling.LANCZOS)
        frame.paste(scaled, ((width - size[0]) // 2, (height - size[1]) // 2))
    return _pixels(frame)


def grid(rows: Sequence[Sequence[Panel]], title: str = "") -> UInt8[Tensor, "h w 3"]:
    """Panels in rows, each with its label above it, on white.

    Every panel is fitted into a frame of the first one's size, at least 96 pixels wide so
    that a label has room. Rows may differ in length. No panel gives an empty picture.
    """
    panels = [panel for row in rows for panel in row]
    if not panels:
        return torch.zeros(0, 0, 3, dtype=torch.uint8)
    height, width = panels[0].pixels.shape[:2]
    scale = max(1, -(-96 // max(width, 1)))
    height, width = max(1, height * scale), max(1, width * scale)
    text = max(11, min(20, width // 14))
    font = ImageFont.load_default(text)
    gap, band = max(4, text // 3), text + max(6, text // 2)
    top = band + gap if title else gap
    sheet = Image.new(
        "RGB",
        (
            gap + max(len(row) for row in rows) * (width + gap),
            top + len(rows) * (height + band + gap),
        ),
        _PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((gap, gap), _fit_text(title, font, sheet.width - 2 * gap), _INK, font)
    for j, row in enumerate(rows):
        for i, panel in enumerate(row):
            left, upper = gap + i * (width + gap), top + j * (height + band + gap)
            draw.text((left, upper), _fit_text(panel.label, font, width), _INK, font)
            sheet.paste(_scaled(panel.pixels, height, width, scale), (left, upper + band))
    return _pixels(sheet)


def _scaled(pixels: UInt8[Tensor, "h w 3"], height: int, width: int, scale: int) -> Image.Image:
    """Small pictures grow by whole pixels, to stay sharp; others are fitted into the frame."""
    if pixels.shape[0] * scale == height and pixels.shape[1] * scale == width:
        return _image(pixels).resize((width, height), Image.Resampling.NEAREST)
    return _image(fit_size(pixels, height, width))


def _fit_text(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """A label without control characters, cut to a width in pixels."""
    text = "".join(c if c.isprintable() else " " for c in text)[:400]
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def png_bytes(pixels: UInt8[Tensor, "h w 3"]) -> bytes:
    """The bytes of a PNG file. An empty picture becomes one white pixel."""
    buffer = io.BytesIO()
    _image(pixels).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def write_png(path: Path, pixels: UInt8[Tensor, "h w 3"]) -> None:
    """Writes a PNG beside its name and renames it; folders on the way are made.

    Raises:
        OSError: naming the file, e.g. when the disk is full; what was there before is kept.
    """
    write_bytes(path, png_bytes(pixels))


def jpeg_bytes(pixels: UInt8[Tensor, "h w 3"], quality: int = 90) -> bytes:
    """The bytes of a JPEG file, with colour at full resolution."""
    buffer = io.BytesIO()
    _image(pixels).save(buffer, format="JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _image(pixels: UInt8[Tensor, "h w 3"]) -> Image.Image:
    if pixels.numel() == 0:
        return Image.new("RGB", (1, 1), _PAPER)
    return Image.fromarray(pixels.detach().cpu().contiguous().numpy())


def _pixels(image: Image.Image) -> UInt8[Tensor, "h w 3"]:
    return torch.from_numpy(np.array(image.convert("RGB")))
