"""Points of LAS files (1.0 to 1.4, all point formats), and of LAZ where `lazrs` is installed.

After the LAS 1.4 specification of the ASPRS: integers times a scale plus an offset.
"""

import importlib
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np

from isolux.data.assets.clouds_parts import make_cloud
from isolux.geometry.points.cloud import PointCloud

__all__ = ["read_las"]

_ROW = {0: 20, 1: 28, 2: 26, 3: 34, 4: 57, 5: 63, 6: 30, 7: 36, 8: 38, 9: 59, 10: 67}
_COLORS = {2: 20, 3: 28, 5: 28, 7: 30, 8: 30, 10: 30}  # where red begins


def read_las(path: Path, data: bytes) -> PointCloud:
    """Positions in full precision, and colours where the point format has them.

    Raises:
        ValueError: damaged, or a point format that is not known.
        ImportError: compressed (LAZ), and `lazrs` is not installed.
    """
    if not data.startswith(b"LASF") or len(data) < 227:
        raise ValueError(f"{path}: begins with no whole LAS header")
    minor = data[25]
    start, records = struct.unpack_from("<II", data, 96)
    kind, row = data[104], struct.unpack_from("<H", data, 105)[0]
    (count,) = struct.unpack_from("<I", data, 107)
    if minor >= 4 and len(data) >= 375:
        count = struct.unpack_from("<Q", data, 247)[0] or count
    number = kind & 0x3F
    if number not in _ROW or row < _ROW[number]:
        raise ValueError(
            f"{path}: point format {number} with rows of {row} bytes, expected formats 0 to 10"
        )
    scale, offset = struct.unpack_from("<3d", data, 131), struct.unpack_from("<3d", data, 155)
    if not np.isfinite((*scale, *offset)).all() or 0.0 in scale:
        raise ValueError(f"{path}: scale {scale} and offset {offset} are no measures")
    if not count:
        raise ValueError(f"{path}: has no points")
    if kind & 0xC0:
        # The best that can be compressed away is far below this.
        if count * row > 1000 * len(data):
            raise ValueError(f"{path}: {count} points do not fit into {len(data)} bytes")
        body = _unpacked(path, data, start, records, count * row)
    else:
        body = data[start : start + count * row]
    if len(body) < count * row:
        raise ValueError(
            f"{path}: truncated: {count} points of {row} bytes need {count * row} bytes, it has"
            f" {len(body)}"
        )
    rows = np.frombuffer(body, np.uint8, count * row).reshape(count, row)
    whole = np.ascontiguousarray(rows[:, :12]).view("<i4")
    xyz = whole * np.array(scale) + np.array(offset)
    return make_cloud(path, xyz, None, None, _colors(rows, number))


def _colors(rows: Any, number: int) -> Any:
    at = _COLORS.get(number)
    if at is None:
        return None
    colors = np.ascontiguousarray(rows[:, at : at + 6]).view("<u2")
    return colors if colors.any() else None  # the field is there, and was never filled


def _unpacked(path: Path, data: bytes, start: int, records: int, size: int) -> Any:
    try:
        # Named at run time: an optional package that nothing else needs.
        lazrs: Any = importlib.import_module("lazrs")
    except ImportError:
        raise ImportError(
            f"{path}: is compressed (LAZ), which needs the package lazrs:"
            " pip install 'isolux[las]', or uncompress it to LAS"
        ) from None
    table = _laszip_record(path, data, records)
    if len(data) < start + 8:
        raise ValueError(f"{path}: truncated: no compressed points")
    body = np.zeros(size, np.uint8)
    try:
        stream = io.BytesIO(data)
        stream.seek(start)
        lazrs.LasZipDecompressor(stream, table).decompress_many(body)
    except Exception as error:  # the package has kinds of its own
        raise ValueError(f"{path}: damaged LAZ ({error})") from None
    return body


def _laszip_record(path: Path, data: bytes, records: int) -> bytes:
    """The variable-length record that says how the points are compressed."""
    at = int(struct.unpack_from("<H", data, 94)[0])
    for _ in range(records):
        if at + 54 > len(data):
            break
        number, length = struct.unpack_from("<HH", data, at + 18)
        if number == 22204 and data[at + 2 : at + 18].startswith(b"laszip encoded"):
            return data[at + 54 : at + 54 + length]
        at += 54 + length
    raise ValueError(f"{path}: is compressed, but has no 'laszip encoded' record")
