"""Train known scenes through `isolux train` and compare their metrics with the figures.

    python benchmarks/scenes.py --data DATA --out out/scenes [lego spot demo ...]
    python benchmarks/scenes.py --data DATA --out out/scenes --minutes 1 lego

DATA holds nerf_synthetic/{lego_400,chair_800}, meshes/{spot,bob,WaterBottle_1024,Suzanne} and
envmaps/*.hdr. Each case runs in a process of its own; one that is in `--out` with the same
budget already is read, not run again. The table goes to the output and, as JSON, to
OUT/scenes.json.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["CASES", "Case", "judged", "markdown", "row_of", "train"]

_PERCENT_OF_DIAGONAL = ("to_reference_mean", "from_reference_mean")


@dataclass(frozen=True)
class Case:
    """One training, and the figures it is to reach."""

    conf: str
    minutes: float | None  # none goes by the steps of the preset
    settings: tuple[str, ...] = ()
    at_least: Mapping[str, float] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)


def _known_light(mesh: str, probe: str, scale: float = 1.0) -> tuple[str, ...]:
    return (
        f"data.path={{data}}/meshes/{mesh}",
        f"data.envmap={{data}}/envmaps/{probe}.hdr",
        f"data.envmap_scale={scale:g}",
        f"light.envmap={{data}}/envmaps/{probe}.hdr",
        f"light.scale={scale:g}",
        "light.learn=false",
        "data.kind=mesh",
        "data.size=256",
    )


_LEGO = ("data.path={data}/nerf_synthetic/lego_400", "data.size=200")
_SURFACE = {"psnr": 33.0}, {"surface_percent": 0.3, "memory_gib": 2.5}
CASES: dict[str, Case] = {
    "lego": Case("nerf_synthetic", 10, _LEGO, {"psnr": 26.5, "iou": 0.983}, {"minutes": 10.0}),
    "lego_30": Case("nerf_synthetic", 30, _LEGO, {"psnr": 27.5}, {"minutes": 30.0}),
    "chair": Case(
        "nerf_synthetic", 10, ("data.path={data}/nerf_synthetic/chair_800", "data.size=200")
    ),
    "spot": Case("spot", 15, _known_light("spot/spot.obj", "kiara_1_dawn_1k"), *_SURFACE),
    "bob": Case("bob", 15, _known_light("bob/bob_tri.obj", "venice_sunset_1k"), *_SURFACE),
    "WaterBottle": Case(
        "spot",
        15,
        (
            *_known_light("WaterBottle_1024", "studio_small_03_1k"),
            "data.camera_distance=0.42",  # it is 26 cm high
            "data.camera_jitter=0.02",
            "data.near=0.02",
            "losses.smooth_sdf=300",  # metal: highlights crumple a surface that is free
        ),
    ),
    "Suzanne": Case(
        "spot",
        15,
        (
            *_known_light("Suzanne", "empty_warehouse_01_1k"),
            "data.camera_distance=4.2",
        ),
    ),
    "demo": Case("demo", None, (), {"psnr": 30.0}, {"surface_percent": 0.5, "minutes": 3.0}),
}


def settings_of(case: Case, data: Path | None, minutes: float | None) -> list[str]:
    """The `key=value` of a case.

    Raises:
        ValueError: when it needs the data folder and there is none.
    """
    texts = list(case.settings)
    if any("{data}" in text for text in texts) and data is None:
        raise ValueError("this case needs --data")
    budget = minutes if minutes is not None else case.minutes
    if budget is not None:
        texts.append(f"optimize.minutes={budget:g}")
    return [text.replace("{data}", str(data)) for text in texts]


def train(conf: str, settings: Sequence[str], out: Path) -> dict[str, Any]:
    """Train in a process of its own, unless the folder holds that very run already.

    Returns:
        What metrics.json says, with the processor seconds of all processes as `cpu_s` when
        it was run now.

    Raises:
        RuntimeError: with the last line of what the command said.
    """
    asked, metrics = out / "asked.json", out / "metrics.json"
    if metrics.is_file() and asked.is_file():
        stored = json.loads(asked.read_text("utf-8"))
        if stored["settings"] == [conf, *settings]:
            return json.loads(metrics.read_text("utf-8")) | {"cpu_s": stored.get("cpu_s")}
        raise RuntimeError(f"{out}: holds a run with other settings; name another --out")
    command = [sys.executable, "-m", "isolux", "train", "--conf", conf, *settings, f"out={out}"]
    before = _children_seconds()
    answer = subprocess.run(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                            text=True, check=False)  # fmt: skip
    if answer.returncode:
        said = answer.stderr.strip().splitlines() or ["no word"]
        raise RuntimeError(f"exit code {answer.returncode}: {said[-1]}")
    spent = _children_seconds() - before
    asked.write_text(json.dumps({"settings": [conf, *settings], "cpu_s": spent}), "utf-8")
    return json.loads(metrics.read_text("utf-8")) | {"cpu_s": spent}


def _children_seconds() -> float:
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def row_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a table's row; those that do not apply are absent."""
    test, row = metrics.get("test", {}), {}
    for name, key in (("psnr", "psnr"), ("ssim", "ssim"), ("iou", "silhouette_iou")):
        if key in test:
            row[name] = test[key]
    surface = metrics.get("surface", {})
    if surface.get("reference_diagonal"):
        means = [surface[key] for key in _PERCENT_OF_DIAGONAL]
        row["surface_percent"] = 100.0 * max(means) / surface["reference_diagonal"]
        row["f_score"] = surface["f_score"]
        row["normals"] = surface["normal_consistency"]
    row["triangles"] = metrics["mesh"]["triangles"]
    row["minutes"] = metrics["time_s"]["total"] / 60.0
    row["steps"] = metrics["time_s"]["steps"]
    if metrics.get("cpu_s") is not None:
        row["cpu_s"] = metrics["cpu_s"]
    row["memory_gib"] = metrics["peak_rss_bytes"] / 2**30
    return row


