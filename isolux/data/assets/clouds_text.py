"""Points of text files: rows of numbers (XYZ, TXT, CSV, ASC, PTS), and the vertices of OBJ."""

import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from isolux.data.assets.clouds_parts import cloud_of_columns, cut, cut_reason, make_cloud
from isolux.geometry.points.cloud import PointCloud

__all__ = ["cloud_of_table", "read_obj_cloud", "read_text"]

_log = logging.getLogger(__name__)
_MARKS = ("#", "//", "%", ";")
_WIDTHS = "3 (x y z), 4 (and intensity), 6 (and normal or colour), 7 (and intensity) or 9"


def read_text(path: Path, data: bytes) -> PointCloud:
    """Rows of numbers between spaces, tabs, commas or semicolons.

    A first line of one number is the count of points. A first line of names, also as a
    comment, says what the columns are. Otherwise their number tells, and a triple is a
    normal where it has unit length, a colour where it is not negative.

    Raises:
        ValueError: a row of another width, or with something that is no number.
    """
    if b"\0" in data[:4096]:
        raise ValueError(f"{path}: holds binary data, expected lines of numbers")
    text = data.decode("utf-8-sig", "replace").replace("\r\n", "\n").replace("\r", "\n")
    skip, names, count = _opening(path, text)
    table = _numbers(path, text, skip)
    if count is not None and count != len(table):
        raise ValueError(f"{path}: its first line says {count} points, it has {len(table)}")
    if names and len(names) == table.shape[1]:
        return cloud_of_columns(path, dict(zip(names, table.T, strict=True)))
    return cloud_of_table(path, table)


def _opening(path: Path, text: str) -> tuple[int, list[str], int | None]:
    """Lines to pass over before the first row, the columns' names and the count, if given."""
    names: list[str] = []
    count: int | None = None
    at = 0
    for number in range(1000):
        end = text.find("\n", at)
        line = text[at : end if end >= 0 else len(text)].strip()
        words = _words(line)
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
        if end < 0:
            break
        at = end + 1
    return 0, names, None


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


def _numbers(path: Path, text: str, skip: int) -> Any:
    text = text.replace(",", " ").replace(";", " ") if "," in text or ";" in text else text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a file without rows
            table = np.loadtxt(
                io.StringIO(text), ndmin=2, skiprows=skip, comments=["#", "//", "%"]
            )
    except ValueError as error:
        raise ValueError(
            f"{path}: cannot be read as rows of numbers: {cut_reason(error)}"
        ) from None
    if not table.size:
        raise ValueError(f"{path}: has no points")
    return table


def cloud_of_table(path: Path, table: Any) -> PointCloud:
    """The cloud of rows [n, 3, 4, 6, 7 or 9] whose columns have no names.

    Raises:
        ValueError: rows of another width.
    """
    width = table.shape[1]
    if width not in (3, 4, 6, 7, 9):
        raise ValueError(f"{path}: has {width} numbers a row, expected {_WIDTHS}")
    normals = colors = None
    if width >= 6:
        first = table[:, 3:6]
        if _are_normals(first):
            normals = first
            colors = table[:, 6:9] if width == 9 else None
        elif width == 7 and not _are_bytes(table[:, 3:6], table[:, 6]):
            colors = table[:, 4:7]  # intensity first, as scanners write
        elif width == 9 and _are_normals(table[:, 6:9]):
            colors, normals = first, table[:, 6:9]
        elif first.min() >= 0:
            colors = first
        else:
            normals = first  # of another length than one
    return make_cloud(path, table[:, :3], normals, None, colors)


def _are_normals(triple: Any) -> bool:
    """Whether almost all rows have unit length; zero and NaN stand for an unknown normal."""
    length = np.linalg.norm(triple, axis=1)
    known = length > 1e-5
    return bool(known.any()) and bool((np.abs(length[known] - 1.0) < 0.02).mean() > 0.95)


def _are_bytes(triple: Any, last: Any) -> bool:
    """Whether columns 4 to 6 are a colour and the seventh something that stays the same."""
    whole = (
        bool((triple == np.rint(triple)).all()) and triple.min() >= 0 and triple.max() <= 255
    )
    return whole and bool((last == last[0]).all())


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
