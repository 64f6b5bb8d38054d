"""Whole trainings, by the public function: the time of a step at nvdiffrec's settings.

A step is what lies between two updates of the parameters: extraction, drawing, losses, the way
back, checks and the update. Reference views are drawn while it warms up, and kept.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import partial
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

import isolux
from isolux.bench.gpu.cells import Cell, Job, Plan
from isolux.bench.gpu.clock import Clock, Sample
from isolux.bench.measure import Figure

__all__ = ["SCENES", "Scene", "jobs", "settings_of", "steps_of", "watched_updates"]

GROUP = "step"
_STAGES = ("topology stage", "mesh stage")
_WAYS = {"same bits": "optimize.deterministic", "CUDA graph": "optimize.graph"}
_TIMED, _WARM_UP = 100, 20


@dataclass(frozen=True)
class Scene:
    """A scene of nvdiffrec's, with its settings."""

    batch: int
    most: float  # milliseconds a step is to take
    orm_min: tuple[float, float, float]
    mesh: str  # below the folder of the data
    probe: str


SCENES: Mapping[str, Scene] = {
    "bob": Scene(4, 10.0, (0.0, 0.25, 0.0), "meshes/bob/bob_tri.obj", "venice_sunset_1k"),
    "spot": Scene(8, 15.0, (0.0, 0.1, 0.0), "meshes/spot/spot.obj", "kiara_1_dawn_1k"),
}
_TINY = {
    "data.size": 24,
    "geometry.resolution": 14,
    "material.texture_size": 32,
    "material.levels": 4,
    "material.log2_rows": 8,
    "material.width": 16,
    "light.resolution": 16,
}


def jobs(plan: Plan) -> Iterator[Job]:
    """Bob and spot; and bob in other ways than the default."""
    for name, scene in SCENES.items():
        case = f"{name}, {scene.batch} x 512x512, grid 64"
        yield Job(GROUP, case, partial(_measure, plan, name, case, None))
    for words, setting in _WAYS.items():
        case = f"bob, 4 x 512x512, grid 64, {words}"
        if not (plan.dry_run and setting == "optimize.graph"):  # which needs a device
            yield Job(GROUP, case, partial(_measure, plan, "bob", case, setting))


def settings_of(plan: Plan, name: str, steps: tuple[int, int]) -> tuple[str, dict[str, Any]]:
    """The preset and the settings of a training at nvdiffrec's sizes.

    Without a folder of data it is the scene that ships with the package, as large in its
    pictures: the same work but for the surface.
    """
    scene = SCENES[name]
    settings: dict[str, Any] = {
        "data.size": 512,
        "data.train_views": 40,  # they come again, and are not drawn again
        "data.test_views": 1,
        "geometry.resolution": 64,
        "material.texture_size": 1024,
        "material.orm_min": list(scene.orm_min),
        "light.learn": True,
        "optimize.batch": scene.batch,
        "optimize.steps": list(steps),
        "optimize.coarse_to_fine": False,
        "observe.checkpoint_every": 0,
        "observe.picture_every": 0,
        "backend": plan.backend.name,
    }
    preset = name
    if plan.data is None or plan.dry_run:
        preset = "demo"
        settings |= {"data.camera_distance": 1.75, "data.camera_jitter": 0.0}
        settings |= {"light.resolution": 128}
    else:
        probe = plan.data / "envmaps" / f"{scene.probe}.hdr"
        settings |= {"data.path": plan.data / scene.mesh, "data.envmap": probe}
    if plan.dry_run:
        settings |= _TINY | {"optimize.batch": 1, "data.train_views": 4}
    return preset, settings


def steps_of(plan: Plan) -> tuple[int, int]:
    """Steps of each stage: those that count, those before, and the first update."""
    steps = 3 if plan.dry_run else (20 if plan.quick else _TIMED) + _WARM_UP + 1
    return steps, steps


def train(preset: str, settings: Mapping[str, Any]) -> list[str]:
    """A training in a folder that is thrown away; what it warned of."""
    warned: list[str] = []
    handler, log = logging.Handler(logging.WARNING), logging.getLogger("isolux")
    handler.emit = lambda record: warned.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    try:
        with tempfile.TemporaryDirectory() as folder, redirect_stderr(StringIO()):
            isolux.train(preset, overrides={**settings, "out": Path(folder, "run")})
    finally:
        log.removeHandler(handler)
    return list(dict.fromkeys(warned))


@contextmanager
def watched_updates(
    told: Callable[[torch.optim.Optimizer], None],
) -> Iterator[None]:
    """Call something after each update of parameters, whoever makes it."""

    def after(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        told(optimizer)

    handle = register_optimizer_step_post_hook(after)
    try:
        yield
    finally:
        handle.remove()


def _measure(plan: Plan, name: str, case: str, way: str | None) -> list[Cell]:
    preset, settings = settings_of(plan, name, steps_of(plan))
    if way is not None:
        settings[way] = True
    marks = _Marks(plan.clock)
    with watched_updates(marks.told):
        said = train(preset, settings)
    if len(marks.stages) != len(_STAGES):
        raise RuntimeError(f"{len(marks.stages)} stages were seen, 2 are expected")
    note = "" if preset == name else "of the scene that ships; --data DIR takes the real one"
    warm_up = 0 if plan.dry_run else _WARM_UP
    figure: Figure | None = ("<=", SCENES[name].most)
    if plan.dry_run or way is not None:
        figure = None
    note = "; ".join(part for part in (note, *said) if part)
    cells = []
    for stage, seen in zip(_STAGES, marks.stages.values(), strict=True):
        spans = list(pairwise(seen))[warm_up:]
        sample = Sample.of(plan.clock.milliseconds(spans))
        cells.append(
            Cell(GROUP, f"{case}, {stage}", "ms", {"isolux": sample}, figure, note=note)
        )
    return cells


class _Marks:
    """Moments after updates, by optimiser: each stage has its own."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: list[torch.optim.Optimizer] = []  # an address must not be given again
        self.stages: dict[int, list[Any]] = {}

    def told(self, optimizer: torch.optim.Optimizer) -> None:
        """Of an update."""
        if id(optimizer) not in self.stages:
            self._kept.append(optimizer)
        self.stages.setdefault(id(optimizer), []).append(self._clock.mark())
