"""`report.html`: what a run did and reached, on one page that opens anywhere.

Everything is in the file: pictures as data, curves as SVG, no script, and a policy that
forbids the browser to fetch anything. Whatever part of the run folder is missing or broken is
left out. All text is escaped, since names of scenes and files come from anywhere.
"""

import base64
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from isolux.confs.read import RUN
from isolux.confs.schema import RunConf
from isolux.optimize.curves import Point, chart
from isolux.optimize.files import RunFolder
from isolux.optimize.log import read_log
from isolux.optimize.report_pictures import comparison_section, progress_section
from isolux.render.files import write_text

__all__ = ["report_html", "write_report"]

_LARGEST_ASSET = 8_000_000  # bytes up to which the GLB is put into the page
_TERMS = 8  # curves in one chart


def write_report(folder: RunFolder) -> Path:
    """Writes `report.html` from what lies in the folder, and returns its path.

    Raises:
        OSError: one line, if it cannot be written.
    """
    write_text(folder.report, report_html(folder))
    return folder.report


def report_html(folder: RunFolder) -> str:
    """The page as text."""
    conf, metrics = _object(folder.conf), _object(folder.metrics)
    run = _part(conf, RUN)
    log = read_log(folder.log)
    title = folder.path.resolve().name or "run"
    body = [
        _head(title, conf, metrics, run),
        _tiles(metrics),
        _download(folder.mesh / "mesh.glb"),
        comparison_section(folder.images),
        _curves(log),
        _tables(metrics),
        progress_section(folder.images),
        _settings(conf),
    ]
    main = "\n".join(part for part in body if part)
    style = resources.files("isolux.optimize").joinpath("report.css").read_text("utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)} - isolux</title>\n<style>\n{style}</style></head>\n"
        f"<body><main>\n{main}\n</main></body></html>\n"
    )


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _part(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = record.get(name)
    return value if isinstance(value, dict) else {}


def _head(
    title: str, conf: Mapping[str, Any], metrics: Mapping[str, Any], run: Mapping[str, Any]
) -> str:
    found = {**conf, **run, **metrics}
    facts = [
        f"scene {metrics['scene']}" if metrics.get("scene") else "",
        f"isolux {found['version']}" if found.get("version") else "isolux",
        f"commit {str(found['commit'])[:10]}" if found.get("commit") else "",
        f"backend {found['backend']}" if found.get("backend") else "",
        f"seed {found['seed']}" if found.get("seed") is not None else "",
        str(run["date"]) if run.get("date") else "",
    ]
    line = "".join(f"<span>{escape(fact)}</span>" for fact in facts if fact)
    command = run.get("command")
    if isinstance(command, list):
        command = " ".join(str(word) for word in command)
    shown = f"<pre>{escape(str(command))}</pre>" if command else ""
    return f'<header><h1>{escape(title)}</h1><p class="facts">{line}</p>{shown}</header>'


def _tiles(metrics: Mapping[str, Any]) -> str:
    test, surface = _part(metrics, "test"), _part(metrics, "surface")
    mesh, time = _part(metrics, "mesh"), _part(metrics, "time_s")
    views = test.get("views")
    seen = f"{views} held-out views" if views else "held-out views"
    diagonal = surface.get("reference_diagonal")
    error = _worse(surface.get("to_reference_mean"), surface.get("from_reference_mean"))
    of_diagonal = error / diagonal * 100.0 if error is not None and diagonal else None
    memory = metrics.get("peak_rss_bytes")
    tiles = [
        _tile("PSNR", _fixed(test.get("psnr"), 2), "dB", seen),
        _tile("SSIM", _fixed(test.get("ssim"), 4), "", seen),
        _tile("Silhouette IoU", _fixed(test.get("silhouette_iou"), 4), "", seen),
        _tile("Surface error", _fixed(of_diagonal, 3), "%", "of the diagonal, mean"),
        _tile("Triangles", _count(mesh.get("triangles")), "", _closed(mesh)),
        _tile("Time", _duration(time.get("total")), "", "start to export"),
        _tile("Memory", _fixed(_times(memory, 2.0**-30), 2), "GiB", "largest resident size"),
    ]
    tiles = [tile for tile in tiles if tile]
    return f'<dl class="tiles">{"".join(tiles)}</dl>' if tiles else ""


def _tile(name: str, value: str, unit: str, note: str) -> str:
    if not value:
        return ""
    small = f"<small>{escape(unit)}</small>" if unit else ""
    return f"<div><dt>{name}</dt><dd>{escape(value)}{small}</dd><p>{escape(note)}</p></div>"


def _number(value: object) -> float | None:
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _worse(first: object, second: object) -> float | None:
    known = [v for v in (_number(first), _number(second)) if v is not None]
    return max(known) if known else None


def _times(value: object, factor: float) -> float | None:
    number = _number(value)
    return None if number is None else number * factor


def _fixed(value: object, digits: int) -> str:
    number = _number(value)
    return "" if number is None else f"{number:.{digits}f}"


def _count(value: object) -> str:
    number = _number(value)
    return "" if number is None else f"{number:,.0f}".replace(",", "\u202f")


def _closed(mesh: Mapping[str, Any]) -> str:
    words = [
        word if mesh[key] else f"not {word}"
        for key, word in (("watertight", "watertight"), ("manifold", "manifold"))
        if isinstance(mesh.get(key), bool)
    ]
    return ", ".join(words) or "in the mesh"


def _duration(value: object) -> str:
    seconds = _number(value)
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _download(path: Path) -> str:
    if not path.is_file() or path.stat().st_size > _LARGEST_ASSET:
        return ""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    size = path.stat().st_size / 1e6
    return (
        f'<a class="button" download="mesh.glb" href="data:model/gltf-binary;base64,{data}">'
        f"Download mesh.glb ({size:.1f} MB)</a>"
    )


def _curves(log: Sequence[Mapping[str, Any]]) -> str:
    places, marks = _overall_steps(log)
    steps = [(x, line) for x, line in zip(places, log, strict=True) if _is(line, "step")]
    checks = [(x, line) for x, line in zip(places, log, strict=True) if _is(line, "validation")]
    names: dict[str, None] = {}
    for _, line in steps:
        names.update(dict.fromkeys(_part(line, "terms")))
    terms = {
        name: [(x, _number(_part(line, "terms").get(name))) for x, line in steps]
        for name in list(names)[:_TERMS]
    }
    cards = [
        _card("Loss, weighted sum", chart({"total": _curve(steps, "total")}, True, marks)),
        _card("Terms, unweighted", chart(terms, True, marks)),
        _card("Validation PSNR [dB]", chart({"PSNR": _curve(checks, "psnr")}, False, marks)),
        _card(
            "Steps per second",
            chart({"steps/s": _curve(steps, "steps_per_second")}, False, marks),
        ),
    ]
    cards = [card for card in cards if card]
    if not cards:
        return ""
    hint = '<p class="hint">Over the steps of all stages.</p>'
    return f'<section><h2>Curves</h2>{hint}<div class="charts">{"".join(cards)}</div></section>'


def _is(line: Mapping[str, Any], kind: str) -> bool:
    return line.get("kind") == kind


def _curve(lines: Iterable[tuple[float, Mapping[str, Any]]], key: str) -> list[Point]:
    return [(x, _number(line.get(key))) for x, line in lines]


def _overall_steps(
    log: Sequence[Mapping[str, Any]],
) -> tuple[list[float], list[tuple[float, str]]]:
    """The step of each line counted through all stages, and where each stage begins."""
    places: list[float] = []
    marks: list[tuple[float, str]] = []
    before, last, stage = 0.0, 0.0, None
    for line in log:
        step = _number(line.get("step")) or 0.0
        if line.get("stage") != stage:
            before, stage = (before + last if marks else 0.0), line.get("stage")
            marks.append((before, str(stage)))
        last = step
        places.append(before + step)
    return places, marks if len(marks) > 1 else []


def _card(title: str, content: str) -> str:
    if not content:
        return ""
    return f'<div class="card"><h3>{escape(title)}</h3>{content}</div>'


def _tables(metrics: Mapping[str, Any]) -> str:
    cards = [
        _card(title, _table(_part(metrics, key)))
        for key, title in (
            ("test", "Held-out views"),
            ("train", "Training views"),
            ("surface", "Surface against the reference"),
            ("mesh", "Mesh"),
            ("cameras", "Cameras"),
            ("time_s", "Time [s]"),
        )
        if _part(metrics, key)
    ]
    if not cards:
        return ""
    return f'<section><h2>Numbers</h2><div class="tables">{"".join(cards)}</div></section>'


def _table(values: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{escape(name.replace('_', ' '))}</th><td>{escape(_text(value))}</td></tr>"
        for name, value in values.items()
    )
    return f"<table>{rows}</table>"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return "none" if value is None else str(value)


def _settings(conf: Mapping[str, Any]) -> str:
    settings = {key: value for key, value in conf.items() if key != RUN}
    if not settings:
        return ""
    defaults = dict(_flat(RunConf().model_dump(mode="json")))
    groups: dict[str, list[str]] = {}
    for name, value in _flat(settings):
        changed = ' class="changed"' if value != defaults.get(name, value) else ""
        row = f"<tr{changed}><th>{escape(name)}</th><td>{escape(_text(value))}</td></tr>"
        groups.setdefault(name.rpartition(".")[0], []).append(row)
    cards = "".join(
        _card(group or "run", f"<table>{''.join(rows)}</table>")
        for group, rows in groups.items()
    )
    hint = '<p class="hint">Highlighted: not the default.</p>'
    return f'<section><h2>Settings</h2>{hint}<div class="tables">{cards}</div></section>'


def _flat(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in record.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", value))
    return rows