def judged(case: Case, row: Mapping[str, float]) -> list[str]:
    """What misses its figure, in words; nothing when all are reached."""
    missed = []
    for sign, bounds in ((1, case.at_least), (-1, case.at_most)):
        for name, bound in bounds.items():
            if name not in row or sign * row[name] < sign * bound:
                found = f"{row[name]:.3f}" if name in row else "absent"
                missed.append(f"{name} {found}, {'>=' if sign > 0 else '<='} {bound:g} wanted")
    return missed


def markdown(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The rows as a table; a column that no row has is left out."""
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    lines = ["| scene | " + " | ".join(columns) + " |", "|" + " --- |" * (len(columns) + 1)]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(_text(row.get(key)) for key in columns) + " |")
    return "\n".join(lines)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if value == round(value) or abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.4f}"


def main() -> int:
    """Run the cases and print the table; 1 when a case failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--data", type=Path, help="folder of the scenes")
    parser.add_argument("--out", type=Path, required=True, help="run folders go below it")
    parser.add_argument("--minutes", type=float, help="instead of each case's own budget")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in CASES]:
        parser.error(f"no case '{unknown[0]}'; there are {', '.join(CASES)}")
    rows: dict[str, dict[str, Any]] = {}
    failed = 0
    for name in args.names or CASES:
        case = CASES[name]
        sys.stderr.write(f"{name} ...\n")
        try:
            settings = settings_of(case, args.data, args.minutes)
            row = row_of(train(case.conf, settings, args.out / name))
            missed = judged(case, row)
            verdict = "; ".join(missed) or ("met" if case.at_least or case.at_most else "")
            rows[name] = row | {"figure": verdict}
        except (RuntimeError, ValueError) as error:
            rows[name] = {"figure": f"failed: {error}"}
            failed = 1
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "scenes.json").write_text(json.dumps(rows, indent=2), "utf-8")
    sys.stdout.write(markdown(rows) + "\n")
    return failed


if __name__ == "__main__":
    sys.exit(main())
