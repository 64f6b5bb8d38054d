"""A run that was cut off goes on as if it had not been."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from isolux.optimize import drive, finish
from isolux.optimize.lock import locked
from isolux.optimize.log import read_log

# Two phases of topology, and a checkpoint every few steps.
PRESET = "nerf_synthetic"
COMMAND = ("train", "--conf", PRESET)
SETTINGS = ("geometry.resolution=32", "optimize.steps=20,12", "observe.checkpoint_every=4")
ASSETS = (
    "mesh.obj", "mesh.glb", "texture_kd.png", "texture_ks.png", "texture_n.png", "probe.hdr"
)  # fmt: skip

# Where a run is killed: a function of ours, and at which of its calls. Half a file is written
# by the last one but one.
PLACES = {
    "coarse": ("isolux.optimize.drive", "topology_terms", 4),
    "between_topologies": ("isolux.geometry.sdf_grid.SdfGrid", "refined", 1),
    "topology": ("isolux.optimize.drive", "topology_terms", 17),
    "charts": ("isolux.optimize.stages", "bake", 1),
    "mesh": ("isolux.optimize.drive", "mesh_terms", 11),
    "saving": ("isolux.optimize.checkpoint", "save_file", 4),
    "export": ("isolux.optimize.finish", "write_glb", 1),
}

# One process that loads the package, and a child of it for each run that is killed.
KILLER = """
import functools, importlib, json, os, signal, sys
from importlib import import_module
import isolux.train
from isolux.cli import main
arguments, first, runs = json.loads(sys.argv[1])

def kill_in(module, name, count):
    try:
        owner = import_module(module)
    except ModuleNotFoundError:
        owner = getattr(import_module(module.rpartition(".")[0]), module.rpartition(".")[2])
    original, calls = getattr(owner, name), [0]
    @functools.wraps(original)
    def function(*given, **named):
        calls[0] += 1
        if calls[0] < count:
            return original(*given, **named)
        if name == "save_file":
            original(*given, **named)
            with open(given[1], "r+b") as file:
                file.truncate(os.path.getsize(given[1]) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, name, function)

# A first run, so that the children need not load and compile what it did. With one thread
# there is nothing that a fork could break.
assert main([*arguments, "out=" + first, "optimize.steps=6,1"]) == 0
for out, place in runs:
    child = os.fork()
    if not child:
        kill_in(*place)
        os._exit(main([*arguments, "out=" + out]))
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (out, status)
"""


def assets(folder: Path) -> dict[str, bytes]:
    return {name: (folder / "mesh" / name).read_bytes() for name in ASSETS}


def assert_same(folder: Path, other: Path) -> None:
    ours, theirs = assets(folder), assets(other)
    assert [name for name in ASSETS if ours[name] != theirs[name]] == []
    read = [json.loads((f / "metrics.json").read_text()) for f in (folder, other)]
    for part in ("test", "train", "mesh", "surface"):
        assert read[0].get(part) == read[1].get(part)
    assert read[0]["time_s"]["steps"] == read[1]["time_s"]["steps"]
    steps = [
        [(x["stage"], x["step"], x["total"]) for x in read_log(f / "log.jsonl")]
        for f in (folder, other)
    ]
    assert steps[0] == steps[1]


@pytest.fixture(scope="module")
def settings(scene_folder: Path) -> tuple[str, ...]:
    return (f"data.path={scene_folder}", "geometry.init=sphere", *SETTINGS)


@pytest.fixture(scope="module")
def train(isolux_train: Callable[..., int], settings: tuple[str, ...]) -> Callable[..., int]:
    """Trains in a folder; gives the exit code."""
    return lambda out, *more: isolux_train(PRESET, out, *settings, *more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, train: Callable[..., int]) -> Path:
    """A run that nothing happened to. Read only."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert train(out) == 0
    return out


