"""Surfaces from points as a user asks for them: by command, from Python, as a run's start."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

import isolux
from isolux.cli import main
from isolux.confs.errors import ConfError
from isolux.confs.read import read_conf
from isolux.data.assets.clouds import read_cloud
from isolux.data.procedural import demo_asset
from isolux.geometry.bvh import TriangleTree
from isolux.optimize.build import build

Train = Callable[..., int]
SHARED = Path(__file__).parents[2] / "shared" / "data"
KITTEN = SHARED / "pointclouds" / "cgal" / "kitten.xyz"
SMALL = ("depth=5", "threads=1")


def ball(count: int = 2000, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    """Points and normals [n, 6] of a unit sphere, evenly spread (Fibonacci)."""
    i = np.arange(count) + 0.5
    z, turn = 1 - 2 * i / count, np.pi * (1 + 5**0.5) * i
    flat = np.sqrt(1 - z * z)
    normal = np.stack([flat * np.cos(turn), flat * np.sin(turn), z], -1)
    return np.concatenate([normal + np.array(centre), normal], -1)


@pytest.fixture
def cloud(tmp_path: Path) -> Path:
    path = tmp_path / "ball.xyz"
    np.savetxt(path, ball(), fmt="%.9g")
    return path


def off(mesh: trimesh.Trimesh, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> float:
    """How far from the unit sphere the mesh is anywhere."""
    return float(np.abs(np.linalg.norm(mesh.vertices - np.array(centre), axis=1) - 1).max())


@pytest.mark.parametrize("solver", ["hierarchy", "splines"])
@pytest.mark.parametrize("suffix", ["ply", "obj", "glb"])
def test_a_ball(
    solver: str, suffix: str, cloud: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"mesh.{suffix}"
    more = ["splines.centres=200"] if solver == "splines" else []
    code = main(
        ["points", str(cloud), "-o", str(out), "--solver", solver, "--json", *SMALL, *more]
    )
    assert code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["points"] == {"read": 2000, "used": 2000}
    assert told["mesh"]["watertight"] is True
    assert told["mesh"]["components"] == 1
    mesh = trimesh.load(out, force="mesh", process=False)
    assert off(mesh) < 0.02
    assert mesh.volume > 0  # outside is outside


def test_normals_are_made_and_progress_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "bare.xyz", tmp_path / "mesh.ply"
    np.savetxt(path, ball()[:, :3], fmt="%.9g")
    assert main(["points", str(path), "-o", str(out), *SMALL]) == 0
    said = capsys.readouterr()
    assert f"wrote {out}" in said.out
    assert "100%  done" in said.err
    mesh = trimesh.load(out, process=False)
    assert off(mesh) < 0.03
    assert mesh.volume > 0


def test_survey_coordinates_and_colours_survive(tmp_path: Path) -> None:
    centre = (512345.25, 5212345.5, 310.125)
    rows = ball(3000, centre)
    colors = np.where(rows[:, 5:] > 0, [[255, 0, 0]], [[0, 0, 255]])
    path, out = tmp_path / "utm.csv", tmp_path / "mesh.ply"
    np.savetxt(path, np.concatenate([rows, colors], 1), fmt="%.12g", delimiter=",")
    assert main(["points", str(path), "-o", str(out), *SMALL]) == 0
    mesh = trimesh.load(out, process=False)
    assert off(mesh, centre) < 0.02
    top = mesh.vertices[:, 2] > centre[2] + 0.3
    assert (mesh.visual.vertex_colors[top, :3] == [255, 0, 0]).all()
    glb = tmp_path / "mesh.glb"
    assert main(["points", str(path), "-o", str(glb), *SMALL]) == 0
    scene = trimesh.load(glb, process=False)
    assert np.abs(scene.bounds.mean(0) - centre).max() < 0.02


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.ply", "-o", "x.ply"], "none.ply: no such file"),
        (["{cloud}", "-o", "x.stl"], "x.stl: name a .ply, .obj or .glb file"),
        (["{cloud}", "-o", "."], "name a .ply, .obj or .glb file"),
        (["{cloud}", "-o", "x.ply", "detail_level=2"], "detail_level: needs a number"),
        (["{cloud}", "-o", "x.ply", "detail=1"], "no such setting; did you mean detail_level?"),
        (["{cloud}", "-o", "x.ply", "depth=6", "voxel_size=1"], "give one of"),
        (["{cloud}", "-o", "x.ply", "--solver", "splines", "smoothness=1"], "is of solver"),
        (["{cloud}", "-o", "x.ply", "splines.kernel=cubic"], "splines.kernel: needs"),
        (["{bare}", "-o", "x.ply", "normals.source=given"], "the cloud has none"),
        (["{one}", "-o", "x.ply"], "point"),
        (["{empty}", "-o", "x.ply"], "empty.xyz"),
        (["{folder}", "-o", "x.ply"], "folder without points"),
        (["{cloud}", "-o", "x.ply", "--conf", "none.conf"], "no such settings file"),
        (["{cloud}", "-o", "x.ply", "mesh.voxel_size=1", "mesh.resolution=9"], "give one of"),
        (
            ["{cloud}", "-o", "x.ply", "normals.source=estimated", "normals.drop_degrees=60"],
            "needs a sensor",
        ),
        (
            ["{cloud}", "-o", "x.ply", "--solver", "splines", "voxel_size=1e-6"],
            "voxel_size=1e-06: makes",
        ),
        (["{cloud}", "-o", "x.ply", "voxel_size=1e-7"], "too small"),
        (["{cloud}", "-o", "x.ply", "--save-grid", "{cloud}/grid.npz"], "--save-grid"),
        (["{cloud}", "-o", "{cloud}/x.ply"], "is a file; name a folder"),
        (["{cut}", "-o", "x.ply"], "cut.ply"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    said: str,
    cloud: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savetxt(tmp_path / "bare.xyz", ball(100)[:, :3])
    (tmp_path / "one.xyz").write_text("0 0 0 0 0 1\n")
    (tmp_path / "empty.xyz").write_text("")
    (tmp_path / "folder").mkdir()
    head = "ply\nformat binary_little_endian 1.0\nelement vertex 100\n"
    head += "".join(f"property float {axis}\n" for axis in "xyz") + "end_header\n"
    (tmp_path / "cut.ply").write_bytes(head.encode() + bytes(500))
    names = {name: tmp_path / f"{name}.xyz" for name in ("bare", "one", "empty")}
    places = {name: str(path) for name, path in names.items()}
    places |= {"cloud": str(cloud), "folder": str(tmp_path / "folder")}
    places |= {"cut": str(tmp_path / "cut.ply")}
    assert main(["points", *(text.format(**places) for text in arguments)]) == 2
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("isolux: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert not (tmp_path / "x.ply").exists()


def test_settings_of_a_file(cloud: Path, tmp_path: Path) -> None:
    conf, out = tmp_path / "small.conf", tmp_path / "mesh.ply"
    conf.write_text("depth = 4\nmesh { watertight = true }\n")
    assert main(["points", str(cloud), "-o", str(out), "--conf", str(conf)]) == 0
    coarse = len(trimesh.load(out, process=False).faces)
    assert main(["points", str(cloud), "-o", str(out), "--conf", str(conf), "depth=6"]) == 0
    assert len(trimesh.load(out, process=False).faces) > 4 * coarse


def test_from_python() -> None:
    rows = ball()
    colors = np.repeat([[0.25, 0.5, 0.75]], len(rows), 0)
    field = isolux.fit_points(rows[:, :3], rows[:, 3:], colors=colors, depth=5, threads=1)
    mesh = field.extract_mesh()
    radius = mesh.vertices.norm(dim=1)
    assert (radius - 1).abs().max() < 0.02
    points = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.5], [0.0, 9.0, 0.0]])
    value, gradient = field.evaluate(points)
    assert value.sign().tolist() == [-1.0, 1.0, 1.0]
    assert float(gradient[1, 2]) == pytest.approx(1.0, abs=0.1)
    assert torch.allclose(field.colors_at(mesh.vertices), torch.tensor([0.25, 0.5, 0.75]))
    other = isolux.fit_points(
        torch.from_numpy(rows[:, :3]), sensor=[0.0, 0.0, 0.0], depth=5, threads=1
    )
    assert float(other.value(points[:1])) > 0  # seen from inside: the ball is a room


def test_python_mistakes() -> None:
    rows = ball(50)
    with pytest.raises(ValueError, match=r"normals: need an array \[50, 3\], got \[49, 3\]"):
        isolux.fit_points(rows[:, :3], rows[:49, 3:])
    with pytest.raises(ConfError, match="no such setting; did you mean detail_level"):
        isolux.fit_points(rows[:, :3], rows[:, 3:], detail_levels=1)
    with pytest.raises(ConfError, match="solver: needs"):
        isolux.fit_points(rows[:, :3], rows[:, 3:], solver="poisson")


@pytest.mark.parametrize("kind", ["tets", "flexicubes", "network"])
def test_a_run_starts_from_points(kind: str, tmp_path: Path, isolux_train: Train) -> None:
    """With no step to speak of, the mesh is what the points say."""
    asset = demo_asset(64, 32, 64)
    vertices = asset.mesh.vertices.double()
    cloud = tmp_path / "cloud.npz"
    np.savez(cloud, points=vertices.numpy())
    more = {
        "tets": (),
        "flexicubes": ("geometry.extractor=flexicubes",),
        "network": ("geometry.sdf=network",),
    }[kind]
    still = ("optimize.steps=1,1", "optimize.learning_rate_geometry=1e-9,1e-9")
    start = ("geometry.init=points", f"data.points={cloud}", "points.depth=6")
    out = tmp_path / "run"
    assert isolux_train("demo", out, *still, *start, "geometry.resolution=24", *more) == 0
    surface = json.loads((out / "metrics.json").read_text())["surface"]
    assert surface["to_reference_mean"] < 0.02 * surface["reference_diagonal"]
    assert surface["from_reference_mean"] < 0.02 * surface["reference_diagonal"]


def test_a_start_may_be_named_by_its_file(
    tmp_path: Path, isolux_train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    asset = demo_asset(64, 32, 64)
    cloud = tmp_path / "cloud.ply"
    trimesh.PointCloud(asset.mesh.vertices.numpy()).export(cloud)
    out = tmp_path / "run"
    settings = ("optimize.steps=1,1", f"geometry.init={cloud}", "points.depth=5")
    assert isolux_train("demo", out, *settings) == 0
    mesh = trimesh.load(out / "mesh" / "mesh.obj", process=False)
    tree = TriangleTree(asset.mesh.vertices, asset.mesh.faces)
    distance, _ = tree.closest(torch.from_numpy(np.asarray(mesh.vertices)))
    assert float(distance.median()) < 0.05
    assert isolux_train("demo", tmp_path / "other", "geometry.init=points") == 2
    assert "data.points: not given" in capsys.readouterr().err


@pytest.mark.skipif(not KITTEN.is_file(), reason="the shared clouds are not here")
def test_a_real_cloud(tmp_path: Path) -> None:
    path, out = KITTEN, tmp_path / "kitten.ply"
    assert main(["points", str(path), "-o", str(out), "depth=6"]) == 0
    mesh = trimesh.load(out, process=False)
    tree = TriangleTree(
        torch.from_numpy(np.asarray(mesh.vertices)), torch.from_numpy(mesh.faces)
    )
    points = read_cloud(path).xyz
    distance, _ = tree.closest(points)
    extent = float((points.amax(0) - points.amin(0)).max())
    assert mesh.is_watertight
    assert float(distance.mean()) < 0.003 * extent


def test_grid_and_points_are_kept(cloud: Path, tmp_path: Path) -> None:
    out, grid, used = (tmp_path / name for name in ("m.ply", "grid.npz", "points.npz"))
    kept = ["--save-grid", str(grid), "--save-points", str(used), "mesh.resolution=20"]
    assert main(["points", str(cloud), "-o", str(out), *kept, *SMALL]) == 0
    with np.load(grid) as arrays:
        values, box = arrays["grid"], arrays["bbox"]
    assert max(values.shape) == 20
    voxel = box[1] / np.array(values.shape)
    axes = [box[0][i] + (np.arange(n) + 0.5) * voxel[i] for i, n in enumerate(values.shape)]
    radius = np.linalg.norm(np.stack(np.meshgrid(*axes, indexing="ij"), -1), axis=-1)
    assert ((values < 0) == (radius < 1))[np.abs(radius - 1) > 0.05].all()
    with np.load(used) as arrays:
        assert arrays["x"].shape == arrays["n"].shape == (2000, 3)


def told_of(
    capsys: pytest.CaptureFixture[str], path: Path, out: Path, *settings: str
) -> dict[str, dict[str, float]]:
    """What the command says of a cloud with settings."""
    capsys.readouterr()
    assert main(["points", str(path), "-o", str(out), "--json", *settings]) == 0
    tree: dict[str, dict[str, float]] = json.loads(capsys.readouterr().out)
    return tree


def test_what_is_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Strays, all but one point of a cell, and points that the sensor saw at a slant."""
    path, out = tmp_path / "strays.xyz", tmp_path / "mesh.ply"
    strays = np.random.default_rng(0).uniform(2.0, 6.0, (20, 3))
    np.savetxt(path, np.concatenate([ball()[:, :3], strays]), fmt="%.9g")
    clean = told_of(capsys, path, out, "clean.outliers=3", *SMALL)
    assert clean["points"]["read"] == 2020
    assert 1990 < clean["points"]["used"] < 2010  # strays that are close to strays may stay
    few = told_of(capsys, path, out, "clean.outliers=3", "clean.downsample=0.2", *SMALL)
    assert few["points"]["used"] < 700
    slant = ("normals.sensor=0,0,20", "normals.drop_degrees=60")
    np.savetxt(path, ball()[:, :3], fmt="%.9g")
    seen = told_of(capsys, path, out, *slant, *SMALL)
    assert 900 < seen["points"]["used"] < 1100  # a quarter at the top, and one below


