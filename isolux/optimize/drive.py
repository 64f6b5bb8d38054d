"""A run from its first step to its last file, resumable at every checkpoint."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from isolux.confs.schema import RunConf
from isolux.data.views import Batch
from isolux.geometry.simplify import simplify
from isolux.optimize.build import Problem
from isolux.optimize.checkpoint import Checkpoint, load_optimizer_tensors, optimizer_tensors
from isolux.optimize.clock import Clock
from isolux.optimize.distributed import ALONE, Group, ProcessLost
from isolux.optimize.fit import fit, plain
from isolux.optimize.graph import Graphed, check_graph
from isolux.optimize.hidden import without_hidden
from isolux.optimize.objective import ImageTerms, mesh_terms, topology_terms
from isolux.optimize.observers import Observer, StepInfo
from isolux.optimize.plan import Phase, phases, seconds_of
from isolux.optimize.randomness import Buffered, generator_for, order_of
from isolux.optimize.rescue import Rescue
from isolux.optimize.scene import MeshScene, TopologyScene
from isolux.optimize.stages import (
    mesh_scene,
    optimizer_for,
    restored_mesh_scene,
    restored_topology_scene,
    topology_scene,
)

__all__ = ["Watch", "optimise", "scene_state"]

AnyScene = TopologyScene | MeshScene
_log = logging.getLogger(__name__)
_OTHER_SETTINGS = "resume with the settings that the run was started with (its conf.json)"


@dataclass(frozen=True)
class Place:
    """Where in its plan a run stands; kept beside the tensors of a checkpoint."""

    phase: int = 0
    phase_elapsed: float = 0.0  # seconds spent in that phase
    optimised: float = 0.0  # seconds spent in the loop so far
    made: int = 0  # steps so far, all phases
    rescued: int = 0  # times that a surface which had vanished was put back


# Called for each phase with a function that takes a snapshot; gives that phase's observers.
Watch = Callable[[Phase, AnyScene, Callable[[], Checkpoint]], Sequence[Observer]]


def optimise(
    conf: RunConf,
    problem: Problem,
    start: Checkpoint | None,
    watch: Watch,
    keep: Callable[[Checkpoint], None],
    seconds: Callable[[], float],
    group: Group = ALONE,
) -> tuple[MeshScene, dict[str, float]]:
    """Go through the phases.

    Args:
        conf: the settings.
        problem: what was built from them.
        start: where an earlier run was left; none begins at the beginning.
        watch: gives the observers of a phase.
        keep: writes a checkpoint; called at the end of every phase.
        seconds: that the command has taken so far, over all sessions; for a time budget.
        group: of processes that each do this with their part of the views.

    Returns:
        The final scene; steps made and seconds spent in the loop, over all sessions.

    Raises:
        ValueError: the settings and the checkpoint do not go together, or not with `group`.
    """
    if conf.optimize.graph:
        check_graph(problem.backend.name, group.world)
    plan = phases(
        conf.optimize.steps,
        conf.geometry.resolution,
        problem.scene.train.size,
        conf.optimize.coarse_to_fine,
        problem.base_mesh is not None,
    )
    left = Place(**start.extra) if start is not None else Place()
    if not 0 <= left.phase < len(plan):
        raise ValueError(
            f"the checkpoint is of phase {left.phase + 1}, this run has {len(plan)}; "
            f"{_OTHER_SETTINGS}"
        )
    if start is not None and start.stage != plan[left.phase].stage:
        raise ValueError(f"the checkpoint is of a {start.stage} stage; {_OTHER_SETTINGS}")
    budget = conf.optimize.minutes * 60.0 if conf.optimize.minutes else None
    rescue = Rescue(problem.recipe, problem.scene.train, problem.lens, left.rescued, group)
    scene: AnyScene | None = None
    for index in range(left.phase, len(plan)):
        phase = plan[index]
        here = start if start is not None and left.phase == index else None
        if phase.stage == "mesh" and isinstance(scene, TopologyScene):
            rescue(scene, plan[index - 1].resolution)
        scene = _restore(problem, phase, here) if here else _begin(problem, phase, scene, group)
        optimizer = optimizer_for(scene, problem.rates[phase.stage])
        if here is not None:
            _fitting(load_optimizer_tensors, optimizer, here.tensors)
        share = seconds_of(plan, index, budget, seconds()) if budget else None
        already = left.phase_elapsed if here else 0.0
        clock = Clock(phase.steps, None if share is None else share + already, already)
        leg = _Leg(
            index, phase, scene, optimizer, clock, here.step if here else 0, left, seconds,
            rescue,
        )  # fmt: skip
        objective = _Objective(conf, problem, phase, index, scene, rescue, optimizer, group)
        try:
            fit(
                phase.name,
                objective,
                problem.weights[phase.stage],
                optimizer,
                conf.optimize.decay,
                clock,
                leg.step,
                [leg, *watch(phase, scene, leg.snapshot)],
                _after_step(scene),
                seconds,
                group,
                objective.graphed() if conf.optimize.graph else None,
            )
        except ProcessLost:  # between two changes of the parameters: the step is whole
            keep(leg.snapshot())
            raise
        keep(leg.snapshot())
        left = leg.place()
    assert isinstance(scene, MeshScene), "the last phase is always the mesh stage"
    return scene, {"steps": left.made, "optimize": left.optimised}


@dataclass
class _Leg:
    """A phase while it runs: counts its steps as an observer, and takes snapshots of it."""

    index: int
    phase: Phase
    scene: AnyScene
    optimizer: torch.optim.Optimizer
    clock: Clock
    step: int  # of the phase, done
    before: Place  # where the run stood when this session entered the phase
    seconds: Callable[[], float]  # that the run has taken
    rescue: Rescue

    def __post_init__(self) -> None:
        self._first, self._entered = self.step, self.clock.already

    def __call__(self, info: StepInfo) -> None:
        self.step = info.done

    def place(self) -> Place:
        """Where the run stands now."""
        elapsed = self.clock.elapsed()
        return Place(
            phase=self.index,
            phase_elapsed=elapsed,
            optimised=self.before.optimised + elapsed - self._entered,
            made=self.before.made + self.step - self._first,
            rescued=self.rescue.done,
        )

    def snapshot(self) -> Checkpoint:
        """Everything that is needed to go on from here."""
        return Checkpoint(
            stage=self.phase.stage,
            step=self.step,
            seconds=self.seconds(),
            tensors=_scene_tensors(self.scene) | optimizer_tensors(self.optimizer),
            extra=asdict(self.place()),
        )


def _begin(problem: Problem, phase: Phase, scene: AnyScene | None, group: Group) -> AnyScene:
    """The scene that a phase begins with: one process makes it, the others get its bits."""
    made: list[AnyScene] = []

    def make() -> Checkpoint:
        made.append(_enter(problem, phase, scene))
        tensors = {name: value.cpu() for name, value in _scene_tensors(made[0]).items()}
        return Checkpoint(phase.stage, 0, 0.0, tensors)

    sent = group.first(make)
    return made[0] if made else _restore(problem, phase, sent)


def _enter(problem: Problem, phase: Phase, scene: AnyScene | None) -> AnyScene:
    """The scene that a phase begins with, made from the one before."""
    recipe = problem.recipe
    if phase.stage == "topology":
        if scene is None:
            return topology_scene(recipe, phase.resolution)
        assert isinstance(scene, TopologyScene)
        return TopologyScene(
            scene.geometry.refined(phase.resolution), scene.material, scene.light
        )
    if problem.base_mesh is not None:
        return mesh_scene(recipe, problem.base_mesh, None, recipe.light())
    assert isinstance(scene, TopologyScene)
    mesh = scene.geometry.extract_mesh(recipe.backend)
    mesh = without_hidden(mesh, problem.scene.train, problem.lens, recipe.backend)
    if len(mesh.faces) > recipe.most_triangles:
        _log.info("%d triangles, simplified to %d", len(mesh.faces), recipe.most_triangles)
        mesh = simplify(mesh, recipe.most_triangles)
    if not len(mesh.faces):
        _log.warning(
            "the surface is empty: the distance field has one sign everywhere. "
            "Check masks and cameras, or set geometry.init=hull, lower rates"
        )
    return mesh_scene(recipe, mesh, scene.material, scene.light)


def _fitting(load: Callable[..., Any], *arguments: Any) -> Any:
    """What a loader gives, its complaints told as what a person can mend.

    Raises:
        ValueError: the tensors are not those that the settings ask for.
    """
    try:
        return load(*arguments)
    except (RuntimeError, KeyError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ValueError(f"the checkpoint does not fit: {reason}; {_OTHER_SETTINGS}") from None


def _restore(problem: Problem, phase: Phase, start: Checkpoint) -> AnyScene:
    state = scene_state(start)
    if phase.stage == "mesh":
        recipe, light = problem.recipe, problem.recipe.light()
        edge = len(state["material.texels"])
        if edge != recipe.texture_size:
            raise ValueError(
                f"the checkpoint's textures have {edge} texels along an edge, "
                f"material.texture_size is {recipe.texture_size}; {_OTHER_SETTINGS}"
            )
        scene: AnyScene = _fitting(
            restored_mesh_scene,
            recipe.backend,
            state,
            recipe.limits,
            recipe.normal_map,
            recipe.lock_positions,
            light.base.requires_grad and not recipe.lock_light,
            light.solid_angles,
        )
    else:
        scene = _fitting(restored_topology_scene, problem.recipe, phase.resolution, state)
    return scene


def _scene_tensors(scene: AnyScene) -> dict[str, Tensor]:
    return {f"scene.{name}": value for name, value in scene.state_dict().items()}


def scene_state(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The scene's part of a checkpoint, by the names that its module gives."""
    return {
        name.removeprefix("scene."): value
        for name, value in checkpoint.tensors.items()
        if name.startswith("scene.")
    }


