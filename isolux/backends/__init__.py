"""The operators that exist more than once, and the choice among their implementations.

A `Backend` is a record of raw functions. `select` makes one by name; code above this package
is handed the record and passes it on. The public operators, with their gradients, stand in
`rasterize.py`, `sample.py`, `encode.py`, `light.py`, `shade.py` and `extract.py`. Single
operators can be taken from elsewhere, from packages among others (`adapters`).
"""

import difflib
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module, util
from types import ModuleType
from typing import Any

from isolux.backends import adapters
from isolux.backends.available import cuda_problem
from isolux.backends.table import Backend, Operator

__all__ = [
    "Backend",
    "Operator",
    "cpu",
    "cuda",
    "operator_names",
    "reference",
    "select",
    "why_not_cuda",
]

# Where each operator lives in a backend's package: its module, and in it the raw forward and
# backward, or the one function of an operator without gradients.
_HOMES: dict[str, tuple[str, ...]] = {
    "rasterize": ("raster", "forward", "backward"),
    "screen_derivatives": ("raster", "screen_derivatives"),
    "interpolate": ("interpolate", "forward", "backward"),
    "antialias": ("antialias", "forward", "backward"),
    "edge_adjacency": ("adjacency", "edge_adjacency"),
    "vertex_normals": ("normals", "forward", "backward"),
    "texture2d": ("texture2d", "forward", "backward"),
    "halve": ("mips", "forward", "backward"),
    "cubemap": ("cubemap", "forward", "backward"),
    "hash_grid": ("hashgrid", "forward", "backward"),
    "hash_grid_second": ("hashgrid", "second"),
    "mlp": ("mlp", "forward", "backward"),
    "cube_filter": ("cube_filter", "forward", "backward"),
    "shading_frame": ("frame", "forward", "backward"),
    "split_sum": ("split_sum", "forward", "backward"),
    "image_loss": ("image_loss", "forward", "backward"),
    "marching_tetrahedra": ("tetrahedra", "forward", "backward"),
    "flexicubes": ("flexicubes", "forward", "backward"),
}

# What the cuda backend has a second time: the name to ask for it by, operator and module.
_VARIANTS = {"half": ("mlp", "half_mlp")}


def _load(package: str, operator: str) -> Operator | Callable[..., Any]:
    module, *names = _HOMES[operator]
    if package in _VARIANTS:
        package, module = "cuda", _VARIANTS[package][1]
    home = import_module(f"isolux.backends.{package}.{module}")
    functions = [getattr(home, name) for name in names]
    return Operator(*functions) if len(functions) == 2 else functions[0]


def _assemble(package: str) -> Backend:
    operators: dict[str, Any] = {name: _load(package, name) for name in _HOMES}
    device = "cuda" if package == "cuda" else "cpu"
    return Backend(name=package, device=device, **operators)


@cache
def reference() -> Backend:
    """Every operator in plain PyTorch: small, slow, and what the others are tested by."""
    return _assemble("reference")


@cache
def cpu() -> Backend:
    """The numba kernels: fast on the processor, in float32 and float64."""
    return _assemble("cpu")


@cache
def cuda() -> Backend:
    """Kernels compiled when they are first needed, for tensors on a CUDA device."""
    return _assemble("cuda")


def operator_names() -> tuple[str, ...]:
    """The operators of the table."""
    return tuple(_HOMES)


def why_not_cuda() -> str | None:
    """In one line why the `cuda` backend cannot run here; None if it can."""
    if problem := cuda_problem():
        return problem
    lacking = [name for name, (module, *_) in _HOMES.items() if not _is_there("cuda", module)]
    if lacking:
        return f"it has no {', '.join(lacking)} yet: take backend=cpu"
    return None


def _is_there(package: str, module: str) -> bool:
    """Whether a backend has a module; nothing is loaded."""
    home = f"isolux.backends.{package}"
    return util.find_spec(home) is not None and util.find_spec(f"{home}.{module}") is not None


def select(name: str = "auto", operators: Mapping[str, str] | None = None) -> Backend:
    """The backend of that name, with single operators from elsewhere if asked.

    Args:
        name: "cpu", "reference", "cuda", or "auto": cuda where it can run, else cpu. Packages
            are never taken unless `operators` names them.
        operators: which operator is whose, e.g. {"rasterize": "nvdiffrast"}: "reference", the
            backend itself, an adapter that offers it, or "half" for cuda's `mlp` in half
            precision.

    Raises:
        ValueError: for a name, an operator or a pair of them that is not to be had, in one
            line that says what is.
        ImportError: a package is missing, too old, or cannot be loaded; in one line, how to
            get it.
    """
    base = _named(name)
    taken = {key: source for key, source in (operators or {}).items() if source != base.name}
    return _combined(base.name, tuple(sorted(taken.items()))) if taken else base


def _named(name: str) -> Backend:
    match name:
        case "auto":
            return cpu() if why_not_cuda() else cuda()
        case "cpu":
            return cpu()
        case "reference":
            return reference()
        case "cuda":
            if problem := why_not_cuda():
                raise ValueError(f"backend=cuda: {problem}")
            return cuda()
    raise ValueError(f"backend: need 'auto', 'cpu', 'reference' or 'cuda', got '{name}'")


@cache
def _combined(name: str, taken: tuple[tuple[str, str], ...]) -> Backend:
    base = _named(name)
    for operator, source in taken:  # all of them before anything is imported
        _check(base, operator, source)
    packages = {
        source: adapters.load(source, base)
        for source in sorted({source for _, source in taken} & adapters.ADAPTERS.keys())
    }
    found: dict[str, Any] = {
        operator: packages[source][operator] if source in packages else _load(source, operator)
        for operator, source in taken
    }
    return replace(base, taken=dict(taken), **found)


def _check(base: Backend, operator: str, source: str) -> None:
    """Whether one operator can be taken from a source.

    Raises:
        ValueError, ImportError: as `select` says.
    """
    setting = f"operators.{operator}={source}"
    if operator not in _HOMES:
        close = difflib.get_close_matches(operator, _HOMES, n=1)
        hint = f"; did you mean operators.{close[0]}?" if close else ""
        raise ValueError(f"{setting}: no such operator{hint}")
    if source == "reference" or (source, base.name) == ("cpu", "reference"):
        return
    if source in ("cpu", "cuda"):
        raise ValueError(f"{setting}: its tensors are elsewhere with backend={base.name}")
    offered = {name: adapter.operators for name, adapter in adapters.ADAPTERS.items()}
    offered |= {name: (only,) for name, (only, _) in _VARIANTS.items()}
    if source not in offered:
        known = ", ".join(("reference", base.name, *offered))
        raise ValueError(f"{setting}: no such source; there are {known}")
    if operator not in offered[source]:
        offers = ", ".join(offered[source])
        raise ValueError(f"{setting}: {source} does not offer it; it offers {offers}")
    if source in adapters.ADAPTERS and (problem := adapters.problem(source)):
        raise ImportError(f"{setting}: {problem}")
    if base.name != "cuda":
        why = why_not_cuda()
        remedy = f" ({why})" if why else ": add backend=cuda"
        raise ValueError(
            f"{setting}: {source} runs on a CUDA device, this backend is {base.name}{remedy}"
        )


class _Package(ModuleType):
    """Keeps `cpu`, `cuda` and `reference` the functions: importing the packages would not."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in ("cpu", "cuda", "reference") and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
