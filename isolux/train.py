"""Configuration in, run out."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import isolux
from isolux.confs.read import resolved
from isolux.confs.schema import RunConf
from isolux.optimize.build import Problem, build, select_backend
from isolux.optimize.checkpoint import Checkpoint, latest, save_checkpoint
from isolux.optimize.comparison import comparison_row
from isolux.optimize.determinism import determinism
from isolux.optimize.distributed import Group, ProcessLost, joined, local_threads
from isolux.optimize.drive import optimise
from isolux.optimize.files import RunFolder, write_json
from isolux.optimize.finish import finish
from isolux.optimize.lock import locked
from isolux.optimize.log import cut_log
from isolux.optimize.memory import FULL, told_when_full
from isolux.optimize.observers import (
    CheckpointObserver,
    Interrupt,
    LogLines,
    Observer,
    PictureObserver,
    Progress,
    StepInfo,
    ValidationObserver,
    catch_interrupts,
)
from isolux.optimize.plan import Phase
from isolux.optimize.report import write_report
from isolux.optimize.results import compared, spread, view_metrics
from isolux.optimize.run import Run, load
from isolux.optimize.scene import MeshScene, TopologyScene
from isolux.render.picture import write_png

__all__ = ["Run", "load", "train"]

_VALIDATED = 4  # views, of a validation on the way


def train(conf: RunConf, resume: bool = False) -> Run:
    """Train a scene, write its run folder, and return the finished run.

    Started by `torchrun`, the processes train it together: each with `optimize.batch` views
    a step. The first one writes and measures; in the others the run has no metrics.

    Args:
        conf: the settings; `out` must be set.
        resume: go on from the last checkpoint of the folder.

    Raises:
        ValueError, OSError: what a person can mend, in one line.
        FloatingPointError: a term that is not finite, by name and step.
        MemoryError: of the device or the machine; which setting to lower.
        KeyboardInterrupt: on Ctrl-C, after a checkpoint was written.
    """
    began = time.monotonic()
    if conf.out is None:
        raise ValueError("out is not set: name a run folder, out=...")
    folder = RunFolder(conf.out)
    with ExitStack() as stack:
        stack.enter_context(told_when_full(conf, folder.checkpoints))
        stack.enter_context(determinism(conf.optimize.deterministic))
        on_gpu = conf.backend not in ("cpu", "reference")
        with joined(_settings_of_all(conf, resume), on_gpu) as group:
            group.first(lambda: stack.enter_context(_held(folder, resume)))
            problem = build(conf.model_copy(update={"threads": local_threads(conf.threads)}))
            settings = resolved(conf, _made_by(problem, group))
            start = group.first(lambda: _opened(folder, settings, resume))

            def seconds() -> float:
                return (start.seconds if start else 0.0) + time.monotonic() - began

            scene, spent = _optimised(conf, settings, problem, folder, start, seconds, group)
        run = Run(folder.path, conf, select_backend(conf), scene, {})
        return finish(run, problem.scene, spent, seconds) if group.writes else run


def _settings_of_all(conf: RunConf, resume: bool) -> dict[str, Any]:
    """What processes must agree on: all but where the first one writes, and with what."""
    settings = conf.model_dump(mode="json", exclude={"out", "threads"})
    return settings | {"version": isolux.__version__, "--resume": resume}


@contextmanager
def _held(folder: RunFolder, resume: bool) -> Iterator[None]:
    """The run folder, looked at, and locked for this process."""
    folder.check(resume)
    with ExitStack() as stack:
        if not folder.path.exists():
            stack.callback(_remove_if_empty, folder.path)  # when the data turn out to be none
        stack.enter_context(locked(folder.path))
        yield


def _opened(folder: RunFolder, settings: dict[str, Any], resume: bool) -> Checkpoint | None:
    """The folder made ready, and the checkpoint to go on from."""
    folder.create(settings, resume)
    start = latest(folder.checkpoints) if resume else None
    cut_log(folder.log, start.seconds if start else 0.0)
    return start


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _optimised(
    conf: RunConf,
    settings: dict[str, Any],
    problem: Problem,
    folder: RunFolder,
    start: Checkpoint | None,
    seconds: Callable[[], float],
    group: Group,
) -> tuple[MeshScene, dict[str, float]]:
    """The loop, in which Ctrl-C waits for the step in progress and its checkpoint."""
    with Progress() as progress, catch_interrupts(group.any) as interrupt:

        def keep(checkpoint: Checkpoint) -> None:
            if group.writes:
                save_checkpoint(folder.checkpoints, checkpoint)
            interrupt.raise_if_requested()

        watch = _watcher(conf, problem, folder, progress, interrupt, keep)

        def settled(*phase: Any) -> Sequence[Observer]:
            if group.writes and start is not None:  # and fits: it was put back just now
                write_json(folder.conf, settings)
            return watch(*phase, group.writes)

        try:
            return optimise(conf, problem, start, settled, keep, seconds, group)
        except (KeyboardInterrupt, FloatingPointError, ProcessLost, *FULL):
            if group.writes:
                write_report(folder)  # how far it came
            raise


def _watcher(
    conf: RunConf,
    problem: Problem,
    folder: RunFolder,
    progress: Progress,
    interrupt: Interrupt,
    keep: Callable[[Checkpoint], None],
) -> Callable[..., Sequence[Observer]]:
    """What watches each phase: pictures and lines in one process, checkpoints in all."""
    observe, test, background = conf.observe, problem.scene.test, conf.data.background

    def watch(
        phase: Phase,
        scene: TopologyScene | MeshScene,
        snapshot: Callable[[], Checkpoint],
        writes: bool,
    ) -> Sequence[Observer]:
        def stop(info: StepInfo) -> None:
            if interrupt.agreed():
                keep(snapshot())  # and raises

        def picture(info: StepInfo) -> None:
            stage = phase.name.replace(", ", "_")
            name = f"progress_{stage}_{info.done:06d}.png"
            view = compared(
                problem.backend, scene, test, len(test) // 3, problem.lens, background
            )
            write_png(folder.images / name, comparison_row(view))

        def validate(info: StepInfo) -> dict[str, float]:
            chosen = spread(len(test), _VALIDATED)
            return view_metrics(problem.backend, scene, test, chosen, problem.lens, background)

        shown = [
            progress,
            LogLines(folder.log, observe.log_every),
            PictureObserver(observe.picture_every, picture),
            ValidationObserver(observe.validate_every, validate, folder.log),
        ]
        kept = CheckpointObserver(observe.checkpoint_every, lambda _: keep(snapshot()), False)
        return [*(shown if writes else ()), kept, stop]

    return watch


def _made_by(problem: Problem, group: Group) -> dict[str, Any]:
    """What ran the settings: for the record only."""
    return {
        "version": isolux.__version__,
        "commit": _commit(),
        "backend": problem.backend.name,
        "processes": group.world,
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "command": sys.argv,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _commit() -> str | None:
    """The commit of the checkout that this file stands in; none outside of one."""
    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists() or shutil.which("git") is None:
        return None
    answer = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or None
