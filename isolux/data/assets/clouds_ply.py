"""Points of PLY files: ascii, little- and big-endian, any number types, lists passed over."""

import io
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from isolux.data.assets.clouds_parts import cloud_of_columns, cut, cut_reason, whole
from isolux.geometry.points.cloud import PointCloud

__all__ = ["read_ply_cloud"]

_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
    **dict.fromkeys(("int64", "long"), "i8"),
    **dict.fromkeys(("uint64", "ulong"), "u8"),
}
_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
_HEADER = 1 << 20  # bytes: no honest header is longer


@dataclass
class _Property:
    name: str
    kind: str  # numpy's type, without byte order
    count: str | None = None  # of a list: the type of its length


@dataclass
class _Element:
    name: str
    rows: int
    properties: list[_Property] = field(default_factory=list)

    @property
    def fixed(self) -> bool:
        """Whether all rows have one length."""
        return all(item.count is None for item in self.properties)


def read_ply_cloud(path: Path, data: bytes) -> PointCloud:
    """The element `vertex`; everything after it is left alone.

    Raises:
        ValueError: a header or body that is damaged; one line that says what was expected.
    """
    order, elements, start = _header(path, data)
    before: list[_Element] = []
    for element in elements:
        if element.name != "vertex":
            before.append(element)
            continue
        if not element.rows:
            raise ValueError(f"{path}: has no points (element vertex 0)")
        body = memoryview(data)[start:]
        read = _ascii if order == "=" else _binary
        return cloud_of_columns(path, read(path, body, order, before, element))
    raise ValueError(f"{path}: has no element 'vertex'")


def _header(path: Path, data: bytes) -> tuple[str, list[_Element], int]:
    """Byte order, elements, and where the body begins."""
    if not data.startswith(b"ply"):
        raise ValueError(f"{path}: begins with '{cut(data[:12])}', expected 'ply'")
    end = data.find(b"end_header", 0, _HEADER)
    if end < 0:
        raise ValueError(f"{path}: the PLY header has no end_header")
    # The body may begin with any byte, so the first line tells how lines end.
    newline = b"\r\n" if data[3:5] == b"\r\n" else data[3:4]
    start = data.find(newline, end)
    if newline not in (b"\r\n", b"\r", b"\n") or start < 0 or data[end + 10 : start].strip():
        raise ValueError(f"{path}: the PLY header does not end in a line of its own")
    order, elements = "", []
    for line in data[3:end].decode("latin-1").replace("\r", "\n").split("\n"):
        words = line.split()
        match words:
            case [] | ["comment" | "obj_info", *_]:
                pass
            case ["format", kind, *_] if kind in _ORDERS:
                order = _ORDERS[kind]
            case ["element", name, count]:
                elements.append(
                    _Element(name, whole(path, count, f"element {name}", len(data)))
                )
            case ["property", *rest] if elements:
                elements[-1].properties.append(_property(path, rest))
            case _:
                raise ValueError(f"{path}: cannot read the PLY header line '{cut(line)}'")
    if not order:
        raise ValueError(f"{path}: the PLY header names no format")
    for element in elements:
        names = [item.name for item in element.properties]
        if len(set(names)) < len(names):
            raise ValueError(f"{path}: element {cut(element.name)} has a property twice")
    return order, elements, start + len(newline)


def _property(path: Path, words: list[str]) -> _Property:
    match words:
        case ["list", count, kind, name] if count in _TYPES and kind in _TYPES:
            if _TYPES[count][0] == "f":
                raise ValueError(f"{path}: list '{cut(name)}' is counted in {count}")
            return _Property(name, _TYPES[kind], _TYPES[count])
        case [kind, name] if kind in _TYPES:
            return _Property(name, _TYPES[kind])
        case _:
            known = "char, uchar, short, ushort, int, uint, float or double"
            raise ValueError(
                f"{path}: cannot read 'property {cut(' '.join(words))}', expected {known}"
            )


def _binary(
    path: Path, body: memoryview, order: str, before: list[_Element], element: _Element
) -> dict[str, Any]:
    at = 0
    for other in before:
        at = _skip(path, body, at, order, other)
    if not element.fixed:
        return _with_lists(path, body, at, order, element)
    row = np.dtype([(item.name, order + item.kind) for item in element.properties])
    _room(path, element, row.itemsize * element.rows, len(body) - at)
    table = np.frombuffer(body, row, element.rows, at)
    return {item.name: table[item.name] for item in element.properties}


