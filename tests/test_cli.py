"""The command line as a person types it: exit codes, and one line for each mistake."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from isolux import cli
from isolux.backends.cuda import driver, nvrtc

ROOT = Path(__file__).parents[1]


def isolux(
    *arguments: str,
    cwd: Path | None = None,
    program: tuple[str, ...] = ("-m", "isolux"),
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    return subprocess.run(
        [sys.executable, *program, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=env,
        timeout=120,
    )


def said(*arguments: str, cwd: Path, lines: int = 1) -> str:
    """What a mistake is answered with: exit 2, so many lines, nothing else."""
    result = isolux(*arguments, cwd=cwd)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    told = result.stderr.splitlines()
    assert len(told) == lines
    assert all(line.startswith("isolux: ") for line in told)
    return result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--conf", "demo", "optimize.stpes=5"], ["optimize.stpes", "optimize.steps"]),
        (["train", "--config", "demo", "seed=soon"], ["seed", "whole number", "'soon'"]),
        (["train", "--conf", "demo", "geometry.resolution=2"], ["from 4 to 512", "got 2"]),
        (["train", "--conf", "spto"], ["'spto'", "did you mean 'spot'", "demo"]),
        (["train", "--conf", "gone.conf"], ["gone.conf"]),
        (["train", "--conf", "spot"], ["data.path", "not given"]),
        (["train", "--conf", "spot", "data.path=x.obj"], ["data.envmap", "not given"]),
        (["train", "--conf", "nerf_synthetic", "data.path=gone"], ["data.path", "gone"]),
        (["train", "--conf", "demo", "out=file"], ["out", "file", "is a file"]),
        (["train", "--conf", "demo", "light.envmap=gone.hdr"], ["light.envmap", "gone.hdr"]),
        (["train", "--conf", "demo", "--rseume"], ["--rseume"]),
        (["train", "--conf", "demo", "seed"], ["'seed'"]),
        (["train", "--conf", "demo", "--seed=4"], ["'--seed=4'", "no dashes: seed=4"]),
        (["train", "--conf", "demo", "out="], ["out", "is empty"]),
        (["train", "--conf", "demo", "--resume", "out=gone"], ["gone", "no run to resume"]),
        (["train", "--conf", "nerf_synthetic", "data.path=file"], ["file", "give the folder"]),
        (["train", "demo"], ["--conf"]),
        (["eval", "--run", "gone"], ["gone", "no such folder"]),
        (["eval", "--run", "."], ["no run folder"]),
        (["eval", "--run", "file"], ["file", "is a file", "folder of a run"]),
        (["export", "--run", ".", "-o", "mesh.stl"], ["mesh.stl", "glb, obj or ply"]),
        (["export", "--run", ".", "--format", "obj", "-o", "a.glb"], ["a.glb", "--format obj"]),
        (["export", "--run", ".", "--format", "obj", "-o", "."], [".", "is a folder", "-o"]),
        (["sweep"], ["SPEC"]),
        (["sweep", "gone.conf"], ["gone.conf", "no such file"]),
        (["sweep", "file", "out=x"], ["file", ".conf"]),
        (["doctor", "seed=1"], ["doctor", "no settings"]),
        (["conf", "demo", "seed=1", "--jsn"], ["--jsn"]),
        (["tarin"], ["tarin"]),
        ([], ["COMMAND"]),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "x.obj").write_text("")
    text = said(*arguments, cwd=tmp_path)
    assert all(word in text for word in words), text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "x.obj"]


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    text = said(
        "train",
        "--conf",
        "demo",
        "seed=-1",
        "light.lern=no",
        "data.size=x",
        cwd=tmp_path,
        lines=3,
    )
    assert all(key in text for key in ("seed", "light.lern", "light.learn", "data.size"))


@pytest.mark.parametrize("kind", ["nerf_synthetic", "auto"])
def test_a_folder_that_is_no_scene(kind: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.conf").write_text(f"data.kind = {kind}")
    text = said("train", "--conf", "a.conf", "data.path=empty", cwd=tmp_path)
    assert "transforms_train.json" in text


def test_a_folder_that_holds_a_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text("{}")
    text = said("train", "--conf", "demo", "out=run", cwd=tmp_path)
    assert "already holds a run" in text
    assert "--resume" in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "out" in said("train", "--conf", "demo", "out=run", cwd=tmp_path)


def test_a_folder_that_cannot_be_written_is_found_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert cli.main(["train", "--conf", "demo", f"out={tmp_path}/run"]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_output_that_cannot_be_shown_ends_nothing() -> None:
    """A closed terminal, and one that lacks the letters of a path."""
    closed = f'"{sys.executable}" -m isolux conf demo >&-'
    result = subprocess.run(closed, shell=True, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    result = isolux("conf", "demo", "out=ü", env=ascii_only)
    assert result.returncode == 0
    assert "\\xfc" in result.stdout


@pytest.mark.parametrize("program", [("-m", "isolux"), (str(ROOT / "train.py"),)])
def test_help_is_success(program: tuple[str, ...]) -> None:
    result = isolux("--help", program=program)
    assert result.returncode == 0
    assert "usage: isolux" in result.stdout


def test_the_doors_at_the_root(tmp_path: Path) -> None:
    for door, word in (("train.py", "--conf"), ("eval.py", "--run")):
        result = isolux(cwd=tmp_path, program=(str(ROOT / door),))
        assert result.returncode == 2
        assert word in result.stderr


def test_conf_prints_what_would_run(tmp_path: Path) -> None:
    result = isolux("conf", "demo", "--json", "seed=7", "optimize.steps=5", cwd=tmp_path)
    assert result.returncode == 0
    tree = json.loads(result.stdout)
    assert tree["seed"] == 7
    assert tree["optimize"]["steps"] == [5, 5]
    listing = isolux("conf", cwd=tmp_path)
    assert "nerf_synthetic" in listing.stdout


def test_doctor_answers() -> None:
    result = isolux("doctor", "--json")
    assert result.returncode == 0
    tree = json.loads(result.stdout)
    assert tree["backends"].keys() == {"cpu", "reference", "cuda"}
    assert tree["threads"]["processors"] >= 1
    assert tree["backend"] == "cpu"


def ending(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Exit code and message when a command ends with an error."""

    def fail(*_: object) -> int:
        raise error

    monkeypatch.setitem(cli._COMMANDS, "doctor", fail)
    code = cli.main(["doctor"])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyboardInterrupt(), 130, "isolux: interrupted\n"),
        (ValueError("a\nb"), 2, "isolux: a\nisolux: b\n"),
        (KeyError("no 'x'"), 2, "isolux: no 'x'\n"),
        (OSError(28, "No space left on device", "a.png"), 2, "a.png: No space left"),
        (OSError(28, "the disk is full"), 2, "isolux: the disk is full\n"),
        (FloatingPointError("step 3: mask"), 1, "isolux: step 3: mask\n"),
        (MemoryError(), 1, "isolux: MemoryError\n"),
    ],
)
def test_how_errors_end(
    error: BaseException,
    code: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    got, told = ending(error, monkeypatch, capsys)
    assert got == code
    assert text in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            driver.DriverError("CUDA, starting a of b.cu: an illegal memory access"),
            "CUDA, start",
        ),
        (driver.ImageError("CUDA, loading b.cu: no kernel image"), "CUDA, loading b.cu"),
        (nvrtc.CompileError("b.cu for sm_90: b.cu(1): error: what\nmore of it"), "b.cu for"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to"), "CUDA out of memory."),
        (torch.AcceleratorError("CUDA error: an illegal\nCompile with"), "CUDA error: an ill"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_X when calling"), "CUDA error: CUBLAS_ST"),
    ],
)
def test_a_device_that_fails_is_one_line(
    error: BaseException,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, told = ending(error, monkeypatch, capsys)
    assert code == 1
    assert told.startswith(f"isolux: {text}")
    assert len(told.splitlines()) == 1


def test_a_traceback_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ISOLUX_TRACEBACK", "1")
    assert "Traceback" in ending(ValueError("x"), monkeypatch, capsys)[1]


def test_a_fault_of_ours_is_not_hidden(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError):
        ending(RuntimeError("a bug"), monkeypatch, capsys)
    with monkeypatch.context() as without:
        without.delitem(sys.modules, "torch")
        with pytest.raises(RuntimeError):
            ending(RuntimeError("before torch is loaded"), monkeypatch, capsys)
    with pytest.raises(ImportError):
        ending(ImportError("x", name="isolux.x"), monkeypatch, capsys)
    assert ending(ImportError("x", name="viser"), monkeypatch, capsys)[0] == 2


def test_the_demo_takes_a_folder_of_its_own(tmp_path: Path) -> None:
    first = tmp_path / "demo"
    assert cli._free(first) == first
    first.mkdir()
    (tmp_path / "demo-2").mkdir()
    assert cli._free(first) == tmp_path / "demo-3"
