"""Full memory ends a run with a line that says what to lower; the run can go on after it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from isolux.confs.read import read_conf
from isolux.confs.schema import RunConf
from isolux.optimize import drive
from isolux.optimize.checkpoint import latest
from isolux.optimize.memory import told, told_when_full, told_when_measuring

# As torch says it (c10/cuda/CUDACachingAllocator.cpp), without the advice at its end.
FULL = (
    "CUDA out of memory. Tried to allocate 2.26 GiB. GPU 0 has a total capacity of 15.77 GiB "
    "of which 533.19 MiB is free. Process 7 has 15.25 GiB memory in use. Of the allocated "
    "memory 14.30 GiB is allocated by PyTorch, and 0.50 GiB is reserved by PyTorch."
)
TOPOLOGY, MESH = "000002_topology_000010.safetensors", "000004_mesh_000010.safetensors"


def settings(*given: str) -> RunConf:
    return read_conf("demo", ["out=x", *given])


PICTURES = settings("optimize.batch=8", "data.size=800")
LATTICE = settings("geometry.resolution=256", "data.size=128")
TEXTURES = settings("material.texture_size=4096", "data.size=128")


@pytest.mark.parametrize(
    ("conf", "checkpoint", "words"),
    [
        (PICTURES, TOPOLOGY, "to optimize.batch=8 and data.size=800 (then material"),
        (PICTURES, TOPOLOGY, "lower optimize.batch or data.size; the last checkpoint is kept"),
        (settings("optimize.batch=1", "data.size=900,2000"), TOPOLOGY, "lower data.size; the"),
        (
            settings("optimize.batch=1", "data.size=900,2000"),
            TOPOLOGY,
            "=1 and data.size=900,2000",
        ),
        (LATTICE, TOPOLOGY, "to geometry.resolution=256 (then"),
        (LATTICE, TOPOLOGY, "lower geometry.resolution; the last checkpoint"),
        (LATTICE, TOPOLOGY, "not with another geometry.resolution"),
        (
            LATTICE,
            MESH,
            "then optimize.batch=4 and data.size=128): lower",
        ),  # no lattice any more
        (TEXTURES, MESH, "not with another material.texture_size: for that train anew"),
        (TEXTURES, TOPOLOGY, "lower material.texture_size; the last checkpoint is kept, and"),
        (PICTURES, "", "no checkpoint was written yet"),
    ],
)
def test_what_takes_the_most_is_named(conf: RunConf, checkpoint: str, words: str) -> None:
    text = told(torch.cuda.OutOfMemoryError(FULL), conf, checkpoint)
    assert words in text, text
    assert "\n" not in text
    assert ("--resume" in text) is bool(checkpoint)
    first = (
        "out of GPU memory: 2.26 GiB were asked for, 533.19 MiB of the device's 15.77 GiB are"
    )
    assert text.startswith(first)


def test_what_others_say_of_it() -> None:
    said = {
        "CUDA, starting every_one of every.cu: out of memory; use smaller batches": (
            "out of GPU memory: CUDA, starting every_one of every.cu; most"
        ),
        "CUDA error: out of memory\nCUDA kernel errors might": "out of GPU memory; most",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 3221225472 bytes.": (
            "out of memory: 3 GiB were asked for; most"
        ),
        "": "out of memory; most",
    }
    for error, words in said.items():
        assert told(MemoryError(error), PICTURES, TOPOLOGY).startswith(words)
    with pytest.raises(MemoryError) as caught:
        np.empty(1 << 62, np.uint8)
    text = told(caught.value, PICTURES, TOPOLOGY)
    assert text.startswith("out of memory: 4.00 EiB were asked for; most")


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a bug"), told_when_full(PICTURES, tmp_path):
        raise RuntimeError("a bug")
    with pytest.raises(MemoryError, match="3 GiB were"), told_when_full(PICTURES, tmp_path):
        raise RuntimeError("can't allocate memory: you tried to allocate 3221225472 bytes.")


def test_a_run_is_told_and_goes_on(
    tmp_path: Path,
    scene_folder: Path,
    isolux_train: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit 1, one line, the report and the last checkpoint; smaller batches finish it."""
    out, terms = tmp_path / "run", drive.mesh_terms
    given = (f"data.path={scene_folder}", "geometry.init=sphere", "observe.checkpoint_every=4")
    steps = list[int]()

    def full(*arguments: object) -> dict[str, torch.Tensor]:
        steps.append(1)
        if len(steps) > 6:
            raise torch.cuda.OutOfMemoryError(FULL)
        return terms(*arguments)

    monkeypatch.setattr(drive, "mesh_terms", full)
    assert isolux_train("nerf_synthetic", out, *given, "optimize.steps=3,9") == 1
    said = capsys.readouterr().err
    (line,) = [line for line in said.splitlines() if line.startswith("isolux: ")]
    assert "out of GPU memory: 2.26 GiB" in line
    assert "optimize.batch=2 and data.size=32" in line
    assert "--resume goes on from it" in line
    assert "Traceback" not in said
    assert (out / "report.html").exists()
    left = latest(out / "checkpoints")
    assert left is not None
    assert (left.stage, left.step) == ("mesh", 4)

    monkeypatch.setattr(drive, "mesh_terms", terms)
    again = (*given, "optimize.steps=3,9", "optimize.batch=1", "--resume")
    assert isolux_train("nerf_synthetic", out, *again) == 0
    assert (out / "mesh" / "mesh.glb").exists()


def test_measuring_says_what_to_change() -> None:
    with (
        pytest.raises(
            MemoryError, match=r"data\.size=800, .* lower data\.size .*in x/conf\.json"
        ),
        told_when_measuring(PICTURES, Path("x", "conf.json")),
    ):
        raise torch.cuda.OutOfMemoryError(FULL)
    with (
        pytest.raises(RuntimeError, match="a bug"),
        told_when_measuring(PICTURES, Path("x", "conf.json")),
    ):
        raise RuntimeError("a bug")


def test_eval_says_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from isolux import eval as measuring

    class Done:
        conf = PICTURES

    def full(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError(FULL)

    monkeypatch.setattr(measuring, "load", lambda folder: Done())
    monkeypatch.setattr(measuring, "_measured", full)
    with pytest.raises(MemoryError, match="measuring draws whole pictures"):
        measuring.evaluate(tmp_path)
