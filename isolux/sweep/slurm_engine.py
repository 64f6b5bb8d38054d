"""Trials on SLURM: a job an attempt, through submitit.

Loaded only when it is used: submitit is an optional extra.
"""

import math
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from isolux.confs.errors import ConfError
from isolux.sweep.attempt import Attempt, Outcome, run_attempt
from isolux.sweep.engines import Engine, hidden_gpus
from isolux.sweep.spec import SweepSpec

__all__ = ["SlurmEngine"]

_SPARE = 10  # minutes of a job beyond those of its trial: start, results, checkpoint
_ASK = 60.0  # seconds between questions to SLURM, whose own interval grows to ten minutes
_EVERY = 0.2  # seconds between looks for files of results


class SlurmEngine(Engine):
    """Jobs of SLURM.

    Args:
        spec: resources, limits and what SLURM is told.
        folder: on the file system that all nodes share; scripts and logs of jobs.
        trials: how many there are.

    Raises:
        ConfError: SLURM's commands are not here, or GPUs are asked for by shares.
    """

    def __init__(self, spec: SweepSpec, folder: Path, trials: int) -> None:
        submitit: Any = import_module("submitit")
        resources, slurm = spec.resources, spec.slurm
        if resources.gpus != int(resources.gpus):
            raise ConfError(f"resources.gpus: SLURM gives whole ones, got {resources.gpus:g}")
        try:
            self._executor = submitit.SlurmExecutor(folder=folder)
        except RuntimeError:
            raise ConfError(
                "--slurm: srun is not found; start the sweep on a node with SLURM"
            ) from None
        asked = {
            "partition": slurm.partition,
            "account": slurm.account,
            "qos": slurm.qos,
            "constraint": slurm.constraint,
            "mem": f"{math.ceil(resources.memory * 1024)}M" if resources.memory else None,
            "gpus_per_node": int(resources.gpus) or None,
        }
        self._executor.update_parameters(
            job_name="isolux",
            cpus_per_task=resources.cpus,
            ntasks_per_node=1,
            time=math.ceil(spec.minutes + _SPARE if spec.minutes else slurm.hours * 60),
            **{name: value for name, value in asked.items() if value is not None},
        )
        self._environment = hidden_gpus(resources)
        self._jobs: dict[str, tuple[Any, Attempt]] = {}
        self._withdrawn: list[tuple[Attempt, Outcome]] = []
        self._ask = time.monotonic() + _ASK
        self.slots = min(resources.parallel or trials, trials)
        self.name = "SLURM" + (f", partition {slurm.partition}" if slurm.partition else "")

    def submit(self, attempt: Attempt) -> None:
        """As Engine.submit."""
        environment = {**attempt.environment, **self._environment}
        sent = replace(attempt, environment=environment)
        try:
            job = self._executor.submit(run_attempt, sent)
        except import_module("submitit.core.utils").FailedJobError as error:
            raise ConfError(f"--slurm: sbatch refused the job: {_last_line(error)}") from None
        self._jobs[job.job_id] = (job, attempt)

    def finished(self, seconds: float) -> list[tuple[Attempt, Outcome]]:
        """As Engine.finished. A job that SLURM ended is a crash of its attempt."""
        until = time.monotonic() + seconds
        if self._jobs and time.monotonic() > self._ask:
            self._ask = time.monotonic() + _ASK
            next(iter(self._jobs.values()))[0].done(force_check=True)  # asks for all of them
        while True:
            ended = [number for number, (job, _) in self._jobs.items() if job.done()]
            if ended or self._withdrawn or time.monotonic() > until:
                break
            time.sleep(_EVERY)
        outcomes = [
            (self._jobs[number][1], _outcome(*self._jobs.pop(number))) for number in ended
        ]
        outcomes += self._withdrawn
        self._withdrawn = []
        return outcomes

    def withdraw(self) -> None:
        """As Engine.withdraw: jobs in SLURM's queue would wait there for days."""
        for number, (job, attempt) in list(self._jobs.items()):
            if job.watcher.get_state(number, mode="force").upper() == "PENDING":
                job.cancel()
                outcome = Outcome("interrupted", reason="stopped before it began")
                self._withdrawn.append((attempt, outcome))
                del self._jobs[number]

    def close(self) -> None:
        """As Engine.close: jobs that wait or run are cancelled."""
        for job, _ in self._jobs.values():
            job.cancel()
        self._jobs.clear()


def _outcome(job: Any, _: Attempt) -> Outcome:
    errors: Any = import_module("submitit.core.utils")
    try:
        outcome: Outcome = job.result()
    except errors.FailedJobError as error:  # our function raised
        return Outcome("failed", reason=_last_line(error))
    except errors.UncompletedJobError:  # there is no result: it was killed
        return Outcome("crashed", reason=f"SLURM ended job {job.job_id}: {job.state}")
    except OSError as error:
        return Outcome("failed", reason=_last_line(error))
    return outcome


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1].strip()[:300]
