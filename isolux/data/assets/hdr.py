"""Radiance pictures (.hdr, .pic): shared-exponent RGB, read and written.

The format is Greg Ward's (Real Pixels, Graphics Gems II, 1991): a text header, a resolution
line, then scanlines, flat or run-length coded in one of two ways. Letters: h, w pixels.
"""

import logging
import re
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from isolux.data.assets.exr import read_exr
from isolux.render.files import write_bytes

__all__ = ["clean_radiance", "load_probe", "read_hdr", "write_hdr"]

_log = logging.getLogger(__name__)
_MAGICS = (b"#?RADIANCE", b"#?RGBE", b"#?AUTOPANO")
_SIZE = re.compile(rb"^([+-])([XY])\s+(\d{1,9})\s+([+-])([XY])\s+(\d{1,9})\s*$")
_MOST_PIXELS = 1 << 28
_MOST_RADIANCE = 1e12  # the sun's is about 1e9 in any unit; sums of squares must stay finite


def load_probe(path: Path) -> Float[Tensor, "h w 3"]:
    """A lat-long environment, linear radiance, row 0 towards +y.

    Raises:
        FileNotFoundError: no such file.
        ValueError: neither .hdr nor .exr, not decodable, or pixels that are negative or not
            finite, with their number.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such environment map; give a .hdr or .exr file")
    match path.suffix.lower():
        case ".hdr" | ".pic" | ".rgbe":
            probe = read_hdr(path)
        case ".exr":
            probe = read_exr(path)[0]
        case other:
            raise ValueError(
                f"{path}: an environment map must be .hdr or .exr, not '{other}'"
                " (8-bit pictures lack the range of light)"
            )
    return clean_radiance(probe, path)


def clean_radiance(pixels: Float[Tensor, "h w c"], path: Path) -> Float[Tensor, "h w c"]:
    """Refuses light that cannot be: negative, not finite, or too bright to compute with.

    Sharp resampling leaves values just below zero in published maps; up to a thousandth of
    the largest value they become zero, with a warning in the log.

    Raises:
        ValueError: naming the file and how many pixels are bad.
    """
    bad = ~torch.isfinite(pixels).all(dim=-1)
    if count := int(bad.sum()):
        raise ValueError(f"{path}: {count} pixels are not finite (NaN or inf); repair the file")
    if (most := float(pixels.max())) > _MOST_RADIANCE:
        raise ValueError(f"{path}: radiance of up to {most:.4g} is no light; repair the file")
    count = int((pixels < 0).any(dim=-1).sum())
    if not count:
        return pixels
    least = float(pixels.min())
    if -least > 1e-3 * most:
        raise ValueError(
            f"{path}: {count} pixels are negative (down to {least:.4g}); clip the file at zero"
        )
    _log.warning("%s: %d pixels just below zero are taken as zero", path, count)
    return pixels.clamp_min(0.0)


def read_hdr(path: Path) -> Float[Tensor, "h w 3"]:
    """Linear radiance of a Radiance RGBE picture, top row first.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a Radiance file, XYZ colours, an absurd size, or a truncated body.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    data = path.read_bytes()
    if not data.startswith(_MAGICS):
        raise ValueError(f"{path}: not a Radiance picture (it must begin with '#?RADIANCE')")
    lines, start = _header(data, path)
    scale = 1.0
    for line in lines:
        key, _, value = line.partition(b"=")
        if key == b"FORMAT" and value.strip() != b"32-bit_rle_rgbe":
            raise ValueError(
                f"{path}: FORMAT is {value.strip().decode('latin-1')!r}; only"
                " 32-bit_rle_rgbe is read: convert the file to RGBE"
            )
        if key == b"EXPOSURE":
            scale /= _exposure(value, path)
    found = _SIZE.match(lines[-1])
    if found is None:
        shown = lines[-1][:40].decode("latin-1")
        raise ValueError(f"{path}: no resolution line like '-Y 512 +X 1024' but {shown!r}")
    sign_a, axis_a, count_a, sign_b, axis_b, count_b = found.groups()
    rows, columns = int(count_a), int(count_b)
    if axis_a == axis_b or not 0 < rows * columns <= _MOST_PIXELS:
        raise ValueError(f"{path}: absurd size in '{lines[-1].decode('latin-1')}'")
    body = np.frombuffer(data, dtype=np.uint8, offset=start)
    image = _float_from_rgbe(_scanlines(body, rows, columns, path)) * np.float32(scale)
    if axis_a == b"X":  # columns come first in the file
        image = image.swapaxes(0, 1)
    sign = {axis_a: sign_a, axis_b: sign_b}
    if sign[b"Y"] == b"+":  # +Y: the first scanline is the lowest
        image = image[::-1]
    if sign[b"X"] == b"-":
        image = image[:, ::-1]
    return torch.from_numpy(np.ascontiguousarray(image))


def _exposure(value: bytes, path: Path) -> float:
    try:
        exposure = float(value)
    except ValueError:
        exposure = float("nan")
    if not 0.0 < exposure < float("inf"):
        raise ValueError(f"{path}: EXPOSURE is {value.decode('latin-1')!r}, not above zero")
    return exposure


def _header(data: bytes, path: Path) -> tuple[list[bytes], int]:
    """The header's lines, the last one the resolution, and where the pixels begin."""
    end = data.find(b"\n\n")
    if end < 0 or end > 1 << 16:
        raise ValueError(f"{path}: the header has no end; the file is damaged")
    stop = data.find(b"\n", end + 2)
    if stop < 0:
        raise ValueError(f"{path}: truncated after the header")
    return [*data[:end].split(b"\n"), data[end + 2 : stop]], stop + 1


