"""The picture of the guide: clouds, and the surfaces through them, clean and noisy.

    python benchmarks/points_gallery.py docs/pictures/points.png [--size 260]

All of it by formula. Surfaces are those of `isolux points` with nothing set.
"""

import argparse
from pathlib import Path

import torch
from points_clouds import Sampling, cloud_of
from points_pictures import Eye, shaded, splatted
from points_shapes import load
from torch import Tensor

from isolux.geometry.points.hierarchy import fit_hierarchy
from isolux.render.picture import Panel, grid, write_png

__all__ = ["ROWS", "row"]

_FINER = 2  # pixels of the drawing along one of the picture
_FRONT = Eye((0.75, 0.65, 1.35), focal=1.42)
_SIDE = Eye((1.25, 0.45, 1.05), focal=1.42)
ROWS = (
    (("knot", Sampling(3_000), _FRONT), ("gear", Sampling(10_000), _SIDE)),
    (("rings", Sampling(10_000, 1.0), _FRONT), ("ripples", Sampling(100_000, 0.5), _FRONT)),
)


def row(name: str, sampling: Sampling, eye: Eye, size: int) -> list[Panel]:
    """A cloud and its surface, `size` pixels each."""
    cloud = cloud_of(load(name, None), sampling)
    assert cloud.normals is not None
    mesh = fit_hierarchy(cloud).extract_mesh()
    fine = Eye(eye.place, eye.target, eye.up, eye.focal, size=_FINER * size)
    noise = f", {sampling.noise:g} % noise" if sampling.noise else ""
    label = f"{sampling.points:,} points{noise}"
    radius = 2 if sampling.points <= 10_000 else 1
    return [
        Panel(label, _halved(splatted(cloud.xyz, cloud.normals, fine, radius))),
        Panel("", _halved(shaded(mesh, fine))),
    ]


def _halved(picture: Tensor) -> Tensor:
    """Means over `_FINER` x `_FINER` pixels."""
    pooled = torch.nn.functional.avg_pool2d(picture.permute(2, 0, 1).float(), _FINER)
    return pooled.permute(1, 2, 0).round().to(torch.uint8)


def main() -> None:
    """Fit, draw, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("picture", type=Path)
    parser.add_argument("--size", type=int, default=260, help="pixels of a panel")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [[panel for cell in cells for panel in row(*cell, options.size)] for cells in ROWS]
    write_png(options.picture, grid(rows))


if __name__ == "__main__":
    main()
