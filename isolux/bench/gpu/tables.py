"""The cells as text for the terminal, and as markdown for `docs/benchmarks.md`."""

from collections.abc import Mapping
from typing import Any

__all__ = ["markdown", "text"]

_HEAD = ("what", "case", "unit", "isolux", "others", "ratio", "figure", "met", "note")
_OURS = "isolux"


def text(result: Mapping[str, Any]) -> str:
    """The machine, the cells in columns, and who was not there."""
    lines = [_HEAD, *(_columns(cell) for cell in result["cells"])]
    width = [max(len(line[i]) for line in lines) for i in range(len(_HEAD))]
    rows = [
        "  ".join(part.ljust(width[i]) for i, part in enumerate(line)).rstrip()
        for line in lines
    ]
    return "\n".join([*_machine(result), *rows, *_absent(result)])


def markdown(result: Mapping[str, Any]) -> str:
    """The same as a table of markdown, below a paragraph."""
    rows = [
        "| " + " | ".join(part.replace("|", "/") for part in line) + " |"
        for line in [_HEAD, ["---"] * len(_HEAD), *(_columns(c) for c in result["cells"])]
    ]
    paragraph = [line + "  " for line in (*_machine(result), *_absent(result))]
    return "\n".join([*paragraph, "", *rows])


def _machine(result: Mapping[str, Any]) -> list[str]:
    machine = result["machine"]
    known = ", ".join(f"{key} {value}" for key, value in machine.items() if value is not None)
    said = [known, f"Medians (and least) of {result['repeats']}; clock: {result['clock']}."]
    if result["dry_run"]:
        said.insert(0, "DRY RUN: tiny sizes on the processor. No number here is a measurement.")
    return said


def _absent(result: Mapping[str, Any]) -> list[str]:
    """Each reason once."""
    found: dict[tuple[str, str], int] = {}
    for cell in result["cells"]:
        for name, why in cell["absent"].items():
            found[name, why] = found.get((name, why), 0) + 1
    return [
        f"Blank: {name} ({count} {'cells' if count > 1 else 'cell'}): {why}"
        for (name, why), count in found.items()
    ]


def _columns(cell: Mapping[str, Any]) -> tuple[str, ...]:
    ours = {n: v for n, v in cell["values"].items() if n.startswith(_OURS) or n == "device"}
    others = {n: v for n, v in cell["values"].items() if n not in ours}
    figure = cell["figure"] or ("" if cell["aim"] is None else f"1x, aim {cell['aim']:g}x")
    return (
        cell["group"],
        cell["case"],
        cell["unit"],
        _values(ours, _OURS),
        _values(others, ""),
        "" if cell["ratio"] is None else f"{cell['ratio']:.2f}x",
        figure,
        {None: "", True: "yes", False: "NO"}[cell["met"]],
        cell["note"],
    )


def _values(values: Mapping[str, Mapping[str, float]], plain: str) -> str:
    """`name median (least)`, without the name where it is the plain one."""
    said = []
    for name, value in values.items():
        label = "" if name in (plain, "device") else name.removeprefix("isolux, ") + " "
        least = f" ({_number(value['least'])})" if value["count"] > 1 else ""
        said.append(f"{label}{_number(value['median'])}{least}")
    return "; ".join(said)


def _number(value: float) -> str:
    if value == 0 or 0.01 <= abs(value) < 1e5:
        return f"{value:.4g}"
    return f"{value:.3g}"
