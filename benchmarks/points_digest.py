"""The short tables of points.py, for the guide's page: counts, errors by shape, cost by size.

Errors are ours over the peer's at the better of its depths: mean distance, both ways.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from points_shapes import PROCEDURAL
from points_table import full, pairs

__all__ = ["Compared", "compared", "digest", "scans"]

Row = Mapping[str, Any]
_COLUMNS = (
    ("clean", "even", "0%"),
    (".25 %", "even", "0.25%"),
    (".5 %", "even", "0.5%"),
    ("1 %", "even", "1%"),
    ("graded", "graded", "0%"),
    ("graded, .5 %", "graded", "0.5%"),
)
_OF_SCANS = (
    ("range, median", "range_median"),
    ("80 %", "range_80"),
    ("held-out points, median", "held_median"),
    ("95 %", "held_95"),
    ("mesh to points, 95 %", "excess_95"),
)
_NOISY = 0.75  # a ratio to reach on noisy clouds
_WORST = 8  # cells that are named


@dataclass(frozen=True)
class Compared:
    """One cloud, ours and the peer's."""

    shape: str
    spread: str
    noise: str
    size: str
    normals: str
    ratios: Mapping[str, float]

    @property
    def noisy(self) -> bool:
        """Whether points are off the surface."""
        return self.noise != "0%"

    @property
    def group(self) -> str:
        """The line of the table of counts."""
        if self.normals != "true":
            return "normals estimated"
        return "by formula" if self.shape in PROCEDURAL else "mesh files"

    @property
    def name(self) -> str:
        """A short one."""
        estimated = "" if self.normals == "true" else ", normals estimated"
        graded = ", graded" if self.spread == "graded" else ""
        noise = f", {self.noise.removesuffix('%')} %" if self.noisy else ", clean"
        return f"{self.shape} {self.size}{noise}{graded}{estimated}"


def compared(found: Mapping[str, Row], system: str) -> list[Compared]:
    """The clouds where both were measured; keys are SHAPE/SPREAD/NOISE/SIZE/NORMALS/SYSTEM."""
    parted = ((key.split("/"), ratios) for key, ratios in pairs(found))
    return [Compared(*p[:5], ratios) for p, ratios in parted if p[-1] == system and len(p) == 6]


def digest(found: Mapping[str, Row]) -> str:
    """Markdown: the tables of the automatic hierarchy, then those of the splines."""
    parts = []
    for system in ("hierarchy auto", "splines"):
        cells = compared(found, system)
        if cells:
            worst = sorted(cells, key=lambda cell: -cell.ratios["cd"])[:_WORST]
            names = [f"{cell.name} ({cell.ratios['cd']:.2f})" for cell in worst]
            parts += [f"`{system}`", _counts(cells), "Worst: " + "; ".join(names) + "."]
            parts += [_by_shape(cells), _cost(found, system)]
    return "\n\n".join(parts) + "\n"


def scans(found: Mapping[str, Row]) -> str:
    """Markdown: scans without a truth, ours with nothing set beside all depths of the peer."""
    lines = []
    for key, row in found.items():
        scene, _, system = key.rpartition("/")
        if "held_median" not in row or not system.startswith(("open3d", "hierarchy auto")):
            continue
        numbers = full(row)
        lengths = [f"{row[name]:.2g}" if name in row else "" for _, name in _OF_SCANS]
        cost = [f"{numbers['user_s']:.1f}", f"{numbers['megabytes']:.0f}"]
        lines.append([scene, system, *lengths, f"{100 * row['covered']:.0f} %", *cost])
    heading = [
        "scan",
        "system",
        *(column[0] for column in _OF_SCANS),
        "covered",
        "user s",
        "MB",
    ]
    return _table(heading, lines) + "\n"


def _table(heading: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [heading, ["---"] * len(heading), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _counts(cells: Sequence[Compared]) -> str:
    groups: dict[str, list[Compared]] = {}
    for cell in cells:
        groups.setdefault(f"{cell.group}, {cell.size}", []).append(cell)
    groups["all"] = list(cells)
    lines = []
    for name, group in groups.items():
        clean = [cell.ratios["cd"] for cell in group if not cell.noisy]
        noisy = [cell.ratios["cd"] for cell in group if cell.noisy]
        lines.append(
            [
                name,
                _share(clean, 1.0),
                _share(noisy, 1.0),
                _share(noisy, _NOISY),
                _share([cell.ratios["normals"] for cell in group], 1.0),
                _share([cell.ratios["hausdorff"] for cell in group], 1.0),
                f"{statistics.median(clean + noisy):.2f}",
                f"{max(clean + noisy):.2f}",
            ]
        )
    heading = [
        *("clouds", "clean, not above the peer", "noisy, not above", "noisy, <= .75"),
        *("normals, not above", "largest, not above", "median", "worst"),
    ]
    return _table(heading, lines)


def _share(ratios: Sequence[float], bound: float) -> str:
    return f"{sum(ratio <= bound for ratio in ratios)} of {len(ratios)}" if ratios else ""


def _by_shape(cells: Sequence[Compared]) -> str:
    rows: dict[tuple[str, str, str], dict[tuple[str, str], str]] = {}
    for cell in cells:
        row = rows.setdefault((cell.size, cell.normals, cell.shape), {})
        row[cell.spread, cell.noise] = f"{cell.ratios['cd']:.2f}"
    lines = [
        [
            size if normals == "true" else f"{size}, estimated",
            shape,
            *(row.get((spread, noise), "") for _, spread, noise in _COLUMNS),
        ]
        for (size, normals, shape), row in rows.items()
    ]
    return _table(["points", "shape", *(column[0] for column in _COLUMNS)], lines)


def _cost(found: Mapping[str, Row], system: str) -> str:
    """User seconds (median and most) and memory, by size, of clouds with true normals."""
    kept: dict[str, dict[str, list[dict[str, Any]]]] = {}
    clouds = {key.rpartition("/")[0] for key in found if key.endswith(f"/{system}")}
    for key, row in found.items():
        cloud, _, name = key.rpartition("/")
        if cloud not in clouds or "/true" not in cloud or "failed" in row:
            continue
        if name == system or name.startswith("open3d"):
            size = cloud.split("/")[3]
            kept.setdefault(size, {}).setdefault(name, []).append(full(row))
    lines = [
        [size, name, *_of(rows, "user_s", "{:.1f}"), *_of(rows, "megabytes", "{:.0f}")]
        for size, systems in kept.items()
        for name, rows in sorted(systems.items())
    ]
    heading = ["points", "system", "user s, median", "most", "MB, median", "most"]
    return _table(heading, lines)


def _of(rows: Sequence[Mapping[str, float]], name: str, form: str) -> list[str]:
    numbers = [row[name] for row in rows if name in row]
    if not numbers:
        return ["", ""]
    return [form.format(statistics.median(numbers)), form.format(max(numbers))]
