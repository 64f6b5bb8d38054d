"""An exported GLB under its probe, drawn by Mitsuba and compared with our own picture.

    python benchmarks/path_tracer.py --run out/lego [--views 2] [--samples 144]
    python benchmarks/path_tracer.py --spheres --probe studio.hdr

With `--run` the file and the probe of the run folder are read from disk. Split-sum shading
knows no shadows, not even those that a surface casts on itself under a tilted normal, and it
replaces an integral by a product. `without shadows` leaves them out of Mitsuba's picture as
well; `split sum` is our picture against the same G-buffer with the integral done in full. Our
occlusion is baked into what Mitsuba draws. All values are PSNR over 8-bit sRGB in dB, on the
run's background.
`--spheres` draws spheres of one material each, which cast no shadow on themselves.
"""

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from integrated import integrated
from mitsuba_scene import read_glb, render
from torch import Tensor

from isolux import backends
from isolux.backends import Backend
from isolux.data.assets.gltf_write import write_glb
from isolux.data.assets.hdr import load_probe
from isolux.data.assets.textures import MeshAsset, constant_textures
from isolux.data.rendered import orbit_cameras
from isolux.geometry.cameras import Cameras
from isolux.geometry.mesh import Mesh
from isolux.optimize.open import open_scene
from isolux.optimize.results import spread
from isolux.optimize.run import Run, load
from isolux.render.draw import Lens, Picture, draw
from isolux.render.gbuffer import GBuffer, Surface
from isolux.render.light import EnvironmentLight, cube_from_latlong
from isolux.render.material import MaterialSample
from isolux.render.metrics import composite, psnr

__all__ = ["compare_run", "compare_sphere", "draw_sphere", "sphere"]


_FINER = 4  # times as many pixels along each side


def compare_run(run: Run, views: int, samples: int) -> dict[str, float]:
    """Mean PSNR over some test views of a finished run."""
    data = run.conf.data
    test = open_scene(data, run.backend, run.conf.seed).test
    batch = test.batch(spread(len(test), views))
    mesh = read_glb(run.folder / "mesh" / "mesh.glb")
    probe = load_probe(run.folder / "mesh" / "probe.hdr")

    def over(rgb: Tensor, alpha: Tensor) -> Tensor:
        """Light over black on the run's background."""
        behind = composite(torch.zeros_like(rgb), torch.zeros_like(alpha), data.background)
        return rgb + (1.0 - alpha) * behind

    def traced(samples: int, depth: int = 2, shadows: bool = True) -> Tensor:
        return over(*render(mesh, probe, batch.cameras, samples, depth=depth, shadows=shadows))

    reference = composite(batch.rgb, batch.alpha, data.background)
    picture = run.render(batch.cameras)
    ours = over(picture.rgb, picture.alpha)
    full = integrated(run.backend, picture, run.scene.light, separable=True)
    fine = over(*_many_samples(run, batch.cameras))
    direct, open_, bounced = traced(samples), traced(samples, shadows=False), traced(samples, 6)
    rows = {
        "ours against the views": (ours, reference),
        f"ours, {_FINER**2} samples a pixel, against the views": (fine, reference),
        "Mitsuba without shadows against the views": (open_, reference),
        "Mitsuba against the views": (direct, reference),
        "Mitsuba with interreflection against the views": (bounced, reference),
        "ours against Mitsuba without shadows": (ours, open_),
        f"ours, {_FINER**2} samples a pixel, against Mitsuba without shadows": (fine, open_),
        "ours against Mitsuba": (ours, direct),
        "split sum (ours against the integral)": (ours, over(full, picture.alpha)),
    }
    return {name: float(psnr(*pair).mean()) for name, pair in rows.items()}


def _many_samples(run: Run, cameras: Cameras) -> tuple[Tensor, Tensor]:
    """Our picture as the mean of a finer one: what one sample a pixel leaves out."""
    size = cameras.height * _FINER, cameras.width * _FINER
    picture = run.render(cameras.resized(*size))
    rgba = torch.cat([picture.rgb, picture.alpha], dim=-1).permute(0, 3, 1, 2)
    rgba = torch.nn.functional.avg_pool2d(rgba, _FINER).permute(0, 2, 3, 1)
    return rgba[..., :3], rgba[..., 3:]


