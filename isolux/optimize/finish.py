"""The end of a run: assets written, metrics taken, pictures drawn, report made."""

import logging
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

import isolux
from isolux.backends import Backend
from isolux.confs.schema import RunConf
from isolux.data.assets.gltf import write_glb
from isolux.data.assets.hdr import write_hdr
from isolux.data.assets.obj import write_obj
from isolux.data.assets.ply import write_ply
from isolux.data.assets.textures import MeshAsset, TextureSet
from isolux.geometry.distance import surface_metrics
from isolux.geometry.statistics import mesh_statistics
from isolux.optimize.comparison import comparison
from isolux.optimize.files import RunFolder, write_json
from isolux.optimize.open import Scene
from isolux.optimize.report import write_report
from isolux.optimize.results import draw_view, view_metrics
from isolux.optimize.run import Run
from isolux.optimize.scene import MeshScene
from isolux.render.bake import dilate, texel_positions
from isolux.render.light import latlong_from_cube
from isolux.render.picture import write_png

__all__ = ["asset_of", "finish", "metrics_of", "write_assets"]

_TRAIN_VIEWS = 8  # on which the training figures are taken
_PICTURES = 4  # comparison rows
_log = logging.getLogger(__name__)


def finish(run: Run, scene: Scene, spent: dict[str, float], seconds: Callable[[], float]) -> Run:
    """Write everything that the run folder promises, and give the run with its metrics.

    Args:
        run: without metrics yet.
        scene: the views, and the truth where it is known.
        spent: `steps` made and seconds in the loop (`optimize`).
        seconds: that the command has taken so far, over all sessions.
    """
    folder = RunFolder(run.folder)
    write_assets(run, folder.mesh)
    metrics = metrics_of(run, scene)
    pictures = _pictures(run, scene)
    for name, picture in pictures.items():
        write_png(folder.images / f"{name}.png", picture)
    metrics["time_s"] = {"total": seconds()} | spent
    metrics["peak_rss_bytes"] = _peak_memory()
    write_json(folder.metrics, metrics)
    write_report(folder)
    return Run(run.folder, run.conf, run.backend, run.scene, metrics)


@torch.no_grad()
def asset_of(backend: Backend, scene: MeshScene, name: str) -> MeshAsset:
    """The mesh with its textures as files hold them; texels outside the charts are filled."""
    geometry, material = scene.geometry, scene.material
    size = material.texels.shape[0]
    texels, _ = texel_positions(
        backend, geometry.vertices, geometry.faces, geometry.uvs, geometry.uv_faces, size
    )
    covered = torch.zeros(size * size, dtype=torch.bool)
    covered[texels] = True
    channels = dilate(material.texels.detach(), covered.reshape(size, size))
    normal = None
    if material.normal_map:
        tilted = torch.cat([channels[..., 6:8], channels[..., 8:9].clamp(min=1e-3)], dim=-1)
        normal = torch.nn.functional.normalize(tilted, dim=-1)
    textures = TextureSet(channels[..., :3], channels[..., 3:6], normal)
    return MeshAsset(geometry.mesh(), textures, name)


def write_assets(run: Run, folder: Path) -> None:
    """mesh.obj with its MTL and textures, mesh.glb, and probe.hdr."""
    asset = asset_of(run.backend, run.scene, "mesh")
    write_obj(folder / "mesh.obj", asset)
    write_glb(folder / "mesh.glb", asset)
    write_hdr(folder / "probe.hdr", run.light)


def export(run: Run, path: Path, kind: str) -> None:
    """Write one asset of a run.

    Raises:
        ValueError: for a format other than glb, obj and ply.
    """
    writers = {"glb": write_glb, "obj": write_obj, "ply": write_ply}
    if kind not in writers:
        raise ValueError(f"format must be one of {', '.join(writers)}, got {kind!r}")
    writers[kind](path, asset_of(run.backend, run.scene, path.stem))


def metrics_of(run: Run, scene: Scene) -> dict[str, Any]:
    """What `metrics.json` holds, but for time and memory."""
    conf, mesh = run.conf, run.mesh
    metrics: dict[str, Any] = {
        "scene": str(conf.data.path or scene.kind),
        "conf": run.folder.name,
        "backend": run.backend.name,
        "seed": conf.seed,
        "version": isolux.__version__,
    }
    for name, views in (("test", scene.test), ("train", scene.train)):
        count = len(views) if name == "test" else _TRAIN_VIEWS
        metrics[name], _ = view_metrics(
            run.backend, run.scene, views, run.lens, conf.data.background, count
        )
        metrics[name]["background"] = conf.data.background
    if scene.reference is not None:
        metrics["surface"] = surface_metrics(mesh, scene.reference.mesh)
    metrics["mesh"] = mesh_statistics(mesh)
    return metrics


def _pictures(run: Run, scene: Scene) -> dict[str, UInt8[Tensor, "h w 3"]]:
    """Comparison rows of held-out views, and the light."""
    views = scene.test
    count = min(_PICTURES, len(views))
    chosen = [round(i * (len(views) - 1) / max(count - 1, 1)) for i in range(count)]
    pictures = {}
    for index in chosen:
        drawn = draw_view(
            run.backend, run.scene, views, run.lens, run.conf.data.background, index
        )
        pictures[f"compare_{drawn.name}"] = comparison(drawn, run.light)
    return pictures


def _peak_memory() -> int:
    """Bytes that the process has held at most."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def probe_picture(run: Run) -> Tensor:
    """The light as a lat-long map."""
    return latlong_from_cube(run.backend, [run.scene.light.base], 128, 256)