def _room(path: Path, element: _Element, needs: int, has: int) -> None:
    if needs > has:
        raise ValueError(
            f"{path}: truncated: {element.rows} rows of {cut(element.name)} need {needs} bytes,"
            f" it has {max(has, 0)}"
        )


def _skip(path: Path, body: memoryview, at: int, order: str, element: _Element) -> int:
    """Where the element ends that begins at `at`."""
    if element.fixed:
        size = sum(int(item.kind[1]) for item in element.properties) * element.rows
        _room(path, element, size, len(body) - at)
        return at + size
    for _ in range(element.rows):
        at, _values = _row(path, body, at, order, element)
    return at


def _with_lists(
    path: Path, body: memoryview, at: int, order: str, element: _Element
) -> dict[str, Any]:
    """Rows of changing length, one by one."""
    single = [item for item in element.properties if item.count is None]
    rows = []
    for _ in range(element.rows):
        at, values = _row(path, body, at, order, element)
        rows.append(values)
    return {
        item.name: np.array([row[i] for row in rows], dtype=item.kind)
        for i, item in enumerate(single)
    }


def _row(
    path: Path, body: memoryview, at: int, order: str, element: _Element
) -> tuple[int, list[Any]]:
    """Where the row ends, and its values that are no lists."""
    values: list[Any] = []
    try:
        for item in element.properties:
            if item.count is None:
                values.append(np.frombuffer(body, order + item.kind, 1, at)[0])
                at += int(item.kind[1])
                continue
            length = int(np.frombuffer(body, order + item.count, 1, at)[0])
            at += int(item.count[1])
            if length < 0:
                raise ValueError
            at += length * int(item.kind[1])
        if at > len(body):
            raise ValueError
    except ValueError:
        raise ValueError(
            f"{path}: truncated or damaged in element {cut(element.name)}: a row ends behind"
            f" the file's {len(body)} bytes"
        ) from None
    return at, values


def _ascii(
    path: Path, body: memoryview, _order: str, before: list[_Element], element: _Element
) -> dict[str, Any]:
    skipped = sum(other.rows for other in before if other.properties)
    lines = io.BytesIO(bytes(body).replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
    try:
        for _ in range(skipped):
            if not lines.readline():
                raise ValueError(f"ends within {skipped} rows before the points")
        if element.fixed:
            table = _table(lines, element.rows, len(element.properties))
            values = list(table.T)
        else:
            values = _ragged(lines, element)
    except ValueError as error:
        raise ValueError(f"{path}: in its {element.rows} points: {cut_reason(error)}") from None
    single = [item for item in element.properties if item.count is None]
    return {
        item.name: _typed(column, item.kind)
        for item, column in zip(single, values, strict=True)
    }


def _typed(column: Any, kind: str) -> Any:
    """Whole numbers as such: it tells bytes from shares of one."""
    if kind[0] == "f" or not np.isfinite(column).all():
        return column
    return np.rint(column).astype(np.int64)


def _table(lines: io.BytesIO, rows: int, width: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a file without lines
        table = np.loadtxt(lines, ndmin=2, max_rows=rows, comments=None)
    if len(table) < rows:
        raise ValueError(f"truncated, it has {len(table)} rows")
    if table.shape[1] != width:
        raise ValueError(f"a row has {table.shape[1]} numbers, the header says {width}")
    return table


def _ragged(lines: io.BytesIO, element: _Element) -> list[Any]:
    rows: list[list[float]] = []
    for number in range(element.rows):
        words = lines.readline().split()
        row: list[float] = []
        at = 0
        for item in element.properties:
            if at >= len(words):
                raise ValueError(f"row {number + 1} has {len(words)} numbers, too few")
            if item.count is None:
                row.append(float(words[at]))
                at += 1
            else:
                at += 1 + max(int(words[at]), 0)
        if at != len(words):
            raise ValueError(f"row {number + 1} has {len(words)} numbers, expected {at}")
        rows.append(row)
    return list(np.array(rows).T)
