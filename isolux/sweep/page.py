"""`sweep.html`: the table of a sweep and a picture of each trial, on one page for any browser.

As with the report of a run everything is in the file, there is no script, and the browser may
fetch nothing. Links lead to the reports of the trials, beside the page.
"""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from isolux.optimize.report_pictures import jpeg_of
from isolux.sweep.table import HEADS, best, cells, columns, varied_text

__all__ = ["page"]

_WIDEST = 1500  # pixels of a picture in the page
_STYLE = """
.states td:first-child { font-weight: 550; }
.states td, .states th { width: auto; padding-right: 18px; white-space: nowrap; }
.states .best { color: var(--accent); font-weight: 650; }
.bad { color: #c92a2a; }
.scroll { overflow-x: auto; }
.trial { margin: 0 0 22px; }
.trial h3 { color: var(--ink); font-size: 15px; margin: 0 0 4px; }
.trial p { margin: 0 0 8px; color: var(--soft); font-size: 13px; overflow-wrap: anywhere; }
"""


def page(title: str, facts: Sequence[str], rows: Sequence[Mapping[str, Any]], out: Path) -> str:
    """The page as text.

    Args:
        title: of the sweep.
        facts: short ones, for its head.
        rows: of `table.row`.
        out: folder of the sweep, in which the page will lie.
    """
    style = resources.files("isolux.optimize").joinpath("report.css").read_text("utf-8")
    line = "".join(f"<span>{escape(fact)}</span>" for fact in facts)
    scenes: dict[str, list[str]] = {}
    for item in rows:
        scenes.setdefault(item["scene"], []).append(_trial(item, out))
    sections = "\n".join(
        f"<section><h2>{escape(scene or 'Trials')}</h2>{''.join(parts)}</section>"
        for scene, parts in scenes.items()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)} - isolux</title>\n<style>\n{style}{_STYLE}</style></head>\n"
        f'<body><main>\n<header><h1>{escape(title)}</h1><p class="facts">{line}</p></header>\n'
        f"{_table(rows)}\n{sections}\n</main></body></html>\n"
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    winners = best(rows)
    keys = {head: key for key, head in HEADS.items()}
    heads = columns(rows)
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    lines = []
    for item in rows:
        parts = []
        for name, value in zip(heads, cells(item, rows), strict=True):
            kind = ' class="best"' if (item["name"], keys.get(name, "")) in winners else ""
            if name == "state" and item["state"] != "done":
                kind = ' class="bad"'
            shown = escape(value)
            if name == "trial":
                shown = f'<a href="#{escape(quote(value))}">{shown}</a>'
            parts.append(f"<td{kind}>{shown}</td>")
        lines.append(f"<tr>{''.join(parts)}</tr>")
    return (
        '<section><h2>Results</h2><div class="card scroll"><table class="states">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div></section>"
    )


def _trial(item: Mapping[str, Any], out: Path) -> str:
    """What a trial is, what it said, and its first comparison."""
    name, folder = item["name"], Path(item["out"])
    about = varied_text(item["varied"])
    words = f"<p>{escape(about)}</p>" if about else ""
    if item["state"] != "done":
        words += f'<p class="bad">{escape(item["state"])}: {escape(item["reason"])}</p>'
    if (folder / "report.html").is_file() and folder.parent == out:
        words += f'<p><a href="{escape(quote(name))}/report.html">Its own report</a></p>'
    figure = _figure(folder / "images", name)
    return (
        f'<div class="trial" id="{escape(quote(name))}"><h3>{escape(name)}</h3>{words}{figure}'
        "</div>"
    )


def _figure(folder: Path, name: str) -> str:
    """The first comparison of a run, or its last progress; nothing if none can be read."""
    compared = sorted(folder.glob("[!.]*.png"))
    first = [path for path in compared if not path.name.startswith("progress")]
    for path in [*first[:1], *compared[-1:]]:
        try:
            with Image.open(path) as image:
                data = jpeg_of(image, _WIDEST)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
        source = f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"
        return (
            f'<figure><label><input type="checkbox"><img src="{source}" '
            f'alt="{escape(name)}"></label></figure>'
        )
    return ""
