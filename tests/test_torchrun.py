"""One scene on two processes, as a user starts, stops, kills and resumes it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path

import pytest

from isolux.cli import main
from isolux.optimize.checkpoint import latest
from isolux.optimize.log import read_log

ROOT = Path(__file__).parents[1]
LONG = ("optimize.steps=100000,2", "observe.checkpoint_every=3")
SHORT = ("optimize.steps=3,2",)  # no more than were made


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"} | more


@pytest.fixture
def command(scene_folder: Path, tiny: tuple[str, ...], tmp_path: Path) -> list[str]:
    """`train.py` and its arguments."""
    given = ("train.py", "--conf", "nerf_synthetic", *tiny, f"data.path={scene_folder}")
    return [*given, "geometry.init=sphere", f"out={tmp_path / 'run'}"]


@pytest.fixture
def torchrun(command: list[str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts two processes of `train.py` under `torchrun`; ends what is left of them."""
    started = list[subprocess.Popen[str]]()

    def start(*more: str) -> subprocess.Popen[str]:
        launcher = [sys.executable, "-m", "torch.distributed.run"]
        run = subprocess.Popen(
            [*launcher, "--standalone", "--nproc_per_node=2", *command, *more],
            cwd=ROOT, env=environment(), text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(run)
        return run

    yield start
    for run in started:
        if run.poll() is None:
            run.terminate()
            run.communicate(timeout=60)


def until(found: Callable[[], object], run: subprocess.Popen[str]) -> None:
    """Waits for something of a run that goes on."""
    end = time.monotonic() + 90
    while not found():
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def workers(run: subprocess.Popen[str]) -> dict[int, int]:
    """The processes that a launcher has started, by rank."""
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    found = {}
    for child in map(int, children):
        for text in Path(f"/proc/{child}/environ").read_text().split("\0"):
            if text.startswith("RANK="):
                found[int(text.removeprefix("RANK="))] = child
    return found


def told(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("isolux: ")]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_stopped_killed_and_resumed(
    tmp_path: Path, torchrun: Callable[..., subprocess.Popen[str]]
) -> None:
    """Ctrl-C leaves a checkpoint, so does the death of a process; then it goes on."""
    out = tmp_path / "run"
    checkpoints = out / "checkpoints"

    def newest() -> Path:
        return max(checkpoints.glob("[!.]*.safetensors"))

    run = torchrun(*LONG)
    until(lambda: any(checkpoints.glob("[!.]*.safetensors")), run)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode != 0
    assert told(err).count("isolux: interrupted") == 2
    stopped = latest(checkpoints)
    assert stopped is not None
    assert (out / "report.html").exists()

    run = torchrun(*LONG, "--resume")
    before = set(checkpoints.iterdir())
    until(lambda: newest() not in before, run)
    os.kill(workers(run)[1], signal.SIGKILL)
    _, err = run.communicate(timeout=60)
    assert run.returncode != 0
    (line,) = told(err)
    assert "process 0 of 2: another process has ended or does not answer" in line
    assert "Traceback" not in err.partition("isolux: process 0 of 2")[0]
    killed = latest(checkpoints)
    assert killed is not None
    assert killed.step > stopped.step
    last = [line for line in read_log(out / "log.jsonl") if line["kind"] == "step"][-1]
    assert killed.step >= last["step"]
    assert not (out / ".lock").exists()

    run = torchrun(*SHORT, "--resume")
    said, err = run.communicate(timeout=90)
    assert run.returncode == 0, err
    assert said.count("run folder:") == 1
    assert err.count("mesh 2/2") == 1
    assert "Traceback" not in err
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["time_s"]["steps"] == killed.extra["made"] + 2
    assert metrics["test"]["psnr"] > 5.0
    assert json.loads((out / "conf.json").read_text())["run"]["processes"] == 2
    assert (out / "mesh" / "mesh.glb").exists()
    steps = [(x["stage"], x["step"]) for x in read_log(out / "log.jsonl")]
    assert len(set(steps)) == len(steps)
    assert not [p for p in out.rglob("*") if p.name.startswith(".")]


@pytest.mark.parametrize(
    ("variables", "speaks"),
    [
        ({}, True),
        ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}, True),
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}, False),
        ({"RANK": "1", "WORLD_SIZE": "2"}, True),  # of something else
    ],
)
def test_only_the_first_process_says_where_the_run_is(
    variables: dict[str, str],
    speaks: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(import_module("isolux.train"), "train", lambda *_: None)
    assert main(["train", "--conf", "demo", f"out={tmp_path / 'run'}"]) == 0
    assert ("run folder:" in capsys.readouterr().out) is speaks


def by_hand(command: Sequence[str], *different: Sequence[str]) -> list[tuple[int, str, str]]:
    """Processes started without `torchrun`, each with settings of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    runs = [
        subprocess.Popen(
            [sys.executable, *command, *more], cwd=ROOT, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=environment(
                RANK=str(rank), WORLD_SIZE=str(len(different)), MASTER_ADDR="127.0.0.1",
                MASTER_PORT=str(port),
            ),
        )
        for rank, more in enumerate(different)
    ]  # fmt: skip
    said = [run.communicate(timeout=120) for run in runs]
    return [(run.returncode, *texts) for run, texts in zip(runs, said, strict=True)]


def test_processes_that_disagree(command: list[str], tmp_path: Path) -> None:
    """One line, exit 2, in both; nothing is written."""
    results = by_hand(command, ["losses.mask=2"], ["losses.mask=3"])
    for code, out, err in results:
        assert code == 2
        assert out == ""
        assert told(err) == [
            "isolux: processes disagree: losses.mask is 2.0 in process 0 and 3.0 in process 1; "
            "start all of them with the same settings"
        ]
        assert "Traceback" not in err
    assert not (tmp_path / "run").exists()
