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
def whole(
    tmp_path_factory: pytest.TempPathFactory,
    isolux_train: Callable[..., int],
    settings: tuple[str, ...],
) -> Path:
    """A run that nothing happened to. Read only."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert isolux_train(PRESET, out, *settings) == 0
    return out


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
    place: str,
    killed: Path,
    whole: Path,
    isolux_train: Callable[..., int],
    settings: tuple[str, ...],
) -> None:
    folder = killed / place
    assert not (folder / "metrics.json").exists()
    assert isolux_train(PRESET, folder, *settings, "--resume") == 0
    assert_same(folder, whole)
    left = [p.name for p in folder.rglob("*") if p.name.startswith((".partial", ".tmp"))]
    assert left == []


def test_threads_do_not_matter(
    tmp_path: Path, whole: Path, isolux_train: Callable[..., int], settings: tuple[str, ...]
) -> None:
    assert isolux_train(PRESET, tmp_path / "run", *settings, "threads=2") == 0
    assert_same(tmp_path / "run", whole)


def test_another_seed_is_another_run(
    tmp_path: Path, whole: Path, isolux_train: Callable[..., int], settings: tuple[str, ...]
) -> None:
    assert isolux_train(PRESET, tmp_path / "run", *settings, "seed=1") == 0
    ours, theirs = assets(tmp_path / "run"), assets(whole)
    assert all(ours[name] != theirs[name] for name in ASSETS)


@pytest.mark.parametrize("name", ["topology_terms", "mesh_terms"])
def test_ctrl_c(
    name: str,
    tmp_path: Path,
    whole: Path,
    isolux_train: Callable[..., int],
    settings: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit 130, a checkpoint of the step in progress, a report of how far it came."""
    original, calls = getattr(drive, name), [0]

    def interrupted(*given: object) -> object:
        calls[0] += 1
        if calls[0] == 7:
            signal.raise_signal(signal.SIGINT)
        return original(*given)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(drive, name, interrupted)
        assert isolux_train(PRESET, out, *settings) == 130
    assert calls[0] == 7
    newest = sorted((out / "checkpoints").iterdir())[-1].stem
    # Six of the 20 steps are the coarse phase; the seventh is the first after them.
    assert newest[7:] == ("topology_000001" if name == "topology_terms" else "mesh_000007")
    assert (out / "report.html").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert isolux_train(PRESET, out, *settings, "--resume") == 0
    assert_same(out, whole)


def test_ctrl_c_while_files_are_written(
    tmp_path: Path,
    whole: Path,
    isolux_train: Callable[..., int],
    settings: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(finish, "write_glb", lambda *_: signal.raise_signal(signal.SIGINT))
        assert isolux_train(PRESET, out, *settings) == 130
    assert isolux_train(PRESET, out, *settings, "--resume") == 0
    assert_same(out, whole)


def test_resuming_a_finished_run_writes_its_files_anew(
    tmp_path: Path, whole: Path, isolux_train: Callable[..., int], settings: tuple[str, ...]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    shutil.rmtree(out / "mesh")
    assert isolux_train(PRESET, out, *settings, "--resume") == 0
    assert_same(out, whole)


def test_more_steps_for_a_finished_run(
    tmp_path: Path, whole: Path, isolux_train: Callable[..., int], settings: tuple[str, ...]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    assert isolux_train(PRESET, out, *settings, "optimize.steps=20,16", "--resume") == 0
    assert json.loads((out / "metrics.json").read_text())["time_s"]["steps"] == 36


def test_a_newer_checkpoint_that_is_broken(
    tmp_path: Path,
    killed: Path,
    whole: Path,
    isolux_train: Callable[..., int],
    settings: tuple[str, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    newest = sorted((out / "checkpoints").iterdir())[-1]
    os.truncate(newest, newest.stat().st_size // 2)
    assert isolux_train(PRESET, out, *settings, "--resume") == 0
    assert newest.name in caplog.text
    assert_same(out, whole)


def test_a_folder_with_a_run_is_refused(
    whole: Path, tiny: tuple[str, ...], settings: tuple[str, ...], mistake: Callable[..., str]
) -> None:
    before = assets(whole)
    told = mistake([*COMMAND, *tiny, *settings, f"out={whole}"])
    assert str(whole) in told
    assert "--resume" in told
    assert assets(whole) == before


def test_nothing_to_resume(
    tmp_path: Path,
    tiny: tuple[str, ...],
    settings: tuple[str, ...],
    mistake: Callable[..., str],
) -> None:
    out = tmp_path / "run"
    told = mistake([*COMMAND, *tiny, *settings, f"out={out}", "--resume"])
    assert "no run to resume" in told
    assert not out.exists()


def test_a_second_writer_is_refused(
    tmp_path: Path,
    whole: Path,
    tiny: tuple[str, ...],
    settings: tuple[str, ...],
    mistake: Callable[..., str],
) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    with locked(out):
        told = mistake([*COMMAND, *tiny, *settings, f"out={out}", "--resume"])
    assert "another run is writing here" in told
    assert_same(out, whole)


@pytest.mark.parametrize("changed", ["geometry.resolution=40", "material.width=8"])
def test_other_settings_than_those_of_the_checkpoint(
    changed: str,
    tmp_path: Path,
    killed: Path,
    settings: tuple[str, ...],
    tiny: tuple[str, ...],
    mistake: Callable[..., str],
) -> None:
    out = tmp_path / "run"
    shutil.copytree(killed / "left_as_it_is", out)
    told = mistake(
        [
            "train",
            "--conf",
            "nerf_synthetic",
            *tiny,
            *settings,
            f"out={out}",
            changed,
            "--resume",
        ]
    )
    assert "conf.json" in told