def test_which_side_is_out(tmp_path: Path) -> None:
    path, out = tmp_path / "room.xyz", tmp_path / "mesh.ply"
    np.savetxt(path, ball()[:, :3], fmt="%.9g")
    assert main(["points", str(path), "-o", str(out), "normals.sensor=0,0,0", *SMALL]) == 0
    assert trimesh.load(out, process=False).volume < -3.0


@pytest.mark.parametrize("solver", ["hierarchy", "splines"])
def test_how_the_surface_is_drawn(
    solver: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ball()
    path, out = tmp_path / "half.xyz", tmp_path / "mesh.ply"
    colors = np.tile([200, 100, 50], (1000, 1))
    np.savetxt(path, np.concatenate([rows[:1000], colors], 1), fmt="%.9g")
    own = ["splines.centres=150"] if solver == "splines" else []

    def drawn(*settings: str) -> trimesh.Trimesh:
        told_of(capsys, path, out, f"solver={solver}", "depth=5", "threads=1", *own, *settings)
        return trimesh.load(out, process=False)

    plain = drawn()
    assert plain.visual.kind == "vertex"
    assert not plain.is_watertight
    assert drawn("mesh.colors=false").visual.kind != "vertex"
    assert drawn("mesh.watertight=true").is_watertight
    assert drawn("mesh.trim=0.06").area < 0.99 * plain.area
    assert 3.5 < len(drawn("mesh.refine=1").faces) / len(plain.faces) < 4.5
    assert len(drawn("mesh.adaptive=1").faces) < 0.8 * len(plain.faces)
    assert len(drawn("mesh.resolution=8").faces) < 0.5 * len(plain.faces)
    assert len(drawn("mesh.voxel_size=0.3").faces) < 0.5 * len(plain.faces)


def test_cells_of_the_size_that_is_asked_for(
    cloud: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mesh.ply"
    for more in ((), ("solver=splines", "splines.centres=150", "splines.scale=2")):
        size = told_of(capsys, cloud, out, "voxel_size=0.1", *more)["voxel_size"]
        assert size == pytest.approx(0.1, rel=0.05)


def test_a_random_start_is_the_same_whenever_it_is_made() -> None:
    """A run that is resumed makes it as often as it needs, and not as often as it did."""
    conf = read_conf("demo", ["geometry.init=random", "data.size=16", "threads=1"])
    start = build(conf).recipe.field
    once, again = (start(8).state_dict()["sdf"] for _ in range(2))
    assert torch.equal(once, again)
