"""The network without torch: the same numbers on any number of threads.

Letters: c cells, p parents, s samples, m rows. What it computes is said in `network`, what its
outputs mean in `correction`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from isolux.backends.cpu.pool import chunks, parallel_for
from isolux.geometry.points.assembly import field_at
from isolux.geometry.points.learned import kernels
from isolux.geometry.points.learned.features import Features, features_of
from isolux.geometry.points.learned.lookup import neighbours_of, parents_of
from isolux.geometry.points.octree import Samples
from isolux.geometry.points.weights import Weights

__all__ = [
    "Adjusted",
    "adjusted",
    "load",
    "outputs_of",
    "shipped",
    "unadjusted",
    "using",
    "wanted",
]

_TASK = 2048  # cells
_STEEPEST = np.float32(4.0)
_FAR = 4.0

Parameters = dict[str, Any]
_NAMES = ("enter", "first", "down", "second", "third", "up", "last", "leave")
_LAYERS = {f"{name}.{part}" for name in _NAMES for part in ("weight", "bias")}


@dataclass(frozen=True)
class Adjusted:
    """What a level asks of the field at its samples, as `assemble` takes it."""

    samples: Samples  # with other normals
    value_weight: Any  # float32 [s]
    slope_weight: Any  # float32 [s]
    smoothness: Any  # float32 [m], or one number
    target: Any  # float32 [s], or None for zeros


_chosen: list[Parameters] = []  # in place of the shipped ones, see `using`


@lru_cache(maxsize=1)
def shipped() -> Parameters:
    """The trained parameters that come with the package."""
    path = resources.files("isolux.geometry.points.learned") / "network.npz"
    with resources.as_file(path) as file:
        return load(file)


def load(path: Path) -> Parameters:
    """Parameters that a training has written.

    Raises:
        ValueError: the file holds something else.
        OSError: it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: np.ascontiguousarray(arrays[name]) for name in arrays.files}
    except (ValueError, EOFError, AttributeError, BadZipFile) as error:
        raise ValueError(f"{path}: is no network ({error}); name a network.npz") from None
    if missing := sorted(_LAYERS - found.keys()):
        raise ValueError(f"{path}: is no network (no {missing[0]}); name a network.npz")
    return found


@contextmanager
def using(parameters: Parameters) -> Iterator[None]:
    """Fits within it use other parameters than the shipped ones."""
    _chosen.append(parameters)
    try:
        yield
    finally:
        _chosen.pop()


def wanted(use: str, weights: Weights) -> bool:
    """Whether a level with these weights is adjusted."""
    return use == "on" or (use == "auto" and weights.learned)


def unadjusted(
    rows: Any, start: Any, samples: Samples, mass: Any, weights: Weights
) -> Adjusted:
    """The terms of a level with the same weights everywhere; arguments as of `adjusted`."""
    value, slope = np.float32(weights.value) * mass, np.float32(weights.normal) * mass
    return Adjusted(samples, value, slope, weights.smoothness, None)


def adjusted(
    rows: Any,
    start: Any,
    samples: Samples,
    mass: Any,
    weights: Weights,
    parameters: Parameters | None = None,
) -> Adjusted:
    """Weights, normals and targets of a level as the network wants them.

    It sees no further than seven cells of the level.

    Args:
        rows: int64 [m], sorted.
        start: float32 [m], the coarser levels' coefficients, in cells of the level.
        samples: of the level.
        mass: float32 [s], one for an occupied cell on average, less where it is not trusted.
        weights: of the level.
        parameters: of the network; None takes the shipped ones.
    """
    if parameters is None:
        parameters = _chosen[-1] if _chosen else shipped()
    value, slope = field_at(rows, start, samples)
    out = outputs_of(features_of(samples, value, slope, mass, weights), samples, parameters)
    cell = np.repeat(np.arange(len(samples.cells)), np.diff(samples.first))
    logs = _STEEPEST * np.tanh(out[:, :3] / _STEEPEST)
    rest = np.tanh(out[:, 3:])[cell]
    factor = np.exp(logs[:, :2])[cell]
    value, slope = np.clip(value, -_FAR, _FAR), np.clip(slope, -_FAR, _FAR)
    normal = samples.normal.reshape(-1, 3)
    normal = normal + rest[:, :1] * (slope - normal) + rest[:, 3:6]
    smooth = np.empty(len(rows), np.float32)
    log = np.ascontiguousarray(logs[:, 2])
    parallel_for(
        kernels.spread_mean,
        [(rows, samples.cells, log, smooth, *part) for part in chunks(len(rows), 8192)],
    )
    return Adjusted(
        replace(samples, normal=np.ascontiguousarray(normal, np.float32).reshape(-1)),
        *(np.float32(weights.value) * mass * factor[:, 0],),
        np.float32(weights.normal) * mass * factor[:, 1],
        np.float32(weights.smoothness) * np.exp(smooth),
        np.ascontiguousarray(rest[:, 1] * value + rest[:, 2], np.float32),
    )


def outputs_of(features: Features, samples: Samples, parameters: Parameters) -> Any:
    """The outputs [c, 9] at the cells."""
    cells = samples.cells
    near = neighbours_of(cells, cells)
    parents, parent = parents_of(cells)
    above = neighbours_of(parents, parents)
    flat = features.vectors.reshape(len(cells), -1)
    x = _relu(_linear(np.concatenate([features.scalars, flat], 1), parameters, "enter"))
    x = x + _relu(_convolved(x, near, parameters, "first"))
    y = _relu(_linear(_pooled(x, parent, len(parents)), parameters, "down"))
    y = y + _relu(_convolved(y, above, parameters, "second"))
    y = y + _relu(_convolved(y, above, parameters, "third"))
    x = _relu(x + _linear(y, parameters, "up")[parent])
    x = x + _relu(_convolved(x, near, parameters, "last"))
    return _linear(x, parameters, "leave")


def _relu(x: Any) -> Any:
    return np.maximum(x, np.float32(0))


def _pooled(x: Any, parent: Any, count: int) -> Any:
    """The means [p, k] over the cells of each parent."""
    order = np.argsort(parent, kind="stable")
    first = np.searchsorted(parent[order], np.arange(count))
    size = np.diff(np.append(first, len(parent))).astype(np.float32)
    return np.add.reduceat(x[order], first, axis=0) / size[:, None]


def _linear(x: Any, parameters: Parameters, name: str) -> Any:
    weight = parameters[f"{name}.weight"]
    own = np.arange(len(x), dtype=np.int32)
    return _product(x, own, weight[None], parameters[f"{name}.bias"])


def _convolved(x: Any, near: Any, parameters: Parameters, name: str) -> Any:
    return _product(x, near, parameters[f"{name}.weight"], parameters[f"{name}.bias"])


def _turned(weight: Any) -> Any:
    """Weights [taps, outside, inside] as `kernels.convolve` takes them."""
    return np.ascontiguousarray(weight.transpose(0, 2, 1)).reshape(-1)


def _product(x: Any, near: Any, weight: Any, bias: Any) -> Any:
    taps, outside, inside = weight.shape
    out = np.empty(len(x) * outside, np.float32)
    flat = np.ascontiguousarray(x, np.float32).reshape(-1), _turned(weight)
    parallel_for(
        kernels.convolve,
        [
            (flat[0], near, flat[1], bias, taps, inside, outside, out, *part)
            for part in chunks(len(x), _TASK)
        ],
    )
    return out.reshape(-1, outside)
