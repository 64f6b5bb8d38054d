"""Trials on a Ray of this machine: two workers, one of which is killed on purpose."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install 'isolux[cluster]'")

CODE = """
import os, sys
from isolux import cli
from isolux.sweep import engines, ray_engine, run
real, stand_in = run.sweep, tuple(sys.argv[1].split("|"))
engines.processors = ray_engine.processors = lambda: 2
run.sweep = lambda *a: real(*a, command=stand_in)
sys.exit(cli.main(sys.argv[2:]))
"""


def ray_process(
    folder: Path, stand_in: tuple[str, ...], *arguments: str
) -> subprocess.Popen[str]:
    """A sweep in a process of its own: Ray leaves threads and warnings behind."""
    return subprocess.Popen(
        [sys.executable, "-c", CODE, "|".join(stand_in), "sweep", "s.conf", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        start_new_session=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )


def test_a_killed_worker_is_replaced(
    bench: Any, stand_in: tuple[str, ...], tmp_path: Path
) -> None:
    bench.plan(
        {
            "a_resolution-16": ["kill worker", "good"],
            "a_resolution-32": ["kill", "good"],
            "b_resolution-16": ["mistake"],
        }
    )
    process = ray_process(tmp_path, stand_in, "--json")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    trials = {item["name"]: item for item in json.loads(out)["trials"]}
    assert [item["state"] for item in trials.values()] == ["done", "done", "mistake", "done"]
    assert [item["attempts"] for item in trials.values()] == [2, 2, 1, 1]
    assert "a_resolution-16: its worker died" in err
    assert "Ray on this machine, 2 at a time" in err
    assert bench.starts() == [
        "a_resolution-16 0 new",
        "a_resolution-16 1 resume",
        "a_resolution-32 0 new",
        "a_resolution-32 1 resume",
        "b_resolution-16 0 new",
        "b_resolution-32 0 new",
    ]


def test_interrupted_then_resumed(
    bench: Any, stand_in: tuple[str, ...], tmp_path: Path
) -> None:
    """Meanwhile nothing of Ray listens to the network."""
    bench.plan({name: ["wait", "good"] for name in ("a_resolution-16", "a_resolution-32")})
    process = ray_process(tmp_path, stand_in)
    until = time.monotonic() + 90
    while len(bench.starts()) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(0.5)
    assert listening(process.pid)
    assert all(address.startswith(LOOPBACK) for address in listening(process.pid))
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    tree = json.loads((bench.out / "sweep.json").read_text())
    assert tree["counts"] == {"interrupted": 4}
    found = bench.run(resume=True)
    assert [item["state"] for item in found.values()] == ["done"] * 4
    assert "a_resolution-32 1 resume" in bench.starts()


LOOPBACK = ("127.", "::1", "::ffff:127.", "0000:0000:0000:0000:0000:0000:0000:0001")


def listening(process: int) -> set[str]:
    """Addresses on which a process and what it started listen."""
    psutil = pytest.importorskip("psutil", reason="psutil came with Ray, and does no more")
    family = [psutil.Process(process), *psutil.Process(process).children(recursive=True)]
    found = set()
    for member in family:
        for connection in member.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                found.add(connection.laddr.ip)
    return found


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", "Connection refused"),
        ("here", "HOST:PORT"),
        ("auto", "no cluster of Ray"),
    ],
)
def test_no_cluster_answers(address: str, words: str, spec_file: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "isolux", "sweep", "s.conf", "--address", address],
        capture_output=True,
        text=True,
        cwd=spec_file.parent,
        timeout=120,
    )
    assert result.returncode == 2, result.stderr
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert sorted(path.name for path in spec_file.parent.iterdir()) == ["s.conf"]
