"""What a kernel reads, writes and computes, by formula from its arguments.

Arguments go by the names that the text declares. Where no formula stands here, each tensor
counts once: the least that has to go over the bus. Kernels that look things up count what
their threads ask for, caches aside, so coarse levels can come out above the ceiling.
Operations are multiplications, additions and comparisons of the text's inner loops, roughly.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from torch import Tensor

from isolux.backends.cuda.launch import source

__all__ = ["bytes_of", "flops_of", "names_of"]

Arguments = Mapping[str, Any]
_HEAD = re.compile(r"^KERNEL\s+(\w+)\s*\(([^)]*)\)", re.MULTILINE)
_ATOMIC = 16  # bytes: a sum of 64 bits, read and written


def bytes_of(kernel: str, given: Arguments) -> float:
    """Bytes that one start moves."""
    formula = _BYTES.get(kernel)
    if formula is not None:
        try:
            return float(formula(given))
        except (AttributeError, KeyError, TypeError):
            pass  # the text has other arguments by now
    # A tensor may be given twice.
    tensors = {t.data_ptr(): t for t in given.values() if isinstance(t, Tensor)}
    return float(sum(t.numel() * t.element_size() for t in tensors.values()))


def flops_of(kernel: str, given: Arguments) -> float | None:
    """Operations of one start; none where they are not counted."""
    formula = _FLOPS.get(kernel)
    try:
        return None if formula is None else formula(given)
    except (AttributeError, KeyError, TypeError):
        return None


@cache
def names_of(file: str) -> Mapping[str, tuple[str, ...]]:
    """The names of each kernel's arguments."""
    text = re.sub(r"//[^\n]*", "", source(file, "float"))
    return {
        kernel: tuple(part.split()[-1].lstrip("*") for part in inner.split(","))
        for kernel, inner in _HEAD.findall(text)
    }


def _size(given: Arguments, name: str) -> int:
    """Of a number of a tensor."""
    return int(given[name].element_size())


def _added(given: Arguments) -> int:
    """Bytes of adding one number to a sum, in fixed point or not."""
    return _ATOMIC if given["fixed"] is not None else 2 * _size(given, "total")


def _levels(given: Arguments) -> float:
    """(Point, level) pairs that a thread each of the hash grid goes through."""
    return float(given["count"])


def _gather(given: Arguments) -> float:
    return float(_levels(given) * _size(given, "out") * (3 + 9 * given["features"]))


def _scatter(given: Arguments) -> float:
    pairs = given["features"] / 2
    points = given["count"] / pairs * given["run"]  # a thread takes a run of points
    each = _size(given, "grad") * (3 + given["features"])
    return float(points * (each + 8 * given["features"] * _added(given)))


def _slope(given: Arguments) -> float:
    pairs = given["number"] * given["levels"]
    size = _size(given, "grad")
    return float(pairs * size * (3 + 9 * given["features"]) + 3 * given["count"] * size)


def _texture(given: Arguments, taps: int) -> float:
    """A lookup reads two levels' four texels, its place, and reads or writes its value."""
    values = given["out"] if "out" in given else given["grad"]
    points = values.numel() / given["channels"]
    place = 3 * _size(given, "uv")
    return float(points * place + values.numel() * (values.element_size() + 8 * taps))


def _cubemap(given: Arguments, back: bool) -> float:
    size, points, channels = _size(given, "direction"), given["count"], given["channels"]
    bytes_ = (4 + 9 * channels) * size
    if back:
        added = _ATOMIC if given["fixed"] is not None else 2 * size
        bytes_ += 8 * channels * added + 4 * size
    return float(points * bytes_)


def _interpolate(given: Arguments) -> float:
    """Number of the triangle, weights, corners, their values, the value."""
    values = "out" if "out" in given else "grad"
    size = _size(given, values)
    return float(given["pixels"] * (4 + 12 + size * (2 + 4 * given["columns"])))


def _interpolate_back(given: Arguments) -> float:
    size = _size(given, "grad")
    added = 0 if given["sizes"] is not None else 3 * given["columns"] * _added(given)
    return float(given["pixels"] * (4 + 12 + size * (2 + given["columns"]) + added))


_BYTES: Mapping[str, Callable[[Arguments], float]] = {
    "hashgrid_gather": _gather,
    "hashgrid_scatter": _scatter,
    "hashgrid_slope": _slope,
    "texture2d_forward": lambda given: _texture(given, _size(given, "uv")),
    "texture2d_to_uv": lambda given: _texture(given, _size(given, "uv")),
    "texture2d_scatter": lambda given: _texture(given, _added(given)),
    "cubemap_forward": lambda given: _cubemap(given, False),
    "cubemap_backward": lambda given: _cubemap(given, True),
    "interpolate_forward": _interpolate,
    "interpolate_to_uv": _interpolate,
    "interpolate_to_attributes": _interpolate_back,
}
_FLOPS: Mapping[str, Callable[[Arguments], float]] = {
    # A cell's place and eight weights: 40; two for each feature of each corner.
    "hashgrid_gather": lambda given: _levels(given) * (40 + 16 * given["features"]),
    "hashgrid_scatter": lambda given: (
        2 * given["count"] / given["features"] * given["run"] * (40 + 16 * given["features"])
    ),
    "hashgrid_slope": lambda given: (
        given["number"] * given["levels"] * (80 + 16 * given["features"])
    ),
    # Two levels: 20 for the place, 7 and a share for each channel.
    "texture2d_forward": lambda given: float(given["count"] * 2 * (20 + 9)),
    "texture2d_scatter": lambda given: float(given["count"] * 2 * (24 + 8)),
    "texture2d_to_uv": lambda given: float(given["count"] * 2 * (30 + 8 * given["channels"])),
    "cubemap_forward": lambda given: float(given["count"] * 2 * (30 + 9 * given["channels"])),
    "cubemap_backward": lambda given: float(given["count"] * 2 * (60 + 18 * given["channels"])),
    "interpolate_forward": lambda given: float(given["pixels"] * (2 + 5 * given["columns"])),
    "interpolate_to_uv": lambda given: float(given["pixels"] * 6 * given["columns"]),
}
