"""Tables of points.py: a row for each cloud and depth, ours beside the peer, and ratios."""

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["markdown", "pairs", "summary", "text"]

Row = Mapping[str, Any]
# A column's heading, what it is of a row, and how it is written.
_SHOWN = (
    ("cd", "cd", "{:.6f}"),
    ("acc", "acc", "{:.6f}"),
    ("compl", "compl", "{:.6f}"),
    ("haus.", "hausdorff", "{:.5f}"),
    ("nc", "nc", "{:.4f}"),
    ("F.001", "f_0.001", "{:.3f}"),
    ("F.0005", "f_0.0005", "{:.3f}"),
    ("held-out median", "held_median", "{:.6f}"),
    ("held-out 95 %", "held_95", "{:.6f}"),
    ("range median", "range_median", "{:.6g}"),
    ("range 80 %", "range_80", "{:.6g}"),
    ("covered", "covered", "{:.3f}"),
    ("excess 95 %", "excess_95", "{:.6f}"),
    ("user s", "user_s", "{:.2f}"),
    ("wall s", "wall_s", "{:.2f}"),
    ("MB", "megabytes", "{:.0f}"),
    ("faces", "faces", "{:d}"),
    ("parts", "components", "{:d}"),
    ("open", "boundary_edges", "{:d}"),
)
_RATIOS = (
    *("cd", "hausdorff", "normals", "user_s", "megabytes"),
    *("held_median", "held_95", "range_median", "range_80"),
)
_NOISY = 0.75  # a ratio to reach on noisy clouds; 1 on clean ones


def full(row: Row) -> dict[str, Any]:
    """A row with sums: seconds of fit and mesh, memory in 10^6 bytes, error of normals."""
    added: dict[str, Any] = dict(row)
    for kind in ("user", "wall"):
        parts = [row[k] for k in (f"fit_{kind}_s", f"mesh_{kind}_s") if k in row]
        if parts:
            added[f"{kind}_s"] = sum(parts)
    if "peak_rss_bytes" in row:
        added["megabytes"] = row["peak_rss_bytes"] / 1e6
    if "nc" in row:
        added["normals"] = 1.0 - row["nc"]
    return added


def pairs(found: Mapping[str, Row]) -> Iterator[tuple[str, dict[str, float]]]:
    """Ours over the peer's, by cell of ours. An automatic size meets the best peer's depth."""
    for key, row in found.items():
        cloud, _, system = key.rpartition("/")
        if system.startswith("open3d") or "failed" in row:
            continue
        peers = [
            full(found[other])
            for other in found
            if other.rpartition("/")[0] == cloud
            and other.rpartition("/")[2].startswith("open3d")
            and "failed" not in found[other]
            and _same_depth(system, other.rpartition("/")[2])
        ]
        if peers:
            best = min(peers, key=lambda peer: peer.get("cd", peer.get("held_median", 0.0)))
            ours = full(row)
            yield (
                key,
                {n: _over(ours[n], best[n]) for n in _RATIOS if n in ours and n in best},
            )


def _over(ours: float, peer: float) -> float:
    return ours / peer if peer > 0 else float("inf")


def _same_depth(ours: str, peer: str) -> bool:
    depth = ours.rpartition(" ")[2]
    return not depth.startswith("d") or depth == peer.rpartition(" ")[2]


def summary(found: Mapping[str, Row]) -> list[str]:
    """For each of our systems: in how many cells it reaches the figures."""
    lines = []
    by_system: dict[str, list[tuple[str, dict[str, float]]]] = {}
    for key, ratios in pairs(found):
        by_system.setdefault(key.rpartition("/")[2], []).append((key, ratios))
    for system, cells in sorted(by_system.items()):
        for measured in _RATIOS:
            known = [(key, ratios[measured]) for key, ratios in cells if measured in ratios]
            if not known:
                continue
            clean = [ratio for key, ratio in known if "/0%/" in key or "%" not in key]
            noisy = [ratio for key, ratio in known if "/0%/" not in key and "%" in key]
            worst, where = max((ratio, key) for key, ratio in known)
            bound = {"user_s": 4.0, "megabytes": 2.0}.get(measured)
            met = [
                f"{sum(r <= (bound or limit) for r in part)} of {len(part)} {name}"
                for name, part, limit in (("clean", clean, 1.0), ("noisy", noisy, _NOISY))
                if part
            ]
            lines.append(
                f"{system}, {measured}: within figures in {', '.join(met)}; "
                f"worst {worst:.2f} at {where}"
            )
    return lines


def _rows(found: Mapping[str, Row]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells. A column that is empty is left out."""
    complete = {key: full(row) for key, row in found.items()}
    shown = [c for c in _SHOWN if any(c[1] in row for row in complete.values())]
    ratios = dict(pairs(found))
    compared = [n for n in _RATIOS if any(n in r for r in ratios.values())]
    headings = [
        "cloud",
        "system",
        "note",
        *(c[0] for c in shown),
        *(f"x {n}" for n in compared),
    ]
    lines = []
    for key, row in complete.items():
        cloud, _, system = key.rpartition("/")
        if "failed" in row:
            lines.append([cloud, system, f"failed: {row['failed']}"[:60]])
            continue
        cells = [form.format(row[name]) if name in row else "" for _, name, form in shown]
        own = ratios.get(key, {})
        cells += [f"{own[name]:.2f}" if name in own else "" for name in compared]
        lines.append([cloud, system, "", *cells])
    lines = [line + [""] * (len(headings) - len(line)) for line in lines]
    kept = [i for i in range(len(headings)) if i < 2 or any(line[i] for line in lines)]
    return [headings[i] for i in kept], [[line[i] for i in kept] for line in lines]


def markdown(found: Mapping[str, Row]) -> str:
    """The table, then the summary. `x` columns are ours over the peer's."""
    headings, lines = _rows(found)
    table = ["| " + " | ".join(line) + " |" for line in (headings, *lines)]
    table.insert(1, "|" + " --- |" * len(headings))
    return "\n".join([*table, "", *(f"- {line}" for line in summary(found))])


def text(found: Mapping[str, Row]) -> str:
    """The same in columns."""
    headings, lines = _rows(found)
    widths = [max(len(line[i]) for line in (headings, *lines)) for i in range(len(headings))]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (headings, *lines)
    ]
    return "\n".join([*table, "", *summary(found)])
