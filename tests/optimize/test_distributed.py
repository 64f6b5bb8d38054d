"""Several processes do what one with all the views does, and end together.

Run as a program this file forks the processes of each case below and prints what they found:
so torch is loaded once, and the processes of pytest itself are never forked.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from isolux.confs.read import read_conf
from isolux.confs.schema import RunConf
from isolux.data.assets.ply import write_ply
from isolux.data.procedural import demo_asset
from isolux.geometry.mesh import Mesh
from isolux.optimize.build import Problem, build
from isolux.optimize.checkpoint import Checkpoint
from isolux.optimize.clock import Clock
from isolux.optimize.distributed import (
    ALONE,
    Group,
    ProcessLost,
    Share,
    joined,
    local_threads,
)
from isolux.optimize.drive import optimise
from isolux.optimize.fit import fit
from isolux.optimize.objective import topology_terms
from isolux.optimize.observers import Observer, StepInfo
from isolux.optimize.plan import Phase
from isolux.optimize.stages import topology_scene
from isolux.optimize.weights import constant

Tensors = dict[str, torch.Tensor]

# Every term has a weight, so that each is seen to be averaged rightly.
SETTINGS = (
    "threads=1", "data.size=32", "data.train_views=8", "data.test_views=1", "out=nowhere",
    "geometry.resolution=14", "geometry.init=sphere", "material.texture_size=64",
    "material.levels=4", "material.log2_rows=10", "material.width=16", "light.resolution=16",
    "material.orm_max=1,1,1", "losses.orm_smooth=0.3", "losses.albedo_smooth=0.3",
    "losses.normal_smooth=0.3", "losses.smooth_sdf=0.1", "losses.normal_consistency=0.1",
)  # fmt: skip
STAGES = {
    "topology": ("optimize.steps=3,0",),
    "network": ("optimize.steps=1,0", "geometry.sdf=network", "geometry.extractor=flexicubes"),
    "rescued": ("optimize.steps=3,0", "optimize.coarse_to_fine=false"),
    "mesh": ("optimize.steps=0,2", "geometry.base_mesh={folder}/ball.ply"),
}
PROCESSES = {"topology": (2, 4), "network": (2,), "rescued": (2,), "mesh": (2,)}


class _Done(Exception):
    """The stage that was asked for is over."""


def settings_of(folder: Path, stage: str) -> RunConf:
    return read_conf("demo", [*SETTINGS, *(t.format(folder=folder) for t in STAGES[stage])])


def trained(
    conf: RunConf, problem: Problem, batch: int, empty: bool
) -> tuple[Tensors, list[dict[str, float]]]:
    """The state at the end of a run's first stage, and the terms of its steps.

    The surface vanishes after the first of them if `empty` says so.
    """
    optimize = conf.optimize.model_copy(update={"batch": batch})
    conf = conf.model_copy(update={"optimize": optimize})
    state, told = Tensors(), list[StepInfo]()

    def keep(checkpoint: Checkpoint) -> None:
        state.update({name: v.detach().clone() for name, v in checkpoint.tensors.items()})
        state["times put back"] = torch.tensor(checkpoint.extra["rescued"])
        raise _Done  # no charts, please

    def watch(_: Phase, scene: Any, __: object) -> list[Observer]:
        def vanish(info: StepInfo) -> None:
            if empty and info.done == 1:
                with torch.no_grad():
                    scene.geometry.sdf.fill_(1.0)

        return [told.append, vanish]

    with suppress(_Done), joined({}) as group:
        optimise(conf, problem, None, watch, keep, lambda: 0.0, group)
    return state, [info.terms for info in told]


def in_processes(
    count: int, body: Callable[[Path, int], Any], folder: Path
) -> tuple[list[Any], list[int]]:
    """What a function gives in so many joined processes, and their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(count):
        (folder / f"{rank}.pt").unlink(missing_ok=True)
        if child := os.fork():
            children.append(child)
            continue
        try:
            os.environ |= {
                "RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port), "LOCAL_WORLD_SIZE": str(count),
            }  # fmt: skip
            torch.save(body(folder, rank), folder / f"{rank}.pt")
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"process {rank}: {error!r}\n")
            os._exit(1)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    files = [folder / f"{rank}.pt" for rank in range(count)]
    return [torch.load(f) if f.exists() else None for f in files], codes


def gaps(ours: Tensors, theirs: Tensors) -> tuple[float, float]:
    """The largest difference of a parameter, and of a moment of Adam's by the size of such."""
    assert ours.keys() == theirs.keys()
    parameter, moment = 0.0, 0.0
    for name, value in ours.items():
        if value.numel():
            difference = float((value - theirs[name]).abs().max())
            if name.startswith("scene."):
                parameter = max(parameter, difference)
            elif "exp_avg" in name:
                moment = max(moment, difference / (float(value.abs().max()) or 1.0))
    return parameter, moment


