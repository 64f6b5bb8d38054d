"""Curves as SVG text, for a page that opens without a network or a script.

Colours come from the page's style sheet: `.curve-0`, `.curve-1` ..., `.axis`, `.grid-line`,
`.tick`, `.mark`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

__all__ = ["COLOURS", "Point", "chart"]

Point = tuple[float, float | None]  # a value of none breaks the line
_Scale = Callable[[float], float]
COLOURS = 8  # classes curve-0 ... that the style sheet has

_WIDTH, _HEIGHT = 560, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 24, 12, 30
_POINTS = 400  # a curve has at most, which is more than its pixels show


def chart(
    curves: Mapping[str, Sequence[Point]],
    logarithmic: bool = False,
    marks: Sequence[tuple[float, str]] = (),
) -> str:
    """One chart of several curves with a legend that gives their last values.

    Args:
        curves: points by name, x rising. Names may be any text.
        logarithmic: the y axis; values that are not above zero are left out then.
        marks: upright lines with a word each, e.g. where a stage begins.

    Returns:
        SVG and legend as HTML; empty text if there is nothing to draw.
    """
    usable = {name: _thin(_usable(points, logarithmic)) for name, points in curves.items()}
    usable = {name: points for name, points in usable.items() if _values(points)}
    if not usable:
        return ""
    xs = [x for points in usable.values() for x, _ in points]
    x_low, x_high = min(xs + [x for x, _ in marks]), max(xs)
    ys = [y for points in usable.values() for y in _values(points)]
    y_low, y_high, y_ticks = _log_axis(ys) if logarithmic else _axis(min(ys), max(ys))

    def x_at(x: float) -> float:
        span = x_high - x_low
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * ((x - x_low) / span if span > 0 else 0.5)

    def y_at(y: float) -> float:
        if logarithmic:
            low, high = math.log(y_low), math.log(y_high)
            share = max((math.log(y) - low) / (high - low), 0.0)
        else:
            share = (y - y_low) / (y_high - y_low)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share

    parts = [_grid_lines(y_ticks, y_at), _steps_axis(x_low, x_high, x_at)]
    parts.append(_marks([(x_at(x), word[:40]) for x, word in marks if x <= x_high]))
    for i, points in enumerate(usable.values()):
        parts.append(_path(points, i, x_at, y_at))
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(parts)}</svg>'
    return svg + _legend(usable)


def _usable(points: Sequence[Point], logarithmic: bool) -> list[Point]:
    return [
        (x, y if y is not None and math.isfinite(y) and (y > 0 or not logarithmic) else None)
        for x, y in points
    ]


def _values(points: Sequence[Point]) -> list[float]:
    return [y for _, y in points if y is not None]


def _thin(points: list[Point]) -> list[Point]:
    """Every so many points, and the last one."""
    every = -(-len(points) // _POINTS)
    return points if every <= 1 else [*points[:-1:every], points[-1]]


def _axis(low: float, high: float) -> tuple[float, float, list[float]]:
    """Round limits around the values, and round ticks between them (steps of 1, 2 or 5)."""
    if high - low < 1e-9 * max(abs(high), abs(low), 1e-9):
        low, high = low - 0.5 * max(abs(low), 1.0), high + 0.5 * max(abs(high), 1.0)
    raw = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(s * unit for s in (1, 2, 5, 10) if s * unit >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return first * step, last * step, [i * step for i in range(first, last + 1)]


def _log_axis(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Whole decades around the values, at most eight: what is lower lies on the axis."""
    last = math.ceil(math.log10(max(values)))
    first = min(max(math.floor(math.log10(min(values))), last - 8, -300), last - 1)
    every = -(-(last - first) // 5)
    ticks = [10.0**i for i in range(first, last + 1, every)]
    return 10.0**first, 10.0**last, ticks


def _grid_lines(ticks: Sequence[float], y_at: _Scale) -> str:
    lines = []
    for tick in ticks:
        y = y_at(tick)
        lines.append(f'<path class="grid-line" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        lines.append(
            f'<text class="tick" x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">'
            f"{_short(tick)}</text>"
        )
    return "".join(lines)


def _steps_axis(low: float, high: float, x_at: _Scale) -> str:
    y = _HEIGHT - _BOTTOM
    parts = [f'<path class="axis" d="M{_LEFT} {y}H{_WIDTH - _RIGHT}"/>']
    for tick in _axis(low, high)[2]:
        if low <= tick <= high:
            parts.append(
                f'<text class="tick" x="{x_at(tick):.1f}" y="{y + 18}" text-anchor="middle">'
                f"{_short(tick)}</text>"
            )
    return "".join(parts)


def _marks(marks: Sequence[tuple[float, str]]) -> str:
    """Upright lines; a word that would run into the one before goes a line lower."""
    parts, free, row = [], 0.0, 0
    for x, word in marks:
        row = row + 1 if x < free else 0
        free = x + 8 + 6.2 * len(word)  # as wide as the letters are at most, about
        y = _TOP + 10 + 14 * row
        parts.append(f'<path class="mark" d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
        parts.append(f'<text class="tick" x="{x + 4:.1f}" y="{y}">{escape(word)}</text>')
    return "".join(parts)


def _path(points: Sequence[Point], number: int, x_at: _Scale, y_at: _Scale) -> str:
    """One curve; a point without neighbours becomes a dot."""
    text, pen_up, alone = [], True, []
    for i, (x, y) in enumerate(points):
        if y is None:
            pen_up = True
            continue
        ends = i + 1 == len(points) or points[i + 1][1] is None
        if pen_up and ends:
            alone.append(f'<circle cx="{x_at(x):.1f}" cy="{y_at(y):.1f}" r="3"/>')
        text.append(f"{'M' if pen_up else 'L'}{x_at(x):.1f} {y_at(y):.1f}")
        pen_up = False
    line = f'<path class="curve" d="{"".join(text)}"/>'
    return f'<g class="curve-{number % COLOURS}">{line}{"".join(alone)}</g>'


def _legend(curves: Mapping[str, Sequence[Point]]) -> str:
    items = []
    for i, (name, points) in enumerate(curves.items()):
        items.append(
            f'<li><i class="curve-{i % COLOURS}"></i>{escape(name)} '
            f"<b>{_short(_values(points)[-1])}</b></li>"
        )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _short(value: float) -> str:
    """A number in at most a few characters."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000 or abs(value) < 1e-3:
        mantissa, _, exponent = f"{value:.3g}".partition("e")
        if exponent:
            return f"{mantissa}e{int(exponent)}"
        return f"{value:.0f}"
    return f"{value:.4g}"
