"""Whole sweeps on this machine: retries, resuming, Ctrl-C, the table; one truly trains."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from isolux import cli
from isolux.confs.errors import ConfError
from isolux.sweep import engines, run
from isolux.sweep.spec import Resources


def test_every_trial_is_trained_once(bench: Any) -> None:
    found = bench.run()
    assert [item["state"] for item in found.values()] == ["done"] * 4
    assert list(found) == [
        "a_resolution-16",
        "a_resolution-32",
        "b_resolution-16",
        "b_resolution-32",
    ]
    assert found["b_resolution-32"]["metrics"]["test.psnr"] == 23.2
    assert len(bench.starts()) == 4
    tree = json.loads((bench.out / "sweep.json").read_text())
    assert tree["counts"] == {"done": 4}
    assert not (bench.out / "sweep" / "stop").exists()
    assert "| a_resolution-32 | done | **23.20** |" in (bench.out / "sweep.md").read_text()


def test_retries_and_failures(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bench.plan({"a_resolution-16": ["kill", "memory", "good"], "b_resolution-16": ["mistake"]})
    found = bench.run()
    assert found["a_resolution-16"]["attempts"] == 3
    states = [item["state"] for item in found.values()]
    assert states == ["done", "done", "mistake", "done"]
    assert bench.starts()[:3] == [
        "a_resolution-16 0 new", "a_resolution-16 1 resume", "a_resolution-16 2 resume",
    ]  # fmt: skip
    said = capsys.readouterr().err
    assert "a_resolution-16: killed by SIGKILL" in said
    assert "b_resolution-16: mistake: data.path: 5 absent pictures of 12" in said
    assert "[3/4]  " in said
    assert " left" in said


def test_what_is_done_is_not_run_again(bench: Any) -> None:
    bench.plan({"b_resolution-16": ["nan", "good"]})
    assert bench.run()["b_resolution-16"]["state"] == "failed"
    with pytest.raises(FileExistsError, match="go on with it by --resume"):
        bench.run()
    found = bench.run(resume=True)
    assert [item["state"] for item in found.values()] == ["done"] * 4
    assert len(bench.starts()) == 5
    page = (bench.out / "sweep.html").stat().st_mtime_ns
    bench.run(resume=True)  # nothing is left: the table and the page are made anew
    assert len(bench.starts()) == 5
    assert (bench.out / "sweep.html").stat().st_mtime_ns > page


def test_a_sweep_may_grow(bench: Any) -> None:
    bench.run()
    found = bench.run("grid.geometry.resolution=[16, 32, 48]", resume=True)
    assert len(found) == 6
    assert len(bench.starts()) == 6


def test_a_sweep_whose_settings_changed(bench: Any) -> None:
    bench.run()
    with pytest.raises(ConfError) as caught:
        bench.run("settings.data.size=64", resume=True)
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert "a_resolution-16: was begun with other settings: data.size was 32, is 64" in lines[0]


def test_a_folder_that_holds_runs_of_another_kind(bench: Any) -> None:
    (bench.out / "a_resolution-16").mkdir()
    (bench.out / "a_resolution-16" / "metrics.json").write_text("{}")
    with pytest.raises(FileExistsError, match="a run, a_resolution-16"):
        bench.run()


def test_two_sweeps_in_one_folder(bench: Any) -> None:
    with run.locked(bench.out / "sweep"), pytest.raises(BlockingIOError, match="another run"):
        bench.run()


def test_trials_see_only_the_devices_they_asked_for(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setattr(engines, "processors", lambda: 2)
    bench.run()
    seen = [json.loads(path.read_text())["cuda"] for path in bench.out.glob("*/seen.json")]
    assert seen == [""] * 4
    bench.run("resources.gpus=1", "out=two")
    seen = [json.loads(path.read_text())["cuda"] for path in Path("two").glob("*/seen.json")]
    assert set(seen) == {"4", "7"}


@pytest.fixture(autouse=True)
def _in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "plan.json").write_text("{}")


@pytest.mark.parametrize(
    ("asked", "cpus", "memory", "devices", "slots"),
    [
        (Resources(cpus=2), 8, 16.0, [], 4),
        (Resources(cpus=16), 8, 16.0, [], 1),
        (Resources(cpus=1, memory=5), 8, 16.0, [], 3),
        (Resources(cpus=1, parallel=2), 8, 16.0, [], 2),
        (Resources(cpus=1, gpus=1), 8, 16.0, ["0", "1"], 2),
        (Resources(cpus=1, gpus=2), 8, 16.0, ["0", "1", "2"], 1),
        (Resources(cpus=1, gpus=0.5), 8, 16.0, ["0", "1"], 4),
        (Resources(cpus=4, gpus=0.5), 8, 16.0, ["0", "1"], 2),
    ],
)
def test_how_many_fit(
    asked: Resources,
    cpus: int,
    memory: float,
    devices: list[str],
    slots: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engines, "processors", lambda: cpus)
    monkeypatch.setattr(engines, "memory_gib", lambda: memory)
    monkeypatch.setattr(engines, "gpus", lambda: devices)
    found, each = engines.fitting(asked)
    assert found == slots
    assert len(each) >= slots


def sweep_process(folder: Path, stand_in: Sequence[str]) -> subprocess.Popen[str]:
    """The sweep of the folder in a process of its own, as a person starts it."""
    code = (
        "import sys; from isolux import cli; from isolux.sweep import run;"
        f"real = run.sweep; run.sweep = lambda *a: real(*a, command={tuple(stand_in)!r});"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, "sweep", "s.conf", "--local", "resources.parallel=1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        start_new_session=True,
    )


@pytest.mark.parametrize(("number", "to_all"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_asked_to_stop(
    number: int, to_all: bool, bench: Any, tmp_path: Path, stand_in: tuple[str, ...]
) -> None:
    """Ctrl-C of a terminal reaches the whole group; a manager's SIGTERM the one process."""
    bench.plan({"a_resolution-32": ["wait", "good"]})
    process = sweep_process(tmp_path, stand_in)
    until = time.monotonic() + 60
    while len(bench.starts()) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.5)
    (os.killpg if to_all else os.kill)(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.endswith("isolux: interrupted\n")
    assert "Traceback" not in err
    states = {
        i["name"]: i["state"]
        for i in json.loads((bench.out / "sweep.json").read_text())["trials"]
    }
    assert list(states.values()) == ["done", "interrupted", "interrupted", "interrupted"]
    found = bench.run(resume=True)
    assert [item["state"] for item in found.values()] == ["done"] * 4
    assert "a_resolution-32 1 resume" in bench.starts()


def test_the_command(
    bench: Any,
    stand_in: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = run.sweep
    monkeypatch.setattr(run, "sweep", lambda *a: real(*a, command=stand_in))
    bench.plan({"b_resolution-32": ["nan", "good"]})
    assert cli.main(["sweep", "s.conf", "--local"]) == 1
    out = capsys.readouterr().out
    assert "b_resolution-32: failed: step 3: terms are not finite: mask" in out
    assert out.splitlines()[-1].endswith("out/sweep.html")
    assert cli.main(["sweep", "s.conf", "--local", "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"done": 4}


def test_without_ray_it_says_so(
    bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "find_spec", lambda _: None)
    found = bench.run(engine=run.choose_engine)
    assert [item["state"] for item in found.values()] == ["done"] * 4
    assert "Ray is not installed (pip install 'isolux[cluster]')" in capsys.readouterr().err
    spec = run.read_spec(bench.spec)
    with pytest.raises(ConfError, match="needs Ray: pip install"):
        run.choose_engine(spec, 1, address="auto")
    with pytest.raises(ConfError, match="needs submitit: pip install"):
        run.choose_engine(spec, 1, slurm=True)


def test_it_really_trains(
    tmp_path: Path, tiny: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    """A trial of a few steps, from the command to the page."""
    lists = [text.replace("=", " = [", 1) + "]" if "," in text else text for text in tiny]
    (tmp_path / "real.conf").write_text(
        "conf = demo\nsettings {\n" + "\n".join(lists) + "\n optimize.steps = [4, 2]\n}\n"
        "grid { optimize.batch = [1] }\n"
    )
    assert cli.main(["sweep", "real.conf", "out=real", "--local", "--json"]) == 0
    (trial,) = json.loads(capfd.readouterr().out)["trials"]
    assert trial["name"] == "batch-1"
    assert trial["metrics"]["test.psnr"] > 5
    assert trial["metrics"]["mesh.triangles"] > 0
    assert (tmp_path / "real" / "batch-1" / "mesh" / "mesh.glb").is_file()
    page = (tmp_path / "real" / "sweep.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 1
