"""One start of a trial: what its end means, being asked to stop, a worker that is killed."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from isolux.optimize.lock import locked
from isolux.sweep import attempt as module
from isolux.sweep.attempt import Attempt, Outcome, run_attempt

MakeAttempt = Callable[..., Attempt]


@pytest.fixture
def make(tmp_path: Path, stand_in: tuple[str, ...]) -> MakeAttempt:
    """An attempt whose starts go as the words say."""

    def build(*words: str, minutes: float | None = None) -> Attempt:
        (tmp_path / "plan.json").write_text(json.dumps({"run": words}))
        conf = {"out": str(tmp_path / "run"), "geometry": {"resolution": 16}}
        (tmp_path / "conf.json").write_text(json.dumps(conf))
        return Attempt(
            name="run",
            number=1,
            folder=tmp_path / "run",
            settings=tmp_path / "conf.json",
            log=tmp_path / "own" / "run.log",
            stop=tmp_path / "stop",
            minutes=minutes,
            command=stand_in,
        )

    return build


@pytest.mark.parametrize(
    ("word", "state", "code", "reason"),
    [
        ("good", "done", 0, ""),
        ("kill", "crashed", -9, "SIGKILL"),
        ("137", "crashed", 137, "SIGKILL"),
        ("memory", "crashed", 1, "out of memory: Unable to allocate 1.2 GiB"),
        ("nan", "failed", 1, "step 3: terms are not finite: mask"),
        ("mistake", "mistake", 2, "5 absent pictures"),
        ("empty", "failed", 0, "metrics.json is not there"),
    ],
)
def test_what_an_end_means(
    word: str, state: str, code: int, reason: str, make: MakeAttempt
) -> None:
    outcome = run_attempt(make(word))
    assert (outcome.state, outcome.code) == (state, code)
    assert reason in outcome.reason
    assert outcome.reason.count("\n") == 0
    assert outcome.seconds > 0


def test_it_resumes_what_was_begun(make: MakeAttempt, tmp_path: Path) -> None:
    attempt = make("kill", "good")
    assert run_attempt(attempt).state == "crashed"
    assert run_attempt(attempt).state == "done"
    assert (tmp_path / "starts.txt").read_text() == "run 0 new\nrun 1 resume\n"
    assert run_attempt(attempt).state == "done"  # and does not start what is done
    assert (tmp_path / "starts.txt").read_text().count("\n") == 2
    assert attempt.log.read_text().count("# attempt") == 2


def test_a_line_of_an_earlier_attempt_is_not_this_ones(make: MakeAttempt) -> None:
    attempt = make("memory", "nan")
    assert run_attempt(attempt).state == "crashed"
    assert run_attempt(attempt).state == "failed"


def test_no_command_is_ours(make: MakeAttempt) -> None:
    """A conf that is none: isolux itself says so."""
    attempt = make("good")
    attempt.settings.write_text("[]")
    outcome = run_attempt(Attempt(**{**vars(attempt), "command": ()}))
    assert (outcome.state, outcome.code) == ("mistake", 2)
    assert "JSON object" in outcome.reason


def test_time_is_up(make: MakeAttempt) -> None:
    outcome = run_attempt(make("wait", minutes=0.02))
    assert outcome.state == "out of time"
    assert outcome.code == 130


def test_asked_to_stop_before_it_began(make: MakeAttempt, tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    assert run_attempt(make("good")).state == "interrupted"
    assert not (tmp_path / "run").exists()


def beside(attempt: Attempt, folder: Path) -> subprocess.Popen[bytes]:
    """A worker that runs the attempt, in a process of its own; returns once it has begun."""
    code = (
        "import pickle, sys; from isolux.sweep.attempt import run_attempt;"
        "outcome = run_attempt(pickle.load(sys.stdin.buffer));"
        "sys.exit(['done', 'interrupted'].index(outcome.state))"
    )
    worker = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    assert worker.stdin
    pickle.dump(attempt, worker.stdin)
    worker.stdin.close()
    wait_for(lambda: (folder / "run" / "checkpoints").exists())
    time.sleep(0.3)
    return worker


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize(("word", "says"), [("wait", "stop"), ("deaf", "now")])
def test_asked_to_stop(word: str, says: str, make: MakeAttempt, tmp_path: Path) -> None:
    """Once asks the training; at once kills the one that does not listen."""
    worker = beside(make(word), tmp_path)
    (tmp_path / "stop").write_text(says)
    assert worker.wait(timeout=30) == 1


def test_a_killed_worker_leaves_no_training_behind(make: MakeAttempt, tmp_path: Path) -> None:
    attempt = make("wait", "good")
    worker = beside(attempt, tmp_path)
    with pytest.raises(BlockingIOError), locked(attempt.folder):
        pass
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    assert run_attempt(attempt).state == "done"  # waits until the other has let go
    assert (tmp_path / "starts.txt").read_text() == "run 0 new\nrun 1 resume\n"


def test_a_folder_that_another_run_holds(
    make: MakeAttempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_HANDOVER", 0.2)
    attempt = make("good")
    with locked(attempt.folder):
        outcome = run_attempt(attempt)
    assert outcome.state == "failed"
    assert "another run is writing here" in outcome.reason


def test_it_travels(make: MakeAttempt) -> None:
    attempt = make("good")
    assert pickle.loads(pickle.dumps(attempt)) == attempt
    assert pickle.loads(pickle.dumps(Outcome("done", 0))) == Outcome("done", 0)
