"""Training and testing of the network that the engine `hierarchy` may use."""

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isolux.confs.points_learning import PointsLearningConf
from isolux.geometry.points.learned.ladder import Errors, Prepared, climbed
from isolux.geometry.points.learned.network import Network, symmetries
from isolux.geometry.points.learned.store import cloud_number
from isolux.geometry.points.weights import Weights
from isolux.optimize.checkpoint import (
    Checkpoint,
    latest,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
)

__all__ = ["held_out_errors", "train_network"]

_log = logging.getLogger(__name__)

_EARLY, _PACE = 24, 2  # clouds at the first step, and steps after which there is one more
_AVERAGE = 0.99  # of the weights that are kept
_LEAST_VALUE, _LEAST_SLOPE = 2e-3, 1e-2  # below, better is of no use
_SLOPE_SHARE = 0.4
_STEEPEST = 2.0  # norm of a step's gradient
_OTHERS = 10_000_000  # the first number of clouds that are held out


def train_network(
    conf: PointsLearningConf, resume: bool, tell: Callable[[str, float], None]
) -> Path:
    """Train, and write `network.npz` and `progress.jsonl` to the folder.

    Args:
        conf: settings.
        resume: go on from the newest checkpoint.
        tell: told what is being done and the share that is done.

    Returns:
        The path of the weights.

    Raises:
        FileExistsError: the folder holds a training, and it is not to be resumed.
        FloatingPointError: a loss that is not finite.
    """
    folder = conf.out / "checkpoints"
    if folder.exists() and any(folder.iterdir()) and not resume:
        raise FileExistsError(f"out: {conf.out} holds a training; add --resume, or another out")
    folder.mkdir(parents=True, exist_ok=True)
    (conf.out / "clouds").mkdir(exist_ok=True)
    torch.manual_seed(conf.seed)
    network = Network()
    average = {name: x.detach().clone() for name, x in network.state_dict().items()}
    optimizer = torch.optim.Adam(network.parameters(), lr=conf.learning_rate)
    began, spent = 0, 0.0
    if resume and (found := latest(folder)) is not None:
        network.load_state_dict(_part(found.tensors, "network."))
        average = _part(found.tensors, "average.")
        load_optimizer_tensors(optimizer, found.tensors)
        began, spent = found.step, found.seconds
    start = time.monotonic()
    for step in range(began, conf.steps):
        said = _train_step(conf, step, network, optimizer)
        for name, x in network.state_dict().items():
            average[name].lerp_(x, 1 - min(_AVERAGE, (1 + step) / (10 + step)))
        seconds = spent + time.monotonic() - start
        rate = (step + 1 - began) / max(seconds - spent, 1e-9)
        with (conf.out / "progress.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "seconds": round(seconds, 1), **said}) + "\n")
        tell(f"step {step + 1} of {conf.steps}, {rate:.2f} a second", (step + 1) / conf.steps)
        if (step + 1) % conf.checkpoint_every == 0 or step + 1 == conf.steps:
            tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
            tensors |= {f"average.{k}": v for k, v in average.items()}
            tensors |= optimizer_tensors(optimizer)
            save_checkpoint(folder, Checkpoint("points", step + 1, seconds, tensors))
            _write(conf.out / "network.npz", average)
    return conf.out / "network.npz"


def _part(tensors: Any, prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    beside = path.with_suffix(".part")
    with beside.open("wb") as file:
        arrays: dict[str, Any] = {name: x.numpy() for name, x in tensors.items()}
        np.savez(file, **arrays)
    beside.replace(path)


def _train_step(
    conf: PointsLearningConf, step: int, network: Network, optimizer: torch.optim.Adam
) -> dict[str, float]:
    """One cloud, all its levels; returns the errors of the finest."""
    rng = np.random.default_rng([conf.seed, step, 7])
    number = int(rng.integers(min(conf.clouds, _EARLY + step // _PACE)))
    cloud = cloud_number(conf.out / "clouds", number, conf.seed, *conf.points)
    motions = symmetries()
    motion = motions[rng.integers(len(motions))]
    log_change = rng.normal(size=2) * (0.8, 1.0) * (rng.random() < conf.jitter)

    def change(weights: Weights) -> Weights:
        value, smoothness = np.exp(log_change) * (weights.value, weights.smoothness)
        return replace(weights, value=float(value), smoothness=float(smoothness))

    optimizer.zero_grad(set_to_none=True)
    finest, said = min(cloud.weights), {"cloud": float(number)}

    def told(level: int, errors: Errors) -> None:
        share = 1.0 if level == finest else 0.5
        loss = torch.log(errors.value + _LEAST_VALUE)
        loss = loss + _SLOPE_SHARE * torch.log(errors.slope + _LEAST_SLOPE)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"step {step}, level {level}: the loss is not finite")
        (share * loss).backward()  # type: ignore[no-untyped-call]
        said["value"], said["slope"] = errors.value.item(), errors.slope.item()

    climbed(cloud, network, told, motion, change)
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), _STEEPEST)
    said["gradient"] = float(norm)
    turn = 0.5 * (1 + math.cos(math.pi * step / conf.steps))
    warm = min(1.0, (step + 1) / 50)
    for group in optimizer.param_groups:
        group["lr"] = conf.learning_rate * warm * (0.02 + 0.98 * turn)
    optimizer.step()
    return {key: round(x, 6) for key, x in said.items()}


def held_out_errors(
    conf: PointsLearningConf, network: Network, numbers: Sequence[int]
) -> list[dict[str, float]]:
    """Errors at the finest level of clouds of unseen shapes, without and with a network."""
    rows = []
    for number in numbers:
        folder, place = conf.out / "clouds", _OTHERS + number
        cloud = cloud_number(folder, place, conf.seed, *conf.points)
        weights = cloud.weights[min(cloud.weights)]
        rows.append(
            {"smoothness": weights.smoothness, "value_weight": weights.value}
            | _finest_errors(cloud, None, "plain")
            | _finest_errors(cloud, network, "learned")
        )
    return rows


def _finest_errors(cloud: Prepared, network: Network | None, name: str) -> dict[str, float]:
    row: dict[str, float] = {}

    def told(level: int, errors: Errors) -> None:
        row[f"{name}_value"] = errors.value.item()
        row[f"{name}_slope"] = errors.slope.item()

    with torch.no_grad():
        climbed(cloud, network, told)
    return row
