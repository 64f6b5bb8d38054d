"""What a sweep reached: one row a trial, as JSON, as text, as markdown."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from isolux.confs.describe import shown
from isolux.sweep.drive import Result
from isolux.sweep.progress import duration
from isolux.sweep.trials import Trial

__all__ = [
    "HEADS",
    "best",
    "cells",
    "columns",
    "markdown",
    "reasons",
    "row",
    "text",
    "varied_text",
]

# Key in metrics.json, head, digits, whether more is better.
_METRICS = (
    ("test.psnr", "PSNR [dB]", 2, True),
    ("test.ssim", "SSIM", 4, True),
    ("test.silhouette_iou", "IoU", 4, True),
    ("surface.error_percent", "surface [%]", 3, False),
    ("mesh.triangles", "triangles", 0, None),
)
HEADS = {key: head for key, head, _, _ in _METRICS}


def row(trial: Trial, result: Result) -> dict[str, Any]:
    """One trial as JSON: what it is, how it went, what it reached."""
    metrics = trial.metrics
    time = _part(metrics, "time_s").get("total")
    return {
        "name": trial.name,
        "scene": trial.scene,
        "varied": dict(trial.varied),
        "state": result.state,
        "reason": result.reason,
        "attempts": result.attempts,
        "exit_code": result.code,
        "seconds": time if isinstance(time, int | float) else result.seconds,
        "out": str(trial.folder.path),
        "metrics": {key: _metric(metrics, key) for key in HEADS},
    }


def _metric(metrics: Mapping[str, Any], key: str) -> float | None:
    group, _, name = key.partition(".")
    if key == "surface.error_percent":
        return _surface_error(_part(metrics, "surface"))
    value = _part(metrics, group).get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


def _surface_error(surface: Mapping[str, Any]) -> float | None:
    """The mean distance, of the direction that is worse, in percent of the diagonal."""
    both = (surface.get("to_reference_mean"), surface.get("from_reference_mean"))
    known = [value for value in both if isinstance(value, int | float)]
    diagonal = surface.get("reference_diagonal")
    return max(known) / diagonal * 100.0 if known and diagonal else None


def _part(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = record.get(name)
    return value if isinstance(value, Mapping) else {}


def best(rows: Sequence[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """Name of the trial and key of the metric, wherever it is the best of its scene.

    Where all are alike there is no best.
    """
    found: set[tuple[str, str]] = set()
    for key, _, _, more in _METRICS:
        scenes: dict[str, list[tuple[float, str]]] = {}
        for item in rows:
            value = item["metrics"][key]
            if value is not None and more is not None:
                scenes.setdefault(item["scene"], []).append((value, item["name"]))
        for values in scenes.values():
            top = (max if more else min)(value for value, _ in values)
            winners = [name for value, name in values if value == top]
            if len(winners) < len(values):
                found.update((name, key) for name in winners)
    return found


def columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Heads of the table; metrics that no trial has are left out."""
    return ["trial", "state", *(HEADS[key] for key in _present(rows)), "time", "attempts"]


def _present(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [key for key in HEADS if any(item["metrics"][key] is not None for item in rows)]


def cells(item: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One row under `columns(rows)`."""
    digits = {key: count for key, _, count, _ in _METRICS}
    values = [
        "" if (value := item["metrics"][key]) is None else f"{value:.{digits[key]}f}"
        for key in _present(rows)
    ]
    time = duration(item["seconds"]) if item["seconds"] else ""
    attempts = str(item["attempts"]) if item["attempts"] else ""
    return [item["name"], item["state"], *values, time, attempts]


def text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Columns for a terminal, and below them why trials failed."""
    lines = [columns(rows), *(cells(item, rows) for item in rows)]
    width = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    table = ["  ".join(_aligned(line, width)).rstrip() for line in lines]
    return "\n".join([*table, *reasons(rows)])


def _aligned(line: Sequence[str], width: Sequence[int]) -> list[str]:
    return [
        value.ljust(width[i]) if i < 2 else value.rjust(width[i])
        for i, value in enumerate(line)
    ]


def markdown(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """A page of markdown: the table, the best of each scene in bold, and what failed."""
    heads = columns(rows)
    winners = best(rows)
    lines = [f"# {title}", "", _piped(heads), _piped(["---"] * len(heads))]
    for item in rows:
        line = cells(item, rows)
        for place, key in enumerate(_present(rows), start=2):
            if (item["name"], key) in winners:
                line[place] = f"**{line[place]}**"
        lines.append(_piped(line))
    failures = [f"- {line}" for line in reasons(rows)]
    return "\n".join([*lines, *(["", *failures] if failures else []), ""])


def _piped(line: Sequence[str]) -> str:
    return "| " + " | ".join(value.replace("|", "\\|") for value in line) + " |"


def reasons(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each trial that did not end well."""
    return [
        f"{item['name']}: {item['state']}: {item['reason']}"
        for item in rows
        if item["state"] != "done" and item["reason"]
    ]


def varied_text(varied: Mapping[str, Any]) -> str:
    """What sets a trial apart, as one would type it."""
    return " ".join(f"{key}={shown(value)}" for key, value in varied.items())
