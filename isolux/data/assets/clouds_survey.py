"""What only all rows of a file together tell: which columns mean what, how colours count.

A file may be read in parts: each is seen first, and made into points when all were seen, so
that the parts say what the whole would say. Letters: n points, w columns.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from isolux.geometry.points.cloud import PointCloud
from isolux.render.colour import linear_from_srgb

__all__ = ["Part", "Survey"]

_log = logging.getLogger(__name__)
_SHORT = 1e-5  # length of a normal that is none


@dataclass(frozen=True)
class Part:
    """Rows of a file as it has them, of any number types; what is not known is None."""

    xyz: Any  # [n, 3]
    normals: Any = None  # [n, 3], of any length
    sensor: Any = None  # [n, 3], or one for all [3]
    colors: Any = None  # [n, 3], sRGB
    rest: Any = None  # [n, w]: columns behind the position, whose values tell what they are
    fillable: bool = False  # colours of zero throughout were never filled in

    def __len__(self) -> int:
        return len(self.xyz)


class Survey:
    """Of the parts of one file; `see` all of them, then `check`, then make `cloud`s.

    Args:
        path: named by messages.
    """

    def __init__(self, path: Path) -> None:
        self.points = 0
        self._path = path
        self._finite = False
        self._directed = False  # whether a normal has a length
        self._given = {"normals": True, "sensor": True, "colors": True}  # in all parts
        self._fillable = True  # whether colours of zero say nothing
        self._kind: Any = None  # the colours' common number type
        self._brightest = 0.0
        self._columns: _Columns | None = None

    def see(self, part: Part) -> None:
        """Take a part into account.

        Raises:
            ValueError: normals or colours that are not one a point.
        """
        for name, values in (("normals", part.normals), ("colours", part.colors)):
            if values is not None and len(values) != len(part):
                raise ValueError(f"{self._path}: {len(values)} {name} for {len(part)} points")
        self.points += len(part)
        self._finite = self._finite or bool(np.isfinite(part.xyz).all(1).any())
        if part.rest is not None and part.rest.shape[1] >= 3:
            if self._columns is None:
                self._columns = _Columns(part.rest)
            self._columns.see(part.rest)
        if part.normals is not None and not self._directed:
            self._directed = bool((_length(part.normals) > _SHORT).any())
        for name in self._given:
            self._given[name] &= getattr(part, name) is not None
        if part.colors is not None:
            self._fillable = self._fillable and part.fillable
            kind = part.colors.dtype
            self._kind = kind if self._kind is None else np.result_type(self._kind, kind)
            self._brightest = max(self._brightest, float(_most(part.colors, None)))

    def check(self) -> None:
        """What all parts were seen for; a word on what will be left out.

        Raises:
            ValueError: no point, or none that is finite.
        """
        if not self.points:
            raise ValueError(f"{self._path}: has no points")
        if not self._finite:
            raise ValueError(f"{self._path}: none of its {self.points} points is finite")
        if self._there()["normals"] and not self._has_lengths():
            _log.warning("%s: its normals are all zero, so they are left out", self._path)

    @property
    def has(self) -> frozenset[str]:
        """Of normals, sensor and colors those that clouds of all parts will have."""
        given = self._there()
        given["normals"] &= self._has_lengths()
        return frozenset(name for name, there in given.items() if there)

    def _there(self) -> dict[str, bool]:
        given = dict(self._given)
        if self._columns is not None:
            given["normals"], given["colors"] = (at is not None for at in self._columns.places)
        elif self._fillable and self._brightest <= 0:
            given["colors"] = False
        return given

    def _has_lengths(self) -> bool:
        return self._directed if self._columns is None else self._columns.directed

    def cloud(self, part: Part) -> PointCloud:
        """The points of a part: positions as doubles, unit normals, linear colours.

        Normals shorter than 1e-5 become zero vectors.

        Raises:
            ValueError: sensors that are not one, or one a point.
        """
        normals, colors = part.normals, part.colors
        kind, brightest, has = self._kind, self._brightest, self.has
        if self._columns is not None:
            normals, colors = self._columns.split(part.rest)
            kind, brightest = np.dtype(np.float64), self._columns.brightest
        points = torch.from_numpy(np.require(part.xyz, np.float64, ("C", "W")))
        sensor = self._seen_from(part.sensor, len(points)) if "sensor" in has else None
        return PointCloud(
            points,
            _unit(normals) if "normals" in has else None,
            sensor,
            _linear(colors, _scale(kind, brightest)) if "colors" in has else None,
        )

    def _seen_from(self, sensor: Any, count: int) -> Float[Tensor, "n 3"]:
        place = np.asarray(sensor, dtype=np.float64)
        if place.shape == (3,):
            place = np.broadcast_to(place, (count, 3))
        if place.shape != (count, 3):
            raise ValueError(
                f"{self._path}: the sensor has shape {list(place.shape)}, expected [3] or"
                f" [{count}, 3]"
            )
        return torch.from_numpy(np.require(place, np.float64, ("C", "W")))


class _Columns:
    """Columns without names, 3, 4 or 6 of them: normals, colours and intensities.

    A triple is a normal where almost all rows have unit length (zero and NaN stand for an
    unknown one), a colour where it is not negative.
    """

    def __init__(self, rest: Any) -> None:
        self._width = rest.shape[1]
        self._low = np.full(self._width, np.inf)
        self._high = np.full(self._width, -np.inf)
        self._known, self._unit = np.zeros(2), np.zeros(2)  # of both triples
        self._bytes = True  # whether the first triple could be a colour in bytes
        self._last = rest[0, -1] if len(rest) else 0.0
        self._same = True  # whether the last column stays as it is

    def see(self, rest: Any) -> None:
        if not len(rest):
            return
        self._low = np.minimum(self._low, rest.min(0))  # NaN stays
        self._high = np.maximum(self._high, _most(rest, 0))
        for i, triple in enumerate((rest[:, :3], rest[:, 3:6])[: self._width // 3]):
            length = _length(triple)
            known = length > _SHORT
            self._known[i] += known.sum()
            self._unit[i] += (np.abs(length[known] - 1.0) < 0.02).sum()
        first = rest[:, :3]
        self._bytes = self._bytes and bool(
            (first == np.rint(first)).all() and first.min() >= 0 and first.max() <= 255
        )
        self._same = self._same and bool((rest[:, -1] == self._last).all())

    def split(self, rest: Any) -> tuple[Any, Any]:
        """Normals and colours [n, 3] or None."""
        return tuple(  # type: ignore[return-value]
            None if at is None else rest[:, at : at + 3] for at in self.places
        )

    @property
    def directed(self) -> bool:
        """Whether what counts as normals has a length anywhere."""
        at, _ = self.places
        return at is not None and bool(self._known[at // 3] > 0)

    @property
    def brightest(self) -> float:
        """The largest of what counts as colours."""
        _, at = self.places
        return 0.0 if at is None else float(self._high[at : at + 3].max())

    @property
    def places(self) -> tuple[int | None, int | None]:
        """Where normals and colours begin."""
        if self._are_normals(0):
            return 0, 3 if self._width == 6 else None
        if self._width == 4 and not (self._bytes and self._same):
            return None, 1  # intensity first, as scanners write
        if self._width == 6 and self._are_normals(1):
            return 3, 0
        if bool((self._low[:3] >= 0).all()):
            return None, 0
        return 0, None  # of another length than one

    def _are_normals(self, triple: int) -> bool:
        return bool(self._unit[triple] > 0.95 * self._known[triple])


def _length(triple: Any) -> Any:
    return np.linalg.norm(np.asarray(triple, np.float64), axis=1)


def _most(values: Any, axis: int | None) -> Any:
    """The largest; what is not finite counts as zero."""
    return np.where(np.isfinite(values), values, 0).max(axis, initial=0)


def _unit(normals: Any) -> Float[Tensor, "n 3"]:
    values = torch.from_numpy(np.require(normals, np.float64, ("C", "W")))
    length = values.norm(dim=1, keepdim=True)
    # NaN stays NaN: such a row is dropped by cleaning, and told of.
    return torch.where(length <= _SHORT, 0.0, values / length.clamp_min(_SHORT)).float()


def _scale(kind: Any, brightest: float) -> float:
    """What white is, by a file's number type and its largest value."""
    if kind.kind == "f" and brightest <= 1.0:
        return 1.0
    # Some write bytes into wider types.
    return 255.0 if kind.itemsize == 1 or brightest <= 255 else 65535.0


def _linear(srgb: Any, scale: float) -> Float[Tensor, "n 3"]:
    unit = np.nan_to_num(srgb.astype(np.float32) / np.float32(scale), nan=0.0).clip(0.0, 1.0)
    return linear_from_srgb(torch.from_numpy(np.ascontiguousarray(unit)))
