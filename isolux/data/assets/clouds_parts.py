"""What the readers of clouds share: the bytes of a file, and columns made into a cloud.

Letters: n points.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from isolux.data.assets.clouds_source import CloudSource
from isolux.data.assets.clouds_survey import Part, Survey
from isolux.geometry.points.cloud import PointCloud

__all__ = [
    "cloud_of",
    "cut",
    "cut_reason",
    "make_cloud",
    "part_of_columns",
    "part_of_table",
    "read_file",
    "whole",
]

_WIDTHS = "3 (x y z), 4 (and intensity), 6 (and normal or colour), 7 (and intensity) or 9"

# The names that a quantity goes by, in the order of preference.
_XYZ = (("x", "y", "z"),)
_NORMAL = (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z"))
_COLOR = (
    ("red", "green", "blue"),
    ("r", "g", "b"),
    ("diffuse_red", "diffuse_green", "diffuse_blue"),
)
_SENSOR = (("sensor_x", "sensor_y", "sensor_z"), ("vp_x", "vp_y", "vp_z"))


def read_file(path: Path) -> bytes:
    """The bytes of a file, unpacked if gzip'd. Raises as `CloudSource`."""
    return CloudSource(path).whole()


def cut(text: str | bytes) -> str:
    """What a message shows of a text: one short line."""
    if isinstance(text, bytes):
        text = text[:80].decode("latin-1")
    text = " ".join("".join(c if c.isprintable() else " " for c in text[:80]).split())
    return text if len(text) <= 40 else f"{text[:37]}..."


def cut_reason(error: Exception) -> str:
    """What numpy says of a table, without its advice."""
    return str(error).split(";")[0].split("\n")[0].rstrip(".")


def whole(path: Path, text: str, what: str, most: int) -> int:
    """A count in a header.

    Raises:
        ValueError: no number, negative, or more than the file could hold.
    """
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise ValueError(f"{path}: {what} is '{cut(text)}', expected a whole number")
    if (value := int(text)) > most:
        raise ValueError(f"{path}: {what} is {value}, but the file has room for {most} at most")
    return value


def part_of_columns(path: Path, columns: Mapping[str, Any], sensor: Any = None) -> Part:
    """The rows of named columns [n], by the usual names; other columns are left out.

    Raises:
        ValueError: a coordinate is absent.
    """
    named = {name.lower(): column for name, column in columns.items()}
    xyz = _triple(path, named, _XYZ)
    if xyz is None:
        there = ", ".join(list(columns)[:8]) or "nothing"
        raise ValueError(f"{path}: has no x, y, z; it has {cut(there)}")
    given = _triple(path, named, _SENSOR)
    return Part(
        xyz,
        _triple(path, named, _NORMAL),
        sensor if given is None else given,
        _triple(path, named, _COLOR),
    )


def part_of_table(path: Path, table: Any) -> Part:
    """The rows [n, 3, 4, 6, 7 or 9] of a table whose columns have no names.

    Raises:
        ValueError: rows of another width.
    """
    if (width := table.shape[1]) not in (3, 4, 6, 7, 9):
        raise ValueError(f"{path}: has {width} numbers a row, expected {_WIDTHS}")
    return Part(table[:, :3], rest=table[:, 3:])


def _triple(
    path: Path, columns: Mapping[str, Any], choices: tuple[tuple[str, ...], ...]
) -> Any:
    """Three columns as [n, 3], of their common type; None when none of them is there."""
    for names in choices:
        found = [name for name in names if name in columns]
        if len(found) == 3:
            return np.stack([columns[name] for name in names], axis=1)
        # A lone r may be a range, a lone b anything: only x, y, z must be whole.
        if found and choices is _XYZ:
            lost = ", ".join(sorted(set(names) - set(found)))
            raise ValueError(f"{path}: has {', '.join(found)} but no {lost}")
    return None


def make_cloud(path: Path, xyz: Any, normals: Any, sensor: Any, colors: Any) -> PointCloud:
    """A cloud of arrays [n, 3] as files have them; what is not known is None.

    Args:
        path: named by messages.
        xyz: positions of any number type.
        normals: directions of any length; lengths under 1e-5 become zero vectors.
        sensor: positions [n, 3], or one [3].
        colors: sRGB, scaled as their type and values tell (bytes, 16 bits, or [0, 1]).

    Raises:
        ValueError: no point, none that is finite, or a count that differs.
    """
    return cloud_of(path, [Part(xyz, normals, sensor, colors)])


def cloud_of(path: Path, parts: Iterable[Part]) -> PointCloud:
    """The cloud of a file whose rows came in one part. Raises as `make_cloud`."""
    survey = Survey(path)
    found = list(parts)
    for part in found:
        survey.see(part)
    survey.check()
    return survey.cloud(found[0])
