"""Clouds too large for memory, as a user types it: small ones, cut into small tiles."""

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from isolux.cli import main
from isolux.confs.read import read_points
from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.tiled import prepare
from isolux.optimize.points import field_of_file

# A torus about y, thick enough that every tile of it is curved.
RADIUS, TUBE, COUNT = 1.0, 0.4, 9000
TILES = ("tiles.above=0", "tiles.points=2000", "depth=5", "threads=1")
UTM = (512345.25, 5212345.5, 310.125)
Said = pytest.CaptureFixture[str]


def torus(count: int = COUNT) -> tuple[np.ndarray, np.ndarray]:
    """Points and normals [n, 3]."""
    random = np.random.default_rng(3)
    around, across = random.uniform(0, 2 * np.pi, (2, 2 * count))
    # As many as there is area: more outside than inside.
    keep = random.uniform(0, RADIUS + TUBE, 2 * count) < RADIUS + TUBE * np.cos(across)
    around, across = around[keep][:count], across[keep][:count]
    flat = np.stack([np.cos(around), np.zeros_like(around), np.sin(around)], -1)
    up = np.array([0.0, 1.0, 0.0])
    normal = np.cos(across)[:, None] * flat + np.sin(across)[:, None] * up
    return RADIUS * flat + TUBE * normal, normal


def off(vertices: np.ndarray) -> np.ndarray:
    """How far from the torus places are."""
    ring = np.hypot(vertices[:, 0], vertices[:, 2]) - RADIUS
    return np.abs(np.hypot(ring, vertices[:, 1]) - TUBE)


def painted(xyz: np.ndarray) -> np.ndarray:
    """Bytes [n, 3]: red above, blue below."""
    return np.where(xyz[:, 1:2] > 0, [[255, 0, 0]], [[0, 0, 255]]).astype(np.uint8)


def as_ply(path: Path, xyz: np.ndarray, normals: np.ndarray) -> None:
    names = [("xyz", "<f8", 3), ("normal", "<f4", 3), ("rgb", "u1", 3)]
    table = np.empty(len(xyz), names)
    table["xyz"], table["normal"], table["rgb"] = xyz, normals, painted(xyz - xyz.mean(0))
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(xyz)}\n"
    for kind, columns in (
        ("double", "x y z"),
        ("float", "nx ny nz"),
        ("uchar", "red green blue"),
    ):
        head += "".join(f"property {kind} {column}\n" for column in columns.split())
    path.write_bytes(head.encode() + b"end_header\n" + table.tobytes())


def as_text(path: Path, xyz: np.ndarray, normals: np.ndarray) -> None:
    np.savetxt(path, np.hstack([xyz, painted(xyz - xyz.mean(0)), normals]), fmt="%.12g")


def as_las(path: Path, xyz: np.ndarray, _: np.ndarray) -> None:
    """Point format 2, without normals: they are estimated."""
    head = bytearray(227)
    head[:4], head[24:26] = b"LASF", b"\1\2"
    struct.pack_into("<HII", head, 94, 227, 227, 0)
    struct.pack_into("<BHI", head, 104, 2, 26, len(xyz))
    struct.pack_into("<6d", head, 131, 1e-4, 1e-4, 1e-4, *np.floor(xyz.mean(0)))
    table = np.zeros(len(xyz), [("xyz", "<i4", 3), ("rest", "V8"), ("rgb", "<u2", 3)])
    table["xyz"] = np.round((xyz - np.floor(xyz.mean(0))) * 1e4)
    table["rgb"] = painted(xyz - xyz.mean(0)).astype("<u2") * 257
    path.write_bytes(bytes(head) + table.tobytes())


WRITERS: dict[str, Callable[[Path, np.ndarray, np.ndarray], None]] = {
    "ply": as_ply,
    "txt": as_text,
    "las": as_las,
}


@pytest.fixture
def cloud(tmp_path: Path) -> Path:
    path = tmp_path / "torus.ply"
    as_ply(path, *torus())
    return path