def equality(stage: str, folder: Path) -> list[dict[str, Any]]:
    """One process with four views against two with two, and four with one."""
    conf = settings_of(folder, stage)
    problem = build(conf)
    empty = stage == "rescued"
    alone, terms = trained(conf, problem, 4, empty)
    assert alone["times put back"] == empty
    found = []
    for count in PROCESSES[stage]:
        results, _ = in_processes(
            count, lambda *_, n=count: trained(conf, problem, 4 // n, empty), folder
        )
        parameter, moment = gaps(alone, results[0][0])
        told = [
            abs(ours[name] - theirs[name])
            for ours, theirs in zip(terms, results[0][1], strict=True)
            for name in ours
        ]
        same = [
            torch.equal(results[0][0][name], other[0][name])
            for other in results
            for name in alone
        ]
        found.append(
            {"parameter": parameter, "moment": moment, "terms": max(told), "same": all(same)}
        )
    return found


def calls(_: Path, rank: int) -> dict[str, Any]:
    """What each method of a group gives."""
    made = list[int]()

    def wrong() -> None:
        raise FileExistsError(f"told by {rank}")

    with joined({"seed": 3, "data": {"size": 32}}) as group:
        parameters = [torch.nn.Parameter(torch.zeros(3, 2)) for _ in range(3)]
        parameters[0].grad = torch.full((3, 2), float(rank))
        if rank == 1:
            parameters[1].grad = torch.ones(3, 2)
        group.average(parameters)
        found = {
            "place": (group.rank, group.world, group.writes),
            "part": (group.part([5, 6, 7, 8]), group.part(torch.arange(4)).tolist()),
            "first": group.first(lambda: made.append(rank) or f"made by {rank}"),
            "made": made,
            "same": group.same(0.1 + rank),
            "any": (group.any(False), group.any(rank == 1), group.any(True)),
            "share": (group.share(10 + rank).before, group.share(10 + rank).total),
            "means": [float(v) for v in group.means([torch.tensor(2.0 * rank)])],
            "gradients": [None if p.grad is None else p.grad[0, 0].item() for p in parameters],
            "union": group.union(["light", f"own {rank}"]),
        }
        try:
            group.first(wrong)
        except FileExistsError as error:
            found["error"] = str(error)
        return found


def nan_in_one(_: Path, rank: int) -> list[str]:
    """A term, then a gradient, that is not finite in the second process only."""
    said = []
    for bad in ("term", "gradient"):
        parameter = torch.nn.Parameter(torch.ones(2))
        rates = {"name": "shape", "params": [parameter], "lr": 0.1, "initial_lr": 0.1}

        def objective(step: int, _: float, p: Any = parameter, bad: str = bad) -> Tensors:
            here = rank == 1 and step == 2
            spoiled = (p - p.detach()).sum().sqrt() if here and bad == "gradient" else 0.0
            factor = float("nan") if here and bad == "term" else 1.0
            return {"near": p.square().sum() * factor + spoiled}

        try:
            with joined({}) as group:
                fit("toy", objective, {"near": constant(1.0)}, torch.optim.Adam([rates]), 1.0,
                    Clock(5), group=group)  # fmt: skip
        except FloatingPointError as error:
            said.append(f"{error}; {bool(parameter.isfinite().all())}")
        os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + 1)
    return said


def timed(_: Path, rank: int) -> int:
    """Steps of a stage that goes by a clock which is slow in the second process."""
    parameter = torch.nn.Parameter(torch.ones(2))
    rates = {"name": "shape", "params": [parameter], "lr": 0.1, "initial_lr": 0.1}
    with joined({}) as group:
        clock = Clock(0, seconds=0.3 if rank == 0 else 100.0)
        return fit("toy", lambda *_: {"near": parameter.square().sum()},
                   {"near": constant(1.0)}, torch.optim.Adam([rates]), 1.0, clock,
                   group=group)  # fmt: skip


def disagreeing(_: Path, rank: int) -> str:
    try:
        with joined({"seed": 3, "data": {"size": 32 + rank}}):
            return "joined"
    except ValueError as error:
        return str(error)


def lost(_: Path, rank: int) -> list[str]:
    """The second process ends; a later call does not wait either."""
    said = []
    try:
        with joined({}) as group:
            group.any(False)
            if rank == 1:
                os._exit(9)
            for _ in range(2):
                try:
                    group.any(False)
                except ProcessLost as error:
                    said.append(str(error))
            group.any(False)
    except ProcessLost:
        said.append("left")
    return said


def hanging(folder: Path, rank: int) -> str:
    """The second process is there but does nothing: the first one gives up."""
    try:
        with joined({}, patience=1.0) as group:
            while rank == 1 and not (folder / "0.pt").exists():
                time.sleep(0.05)
            group.any(False)
    except ProcessLost as error:
        return str(error)
    return "all is well"