def _float_from_rgbe(rgbe: UInt8[np.ndarray, "h w 4"]) -> Float[np.ndarray, "h w 3"]:
    # Half a step is not added: files by other programs and ours then agree on black.
    scale = np.ldexp(np.float32(1.0), rgbe[..., 3].astype(np.int32) - (128 + 8))
    scale = np.where(rgbe[..., 3] == 0, np.float32(0.0), scale).astype(np.float32)
    return rgbe[..., :3].astype(np.float32) * scale[..., None]


def _scanlines(
    body: UInt8[np.ndarray, " b"], rows: int, columns: int, path: Path
) -> UInt8[np.ndarray, "h w 4"]:
    def truncated(row: int) -> ValueError:
        return ValueError(f"{path}: truncated in scanline {row} of {rows}")

    coded = 8 <= columns < 1 << 15 and len(body) >= 4 and body[0] == 2 and body[1] == 2
    coded = coded and body[2] < 128
    if not coded and len(body) == rows * columns * 4 and not _has_old_runs(body):
        return body.reshape(rows, columns, 4)
    if len(body) * 128 < rows * columns:  # cheaper than reserving memory for an absurd size
        raise truncated(0)
    image = np.zeros((rows, columns, 4), dtype=np.uint8)
    data, at = body.tobytes(), 0
    for row in range(rows):
        head = data[at : at + 4]
        if len(head) < 4:
            raise truncated(row)
        is_new = 8 <= columns < 1 << 15 and head[:2] == b"\2\2" and head[2] < 128
        try:
            if is_new:
                if head[2] << 8 | head[3] != columns:
                    raise ValueError(f"{path}: scanline {row} states another width")
                at = _new_line(data, at + 4, image[row])
            else:
                at = _old_line(data, at, image[row])
        except IndexError:
            raise truncated(row) from None
    return image


def _has_old_runs(body: UInt8[np.ndarray, " b"]) -> bool:
    pixels = body.reshape(-1, 4)
    return bool((pixels[:, :3] == 1).all(axis=1).any())


def _new_line(data: bytes, at: int, line: UInt8[np.ndarray, "w 4"]) -> int:
    """Decodes four runs of channels; returns where the next line begins."""
    columns = len(line)
    for channel in range(4):
        parts: list[bytes] = []
        filled = 0
        while filled < columns:
            count = data[at]
            if count > 128:
                count -= 128
                parts.append(data[at + 1 : at + 2] * count)
                at += 2
            else:
                parts.append(data[at + 1 : at + 1 + count])
                at += 1 + count
            filled += count
            if not count or filled > columns or at > len(data):
                raise IndexError
        line[:, channel] = np.frombuffer(b"".join(parts), dtype=np.uint8)
    return at


def _old_line(data: bytes, at: int, line: UInt8[np.ndarray, "w 4"]) -> int:
    """Decodes pixels where (1, 1, 1, n) repeats the one before n times."""
    filled, shift = 0, 0
    while filled < len(line):
        pixel = data[at : at + 4]
        if len(pixel) < 4:
            raise IndexError
        at += 4
        if pixel[:3] == b"\1\1\1":
            count = pixel[3] << shift
            if filled == 0 or filled + count > len(line):
                raise IndexError
            line[filled : filled + count] = line[filled - 1]
            filled, shift = filled + count, shift + 8
        else:
            line[filled] = np.frombuffer(pixel, dtype=np.uint8)
            filled, shift = filled + 1, 0
    return at


def write_hdr(path: Path, radiance: Float[Tensor, "h w 3"]) -> None:
    """Writes linear radiance as RGBE in literal blocks, which every reader takes.

    The error of a channel is at most 1/256 of the pixel's largest one. Negative values become
    zero, and values above what the format holds (1.7e38) its largest.

    Raises:
        ValueError: no pixels, or values that are not finite.
    """
    height, width, _ = radiance.shape
    if not height * width:
        raise ValueError(f"{path}: a picture needs at least one pixel, got {height}x{width}")
    if not bool(torch.isfinite(radiance).all()):
        raise ValueError(f"{path}: radiance is not finite, nothing written")
    pixels = radiance.detach().cpu().double().clamp(0.0, 1.69e38).numpy()
    largest = pixels.max(axis=-1)
    exponent = np.frexp(largest)[1]
    rgb = np.floor(np.ldexp(pixels, 8 - exponent[..., None]) + 0.5)
    exponent += rgb.max(axis=-1) > 255  # rounded up to the next power of two
    rgb = np.minimum(np.floor(np.ldexp(pixels, 8 - exponent[..., None]) + 0.5), 255)
    rgbe = np.concatenate([rgb, exponent[..., None] + 128], axis=-1)
    rgbe[(largest < 1e-38) | (exponent + 128 < 1)] = 0
    head = f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {height} +X {width}\n".encode()
    write_bytes(Path(path), head + _coded(rgbe.astype(np.uint8)))


def _coded(rgbe: UInt8[np.ndarray, "h w 4"]) -> bytes:
    """Scanlines with the new coding in literal blocks: no run can be mistaken."""
    height, width, _ = rgbe.shape
    if not 8 <= width < 1 << 15:
        return rgbe.tobytes()
    start = np.arange(0, width, 128)
    counts = np.minimum(width - start, 128).astype(np.uint8)
    planes = np.insert(rgbe.transpose(0, 2, 1), start, counts, axis=2)  # [h, 4, w + blocks]
    head = np.tile(np.array([2, 2, width >> 8, width & 255], np.uint8), (height, 1))
    lines = np.concatenate([head, planes.reshape(height, -1)], axis=1)
    return lines.tobytes()
