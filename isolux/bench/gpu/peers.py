"""The packages that are measured beside us, by their own documented interface."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

from isolux import backends
from isolux.backends import Backend, adapters

__all__ = ["package", "with_operators"]


def package(name: str) -> Any:
    """A package by the name of its adapter.

    Raises:
        ImportError: it is missing, too old or does not load; one line.
    """
    if problem := adapters.problem(name):
        raise ImportError(problem.partition(":")[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of builds and of torch's older interfaces
        try:
            return import_module(adapters.ADAPTERS[name].module)
        except Exception as error:  # builds for another torch fail in many ways
            raise ImportError(f"{name} does not load: {error}") from error


def with_operators(base: Backend, taken: Mapping[str, str]) -> Backend:
    """The backend with operators from elsewhere.

    Raises:
        ValueError, ImportError: as `backends.select` does.
    """
    for source in adapters.ADAPTERS.keys() & taken.values():
        package(source)  # says why not in fewer words
    if base.name == "cuda":
        return backends.select("cuda", taken)
    # On the processor, in dry runs: stand-ins for the packages may be there.
    found: dict[str, Any] = {}
    for operator, source in taken.items():
        if source not in adapters.ADAPTERS:
            raise ValueError(f"operators.{operator}={source} needs a CUDA device")
        found[operator] = adapters.load(source, base)[operator]
    return replace(base, taken=dict(taken), **found)
