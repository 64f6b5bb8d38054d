"""Points of PLY files: ascii, little- and big-endian, any number types, lists passed over."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from isolux.data.assets.clouds_lines import lines_of, tables
from isolux.data.assets.clouds_parts import cut, cut_reason, part_of_columns, whole
from isolux.data.assets.clouds_source import CloudSource, pieces
from isolux.data.assets.clouds_survey import Part

__all__ = ["ply_count", "ply_parts"]

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

    @property
    def bytes(self) -> int:
        """Of all rows, where all have one length."""
        return sum(int(item.kind[1]) for item in self.properties) * self.rows


def ply_parts(source: CloudSource, rows: int | None) -> Iterator[Part]:
    """The element `vertex`, at most `rows` at a time; everything after it is left alone.

    Raises:
        ValueError: a header or body that is damaged; one line that says what was expected.
    """
    path = source.path
    order, before, element, start = _vertices(source)
    read = _ascii if order == "=" else _binary
    for columns in read(source, start, order, before, element, rows):
        yield part_of_columns(path, columns)


def ply_count(source: CloudSource) -> int:
    """The number of points that the header says. Raises as `ply_parts`."""
    return _vertices(source)[2].rows


def _vertices(source: CloudSource) -> tuple[str, list[_Element], _Element, int]:
    """Byte order, the elements before the points, the points', and where the body begins."""
    order, elements, start = _header(source.path, source.head(_HEADER), source.size)
    before: list[_Element] = []
    for element in elements:
        if element.name == "vertex":
            if not element.rows:
                raise ValueError(f"{source.path}: has no points (element vertex 0)")
            return order, before, element, start
        before.append(element)
    raise ValueError(f"{source.path}: has no element 'vertex'")


def _header(path: Path, data: bytes, size: int) -> tuple[str, list[_Element], int]:
    """Byte order, elements, and where the body begins, of a file of `size` bytes."""
    if not data.startswith(b"ply"):
        raise ValueError(f"{path}: begins with '{cut(data[:12])}', expected 'ply'")
    end = data.find(b"end_header")
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
                elements.append(_Element(name, whole(path, count, f"element {name}", size)))
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
    source: CloudSource,
    start: int,
    order: str,
    before: list[_Element],
    element: _Element,
    rows: int | None,
) -> Iterator[dict[str, Any]]:
    path = source.path
    if not (element.fixed and all(other.fixed for other in before)):
        yield from _of_lists(source, start, order, before, element, rows)
        return
    size = source.size
    for other in before:
        _room(path, other, other.bytes, size - start)
        start += other.bytes
    row = np.dtype([(item.name, order + item.kind) for item in element.properties])

    def short(has: int) -> ValueError:
        return _short(path, element, row.itemsize * element.rows, has)

    for data, count in pieces(source, start, row.itemsize, element.rows, rows, short):
        table = np.frombuffer(data, row, count)
        yield {item.name: table[item.name] for item in element.properties}


def _room(path: Path, element: _Element, needs: int, has: int) -> None:
    if needs > has:
        raise _short(path, element, needs, has)


def _short(path: Path, element: _Element, needs: int, has: int) -> ValueError:
    return ValueError(
        f"{path}: truncated: {element.rows} rows of {cut(element.name)} need {needs} bytes,"
        f" it has {max(has, 0)}"
    )


def _of_lists(
    source: CloudSource,
    start: int,
    order: str,
    before: list[_Element],
    element: _Element,
    rows: int | None,
) -> Iterator[dict[str, Any]]:
    """As `_binary`, where rows of changing length are among what must be read."""
    path, body = source.path, memoryview(source.whole())[start:]
    at = 0
    for other in before:
        at = _skip(path, body, at, order, other)
    if element.fixed:
        row = np.dtype([(item.name, order + item.kind) for item in element.properties])
        _room(path, element, element.bytes, len(body) - at)
        table = np.frombuffer(body, row, element.rows, at)
        for first in range(0, element.rows, rows or element.rows):
            part = table[first : first + (rows or element.rows)]
            yield {item.name: part[item.name] for item in element.properties}
        return
    single = [item for item in element.properties if item.count is None]
    for first in range(0, element.rows, rows or element.rows):
        found = []
        for _ in range(min(rows or element.rows, element.rows - first)):
            at, values = _row(path, body, at, order, element)
            found.append(values)
        yield {
            item.name: np.array([values[i] for values in found], dtype=item.kind)
            for i, item in enumerate(single)
        }


def _skip(path: Path, body: memoryview, at: int, order: str, element: _Element) -> int:
    """Where the element ends that begins at `at`."""
    if element.fixed:
        _room(path, element, element.bytes, len(body) - at)
        return at + element.bytes
    for _ in range(element.rows):
        at, _values = _row(path, body, at, order, element)
    return at


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
    source: CloudSource,
    start: int,
    _order: str,
    before: list[_Element],
    element: _Element,
    rows: int | None,
) -> Iterator[dict[str, Any]]:
    skipped = sum(other.rows for other in before if other.properties)
    single = [item for item in element.properties if item.count is None]
    read = _table if element.fixed else _ragged
    with lines_of(source, start) as lines:
        try:
            for _ in range(skipped):
                if not lines.readline():
                    raise ValueError(f"ends within {skipped} rows before the points")
            for values in read(lines, element, rows):
                yield {
                    item.name: _typed(column, item.kind)
                    for item, column in zip(single, values, strict=True)
                }
        except ValueError as error:
            reason = cut_reason(error)
            raise ValueError(f"{source.path}: in its {element.rows} points: {reason}") from None


def _typed(column: Any, kind: str) -> Any:
    """Whole numbers as such: it tells bytes from shares of one."""
    if kind[0] == "f" or not np.isfinite(column).all():
        return column
    return np.rint(column).astype(np.int64)


def _table(lines: io.TextIOWrapper, element: _Element, rows: int | None) -> Iterator[Any]:
    width, done = len(element.properties), 0
    for table in tables(lines, rows, element.rows):
        done += len(table)
        if rows is None and done < element.rows:
            break
        if table.shape[1] != width:
            raise ValueError(f"a row has {table.shape[1]} numbers, the header says {width}")
        yield table.T
    if done < element.rows:
        raise ValueError(f"truncated, it has {done} rows")


def _ragged(lines: io.TextIOWrapper, element: _Element, rows: int | None) -> Iterator[Any]:
    found: list[list[float]] = []
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
        found.append(row)
        if len(found) == rows or number + 1 == element.rows:
            yield np.array(found).T
            found = []
