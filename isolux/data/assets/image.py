"""Pictures in files, to and from linear light.

8- and 16-bit pictures are sRGB and become linear; EXR and HDR are linear already. Alpha is
straight and never curved. Letters: h, w pixels.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16
from PIL import Image
from torch import Tensor

from isolux.data.assets.exr import read_exr
from isolux.data.assets.hdr import clean_radiance, read_hdr
from isolux.render.colour import linear_from_srgb
from isolux.render.files import write_bytes

__all__ = [
    "decode_picture",
    "linear_from_integers",
    "load_data_image",
    "load_image",
    "read_image",
    "resize",
    "save_png",
]

_FLOAT_SUFFIXES = (".exr", ".hdr", ".pic", ".rgbe")


def load_image(path: Path) -> Float[Tensor, "h w 4"]:
    """Linear RGB and straight alpha; alpha is one where the file has none.

    Raises:
        FileNotFoundError, ValueError: as `read_image`.
    """
    rgb, alpha = read_image(path)
    return torch.cat([rgb, torch.ones_like(rgb[..., :1]) if alpha is None else alpha], dim=-1)


def read_image(path: Path) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w 1"] | None]:
    """Linear RGB, and straight alpha in [0, 1] where the file has it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a picture, truncated, or radiance that is negative or not finite.
    """
    path = Path(path)
    if path.suffix.lower() in _FLOAT_SUFFIXES:
        rgb, alpha = read_exr(path) if path.suffix.lower() == ".exr" else (read_hdr(path), None)
        rgb = clean_radiance(rgb, path)
        if alpha is None:
            return rgb, None
        alpha = clean_radiance(alpha, path)
        return _straight(rgb, alpha), alpha.clamp(max=1.0)
    return linear_from_integers(*_decode(path))


def linear_from_integers(
    values: UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"], top: int
) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w 1"] | None]:
    """Linear RGB and alpha (None without a fourth channel) of sRGB integers up to `top`."""
    if top == 255:  # a table is an order faster than the power
        table = linear_from_srgb(torch.arange(256, dtype=torch.float32) / 255.0)
        rgb = table[torch.from_numpy(values[..., :3].astype(np.int64))]
    else:
        rgb = linear_from_srgb(torch.from_numpy(values[..., :3].astype(np.float32)) / top)
    if values.shape[-1] == 3:
        return rgb, None
    return rgb, torch.from_numpy(values[..., 3:].astype(np.float32)) / top


def load_data_image(path: Path) -> Float[Tensor, "h w 3"]:
    """The numbers of an 8- or 16-bit picture in [0, 1], without a colour curve.

    For roughness, normals and masks. Raises as `read_image`.
    """
    values, top = _decode(Path(path))
    return torch.from_numpy(values[..., :3].astype(np.float32)) / top


def _straight(
    rgb: Float[Tensor, "h w 3"], alpha: Float[Tensor, "h w 1"]
) -> Float[Tensor, "h w 3"]:
    """EXR is premultiplied by its standard."""
    return torch.where(alpha > 0, rgb / torch.where(alpha > 0, alpha, 1.0), 0.0)


def _decode(path: Path) -> tuple[Any, int]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such picture")
    return decode_picture(path, path)


def decode_picture(
    source: Path | bytes, label: Path | str
) -> tuple[UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"], int]:
    """Three or four channels of integers as they stand in a file, and the largest possible.

    Args:
        source: a file, or its content.
        label: what to call it in messages.

    Raises:
        ValueError: not a picture, or truncated.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            wide = image.format == "PNG" and image.tile and "16" in str(image.tile[0][3])
            if wide:
                return _wide_png(source, image), 65535
            has_alpha = "A" in image.getbands() or "transparency" in image.info
            return np.array(image.convert("RGBA" if has_alpha else "RGB")), 255
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{label}: cannot be read as a picture ({error})") from None


def _wide_png(source: Path | bytes, image: Image.Image) -> UInt16[np.ndarray, "h w c"]:
    """A 16-bit PNG, of which Pillow alone gives only the high bytes.

    Its unpackers for little-endian samples, put onto the big-endian file, give the low ones.
    """
    if image.mode.startswith("I"):
        grey = np.array(image).astype(np.uint16)
        return np.repeat(grey[..., None], 3, axis=-1)
    high = np.array(image.convert("RGBA") if image.mode == "LA" else image).astype(np.uint16)
    if image.mode not in ("RGB", "RGBA"):
        return high * 257  # grey with alpha: eight bits must do
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as again:
        tile = again.tile[0]
        again.tile = [type(tile)(*tile[:3], str(tile[3]).replace("16B", "16L"))]
        low = np.array(again).astype(np.uint16)
    return high << 8 | low


def resize(
    rgba: Float[Tensor, "h w 4"], height: int, width: int
) -> Float[Tensor, "{height} {width} 4"]:
    """Another size: area means where an axis shrinks, bilinear where it grows.

    Colours are weighted by alpha, so that the colour of what is outside the object does not
    leak in. Where nothing is covered, colour is zero.
    """
    if rgba.shape[:2] == (height, width):
        return rgba
    alpha = rgba[..., 3:]
    mixed = torch.cat([rgba[..., :3] * alpha, alpha], dim=-1).permute(2, 0, 1)  # [4, h, w]
    mixed = _axis_weights(rgba.shape[0], height) @ mixed @ _axis_weights(rgba.shape[1], width).T
    mixed = mixed.permute(1, 2, 0)
    alpha = mixed[..., 3:]
    colour = mixed[..., :3] / torch.where(alpha > 1e-6, alpha, 1.0)
    return torch.cat([torch.where(alpha > 1e-6, colour, 0.0), alpha.clamp(0.0, 1.0)], dim=-1)


def _axis_weights(old: int, new: int) -> Float[Tensor, "n o"]:
    """Rows of weights that sum to one: how much each old pixel gives to each new one."""
    scale = old / new
    if new <= old:  # the overlap of [i, i + 1) * scale with [j, j + 1)
        start = torch.arange(new, dtype=torch.float64)[:, None] * scale
        cell = torch.arange(old, dtype=torch.float64)[None, :]
        shared = torch.minimum(start + scale, cell + 1.0) - torch.maximum(start, cell)
        return (shared.clamp_min(0.0) / scale).float()
    centre = ((torch.arange(new, dtype=torch.float64) + 0.5) * scale - 0.5).clamp(0, old - 1)
    weights = 1.0 - (centre[:, None] - torch.arange(old, dtype=torch.float64)[None, :]).abs()
    return weights.clamp_min(0.0).float()


def save_png(path: Path, values: Float[Tensor, "h w c"]) -> None:
    """Writes values of [0, 1] as 8 bits, as they are: pass sRGB for colours.

    Args:
        path: where; folders on the way are made.
        values: one, three or four channels. They are clipped and rounded.
    """
    bytes_ = to_bytes(values)
    image = Image.fromarray(bytes_[..., 0] if bytes_.shape[-1] == 1 else bytes_)
    write_bytes(Path(path), encode_png(image))


def to_bytes(values: Float[Tensor, "h w c"]) -> UInt8[np.ndarray, "h w c"]:
    """[0, 1] to [0, 255], clipped and rounded."""
    return (values.detach().cpu().clamp(0.0, 1.0) * 255.0 + 0.5).to(torch.uint8).numpy()


def encode_png(image: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()
