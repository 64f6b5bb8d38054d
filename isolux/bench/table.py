"""The results as text."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["text_table"]

_HEAD = ("benchmark", "case", "least", "median", "unit", "figure", "met", "note")


def text_table(result: Mapping[str, Any]) -> str:
    """A line on the machine, then the rows in columns."""
    machine = result["machine"]
    line = (
        f"{machine['processor']}, {machine['cores']} cores, load {machine['load_before']} to"
        f" {machine['load_after']}; isolux {machine['isolux']}, torch {machine['torch']},"
        f" numba {machine['numba']}, Python {machine['python']}"
    )
    lines = [_HEAD, *(_cells(row) for row in result["rows"])]
    width = [max(len(cells[i]) for cells in lines) for i in range(len(_HEAD))]
    return "\n".join([line, *(_aligned(cells, width) for cells in lines)])


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    met = {None: "", True: "yes", False: "NO"}[row["met"]]
    numbers = [_number(row[key]) for key in ("value", "median")]
    figure = row["figure"] or ""
    return (row["benchmark"], row["case"], *numbers, row["unit"], figure, met, row["note"])


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"


def _aligned(cells: Sequence[str], width: Sequence[int]) -> str:
    right = (2, 3)  # numbers
    return "  ".join(
        text.rjust(width[i]) if i in right else text.ljust(width[i])
        for i, text in enumerate(cells)
    ).rstrip()
