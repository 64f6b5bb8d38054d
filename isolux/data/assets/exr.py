"""OpenEXR pictures through the OpenEXR package."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from isolux.render.files import write_bytes

__all__ = ["read_exr", "write_exr"]

_GREY = ("Y", "V", "L")


def read_exr(path: Path) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w 1"] | None]:
    """Linear RGB, not premultiplied any further than the file is, and alpha where it has one.

    A single luminance channel is taken three times.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an EXR file, truncated, or without colour channels.
    """
    import OpenEXR

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with OpenEXR.File(str(path), separate_channels=True) as file:
            channels: dict[str, Any] = {
                name: np.asarray(channel.pixels, dtype=np.float32)
                for name, channel in file.channels().items()
            }
    except Exception as error:  # the package raises several kinds, some of them bare
        raise ValueError(f"{path}: cannot be read as EXR ({error}); is it whole?") from None
    names = ("R", "G", "B")
    if not all(name in channels for name in names):
        grey = next((name for name in _GREY if name in channels), None)
        if grey is None:
            raise ValueError(f"{path}: no channels R, G, B but {sorted(channels)}")
        names = (grey, grey, grey)
    shapes = {channels[name].shape for name in names}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError(f"{path}: channels differ in size, or are truncated: {shapes}")
    rgb = torch.from_numpy(np.stack([channels[name] for name in names], axis=-1))
    if "A" not in channels:
        return rgb, None
    return rgb, torch.from_numpy(channels["A"].copy())[..., None]


def write_exr(path: Path, rgb: Float[Tensor, "h w 3"]) -> None:
    """Writes linear RGB as 32-bit floats, without loss."""
    import OpenEXR

    pixels = np.ascontiguousarray(rgb.detach().cpu().float().numpy())
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.exr"
        with OpenEXR.File(header, {"RGB": pixels}) as file:
            file.write(str(part))
        write_bytes(Path(path), part.read_bytes())
