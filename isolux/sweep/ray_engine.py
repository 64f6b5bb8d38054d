"""Trials on Ray: this machine by default, a cluster by its address.

Loaded only when it is used: Ray is an optional extra. It reports nothing to anyone, opens no
dashboard, and listens on the loopback address unless a cluster is named.
"""

import io
from contextlib import ExitStack, redirect_stdout
from dataclasses import replace
from importlib import import_module
from typing import Any

from isolux import ray_session
from isolux.confs.errors import ConfError
from isolux.sweep.attempt import Attempt, Outcome, run_attempt
from isolux.sweep.engines import Engine, fitting, gpus, hidden_gpus, processors
from isolux.sweep.spec import Resources

__all__ = ["RayEngine"]

_GIB = 2**30


class RayEngine(Engine):
    """Tasks of Ray, one an attempt.

    Args:
        resources: of a trial.
        address: of a cluster (`auto`, `HOST:6379`, `ray://HOST:10001`); none starts Ray here.
        trials: how many there are; a cluster that grows is told of all of them.

    Raises:
        ConfError: there is no such cluster, or none of its nodes is large enough.
    """

    def __init__(self, resources: Resources, address: str | None, trials: int) -> None:
        ray_session.configure(bool(address))
        self._environment = hidden_gpus(resources)
        self._ray: Any = import_module("ray")
        self._stack = ExitStack()
        # Ray prints on standard output that a worker died, which we say ourselves.
        self._stack.enter_context(redirect_stdout(io.StringIO()))
        self._stack.callback(self._ray.shutdown)
        try:
            self._begin(resources, address, trials)
        except BaseException:
            self.close()
            raise

    def _begin(self, resources: Resources, address: str | None, trials: int) -> None:
        here, _ = (0, None) if address else fitting(resources)
        cpus = resources.cpus
        if address:
            self._connect(address)
            self._check_nodes(resources)
            self.slots = min(resources.parallel or trials, trials)
            self.name = f"Ray at {address}"
        else:
            cpus = min(cpus, processors())
            ray_session.start(self._ray, processors(), len(gpus()))
            self.slots = here
            self.name = f"Ray on this machine, {here} at a time"
        # Retries are the sweep's own: it knows what is worth one.
        self._task = self._ray.remote(run_attempt).options(
            num_cpus=cpus,
            num_gpus=resources.gpus,
            memory=int(resources.memory * _GIB) if resources.memory else None,
            max_retries=0,
        )
        self._running: dict[Any, Attempt] = {}

    def _connect(self, address: str) -> None:
        try:
            ray_session.connect(self._ray, address)
        except ConnectionError as error:
            raise ConfError(f"--address {address}: {error}") from None

    def _check_nodes(self, resources: Resources) -> None:
        """A task that fits nowhere would wait for ever."""
        asked = {"CPU": float(resources.cpus), "GPU": resources.gpus}
        if resources.memory:
            asked["memory"] = resources.memory * _GIB
        nodes = [node["Resources"] for node in self._ray.nodes() if node.get("Alive")]
        if not any(
            all(node.get(kind, 0.0) >= much for kind, much in asked.items()) for node in nodes
        ):
            largest = max((node.get("CPU", 0.0) for node in nodes), default=0.0)
            raise ConfError(
                f"resources: no node of the cluster fits a trial; {len(nodes)} nodes,"
                f" of {largest:g} processors at most: ask for less"
            )

    def submit(self, attempt: Attempt) -> None:
        """As Engine.submit."""
        environment = {**attempt.environment, **self._environment}
        sent = replace(attempt, environment=environment)
        self._running[self._task.remote(sent)] = attempt

    def finished(self, seconds: float) -> list[tuple[Attempt, Outcome]]:
        """As Engine.finished. A worker or a node that died is a crash of its attempt."""
        if not self._running:
            return []
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [(self._running.pop(task), self._outcome(task)) for task in done]

    def _outcome(self, task: Any) -> Outcome:
        errors = self._ray.exceptions
        try:
            outcome: Outcome = self._ray.get(task)
        except errors.TaskCancelledError:
            return Outcome("interrupted", reason="cancelled")
        except errors.RayTaskError as error:  # ours, or isolux is not installed there
            return Outcome("failed", reason=ray_session.first_words(error))
        except errors.RayError as error:
            return Outcome(
                "crashed", reason=f"its worker died: {ray_session.first_words(error)}"
            )
        return outcome

    def close(self) -> None:
        """As Engine.close."""
        self._stack.close()