def sphere(rows: int = 48) -> Mesh:
    """A sphere of radius one with texture coordinates."""
    i, j = np.meshgrid(np.arange(rows + 1), np.arange(2 * rows + 1), indexing="ij")
    theta, phi = math.pi * i / rows, math.pi * j / rows
    round_ = np.sin(theta)
    at = np.stack([round_ * np.cos(phi), np.cos(theta), -round_ * np.sin(phi)], axis=-1)
    uvs = np.stack([j / (2 * rows), i / rows], axis=-1).reshape(-1, 2)
    a, width = i[:-1, :-1] * (2 * rows + 1) + j[:-1, :-1], 2 * rows + 1
    b, c, d = a + width, a + width + 1, a + 1
    quads = np.stack([a, b, c, a, c, d], axis=-1).reshape(-1, 3)
    vertices, index = np.unique(at.reshape(-1, 3).round(9), axis=0, return_inverse=True)
    faces = torch.from_numpy(index.reshape(-1)[quads].astype(np.int32))
    return Mesh(
        torch.from_numpy(vertices.astype(np.float32)),
        faces,
        torch.from_numpy(uvs.astype(np.float32)),
        torch.from_numpy(quads.astype(np.int32)),
    )


class _One:
    """The same material everywhere."""

    def __init__(self, asset: MeshAsset) -> None:
        assert asset.material is not None
        self._albedo, self._orm = (
            x.reshape(1, 3) for x in (asset.material.albedo, asset.material.orm)
        )

    def at(self, gbuffer: GBuffer) -> MaterialSample:
        """The material at the pixels of a G-buffer."""
        count = len(gbuffer.pixels)
        return MaterialSample(
            self._albedo.expand(count, 3).contiguous(), self._orm.expand(count, 3).contiguous()
        )


def draw_sphere(
    backend: Backend, asset: MeshAsset, light: EnvironmentLight, cameras: Cameras
) -> Picture:
    """Our own picture of an asset of one material, over black."""
    mesh = asset.mesh
    surface = Surface.of(backend, mesh.vertices, mesh.faces)
    return draw(backend, surface, _One(asset), light.maps(backend), cameras, Lens())


def orbit(count: int, size: int) -> Cameras:
    """Cameras around a unit sphere."""
    focal, middle = torch.full((count, 2), 1.25 * size), torch.full((count, 2), 0.5 * size)
    return Cameras(orbit_cameras(count, 3.0), focal, middle, size, size)


def compare_sphere(
    probe: Tensor, roughness: float, metal: float, size: int, samples: int
) -> dict[str, float]:
    """PSNR of a sphere of one material, over white."""
    backend, cameras = backends.select("auto"), orbit(1, size)
    asset = MeshAsset(
        sphere(), constant_textures((0.6, 0.4, 0.2), (0.0, roughness, metal)), "sphere"
    )
    light = EnvironmentLight(cube_from_latlong(probe, 64), learn=False)
    picture = draw_sphere(backend, asset, light, cameras)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sphere.glb")
        write_glb(path, asset)
        traced, alpha = render(read_glb(path), probe, cameras, samples)
    ours, theirs = picture.rgb + 1.0 - picture.alpha, traced + 1.0 - alpha
    rows = {"ours against Mitsuba": (ours, theirs)}
    for name, separable in (("correlated", False), ("separable", True)):
        full = integrated(backend, picture, light, separable=separable)
        rows[f"integral ({name} Smith) against Mitsuba"] = (
            full + 1.0 - picture.alpha,
            theirs,
        )
        if not separable:
            rows["ours against the integral"] = (ours, full + 1.0 - picture.alpha)
    return {name: float(psnr(a, b).mean()) for name, (a, b) in rows.items()}


def main() -> None:
    """Print one table as markdown, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", type=Path, metavar="DIR", help="a finished run")
    what.add_argument("--spheres", action="store_true", help="spheres of one material")
    parser.add_argument("--probe", type=Path, help="of the spheres, lat-long .hdr or .exr")
    parser.add_argument("--views", type=int, default=2, help="of the run")
    parser.add_argument("--size", type=int, default=96, help="of the spheres' pictures, pixels")
    parser.add_argument("--samples", type=int, default=144, help="of Mitsuba, a pixel")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    tables: dict[str, dict[str, float]] = {}
    if args.run:
        run = load(args.run)
        tables[str(args.run)] = compare_run(run, args.views, args.samples)
    else:
        if args.probe is None:
            parser.error("--spheres needs --probe")
        probe = load_probe(args.probe)
        step = max(1, probe.shape[0] // 128)  # a cube map of 64 texels holds no more
        probe = torch.nn.functional.avg_pool2d(probe.permute(2, 0, 1)[None], step)
        probe = probe[0].permute(1, 2, 0).contiguous()
        for metal in (0.0, 1.0):
            for roughness in (0.1, 0.25, 0.5, 0.75, 1.0):
                name = f"roughness {roughness:g}, {'metal' if metal else 'dielectric'}"
                tables[name] = compare_sphere(probe, roughness, metal, args.size, args.samples)
    if args.json:
        sys.stdout.write(json.dumps(tables, indent=2) + "\n")
        return
    for name, rows in tables.items():
        sys.stdout.write(f"\n**{name}**\n\n| compared | dB |\n| --- | --- |\n")
        for row, value in rows.items():
            sys.stdout.write(f"| {row} | {value:.2f} |\n")


if __name__ == "__main__":
    main()
