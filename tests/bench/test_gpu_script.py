"""The measurements for a device, tried out without one: stand-ins, tiny sizes, no clock."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from isolux import backends
from isolux.backends.available import cuda_problem
from isolux.bench.gpu import command, draw, peers, smi, tables, training
from isolux.bench.gpu.cells import Cell, Job, Plan
from isolux.bench.gpu.clock import ProcessorClock, Sample, sampled

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.py"

NVDIFFRAST = "from stub_nvdiffrast import *\nfrom stub_nvdiffrast import __version__\n"
TINYCUDANN = '''
from stub_tinycudann import *
from stub_tinycudann import __version__
from torch import nn


def supports_jit_fusion():
    return True


class NetworkWithInputEncoding(nn.Module):
    """The stand-in's parts, one after the other."""

    def __init__(self, n_input_dims, n_output_dims, encoding_config, network_config):
        super().__init__()
        self.encoding = Encoding(n_input_dims, encoding_config)
        width = self.encoding.n_output_dims
        self.network = Network(width, n_output_dims, network_config)
        self.jit_fusion = False

    def forward(self, x):
        return self.network(self.encoding(x).float())
'''


def plan(**changes: Any) -> Plan:
    given = {"backend": backends.cpu(), "device": "cpu", "clock": ProcessorClock()}
    return Plan(**{**given, "dry_run": True, **changes})


@pytest.fixture
def with_packages(tmp_path: Path) -> dict[str, str]:
    """The environment of a command that finds stand-ins under the packages' names."""
    (tmp_path / "nvdiffrast").mkdir()
    (tmp_path / "nvdiffrast" / "__init__.py").write_text("__version__ = '0.4.0'\n")
    (tmp_path / "nvdiffrast" / "torch.py").write_text(NVDIFFRAST)
    (tmp_path / "tinycudann.py").write_text(TINYCUDANN)
    path = os.pathsep.join([str(tmp_path), str(ROOT / "tests" / "support"), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path}


def run(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env=env, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


# The command


def test_a_dry_run_with_both_packages(with_packages: dict[str, str], tmp_path: Path) -> None:
    """Everybody's drawing and encoding runs, and ours draws the picture of theirs."""
    file, page = tmp_path / "gpu.json", tmp_path / "gpu.md"
    wanted = ["--only", "draw", "--only", "encode", "--only", "ceiling"]
    answer = run(
        with_packages, "--dry-run", *wanted, "--json", str(file), "--markdown", str(page)
    )
    assert answer.returncode == 0, answer.stderr
    result = json.loads(file.read_text())
    assert result["dry_run"]
    assert "no measurement" in result["clock"]
    assert "DRY RUN" in answer.stdout
    assert "DRY RUN" in page.read_text()
    cells = {cell["case"]: cell for cell in result["cells"]}
    assert len(cells) == 3 + 5 + 4
    assert all("dry run" in cell["note"] for cell in cells.values())
    forward = cells["300 triangles, 2 x 24x24, forward"]
    assert forward["values"].keys() == {"isolux", "nvdiffrast"}
    assert forward["ratio"] > 0
    assert float(forward["note"].rpartition(" ")[2]) < 1e-4, forward["note"]
    encoded = cells["64 points of a surface, backward"]
    assert encoded["absent"].keys() == {"isolux, half"}
    assert encoded["values"].keys() == {
        "isolux", "isolux, same bits", "tiny-cuda-nn", "tiny-cuda-nn, fused",
        "isolux with tinycudann",
    }  # fmt: skip
    assert page.read_text().count("\n| ") == 2 + len(cells)


@pytest.mark.slow
def test_a_dry_run_of_everything(with_packages: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    answer = run(with_packages, "--dry-run", "--json", str(file))
    assert answer.returncode == 0, answer.stderr
    cells = json.loads(file.read_text())["cells"]
    groups = {cell["group"] for cell in cells}
    assert groups == {"ceiling", "draw", "encode", "start", "step", "kernel", "run"}
    for cell in cells:
        assert "isolux" in cell["values"] or cell["group"] == "ceiling", cell


def test_without_a_device(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(backends, "why_not_cuda", lambda: "no luck")
    assert command.main(["--list"]) == 1
    assert capsys.readouterr().err.startswith("nothing is measured: backend=cuda: no luck\n")


def test_cases_are_listed_and_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    names = [job.name for job in command.jobs_of(plan(dry_run=False))]
    for triangles in ("20k", "100k", "1M"):
        for size in (512, 1024):
            assert f"draw: {triangles} triangles, 8 x {size}x{size}" in names
    assert "encode: 1048576 points of a surface" in names
    assert "step: bob, 4 x 512x512, grid 64" in names
    assert "step: spot, 8 x 512x512, grid 64" in names
    assert "step: bob, 4 x 512x512, grid 64, same bits" in names
    assert "step: bob, 4 x 512x512, grid 64, CUDA graph" in names
    quick = [job.name for job in command.jobs_of(plan(dry_run=False, quick=True))]
    assert [name for name in names if name not in quick] == [
        name for name in names if "1M" in name
    ]
    assert command.main(["--dry-run", "--list", "--only", "STEP: spot*"]) == 0
    assert capsys.readouterr().out == "step: spot, 8 x 512x512, grid 64\n"
    assert command.main(["--dry-run", "--only", "nothing"]) == 1
    assert "groups are ceiling, draw, encode" in capsys.readouterr().err


def test_a_failure_is_a_cell_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> list[Cell]:
        raise RuntimeError("CUDA error: an illegal memory access\nand more")

    good = Job("b", "y", lambda: [Cell("b", "y", "ms", {"isolux": Sample.one(1.0)})])
    monkeypatch.setattr(command, "jobs_of", lambda _: iter([Job("a", "x", broken), good]))
    assert command.main(["--dry-run"]) == 1
    said = capsys.readouterr()
    assert "a: x ... failed: CUDA error: an illegal memory access, " in said.err
    assert "Blank: isolux (1 cell): failed: CUDA error: an illegal memory access" in said.out
    assert "b: y ... done" in said.err


# Parts


def test_what_is_timed() -> None:
    """Warm-up and preparation do not count; each repeat gets its own preparation."""
    calls: list[str] = []
    ticks = iter(range(100))

    class Clock(ProcessorClock):
        def mark(self) -> float:
            calls.append("mark")
            return float(next(ticks))

    def prepare() -> int:
        calls.append("prepare")
        return 7

    sample = sampled(Clock(), prepare, lambda x: calls.append(f"job {x}"), 3, 2)
    assert sample == Sample(1000.0, 1000.0, 3)
    assert calls == ["prepare", "mark", "job 7", "mark"] * 5


def test_a_cell_compares_the_fastest_with_the_fastest() -> None:
    def cell(**values: Sample | str) -> Cell:
        return Cell(
            "g", "c", "ms", {k.replace("_", " "): v for k, v in values.items()}, None, 1.2
        )

    both = Cell(
        "g",
        "c",
        "ms",
        {
            "isolux": Sample.one(4.0),
            "isolux, half": Sample.one(2.0),
            "isolux with tinycudann": Sample.one(0.1),
            "isolux, same bits": Sample.one(0.2),
            "tiny-cuda-nn": Sample.one(3.0),
            "tiny-cuda-nn, fused": "not here",
        },
        None,
        1.2,
    )
    assert both.ratio == 1.5
    assert both.met
    assert both.as_tree()["absent"] == {"tiny-cuda-nn, fused": "not here"}
    assert cell(isolux=Sample.one(4.0), other=Sample.one(3.0)).met is False
    assert cell(isolux=Sample.one(4.0), other="not here").met is None
    assert cell(isolux="failed", other=Sample.one(3.0)).ratio is None
    assert Cell("g", "c", "ms", {"isolux": Sample.one(9.0)}, ("<=", 10.0)).met
    assert Cell("g", "c", "dB", {"isolux": Sample.one(30.0)}, (">=", 33.0)).met is False
    assert Cell("g", "c", "dB", {"isolux": Sample.one(30.0)}).met is None


def test_a_sphere_of_any_number_of_triangles() -> None:
    vertices, faces = draw.cube_sphere(6)
    assert len(faces) == 12 * 36
    assert len(vertices) == 2 + len(faces) // 2  # closed, of genus 0
    torch.testing.assert_close(vertices.norm(dim=-1), torch.ones(len(vertices)))
    a, b, c = vertices[faces.long()].unbind(1)
    outward = torch.linalg.cross(b - a, c - a)
    assert ((outward * (a + b + c)).sum(-1) > 0).all()
    area = outward.norm(dim=-1)
    assert area.max() < 2.5 * area.min()


def test_packages_that_are_not_here_are_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backends.adapters.util, "find_spec", lambda _: None)
    with pytest.raises(
        ImportError, match=r"^nvdiffrast is not installed, need nvdiffrast >= 0.4$"
    ):
        peers.package("nvdiffrast")
    with pytest.raises(ImportError, match=r"^tinycudann is not installed"):
        peers.with_operators(backends.cpu(), {"mlp": "tinycudann"})


def test_the_table_says_who_is_faster() -> None:
    cell = Cell(
        "draw", "20k", "ms", {"isolux": Sample(1.5, 1.25, 9), "nvdiffrast": Sample(3, 2, 9)},
        None, 1.3, "a | b",
    )  # fmt: skip
    result = {
        "machine": {"GPU": "some device", "driver": None},
        "cells": [cell.as_tree()],
        "repeats": 9,
        "clock": "events",
        "dry_run": False,
    }
    text, page = tables.text(result), tables.markdown(result)
    assert "DRY RUN" not in text
    assert text.startswith("GPU some device\n")
    assert "1.5 (1.25)  nvdiffrast 3 (2)  2.00x  1x, aim 1.3x  yes  a | b" in text
    row = page.splitlines()[-1]
    assert row.count("|") == page.splitlines()[-2].count("|")
    assert "a / b" in row


# Where a device is


@pytest.mark.gpu
def test_the_quickest_cases_on_a_device(tmp_path: Path) -> None:
    if problem := cuda_problem():
        pytest.skip(problem)
    file = tmp_path / "gpu.json"
    arguments = ["--quick", "--json", str(file), "--only", "*20k*512*", "--only", "start"]
    answer = run({**os.environ, "PYTHONPATH": str(ROOT)}, *arguments)
    assert answer.returncode == 0, answer.stderr
    for cell in json.loads(file.read_text())["cells"]:
        assert cell["values"]["isolux"]["median"] > 0, cell


def test_what_a_training_warns_of_stands_beside_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def warned(*_: object, **__: object) -> None:
        for _ in range(2):
            logging.getLogger("isolux.optimize.graph").warning("no CUDA graph: %s", "too long")

    monkeypatch.setattr(training.isolux, "train", warned)
    assert training.train("demo", {}) == ["no CUDA graph: too long"]
    assert not [h for h in logging.getLogger("isolux").handlers if type(h) is logging.Handler]


def test_the_device_that_torch_sees_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\necho "1234"\necho "$@" >&2\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert smi.asked("memory.used") == "1234"
    tool.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert smi.asked("memory.used") is None