@dataclass(frozen=True)
class _Objective:
    """From step and progress to the terms of a phase."""

    conf: RunConf
    problem: Problem
    phase: Phase
    index: int
    scene: AnyScene
    rescue: Rescue
    optimizer: torch.optim.Optimizer
    group: Group

    def __call__(self, step: int, progress: float) -> dict[str, Tensor]:
        batch, generator = self.given(step)
        if isinstance(self.scene, MeshScene):
            return self.of_mesh(batch, generator)
        put_back = partial(self.rescue, self.scene, self.phase.resolution, self.optimizer)
        return topology_terms(
            self.problem.backend, self.scene, batch, self._compare(), self.problem.lens,
            generator, put_back, self.group,
        )  # fmt: skip

    def given(self, step: int) -> tuple[Batch, torch.Generator]:
        """A step's views, and what it draws random numbers from."""
        train, seed = self.problem.scene.train, self.conf.seed
        size = self.conf.optimize.batch * self.group.world
        chosen = self.group.part(order_of(seed, self.index, step, size, len(train)))
        generator = generator_for(seed, self.index, step, device=self.problem.backend.device)
        return shrunk(train.batch(chosen), self.phase.shrink), generator

    def of_mesh(
        self, batch: Batch, source: torch.Generator | Buffered, all_pixels: bool = False
    ) -> dict[str, Tensor]:
        """The terms of a phase of the mesh stage."""
        assert isinstance(self.scene, MeshScene)
        relative = self.conf.losses.laplacian_kind == "relative"
        return mesh_terms(
            self.problem.backend, self.scene, batch, self._compare(), self.problem.lens,
            source, relative, self.group, all_pixels,
        )  # fmt: skip

    def graphed(self) -> Graphed | None:
        """Its gradients by a CUDA graph; None where triangles come and go, or are not."""
        if not isinstance(self.scene, MeshScene) or not len(self.scene.geometry.faces):
            return None
        weights = self.problem.weights[self.phase.stage]
        terms = partial(self.of_mesh, all_pixels=True)
        return Graphed(
            self.given, terms, weights, self.optimizer, plain(self, weights, self.optimizer)
        )

    def _compare(self) -> ImageTerms:
        wanted = frozenset(self.problem.weights[self.phase.stage])
        return replace(self.problem.compare, wanted=wanted)


def _after_step(scene: AnyScene) -> Callable[[], None]:
    def after_step() -> None:
        scene.light.clamp()
        if isinstance(scene, MeshScene):
            scene.material.clamp()

    return after_step


def shrunk(batch: Batch, factor: int) -> Batch:
    """The batch with pictures smaller by a whole factor, averaged premultiplied."""
    if factor == 1:
        return batch
    premultiplied = torch.cat([batch.rgb * batch.alpha, batch.alpha], dim=-1)
    small = torch.nn.functional.avg_pool2d(premultiplied.permute(0, 3, 1, 2), factor)
    small = small.permute(0, 2, 3, 1)
    rgb, alpha = small[..., :3], small[..., 3:]
    height, width = alpha.shape[1:3]
    return Batch(
        batch.cameras.resized(height, width),
        torch.where(alpha > 0.0, rgb / alpha.clamp(min=1e-6), 0.0),
        alpha,
        batch.names,
    )
