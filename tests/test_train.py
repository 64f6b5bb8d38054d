"""From images to a mesh as a person does it: train, eval, export, load."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import isolux
from isolux.cli import main
from isolux.data.assets.hdr import load_probe
from isolux.data.blender import nerf_synthetic_views
from isolux.data.detect import read_asset
from isolux.optimize import build
from isolux.optimize.log import read_log


@pytest.fixture(scope="module")
def run_folder(
    tmp_path_factory: pytest.TempPathFactory,
    scene_folder: Path,
    isolux_train: Callable[..., int],
) -> Path:
    """A run on the NeRF-synthetic folder, shared by the tests below. Read only."""
    out = tmp_path_factory.mktemp("runs") / "ring"
    more = ("observe.validate_every=10", "observe.picture_every=20")
    code = isolux_train("nerf_synthetic", out, f"data.path={scene_folder}", *more)
    assert code == 0
    return out


def test_the_folder_holds_what_it_promises(run_folder: Path) -> None:
    names = {str(p.relative_to(run_folder)) for p in run_folder.rglob("*") if p.is_file()}
    assert names >= {
        "conf.json",
        "log.jsonl",
        "metrics.json",
        "report.html",
        "cameras/transforms.json",
        *(f"mesh/mesh.{kind}" for kind in ("obj", "mtl", "glb")),
        *(f"mesh/texture_{kind}.png" for kind in ("kd", "ks", "n")),
        "mesh/probe.hdr",
    }
    assert any(name.startswith("images/compare_") for name in names)
    assert any(name.startswith("images/progress_") for name in names)
    assert sum(name.startswith("checkpoints/") for name in names) == 2
    assert not [name for name in names if "/." in name or name.startswith(".")]


def test_metrics_have_the_stated_names(run_folder: Path) -> None:
    metrics = json.loads((run_folder / "metrics.json").read_text())
    assert metrics.keys() >= {"scene", "conf", "backend", "seed", "version", "mesh"}
    for split, views in (("test", 2), ("train", 8)):
        assert metrics[split].keys() >= {"psnr", "ssim", "silhouette_iou", "views"}
        assert metrics[split]["views"] == views
    assert metrics["mesh"].keys() >= {
        "vertices", "triangles", "components", "watertight", "manifold"
    }  # fmt: skip
    assert metrics["time_s"].keys() >= {"total", "optimize", "steps"}
    assert metrics["time_s"]["steps"] == 40
    assert 0 < metrics["time_s"]["optimize"] <= metrics["time_s"]["total"]
    assert metrics["peak_rss_bytes"] > 1 << 26
    assert metrics["conf"] == "ring"
    assert "surface" not in metrics  # no true mesh is known
    assert metrics["mesh"]["triangles"] > 100


def test_it_learns(run_folder: Path) -> None:
    lines = [x for x in read_log(run_folder / "log.jsonl") if x["kind"] == "validation"]
    assert lines[-1]["psnr"] > lines[0]["psnr"] + 1.0
    assert lines[-1]["psnr"] > 20.0
    assert lines[-1]["silhouette_iou"] > 0.7  # a coarse lattice, thin parts
    steps = [x for x in read_log(run_folder / "log.jsonl") if x["kind"] == "step"]
    assert [x["seconds"] for x in steps] == sorted(x["seconds"] for x in steps)
    assert steps[-1]["terms"]["image"] < steps[0]["terms"]["image"]


def test_the_resolved_settings_can_be_trained_again(run_folder: Path, tmp_path: Path) -> None:
    tree = json.loads((run_folder / "conf.json").read_text())
    assert tree["optimize"]["steps"] == [20, 20]
    assert tree["run"]["backend"] == "cpu"
    assert Path(tree["data"]["path"]).is_absolute()
    settings = ["optimize.steps=1,1", f"out={tmp_path / 'again'}"]
    assert main(["train", "--conf", str(run_folder / "conf.json"), *settings]) == 0


def test_eval_finds_what_training_found(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(run_folder, tmp_path / "ring")
    before = json.loads((copy / "metrics.json").read_text())
    (copy / "metrics.json").unlink()
    (copy / "report.html").unlink()
    capsys.readouterr()
    assert main(["eval", "--run", str(copy), "--json"]) == 0
    after = json.loads(capsys.readouterr().out)
    assert after == json.loads((copy / "metrics.json").read_text())
    for part in ("test", "train", "mesh", "scene", "conf"):
        assert after[part] == before[part]
    assert (copy / "report.html").exists()
    assert main(["eval", "--run", str(copy), "--split", "train", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["train"]["views"] == 12


def test_eval_keeps_how_long_it_took(run_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run_folder, tmp_path / "ring")
    before = json.loads((copy / "metrics.json").read_text())
    assert main(["eval", "--run", str(copy)]) == 0
    after = json.loads((copy / "metrics.json").read_text())
    assert after["time_s"] == before["time_s"]


@pytest.mark.parametrize("kind", ["glb", "obj", "ply"])
def test_exports_hold_the_mesh(run_folder: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"ring.{kind}"
    assert main(["export", "--run", str(run_folder), "-o", str(path)]) == 0
    mesh, ours = read_asset(path).mesh, isolux.load(run_folder).mesh
    corners = mesh.vertices[mesh.faces.long()], ours.vertices[ours.faces.long()]
    torch.testing.assert_close(*corners, rtol=1e-5, atol=1e-5)


def test_a_run_in_python(run_folder: Path) -> None:
    run = isolux.load(run_folder)
    assert len(run.mesh.faces) == run.metrics["mesh"]["triangles"]
    assert len(run.cameras) == 12
    assert run.light.shape == (32, 64, 3)
    assert bool((run.light >= 0).all())
    picture = run.render(run.cameras[[0, 3]])
    assert picture.rgb.shape == (2, 32, 32, 3)
    assert bool(picture.rgb.isfinite().all())
    assert 0.05 < float(picture.alpha.mean()) < 0.7
    probe = load_probe(run_folder / "mesh" / "probe.hdr")
    torch.testing.assert_close(probe, run.light, rtol=0.02, atol=0.02)


def test_cameras_are_read_back(run_folder: Path, scene_folder: Path, tmp_path: Path) -> None:
    """Our own loader takes the file for a scene: same cameras, same pictures."""
    shutil.copy(run_folder / "cameras" / "transforms.json", tmp_path / "transforms_train.json")
    ours = nerf_synthetic_views(tmp_path, "train")
    given = nerf_synthetic_views(scene_folder, "train")
    pose = (ours.cameras.world_from_camera, given.cameras.world_from_camera)
    torch.testing.assert_close(*pose, rtol=0, atol=1e-6)
    focal = (ours.cameras.focal_px, given.cameras.focal_px)
    torch.testing.assert_close(*focal, rtol=1e-6, atol=0)
    assert ours.names == given.names
    torch.testing.assert_close(ours.batch([5]).rgb, given.batch([5]).rgb)
    said = json.loads((run_folder / "cameras" / "transforms.json").read_text())["axes"]
    assert "world_from_camera" in said
    assert "z up" in said


def test_the_procedural_scene_knows_its_truth(
    tmp_path: Path, isolux_train: Callable[..., int]
) -> None:
    out = tmp_path / "demo"
    assert isolux_train("demo", out, "data.train_views=8", "optimize.steps=8,4") == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["surface"].keys() >= {
        "to_reference_mean", "from_reference_mean", "chamfer_l1", "f_score", "f_threshold",
        "normal_consistency", "reference_diagonal",
    }  # fmt: skip
    assert (
        metrics["surface"]["to_reference_mean"] < 0.1 * metrics["surface"]["reference_diagonal"]
    )
    assert metrics["scene"] == "procedural"
    tree = json.loads((out / "cameras" / "transforms_test.json").read_text())
    assert [frame["name"] for frame in tree["frames"]] == ["orbit_00000", "orbit_00001"]


@pytest.mark.parametrize(
    "settings",
    [
        ("geometry.extractor=flexicubes", "geometry.init=sphere"),
        ("geometry.sdf=network",),
        ("light.camera_space=true", "material.normal_map=false", "geometry.init=random"),
        ("light.lock_in_mesh_stage=true", "geometry.lock_positions=true"),
        ("optimize.steps=0,0", "geometry.resolution=40"),
        ("optimize.batch=5", "data.train_views=2"),
        ("geometry.centre=0,0,0", "geometry.extent=2.2", "data.train_views=1"),
        ("data.test_views=1", "observe.validate_every=1", "observe.picture_every=2"),
        ("light.camera_space=true", "light.lock_in_mesh_stage=true"),
        ("optimize.steps=0,2", "losses.image=relmse", "losses.mask_norm=l1"),
        ("geometry.resolution=32", "losses.smooth_sdf=0.1", "losses.orm_smooth=0.1"),
        ("losses.normal_consistency=0.1", "losses.normal_smooth=0.1"),
        ("data.size=24,36", "data.background=checker"),
        ("optimize.minutes=0.02",),
    ],
    ids=lambda settings: settings[0],
)
def test_settings_reach_an_end(
    settings: tuple[str, ...],
    tmp_path: Path,
    scene_folder: Path,
    isolux_train: Callable[..., int],
) -> None:
    out, scene = tmp_path / "run", f"data.path={scene_folder}"
    assert isolux_train("nerf_synthetic", out, scene, "optimize.steps=3,3", *settings) == 0
    assert json.loads((out / "metrics.json").read_text())["test"]["psnr"] > 0


def test_a_large_surface_is_simplified_before_charts(
    tmp_path: Path, scene_folder: Path, isolux_train: Callable[..., int]
) -> None:
    out, scene = tmp_path / "run", f"data.path={scene_folder}"
    short = ("optimize.steps=3,1", "geometry.most_triangles=120")
    assert isolux_train("nerf_synthetic", out, scene, *short) == 0
    assert 0 < json.loads((out / "metrics.json").read_text())["mesh"]["triangles"] <= 120


def test_a_surface_that_is_gone_ends_in_empty_files(
    tmp_path: Path,
    isolux_train: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No shape has a surface: the run says so, and its files are valid and empty."""
    nowhere = lambda *_: lambda p: p.norm(dim=-1) + 0.1  # noqa: E731
    monkeypatch.setattr(build, "visual_hull", nowhere)
    monkeypatch.setattr(build, "_sphere", nowhere)
    out = tmp_path / "run"
    assert isolux_train("demo", out, "data.train_views=6", "optimize.steps=4,4") == 0
    assert "surface is empty" in caplog.messages[-1]
    assert sum("begins again" in line for line in caplog.messages) == 3
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["mesh"]["triangles"] == 0
    assert metrics["test"]["silhouette_iou"] == 0.0
    assert metrics["time_s"]["steps"] == 8
    assert (out / "mesh" / "mesh.glb").exists()
    assert len(isolux.load(out).mesh.faces) == 0


def test_a_mesh_to_start_from(
    run_folder: Path, scene_folder: Path, tmp_path: Path, isolux_train: Callable[..., int]
) -> None:
    """geometry.base_mesh skips the topology stage; geometry.init takes a mesh file."""
    mesh = run_folder / "mesh" / "mesh.obj"
    for key, steps in (("base_mesh", 3), ("init", 6)):
        out = tmp_path / key
        more = (f"data.path={scene_folder}", f"geometry.{key}={mesh}", "optimize.steps=3,3")
        assert isolux_train("nerf_synthetic", out, *more) == 0
        metrics = json.loads((out / "metrics.json").read_text())
        assert metrics["time_s"]["steps"] == steps
        assert metrics["test"]["silhouette_iou"] > 0.7
