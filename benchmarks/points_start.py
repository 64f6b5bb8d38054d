"""Training from points instead of a sphere: equal quality in how many steps.

    python benchmarks/points_start.py --data DATA --out out/starts [--picture curves.png]

spot under a known light at 128 pixels. The cloud: 10,000 points on its surface, 0.25 % noise,
without normals. A start that is near its goal is left in peace by a lower rate of the geometry.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scenes import CASES, row_of, settings_of, train

from isolux.data.detect import read_asset
from isolux.geometry.mesh import face_normals

__all__ = ["RUNS"]

_SLOW = "optimize.learning_rate_geometry=0.005,0.003"
RUNS = {
    "sphere": ("geometry.init=sphere", "optimize.steps=240,200"),
    "sphere, half the steps": ("geometry.init=sphere", "optimize.steps=120,100"),
    "points, half the steps": ("geometry.init=points", "optimize.steps=120,100", _SLOW),
    "points, a third": ("geometry.init=points", "optimize.steps=80,66", _SLOW),
}
_COMMON = (
    *("data.size=128", "data.test_views=8", "data.train_views=60"),
    *("observe.validate_every=20", "observe.picture_every=0"),
)
_COLOURS = ((90, 90, 90), (190, 190, 190), (210, 70, 40), (240, 160, 60))
_WIDTH, _HEIGHT, _EDGE = 720, 400, 50


def main() -> int:
    """Train, print the table, draw the curves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the scenes")
    parser.add_argument("--out", type=Path, required=True, help="run folders go below it")
    parser.add_argument("--picture", type=Path, help="a PNG of PSNR over steps")
    args = parser.parse_args()
    case = CASES["spot"]
    cloud = args.out / "cloud.npz"
    args.out.mkdir(parents=True, exist_ok=True)
    np.savez(cloud, points=points_on(args.data / "meshes" / "spot" / "spot.obj"))
    shared = [x for x in settings_of(case, args.data, None) if "minutes" not in x]
    shared += [*_COMMON, f"data.points={cloud.absolute()}"]
    curves = {}
    head = f"{'start':24} {'steps':>6} {'PSNR':>6} {'IoU':>7} {'surface %':>9} {'minutes':>7}\n"
    sys.stdout.write(head)
    for name, own in RUNS.items():
        folder = args.out / name.replace(", ", "_").replace(" ", "_")
        row = row_of(train(case.conf, [*shared, *own], folder))
        sys.stdout.write(
            f"{name:24} {row['steps']:6.0f} {row['psnr']:6.2f} {row['iou']:7.4f} "
            f"{row['surface_percent']:9.3f} {row['minutes']:7.2f}\n"
        )
        curves[name] = curve_of(folder / "log.jsonl")
    if args.picture:
        drawn(curves).save(args.picture)
    return 0


def points_on(path: Path, count: int = 10_000, noise: float = 0.0025) -> np.ndarray:
    """Points [n, 3] evenly over a mesh, with noise in units of its longest side."""
    mesh, chance = read_asset(path).mesh, np.random.default_rng(0)
    vertices, faces = mesh.vertices.double().numpy(), mesh.faces.numpy()
    area = face_normals(mesh.vertices.double(), mesh.faces).norm(dim=-1).numpy()
    chosen = faces[chance.choice(len(area), count, p=area / area.sum())]
    weight = chance.dirichlet([1.0, 1.0, 1.0], count)
    xyz = (vertices[chosen] * weight[..., None]).sum(1)
    extent = (vertices.max(0) - vertices.min(0)).max()
    return np.asarray(xyz + noise * extent * chance.normal(size=xyz.shape))


def curve_of(log: Path) -> list[tuple[int, float]]:
    """Steps of the run, all stages, and PSNR of a few held-out views."""
    curve, before, stage, last = [], 0, "", 0
    for line in map(json.loads, log.read_text("utf-8").splitlines()):
        if line["stage"] != stage:
            before, stage = before + last, line["stage"]
        last = line["step"]
        if line["kind"] == "validation":
            curve.append((before + last, line["psnr"]))
    return curve


def drawn(curves: dict[str, list[tuple[int, float]]]) -> Image.Image:
    """PSNR over steps."""
    picture = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    pen = ImageDraw.Draw(picture)
    most = max(step for curve in curves.values() for step, _ in curve)
    low, high = 15.0, 40.0

    def place(step: float, psnr: float) -> tuple[float, float]:
        across = _EDGE + (_WIDTH - 2 * _EDGE) * step / most
        down = (_HEIGHT - 2 * _EDGE) * (psnr - low) / (high - low)
        return across, _HEIGHT - _EDGE - max(down, 0.0)

    for psnr in np.arange(low, high + 1, 5):
        pen.line([place(0, psnr), place(most, psnr)], fill=(225, 225, 225))
        pen.text((8, place(0, psnr)[1] - 6), f"{psnr:.0f} dB", fill="black")
    for step in range(0, most + 1, 100):
        pen.text((place(step, low)[0] - 8, _HEIGHT - _EDGE + 8), str(step), fill="black")
    pen.text((_WIDTH // 2 - 20, _HEIGHT - 22), "steps", fill="black")
    for number, ((name, curve), colour) in enumerate(
        zip(curves.items(), _COLOURS, strict=True)
    ):
        pen.line([place(*point) for point in curve], fill=colour, width=3)
        pen.text((_WIDTH - 220, _HEIGHT - 150 + 18 * number), name, fill=colour)
    return picture


if __name__ == "__main__":
    sys.exit(main())
