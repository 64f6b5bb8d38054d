"""Points of LAS files (1.0 to 1.4, all point formats), and of LAZ where `lazrs` is installed.

After the LAS 1.4 specification of the ASPRS: integers times a scale plus an offset.
"""

import importlib
import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isolux.data.assets.clouds_source import CloudSource, pieces
from isolux.data.assets.clouds_survey import Part

__all__ = ["las_count", "las_parts"]

_ROW = {0: 20, 1: 28, 2: 26, 3: 34, 4: 57, 5: 63, 6: 30, 7: 36, 8: 38, 9: 59, 10: 67}
_COLORS = {2: 20, 3: 28, 5: 28, 7: 30, 8: 30, 10: 30}  # where red begins


@dataclass(frozen=True)
class _Header:
    start: int  # of the points
    records: int  # variable-length ones, before the points
    number: int  # the point format
    row: int  # bytes of a point
    count: int
    packed: bool
    scale: tuple[float, ...]
    offset: tuple[float, ...]


def las_parts(source: CloudSource, rows: int | None) -> Iterator[Part]:
    """Positions in full precision, and colours where the point format has them.

    Raises:
        ValueError: damaged, or a point format that is not known.
        ImportError: compressed (LAZ), and `lazrs` is not installed.
    """
    head = _header(source)

    def short(has: int) -> ValueError:
        return ValueError(
            f"{source.path}: truncated: {head.count} points of {head.row} bytes need"
            f" {head.count * head.row} bytes, it has {has}"
        )

    if head.packed:
        read: Iterator[tuple[Any, int]] = _unpacked(source, head, rows)
    else:
        read = pieces(source, head.start, head.row, head.count, rows, short)
    for data, number in read:
        table = np.frombuffer(data, np.uint8).reshape(number, head.row)
        whole = np.ascontiguousarray(table[:, :12]).view("<i4")
        xyz = whole * np.array(head.scale) + np.array(head.offset)
        yield Part(xyz, colors=_colors(table, head.number), fillable=True)


def las_count(source: CloudSource) -> int:
    """The number of points that the header says. Raises as `las_parts`."""
    return _header(source).count


def _header(source: CloudSource) -> _Header:
    path, data = source.path, source.head(375)
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
    # The best that can be compressed away is far below this.
    if (packed := bool(kind & 0xC0)) and count * row > 1000 * source.size:
        raise ValueError(f"{path}: {count} points do not fit into {source.size} bytes")
    return _Header(start, records, number, row, count, packed, scale, offset)


def _colors(rows: Any, number: int) -> Any:
    at = _COLORS.get(number)
    return None if at is None else np.ascontiguousarray(rows[:, at : at + 6]).view("<u2")


def _unpacked(
    source: CloudSource, head: _Header, rows: int | None
) -> Iterator[tuple[Any, int]]:
    """As `pieces`, of compressed rows."""
    path = source.path
    try:
        # Named at run time: an optional package that nothing else needs.
        lazrs: Any = importlib.import_module("lazrs")
    except ImportError:
        raise ImportError(
            f"{path}: is compressed (LAZ), which needs the package lazrs:"
            " pip install 'isolux[las]', or uncompress it to LAS"
        ) from None
    table = _laszip_record(path, source.head(min(head.start, source.size)), head.records)
    if source.size < head.start + 8:
        raise ValueError(f"{path}: truncated: no compressed points")
    # It goes to the end, where its own table is: what is gzip'd besides cannot.
    with io.BytesIO(source.whole()) if source.packed else source.open() as stream:
        stream.seek(head.start)
        try:
            decompressor = lazrs.LasZipDecompressor(stream, table)
            for first in range(0, head.count, rows or head.count):
                number = min(rows or head.count, head.count - first)
                body = np.zeros(number * head.row, np.uint8)
                decompressor.decompress_many(body)
                yield body, number
        except Exception as error:  # the package has kinds of its own
            raise ValueError(f"{path}: damaged LAZ ({error})") from None


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