def run(*arguments: object) -> int:
    return main(["points", *map(str, arguments), *TILES])


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mesh of `cloud` in tiles, made in one go."""
    folder = tmp_path_factory.mktemp("straight")
    as_ply(folder / "torus.ply", *torus())
    assert run(folder / "torus.ply", "-o", folder / "straight.ply") == 0
    return folder / "straight.ply"


def loaded(path: Path) -> trimesh.Trimesh:
    return trimesh.load(path, force="mesh", process=False)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_torus_in_tiles(suffix: str, tmp_path: Path, capsys: Said) -> None:
    path, out = tmp_path / f"a.{suffix}", tmp_path / "mesh.ply"
    WRITERS[suffix](path, *torus())
    assert run(path, "-o", out, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["points"] == {"read": COUNT, "used": COUNT}
    assert told["tiles"] >= 4
    mesh = loaded(out)
    assert told["mesh"] == {"vertices": len(mesh.vertices), "triangles": len(mesh.faces)}
    assert mesh.is_watertight
    assert mesh.euler_number == 0  # one hole, and none at seams
    assert mesh.volume == pytest.approx(2 * np.pi**2 * RADIUS * TUBE**2, rel=0.02)
    assert off(mesh.vertices).max() < 0.03
    above = mesh.vertices[:, 1] > 0.15
    assert (mesh.visual.vertex_colors[above, :3] == [255, 0, 0]).all()
    assert sorted(x.name for x in tmp_path.iterdir()) == sorted([path.name, out.name])


def test_tiles_do_not_show(cloud: Path, tmp_path: Path, straight: Path) -> None:
    """The mesh is that of a fit in one go, as far as halos reach."""
    whole = tmp_path / "whole.ply"
    assert main(["points", str(cloud), "-o", str(whole), *TILES[2:]]) == 0
    one, other = loaded(whole), loaded(straight)
    assert len(one.faces) == pytest.approx(len(other.faces), rel=0.001)
    size = (RADIUS + TUBE) * 2 / 32
    apart = trimesh.proximity.ProximityQuery(one).vertex(other.vertices)[0]
    assert np.quantile(apart, 0.99) < 0.01 * size
    assert apart.max() < 0.5 * size  # a vertex whose cell is no longer crossed


def test_survey_coordinates_keep_their_digits(tmp_path: Path) -> None:
    xyz, normals = torus()
    for suffix in ("txt", "las"):
        path, out = tmp_path / f"utm.{suffix}", tmp_path / "utm_mesh.ply"
        WRITERS[suffix](path, xyz + UTM, normals)
        assert run(path, "-o", out) == 0
        assert b"property double x" in out.read_bytes()[:300]
        assert off(loaded(out).vertices - UTM).max() < 0.03


@pytest.mark.parametrize("suffix", ["obj", "glb"])
def test_formats_that_are_written_whole(
    suffix: str, cloud: Path, tmp_path: Path, straight: Path
) -> None:
    whole = tmp_path / f"mesh.{suffix}"
    assert run(cloud, "-o", whole) == 0
    one, other = loaded(straight), loaded(whole)
    assert len(one.faces) == len(other.faces)
    assert np.abs(one.bounds - other.bounds).max() < 1e-5


def test_a_mesh_too_large_for_its_format(
    cloud: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.setattr("isolux.optimize.points_write._AT_ONCE", 100)
    assert run(cloud, "-o", tmp_path / "mesh.obj") == 2
    assert "triangles are more than is written whole (100): name a .ply" in (
        capsys.readouterr().err
    )


def test_how_the_surface_is_drawn(cloud: Path, tmp_path: Path, straight: Path) -> None:
    """Anew with other settings of the mesh: the fit in the folder is used again."""
    plain, work, out = loaded(straight), tmp_path / "work", tmp_path / "mesh.ply"

    def drawn(*settings: str) -> trimesh.Trimesh:
        more = ("--resume",) if work.exists() else ()
        assert run(cloud, "-o", out, "--work", work, *more, *settings) == 0
        return loaded(out)

    assert drawn("mesh.colors=false").visual.kind != "vertex"
    assert 3.5 < len(drawn("mesh.refine=1").faces) / len(plain.faces) < 4.5
    assert len(drawn("mesh.resolution=8").faces) < 0.5 * len(plain.faces)
    assert drawn("mesh.trim=0.02").area < plain.area


def test_sensors_and_cleaning(tmp_path: Path, capsys: Said) -> None:
    """A room is looked into; strays go; whichever tile they are in."""
    xyz, _ = torus()
    strays = np.random.default_rng(0).uniform(4.0, 6.0, (10, 3))
    path, out = tmp_path / "a.xyz", tmp_path / "mesh.ply"
    np.savetxt(path, np.concatenate([xyz, strays]), fmt="%.9g")
    settings = ("clean.outliers=3", "clean.downsample=0.03", "normals.sensor=0,90,0")
    assert run(path, "-o", out, "--json", *settings) == 0
    used = json.loads(capsys.readouterr().out)["points"]["used"]
    assert 3000 < used < 8500
    assert np.abs(loaded(out).vertices).max() < 2
    assert run(path, "-o", out, "normals.source=given") == 2
    assert "normals.source=given: the cloud has none" in capsys.readouterr().err


def test_normals_of_tiles_go_through_as_many_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With numbers of their own, a noisy tile would be smooth beside a rough one."""
    real, asked = prepare.estimate_normals, []

    def estimate(cloud: PointCloud, neighbours: int | None = None) -> Any:
        asked.append(neighbours)
        return real(cloud, neighbours)

    monkeypatch.setattr(prepare, "estimate_normals", estimate)
    xyz, _ = torus()
    noise = np.random.default_rng(1).normal(size=xyz.shape) * 0.03 * (xyz[:, :1] > 0)
    path, out = tmp_path / "a.npy", tmp_path / "mesh.ply"
    np.save(path, xyz + noise)
    assert run(path, "-o", out) == 0
    assert asked[0] is None  # of the guide, which has other distances
    assert len(asked) > 4
    assert len(set(asked[1:])) == 1
    assert loaded(out).volume > 0
    asked.clear()
    assert run(path, "-o", out, "normals.neighbours=20") == 0
    assert not asked  # the settings say it


