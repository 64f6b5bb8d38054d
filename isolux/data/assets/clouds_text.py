"""Points of text files: rows of numbers (XYZ, TXT, CSV, ASC, PTS), and the vertices of OBJ."""

import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from isolux.data.assets.clouds_lines import lines_of, tables
from isolux.data.assets.clouds_parts import (
    cut,
    cut_reason,
    make_cloud,
    part_of_columns,
    part_of_table,
)
from isolux.data.assets.clouds_source import CloudSource
from isolux.data.assets.clouds_survey import Part
from isolux.geometry.points.cloud import PointCloud

__all__ = ["read_obj_cloud", "text_lines", "text_parts"]

_log = logging.getLogger(__name__)
_MARKS = ("#", "//", "%", ";")


def text_parts(source: CloudSource, rows: int | None) -> Iterator[Part]:
    """Rows of numbers between spaces, tabs, commas or semicolons, at most `rows` at a time.

    A first line of one number is the count of points. A first line of names, also as a
    comment, says what the columns are. Otherwise their number tells, and a triple is a
    normal where it has unit length, a colour where it is not negative.

    Raises:
        ValueError: a row of another width, or with something that is no number.
    """
    path = source.path
    if b"\0" in source.head(4096):
        raise ValueError(f"{path}: holds binary data, expected lines of numbers")
    with lines_of(source, encoding="utf-8-sig") as lines:
        skip, names, count = _opening(lines)
    done = 0
    for table in _numbers(source, skip, rows):
        done += len(table)
        if names and len(names) == table.shape[1]:
            yield part_of_columns(path, dict(zip(names, table.T, strict=True)))
        else:
            yield part_of_table(path, table)
    if count not in (None, done):
        raise ValueError(f"{path}: its first line says {count} points, it has {done}")


def text_lines(source: CloudSource) -> int:
    """The number of lines, which is about that of points."""
    with source.open() as stream:
        return sum(part.count(b"\n") for part in iter(lambda: stream.read(1 << 20), b"")) + 1


def _opening(lines: Iterable[str]) -> tuple[int, list[str], int | None]:
    """Lines to pass over before the first row, the columns' names and the count, if given."""
    names: list[str] = []
    count: int | None = None
    for number, line in enumerate(islice(lines, 1000)):
        words = _words(line := line.strip())
        if words and not line.startswith(_MARKS):
            if _are_numbers(words):
                if len(words) > 1 or count is not None or not words[0].isdigit():
                    return number, names, count
                count = int(words[0][:18])
            elif names or count is not None or len(words) < 3:
                return number, names, count  # the table's reader says what is wrong
            else:
                names = [word.strip('"').lower() for word in words]
        elif words and {"x", "y", "z"} <= {word.lower() for word in words}:
            names = [word.lower() for word in words if not word.startswith(_MARKS)]
    return 0, names, None


def _numbers(source: CloudSource, skip: int, rows: int | None) -> Iterator[Any]:
    """Tables of the lines behind the first ones."""
    found = False
    with lines_of(source, encoding="utf-8-sig") as lines:
        plain = (line.replace(",", " ").replace(";", " ") for line in islice(lines, skip, None))
        try:
            for table in tables(plain, rows, comments=["#", "//", "%"]):
                found = True
                yield table
        except ValueError as error:
            raise ValueError(
                f"{source.path}: cannot be read as rows of numbers: {cut_reason(error)}"
            ) from None
    if not found:
        raise ValueError(f"{source.path}: has no points")


def _words(line: str) -> list[str]:
    for mark in ("//", "#"):
        if line.startswith(mark):
            line = line[len(mark) :]
    return line.replace(",", " ").replace(";", " ").split()


def _are_numbers(words: list[str]) -> bool:
    try:
        [float(word) for word in words]
    except ValueError:
        return False
    return True


def read_obj_cloud(path: Path, data: bytes) -> PointCloud:
    """The `v` lines, with colours where they have six or seven numbers, and as many `vn`.

    Raises:
        ValueError: no `v`, rows of changing width, or something that is no number.
    """
    text = data.decode("utf-8-sig", "replace").replace("\r", "\n")
    lines = [line.split(None, 1) for line in text.split("\n")]
    rows = {"v": [""], "vn": [""]}
    rows = {
        key: [line[1] for line in lines if len(line) > 1 and line[0] == key] for key in rows
    }
    if not rows["v"]:
        raise ValueError(f"{path}: has no points (no lines 'v x y z')")
    points = _rows(path, "v", rows["v"])
    if points.shape[1] not in (3, 4, 6, 7):
        raise ValueError(
            f"{path}: its 'v' lines have {points.shape[1]} numbers, expected 3 or 6"
        )
    colors = points[:, 3:6] if points.shape[1] >= 6 else None
    normals = None
    if len(rows["vn"]) == len(rows["v"]) and _in_step(lines):
        normals = _rows(path, "vn", rows["vn"])[:, :3]
    elif rows["vn"]:
        _log.warning("%s: its normals are not one a point, so they are left out", path)
    return make_cloud(path, points[:, :3], normals, None, colors)


def _rows(path: Path, key: str, lines: list[str]) -> Any:
    try:
        table = np.loadtxt(lines, ndmin=2, comments="#")
    except ValueError as error:
        raise ValueError(f"{path}: its '{key}' lines: {cut(cut_reason(error))}") from None
    if len(table) != len(lines) or table.shape[1] < 3:
        raise ValueError(f"{path}: its '{key}' lines need 3 numbers each")
    return table


def _in_step(lines: list[list[str]]) -> bool:
    """Whether faces, if any, take normal i at vertex i."""
    faces = (line[1] for line in lines if len(line) > 1 and line[0] == "f")
    for face in faces:
        for corner in face.split():
            parts = corner.split("/")
            if len(parts) == 3 and parts[2] != parts[0]:
                return False
    return True