@pytest.fixture
def copied(tmp_path: Path, whole: Path) -> Path:
    """A copy of that run, which a test may spoil."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


@pytest.fixture
def refused(
    tiny: tuple[str, ...], settings: tuple[str, ...], mistake: Callable[..., str]
) -> Callable[..., str]:
    """Trains in a folder what cannot be done; gives what is told about it."""
    return lambda out, *more: mistake([*COMMAND, *tiny, *settings, f"out={out}", *more])


@pytest.fixture(scope="module")
def killed(
    tmp_path_factory: pytest.TempPathFactory, settings: tuple[str, ...], tiny: tuple[str, ...]
) -> Path:
    """A folder of runs killed in the given places."""
    folder = tmp_path_factory.mktemp("killed")
    arguments = [*COMMAND, *tiny, *settings]
    runs = [(str(folder / name), place) for name, place in PLACES.items()]
    result = subprocess.run(
        [sys.executable, "-c", KILLER, json.dumps([arguments, str(folder / "first"), runs])],
        capture_output=True,
        text=True,
        timeout=500,
        cwd=Path(__file__).parents[1],
    )
    assert result.returncode == 0, result.stderr[-2000:]
    shutil.copytree(folder / "topology", folder / "left_as_it_is")
    return folder


@pytest.mark.parametrize("place", PLACES)
def test_killed_and_resumed(
    place: str, killed: Path, whole: Path, train: Callable[..., int]
) -> None:
    folder = killed / place
    assert not (folder / "metrics.json").exists()
    assert train(folder, "--resume") == 0
    assert_same(folder, whole)
    left = [p.name for p in folder.rglob("*") if p.name.startswith((".partial", ".tmp"))]
    assert left == []


def test_threads_do_not_matter(tmp_path: Path, whole: Path, train: Callable[..., int]) -> None:
    assert train(tmp_path / "run", "threads=2") == 0
    assert_same(tmp_path / "run", whole)


def test_another_seed_is_another_run(
    tmp_path: Path, whole: Path, train: Callable[..., int]
) -> None:
    assert train(tmp_path / "run", "seed=1") == 0
    ours, theirs = assets(tmp_path / "run"), assets(whole)
    assert all(ours[name] != theirs[name] for name in ASSETS)


# Where a run is asked to stop: a function of ours and at which of its calls; how; the last
# checkpoint then. Six of the 20 steps are the coarse phase; the seventh comes after it.
STOPS = {
    "topology": (drive, "topology_terms", 7, signal.SIGINT, "topology_000001"),
    "mesh": (drive, "mesh_terms", 7, signal.SIGTERM, "mesh_000007"),
    "files": (finish, "write_glb", 1, signal.SIGINT, "mesh_000012"),
}


@pytest.mark.parametrize("place", STOPS)
def test_asked_to_stop(
    place: str,
    tmp_path: Path,
    whole: Path,
    train: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit 130, a checkpoint of the step in progress, a report of how far it came."""
    owner, name, call, number, checkpoint = STOPS[place]
    original, calls = getattr(owner, name), [0]

    def interrupted(*given: object) -> object:
        calls[0] += 1
        if calls[0] == call:
            signal.raise_signal(number)
        return original(*given)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        assert train(out) == 130
    assert calls[0] == call
    assert sorted((out / "checkpoints").iterdir())[-1].stem[7:] == checkpoint
    assert (out / "report.html").exists() == (place != "files")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert train(out, "--resume") == 0
    assert_same(out, whole)


def test_resuming_a_finished_run_writes_its_files_anew(
    copied: Path, whole: Path, train: Callable[..., int]
) -> None:
    shutil.rmtree(copied / "mesh")
    assert train(copied, "--resume") == 0
    assert_same(copied, whole)


def test_more_steps_for_a_finished_run(copied: Path, train: Callable[..., int]) -> None:
    assert train(copied, "optimize.steps=20,16", "--resume") == 0
    assert json.loads((copied / "metrics.json").read_text())["time_s"]["steps"] == 36


def test_a_newer_checkpoint_that_is_broken(
    copied: Path, whole: Path, train: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    newest = sorted((copied / "checkpoints").iterdir())[-1]
    os.truncate(newest, newest.stat().st_size // 2)
    assert train(copied, "--resume") == 0
    assert newest.name in caplog.text
    assert_same(copied, whole)


def test_a_folder_with_a_run_is_refused(whole: Path, refused: Callable[..., str]) -> None:
    before = assets(whole)
    told = refused(whole)
    assert str(whole) in told
    assert "--resume" in told
    assert assets(whole) == before


def test_nothing_to_resume(tmp_path: Path, refused: Callable[..., str]) -> None:
    assert "no run to resume" in refused(tmp_path / "run", "--resume")
    assert not (tmp_path / "run").exists()


def test_a_second_writer_is_refused(
    copied: Path, whole: Path, refused: Callable[..., str]
) -> None:
    with locked(copied):
        told = refused(copied, "--resume")
    assert "another run is writing here" in told
    assert_same(copied, whole)


@pytest.mark.parametrize(
    "changed", ["geometry.resolution=40", "material.width=8", "geometry.base_mesh={mesh}"]
)
def test_other_settings_than_those_of_the_checkpoint(
    changed: str, tmp_path: Path, killed: Path, whole: Path, refused: Callable[..., str]
) -> None:
    out = shutil.copytree(killed / "left_as_it_is", tmp_path / "run")
    more = changed.format(mesh=whole / "mesh" / "mesh.obj")
    before = (out / "conf.json").read_bytes()
    assert "conf.json" in refused(out, more, "--resume")
    assert (out / "conf.json").read_bytes() == before


def test_another_texture_size(tmp_path: Path, whole: Path, refused: Callable[..., str]) -> None:
    out = shutil.copytree(whole, tmp_path / "run")
    assert "material.texture_size" in refused(out, "material.texture_size=32", "--resume")