def main() -> None:
    """Runs all cases and prints a line of JSON."""
    # A child that is forked while threads run may hang; with these settings there are none.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ball = demo_asset(24, 12, 24).mesh
        write_ply(folder / "ball.ply", Mesh(ball.vertices, ball.faces))
        found: dict[str, Any] = {stage: equality(stage, folder) for stage in STAGES}
        for case in (calls, nan_in_one, timed, disagreeing, lost, hanging):
            found[case.__name__] = in_processes(2, case, folder)
        sys.stdout.write(json.dumps(found) + "\n")


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What the program above printed."""
    result = subprocess.run(
        [sys.executable, __file__], capture_output=True, text=True, timeout=300,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    tree: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return tree


@pytest.mark.parametrize("stage", STAGES)
def test_many_equal_one_with_as_many_views(stage: str, found: dict[str, Any]) -> None:
    for of in found[stage]:
        assert of["same"]
        assert of["terms"] <= 1e-6
        assert of["moment"] <= 5e-5
        # A network's first step is the sign of its gradients, and some of those are nothing.
        assert of["parameter"] <= (1e-4 if stage == "network" else 1e-5)


def test_what_a_group_does(found: dict[str, Any]) -> None:
    (zero, one), codes = found["calls"]
    assert codes == [0, 0]
    assert (zero["place"], one["place"]) == ([0, 2, True], [1, 2, False])
    assert (zero["part"], one["part"]) == ([[5, 6], [0, 1]], [[7, 8], [2, 3]])
    assert (zero["made"], one["made"]) == ([0], [])
    assert (zero["share"], one["share"]) == ([0, 21], [10, 21])
    for each in (zero, one):
        assert each["first"] == "made by 0"
        assert each["same"] == 0.1
        assert each["any"] == [False, True, True]
        assert each["means"] == [1.0]
        assert each["gradients"] == [0.5, 0.5, None]
        assert each["union"] == ["light", "own 0", "own 1"]
        assert each["error"] == "told by 0"


def test_what_is_not_finite_in_one_stops_all(found: dict[str, Any]) -> None:
    (zero, one), _ = found["nan_in_one"]
    assert zero == one
    assert "toy, step 2: terms are not finite: {'near': nan}; True" in zero[0]
    assert "gradients of ['shape'] are not finite, from the terms ['near']; True" in zero[1]


def test_the_first_clock_counts(found: dict[str, Any]) -> None:
    (zero, one), _ = found["timed"]
    assert zero == one > 1


def test_settings_that_differ(found: dict[str, Any]) -> None:
    (zero, one), codes = found["disagreeing"]
    assert zero == one
    assert "data.size is 32 in process 0 and 33 in process 1" in zero
    assert codes == [0, 0]


def test_a_process_that_is_gone(found: dict[str, Any]) -> None:
    (zero, one), codes = found["lost"]
    assert one is None
    assert codes == [0, 9]
    assert "process 0 of 2: another process has ended" in zero[0]
    assert "--resume" in zero[0]
    assert zero[1:] == [zero[1], "left"]


def test_a_process_that_hangs(found: dict[str, Any]) -> None:
    (zero, one), codes = found["hanging"]
    assert "process 0 of 2: another process has ended or does not answer" in zero
    assert "process 1 of 2: another process" in one
    assert codes == [0, 0]


class _Others(Group):
    """Another process sees so many pixels."""

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels

    def share(self, count: int) -> Share:
        return Share(self.pixels, self.pixels + count)


@pytest.mark.parametrize("pixels", [0, 9])
def test_a_surface_that_others_see_is_not_put_back(tmp_path: Path, pixels: int) -> None:
    """Seen by none of this process's views, it has terms all the same."""
    conf = settings_of(tmp_path, "rescued")
    problem = build(conf)
    scene = topology_scene(problem.recipe, 14)
    with torch.no_grad():
        scene.geometry.sdf.fill_(1.0)
    wanted = frozenset(problem.weights["topology"])
    asked = list[int]()
    terms = topology_terms(
        problem.backend, scene, problem.scene.train.batch([0]),
        replace(problem.compare, wanted=wanted), problem.lens, torch.Generator(),
        lambda: bool(asked.append(1)), _Others(pixels),
    )  # fmt: skip
    assert len(asked) == (pixels == 0)
    assert terms.keys() == wanted
    assert all(bool(term.isfinite()) for term in terms.values())


def test_a_process_alone_is_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a group of one, and where something else has set the names."""
    with joined({}) as group:
        assert group is ALONE
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WORLD_SIZE", "1")
    with joined({}) as group:
        assert group is ALONE
    assert type(group) is Group


@pytest.mark.parametrize(("rank", "world"), [("one", "2"), ("2", "2"), ("0", "")])
def test_places_that_cannot_be(rank: str, world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(ValueError, match="torchrun sets them"), joined({}):
        pass


def test_processors_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert (local_threads(0), local_threads(5)) == (0, 5)
    for name, value in {"MASTER_ADDR": "x", "MASTER_PORT": "1", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert (local_threads(0), local_threads(5)) == (4, 5)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "64")
    assert local_threads(0) == 1


if __name__ == "__main__":
    main()