def test_grid_of_tiles(cloud: Path, tmp_path: Path) -> None:
    grid = tmp_path / "grid.npz"
    out = tmp_path / "mesh.ply"
    assert run(cloud, "-o", out, "--save-grid", grid, "mesh.resolution=20") == 0
    with np.load(grid) as arrays:
        values, box = arrays["grid"], arrays["bbox"]
    voxel = box[1] / np.array(values.shape)
    axes = [box[0][i] + (np.arange(n) + 0.5) * voxel[i] for i, n in enumerate(values.shape)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    ring = np.hypot(places[..., 0], places[..., 2]) - RADIUS
    inside = np.hypot(ring, places[..., 1]) < TUBE
    assert ((values < 0) == inside)[
        off(places.reshape(-1, 3)).reshape(inside.shape) > 0.05
    ].all()


def test_a_start_from_a_large_cloud(cloud: Path) -> None:
    """What a run begins with is in memory, and that of the tiles."""
    whole = field_of_file(cloud, read_points(list(TILES[2:])))
    tiles = field_of_file(cloud, read_points(list(TILES)))
    points = torch.rand(200, 3, generator=torch.Generator().manual_seed(1)) * 3 - 1.5
    assert torch.allclose(whole.value(points), tiles.value(points), atol=0.01)


CODE = """
import os, signal, sys
from isolux.cli import main
from isolux.geometry.points.tiled import fit
real, left = fit.fit_tile, [3]
def ended(*arguments):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    return real(*arguments)
fit.fit_tile = ended
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_a_run_that_is_stopped_goes_on(
    how: str, cloud: Path, tmp_path: Path, straight: Path, capsys: Said
) -> None:
    """It ends with the same bytes, and tiles that were finished are not worked on again."""
    out = tmp_path / "mesh.ply"
    command = ["points", str(cloud), "-o", str(out), *TILES]
    child = subprocess.run(
        [sys.executable, "-c", CODE, how, *command], capture_output=True, text=True, check=False
    )
    work = tmp_path / "mesh.ply.work"
    if how == "SIGKILL":
        assert child.returncode == -signal.SIGKILL
    else:
        assert child.returncode == 130
        assert f"interrupted: what is finished stays in {work}" in child.stderr
        assert "--resume" in child.stderr
    assert not out.exists()
    finished = {path: path.stat().st_mtime_ns for path in work.rglob("levels/*.tile")}
    assert len(finished) == 3
    assert main(command) == 2
    assert (
        f"{work}: already holds tiles; go on with them by --resume" in capsys.readouterr().err
    )
    kept = ["--work", str(work)]
    assert main([*command, *kept, "--resume"]) == 0
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert out.read_bytes() == straight.read_bytes()
    assert main([*command, "--resume"]) == 0  # a finished one is only drawn again
    assert out.read_bytes() == straight.read_bytes()
    assert not work.exists()


def test_other_settings_in_the_same_folder(cloud: Path, tmp_path: Path, straight: Path) -> None:
    """What was made with others is not taken for theirs."""
    work, out = tmp_path / "work", tmp_path / "mesh.ply"
    assert run(cloud, "-o", out, "--work", work, "smoothness=1") == 0
    assert out.read_bytes() != straight.read_bytes()
    assert run(cloud, "-o", out, "--work", work, "--resume") == 0
    assert out.read_bytes() == straight.read_bytes()


@pytest.mark.parametrize("runner", ["processes", "ray"])
def test_two_workers_make_the_same_mesh(
    runner: str, cloud: Path, tmp_path: Path, straight: Path
) -> None:
    if runner == "ray" and find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'isolux[cluster]'")
    together = tmp_path / "together.ply"
    settings = (f"tiles.runner={runner}", "tiles.workers=2")
    child = subprocess.run(  # of its own: Ray leaves threads and warnings behind
        [sys.executable, "-m", "isolux", "points", cloud, "-o", together, *TILES, *settings],
        check=False,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )
    assert child.returncode == 0
    assert together.read_bytes() == straight.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{cloud}", "--work", "{full}"], "already holds tiles; go on with them by --resume"),
        (["{cloud}", "--work", "{none}", "--resume"], "holds no tiles to go on with"),
        (["{cloud}", "--work", "{cloud}"], "is a file; name a folder with --work"),
        (["{cloud}", "--work", "{cloud}/x"], "--work: "),
        (["{cloud}", "--resume", "tiles.above=9999"], "is not cut into tiles"),
        (["{cloud}", "--resume", "solver=splines"], "is not cut into tiles"),
        (["{cloud}", "--save-points", "{none}.npz"], "--save-points: "),
        (["{cloud}", "mesh.adaptive=0.1"], "mesh.adaptive: "),
        (["{cloud}", "tiles.workers=2"], "needs tiles.runner=processes or tiles.runner=ray"),
        (["{cloud}", "tiles.address=auto"], "tiles.address=auto needs tiles.runner=ray"),
        (["{cloud}", "tiles.points=10"], "tiles.points: needs"),
        (["{cloud}", "voxel_size=1e-9", "depth=none"], "too small"),
        (["{cut}"], "cut.ply: truncated"),
        (["{bare}"], "bare.xyz"),
        (["{one}"], "4 points"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], said: str, cloud: Path, tmp_path: Path, capsys: Said
) -> None:
    names = ("full", "none", "cut.ply", "bare.xyz", "one.xyz")
    places = {name.split(".")[0]: tmp_path / name for name in names} | {"cloud": cloud}
    places["full"].mkdir()
    (places["full"] / "plan.json").write_text("{}")
    places["cut"].write_bytes(cloud.read_bytes()[:-1])
    places["bare"].write_text("nan nan nan\n" * 9)
    places["one"].write_text("0 0 0 0 0 1\n")
    out = tmp_path / "mesh.ply"
    typed = [text.format(**places) for text in arguments]
    assert main(["points", typed[0], "-o", str(out), *TILES, *typed[1:]]) == 2
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("isolux: ")]
    assert len(lines) == 1
    assert said in lines[0]
    left = {path.name for path in tmp_path.iterdir()} - {"torus.ply", *names}
    assert not left
    assert (places["full"] / "plan.json").read_text() == "{}"


def test_which_clouds_are_cut(cloud: Path, tmp_path: Path, capsys: Said) -> None:
    """By their number of points, whether a header says it or not."""
    xyz, normals = torus()
    text, zipped, folder = tmp_path / "a.xyz", tmp_path / "a.npz", tmp_path / "folder"
    as_text(text, xyz, normals)
    np.savez(zipped, points=xyz, normals=normals)
    folder.mkdir()
    as_ply(folder / "a.ply", xyz[:4000], normals[:4000])
    as_ply(folder / "b.ply", xyz[4000:], normals[4000:])
    for path in (cloud, text, zipped, folder):
        lines = 9 if path == text else 0  # lines are counted, not points
        assert tiled(path, tmp_path, capsys, COUNT - 1)
        assert not tiled(path, tmp_path, capsys, COUNT + lines)


def tiled(path: Path, folder: Path, capsys: Said, above: int) -> bool:
    """Whether a cloud is cut."""
    command = ["points", str(path), "-o", str(folder / "mesh.ply"), "--json", "depth=2"]
    assert main([*command, *TILES[1:2], TILES[3], f"tiles.above={above}"]) == 0
    return "tiles" in json.loads(capsys.readouterr().out)
