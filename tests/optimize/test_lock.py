"""One writer a folder, and a dead one holds nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from isolux.optimize import lock
from isolux.optimize.lock import locked

_HOLD = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from isolux.optimize import lock
if sys.argv[3] == "plain":
    lock.fcntl = None
with lock.locked(Path(sys.argv[1])):
    sys.stdout.write("held\\n")
    sys.stdout.flush()
    time.sleep(60)
"""


@pytest.fixture(params=["flock", "plain"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of locking; the second is for systems without flock."""
    if request.param == "plain":
        monkeypatch.setattr(lock, "fcntl", None)
    return str(request.param)


@contextmanager
def holder(folder: Path, kind: str) -> Iterator[subprocess.Popen[str]]:
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", _HOLD, str(folder), root, kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_another_process_is_refused_with_one_line(tmp_path: Path, kind: str) -> None:
    with holder(tmp_path, kind) as process:
        with (
            pytest.raises(BlockingIOError, match="another run") as caught,
            locked(tmp_path),
        ):
            pass
        assert str(process.pid) in str(caught.value)
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_killed_holder_is_taken_over(tmp_path: Path, kind: str) -> None:
    with holder(tmp_path, kind) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / ".lock").exists()
    with locked(tmp_path):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()


def test_it_is_free_afterwards_even_after_an_error(tmp_path: Path, kind: str) -> None:
    with pytest.raises(RuntimeError), locked(tmp_path / "new"):
        raise RuntimeError
    with locked(tmp_path / "new"):
        pass
    assert list((tmp_path / "new").iterdir()) == []


def test_twice_in_one_process_is_refused(tmp_path: Path, kind: str) -> None:
    with locked(tmp_path), pytest.raises(BlockingIOError), locked(tmp_path):
        pass


def test_another_machines_lock_is_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "fcntl", None)
    (tmp_path / ".lock").write_text("far-away 1")
    with pytest.raises(BlockingIOError, match="far-away"), locked(tmp_path):
        pass
