"""Whole training steps, with all threads; and that their number changes no bit.

Four views of 256 x 256 of the scene that ships with the package, drawn before the clock
starts, so that what is timed is the training alone.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from isolux.bench.measure import Figure, Row, Times, on_threads
from isolux.confs.read import read_conf
from isolux.data.procedural import demo_asset
from isolux.optimize.build import Problem, build
from isolux.optimize.objective import mesh_terms, topology_terms
from isolux.optimize.randomness import generator_for
from isolux.optimize.scene import MeshScene, TopologyScene
from isolux.optimize.stages import mesh_scene, optimizer_for, topology_scene
from isolux.optimize.weights import weighted_sum

__all__ = ["determinism", "step_mesh", "step_topology"]

_BATCH = 4


@dataclass(frozen=True)
class _Trainer:
    """One stage of a small run, a step at a time, as the loop makes it."""

    problem: Problem
    scene: TopologyScene | MeshScene
    optimizer: torch.optim.Optimizer

    def step(self, number: int) -> None:
        """Forward, backward, update."""
        problem, scene = self.problem, self.scene
        stage = "mesh" if isinstance(scene, MeshScene) else "topology"
        weights = problem.weights[stage]
        compare = replace(problem.compare, wanted=frozenset(weights))
        batch = problem.scene.train.batch(list(range(_BATCH)))
        generator = generator_for(0, number)
        terms = (
            mesh_terms(problem.backend, scene, batch, compare, problem.lens, generator, True)
            if isinstance(scene, MeshScene)
            else topology_terms(problem.backend, scene, batch, compare, problem.lens, generator)
        )
        total = weighted_sum(terms, weights, 0.5)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        scene.light.clamp()
        if isinstance(scene, MeshScene):
            scene.material.clamp()


def _problem(
    size: int, resolution: int, extractor: str = "tets", texture: int = 512
) -> Problem:
    settings = [
        "backend=cpu",
        f"data.size={size}",
        f"data.train_views={2 * _BATCH}",
        "data.test_views=1",
        f"geometry.resolution={resolution}",
        f"geometry.extractor={extractor}",
        "material.log2_rows=16",
        f"material.texture_size={texture}",
        "data.camera_distance=1.75",  # the object fills half of the pictures
        "data.camera_jitter=0",
    ]
    return build(read_conf("demo", settings))


def _mesh_trainer(problem: Problem, along: int, around: int) -> _Trainer:
    mesh = demo_asset(along, around, 16).mesh
    scene = mesh_scene(problem.recipe, mesh, None, problem.recipe.light())
    return _Trainer(problem, scene, optimizer_for(scene, problem.rates["mesh"]))


def _topology_trainer(problem: Problem, resolution: int) -> _Trainer:
    scene = topology_scene(problem.recipe, resolution)
    return _Trainer(problem, scene, optimizer_for(scene, problem.rates["topology"]))


def _threads() -> int:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return usable or os.cpu_count() or 1


def _timed_steps(trainer: _Trainer, steps: int, warm_up: int = 3) -> Times:
    times = Times([], [])
    for number in range(warm_up + steps):
        wall, cpu = time.perf_counter(), time.process_time()
        trainer.step(number)
        if number >= warm_up:
            times.cpu.append(1e3 * (time.process_time() - cpu))
            times.wall.append(1e3 * (time.perf_counter() - wall))
    return times


def _step_rows(case: str, times: Times, figure: Figure | None) -> list[Row]:
    threads = f"{_threads()} threads"
    return [times.row(case, "wall", figure, threads), times.row(case, "cpu", None, threads)]


def step_mesh(
    size: int = 256, along: int = 160, around: int = 64, steps: int = 12
) -> list[Row]:
    """A step of the mesh stage.

    Args:
        size: edge of the pictures, pixels.
        along, around: cells of the reference mesh; twice their product is its triangles.
        steps: that are timed.
    """
    rows = []
    for texture in (512, 1024) if size >= 256 else (64,):
        with on_threads(_threads()):
            problem = _problem(size, 16, texture=texture)
            times = _timed_steps(_mesh_trainer(problem, along, around), steps)
        design = size == 256 and along * around == 10240 and texture == 512
        case = f"{_case(problem, size)}, {2 * along * around} triangles, texture {texture}"
        rows += _step_rows(case, times, ("<=", 160.0) if design else None)
    return rows


def _case(problem: Problem, size: int) -> str:
    """The pictures of a step, and how much of them the object covers."""
    alpha = problem.scene.train.batch(list(range(_BATCH))).alpha
    return f"{_BATCH} x {size}x{size}, {float((alpha > 0).float().mean()):.0%} covered"


def step_topology(
    size: int = 256, resolution: int = 64, steps: int = 10, flexicubes: bool = True
) -> list[Row]:
    """A step of the topology stage, extraction included.

    Args:
        size: edge of the pictures, pixels.
        resolution: cells along an axis of the lattice.
        steps: that are timed.
        flexicubes: also with that extractor.
    """
    rows = []
    for extractor in ("tets", "flexicubes")[: 1 + flexicubes]:
        with on_threads(_threads()):
            trainer = _topology_trainer(_problem(size, resolution, extractor), resolution)
            assert isinstance(trainer.scene, TopologyScene)
            with torch.no_grad():
                count = len(trainer.scene.geometry.surface(trainer.problem.backend).faces)
            times = _timed_steps(trainer, steps)
        design = (size, resolution, extractor) == (256, 64, "tets")
        pictures = _case(trainer.problem, size)
        case = f"{pictures}, {extractor} at {resolution}, {count} triangles"
        rows += _step_rows(case, times, ("<=", 260.0) if design else None)
    return rows


def determinism(size: int = 64, resolution: int = 16, steps: int = 4) -> list[Row]:
    """How many numbers differ after some steps on one thread and on two."""
    kinds: dict[str, Callable[[], _Trainer]] = {
        "topology stage": lambda: _topology_trainer(_problem(size, resolution), resolution),
        "mesh stage": lambda: _mesh_trainer(_problem(size, resolution), 40, 16),
    }
    rows = []
    for name, trainer in kinds.items():
        first, second = (_state_after(trainer, steps, threads) for threads in (1, 2))
        differ = sum(int((a != b).sum()) for a, b in zip(first, second, strict=True))
        case = f"{name}, {steps} steps on 1 and on 2 threads"
        rows.append(Row(case, float(differ), "numbers that differ", ("==", 0.0)))
    return rows


def _state_after(make: Callable[[], _Trainer], steps: int, threads: int) -> list[Tensor]:
    with on_threads(threads):
        trainer = make()  # sets the number of threads by its configuration
        with on_threads(threads):
            for number in range(steps):
                trainer.step(number)
    # As integers: equal bytes, not equal values.
    state = trainer.scene.state_dict().values()
    return [t.detach().contiguous().view(torch.uint8) for t in state if t.dim()]
