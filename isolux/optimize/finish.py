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
from isolux.data.assets.gltf_write import write_glb
from isolux.data.assets.hdr import write_hdr
from isolux.data.assets.obj_write import write_obj
from isolux.data.assets.ply import write_ply
from isolux.data.assets.textures import MeshAsset, TextureSet
from isolux.data.transforms import write_transforms
from isolux.geometry.distance import surface_metrics
from isolux.geometry.statistics import mesh_statistics
from isolux.optimize.comparison import comparison_row
from isolux.optimize.files import RunFolder, write_json
from isolux.optimize.open import Scene
from isolux.optimize.report import write_report
from isolux.optimize.results import compared, spread, view_metrics
from isolux.optimize.run import Run
from isolux.optimize.scene import MeshScene
from isolux.render.bake import dilate, texel_positions
from isolux.render.picture import write_png

__all__ = ["asset_of", "comparisons", "export", "finish", "metrics_of", "write_assets"]

_TRAIN_VIEWS = 8  # on which the training figures are taken
_PICTURES = 4  # comparison rows
_CAMERAS = 1000  # in a file: of a mesh drawn on the fly there is no end
_log = logging.getLogger(__name__)


def finish(
    run: Run, scene: Scene, spent: dict[str, float], seconds: Callable[[], float]
) -> Run:
    """Write everything that the run folder promises, and give the run with its metrics.

    Args:
        run: without metrics yet.
        scene: the views, and the truth where it is known.
        spent: `steps` made and seconds in the loop (`optimize`).
        seconds: that the command has taken so far, over all sessions.
    """
    folder = RunFolder(run.folder)
    write_assets(run, folder.mesh)
    write_cameras(scene, folder.cameras)
    metrics = metrics_of(run, scene)
    for name, picture in comparisons(run, scene).items():
        write_png(folder.images / f"compare_{name}.png", picture)
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
    covered[texels.cpu()] = True
    channels = dilate(material.texels.detach().cpu(), covered.reshape(size, size))
    normal = None
    if material.normal_map:
        tilted = torch.cat([channels[..., 6:8], channels[..., 8:9].clamp(min=1e-3)], dim=-1)
        normal = torch.nn.functional.normalize(tilted, dim=-1)
    textures = TextureSet(channels[..., :3], channels[..., 3:6], normal)
    return MeshAsset(geometry.mesh().to("cpu"), textures, name)


def write_assets(run: Run, folder: Path) -> None:
    """mesh.obj with its MTL and textures, mesh.glb, and probe.hdr."""
    asset = asset_of(run.backend, run.scene, "mesh")
    write_obj(folder / "mesh.obj", asset)
    write_glb(folder / "mesh.glb", asset)
    write_hdr(folder / "probe.hdr", run.light)


def write_cameras(scene: Scene, folder: Path) -> None:
    """transforms.json of the views to train on, and transforms_test.json."""
    for name, views in (("transforms", scene.train), ("transforms_test", scene.test)):
        chosen = spread(len(views), _CAMERAS)
        names, files = views.names, views.files
        write_transforms(
            folder / f"{name}.json",
            views.cameras[chosen],
            [names[i] for i in chosen],
            None if files is None else [files[i] for i in chosen],
        )


def export(run: Run, path: Path, kind: str) -> None:
    """Write one asset of a run.

    Raises:
        ValueError: for a format other than glb, obj and ply.
    """
    asset = asset_of(run.backend, run.scene, path.stem)
    if kind == "glb":
        write_glb(path, asset)
    elif kind == "obj":
        write_obj(path, asset)
    elif kind == "ply":
        write_ply(path, asset.mesh)
    else:
        raise ValueError(f"format must be glb, obj or ply, got {kind!r}")


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
    for name, views, most in (("test", scene.test, None), ("train", scene.train, _TRAIN_VIEWS)):
        chosen = spread(len(views), most or len(views))
        background = conf.data.background
        metrics[name] = view_metrics(
            run.backend, run.scene, views, chosen, run.lens, background
        ) | {"background": background}
    if scene.reference is not None and len(mesh.faces):  # no distances from nothing
        metrics["surface"] = surface_metrics(mesh, scene.reference.mesh)
    metrics["mesh"] = mesh_statistics(mesh)
    return metrics


def comparisons(run: Run, scene: Scene) -> dict[str, UInt8[Tensor, "h w 3"]]:
    """Rows of panels for a few held-out views, by name of the view."""
    pictures = {}
    for index in spread(len(scene.test), _PICTURES):
        view = compared(
            run.backend, run.scene, scene.test, index, run.lens, run.conf.data.background
        )
        pictures[view.name] = comparison_row(view, run.light)
    return pictures


def _peak_memory() -> int:
    """Bytes that the process has held at most."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
