"""Surfaces that vanish come back, the same way in a run that was interrupted."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import isolux
from isolux.confs.schema import RunConf
from isolux.data.blender import nerf_synthetic_views
from isolux.geometry.sdf_grid import SdfGrid
from isolux.optimize import drive
from isolux.optimize.build import build
from isolux.optimize.rescue import Rescue
from isolux.optimize.scene import TopologyScene
from isolux.optimize.stages import Rates, Recipe, optimizer_for, topology_scene
from isolux.render.draw import Lens

STEPS = "optimize.steps=8,4"


def empty(scene: TopologyScene) -> None:
    """One sign everywhere, at once."""
    with torch.no_grad():
        if isinstance(scene.geometry, SdfGrid):
            scene.geometry.sdf.fill_(1.0)
        else:
            assert scene.geometry.network.biases is not None
            scene.geometry.network.biases[-1].fill_(9.0)


@pytest.fixture
def emptied(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs from here on lose their surface before the given steps of the topology stage."""
    original = drive._Objective.__call__

    def emptied(*steps: int, stop_at: int = -1) -> None:
        def spoiled(
            objective: drive._Objective, step: int, progress: float
        ) -> dict[str, torch.Tensor]:
            if isinstance(objective.scene, TopologyScene):
                if step in steps:
                    empty(objective.scene)
                if step == stop_at:
                    signal.raise_signal(signal.SIGINT)
            return original(objective, step, progress)

        monkeypatch.setattr(drive._Objective, "__call__", spoiled)

    return emptied


@pytest.fixture
def recipe(scene_folder: Path) -> Recipe:
    """Of a small run on the scene's folder."""
    data = {"path": scene_folder, "size": 32, "train_views": 3}
    material = {"levels": 2, "log2_rows": 8, "finest": 16, "width": 4}
    conf = RunConf.model_validate(
        {"data": data, "material": material, "threads": 1, "light": {"resolution": 16}}
    )
    return build(conf).recipe


@pytest.mark.parametrize(
    "kind", ["geometry.extractor=tets", "geometry.extractor=flexicubes", "geometry.sdf=network"]
)
def test_an_emptied_field_ends_as_a_surface(
    kind: str,
    tmp_path: Path,
    scene_folder: Path,
    isolux_train: Callable[..., int],
    emptied: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    emptied(3)
    out, scene = tmp_path / "run", f"data.path={scene_folder}"
    assert isolux_train("nerf_synthetic", out, scene, kind, STEPS) == 0
    assert [line for line in caplog.messages if "begins again as the run's own start" in line]
    assert json.loads((out / "metrics.json").read_text())["test"]["silhouette_iou"] > 0.5


@pytest.mark.parametrize("stop_at", [2, 3, 4, 6])
def test_interrupted_around_the_event(
    stop_at: int,
    tmp_path: Path,
    scene_folder: Path,
    isolux_train: Callable[..., int],
    emptied: Callable[..., None],
) -> None:
    """Gone before steps 3 and 5; a checkpoint before, between or after, then the rest."""
    whole, out, scene = tmp_path / "whole", tmp_path / "run", f"data.path={scene_folder}"
    emptied(3, 5)
    assert isolux_train("nerf_synthetic", whole, scene, STEPS) == 0
    emptied(3, 5, stop_at=stop_at)
    assert isolux_train("nerf_synthetic", out, scene, STEPS) == 130
    emptied(3, 5)
    assert isolux_train("nerf_synthetic", out, scene, STEPS, "--resume") == 0
    for name in ("mesh.glb", "texture_kd.png", "probe.hdr"):
        assert (out / "mesh" / name).read_bytes() == (whole / "mesh" / name).read_bytes()
    run = isolux.load(out)
    assert len(run.mesh.faces) > 100


def test_it_is_tried_a_few_times_only(
    tmp_path: Path,
    scene_folder: Path,
    isolux_train: Callable[..., int],
    emptied: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Counted over all sessions of a run."""
    out, scene = tmp_path / "run", f"data.path={scene_folder}"
    emptied(*range(8), stop_at=2)
    assert isolux_train("nerf_synthetic", out, scene, STEPS) == 130
    emptied(*range(8))
    assert isolux_train("nerf_synthetic", out, scene, STEPS, "--resume") == 0
    told = [line for line in caplog.messages if "begins again" in line]
    assert [line.partition("(")[2][:1] for line in told] == ["1", "2", "3"]
    assert ["own start" in line for line in told] == [True, False, False]
    assert json.loads((out / "metrics.json").read_text())["mesh"]["triangles"] == 0


@pytest.mark.parametrize("steps", ["0,2", "4,2"])
def test_a_start_without_a_surface(
    steps: str,
    tmp_path: Path,
    scene_folder: Path,
    isolux_train: Callable[..., int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A mesh that lies beside the grid: one warning, and a sphere."""
    far = tmp_path / "far.obj"
    far.write_text(
        "v 50 0 0\nv 51 0 0\nv 50 1 0\nv 50 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
    )
    more = (f"data.path={scene_folder}", f"geometry.init={far}", f"optimize.steps={steps}")
    assert isolux_train("nerf_synthetic", tmp_path / "run", *more) == 0
    told = [line for line in caplog.messages if "surface is empty" in line]
    assert len(told) == 1
    assert "geometry.init" in told[0]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test"]["silhouette_iou"] > 0.3


def test_out_of_sight(recipe: Recipe, scene_folder: Path) -> None:
    """A surface that all cameras look past is gone; one that any of them sees is not."""
    scene = topology_scene(recipe, 12)
    views = nerf_synthetic_views(scene_folder, "train", 32, 3)
    rescue = Rescue(recipe, views, Lens())
    assert not rescue(scene, 12)
    start = scene.geometry.sdf.detach().clone()
    with torch.no_grad():
        scene.geometry.centre.add_(100.0)
    assert rescue(scene, 12)
    assert rescue.done == 1
    assert torch.equal(scene.geometry.sdf, start)
    assert not rescue(scene, 12)


def test_moments_of_the_surface_are_forgotten(recipe: Recipe, scene_folder: Path) -> None:
    scene = topology_scene(recipe, 12)
    optimizer = optimizer_for(scene, Rates(0.1, 0.1, 0.1))
    for parameter in scene.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    empty(scene)
    views = nerf_synthetic_views(scene_folder, "train", 32, 3)
    assert Rescue(recipe, views, Lens())(scene, 12, optimizer)
    assert not any(p in optimizer.state for p in scene.geometry.parameters())
    assert all(p in optimizer.state for p in scene.material.parameters())
