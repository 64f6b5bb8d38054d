"""Which extractor and which start: the same scenes at the same number of steps.

    python benchmarks/choices.py --data DATA --out out/choices [--steps 200] [lego spot]

Marching tetrahedra against FlexiCubes, and a start from the visual hull against one from a
sphere, on each scene. Equal steps, not equal time: processor seconds stand beside.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from scenes import CASES, markdown, row_of, settings_of, train

__all__ = ["CHOICES"]

CHOICES = [
    (extractor, start) for extractor in ("tets", "flexicubes") for start in ("hull", "sphere")
]
_COLUMNS = ("psnr", "iou", "surface_percent", "triangles", "cpu_s", "minutes", "memory_gib")


def main() -> int:
    """Run the grid of choices and print the table; 1 when one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="cases of scenes.py; lego and spot if none")
    parser.add_argument("--data", type=Path, required=True, help="folder of the scenes")
    parser.add_argument("--out", type=Path, required=True, help="run folders go below it")
    parser.add_argument("--steps", type=int, default=200, help="of each of the two stages")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    names = args.names or ["lego", "spot"]
    if unknown := [name for name in names if name not in CASES]:
        parser.error(f"no case '{unknown[0]}'; there are {', '.join(CASES)}")
    rows: dict[str, dict[str, Any]] = {}
    failed = 0
    for name in names:
        for extractor, start in CHOICES:
            label = f"{name}, {extractor}, {start}"
            sys.stderr.write(f"{label} ...\n")
            settings = [
                s for s in settings_of(CASES[name], args.data, None) if "minutes" not in s
            ]
            settings += [
                f"optimize.steps={args.steps}",
                f"geometry.extractor={extractor}",
                f"geometry.init={start}",
                f"seed={args.seed}",
            ]
            out = args.out / f"{name}_{extractor}_{start}_{args.steps}_{args.seed}"
            try:
                row = row_of(train(CASES[name].conf, settings, out))
                rows[label] = {key: row[key] for key in _COLUMNS if key in row}
            except RuntimeError as error:
                rows[label] = {"failed": str(error)}
                failed = 1
            args.out.mkdir(parents=True, exist_ok=True)
            (args.out / "choices.json").write_text(json.dumps(rows, indent=2), "utf-8")
    sys.stdout.write(markdown(rows) + "\n")
    return failed


if __name__ == "__main__":
    sys.exit(main())
