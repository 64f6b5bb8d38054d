"""The operators that exist more than once, and the choice among their implementations.

A `Backend` is a record of raw functions. `select` makes one by name; code above this package
is handed the record and passes it on. The public operators, with their gradients, stand in
`rasterize.py`, `sample.py`, `encode.py`, `light.py`, `shade.py` and `extract.py`.
"""

import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from isolux.backends.table import Backend, Operator

__all__ = ["Backend", "Operator", "cpu", "reference", "select"]

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


def _load(package: str, operator: str) -> Operator | Callable[..., Any]:
    module, *names = _HOMES[operator]
    home = import_module(f"isolux.backends.{package}.{module}")
    functions = [getattr(home, name) for name in names]
    return Operator(*functions) if len(functions) == 2 else functions[0]


def _assemble(package: str) -> Backend:
    operators: dict[str, Any] = {name: _load(package, name) for name in _HOMES}
    return Backend(name=package, **operators)


@cache
def reference() -> Backend:
    """Every operator in plain PyTorch: small, slow, and what the others are tested by."""
    return _assemble("reference")


@cache
def cpu() -> Backend:
    """The numba kernels: fast on the processor, in float32 and float64."""
    return _assemble("cpu")


def select(name: str = "auto") -> Backend:
    """The backend of that name.

    Args:
        name: "cpu", "reference", or "auto" for the fastest one that this machine runs.

    Raises:
        ValueError: for a name that is none of these.
    """
    match name:
        case "auto" | "cpu":
            return cpu()
        case "reference":
            return reference()
    raise ValueError(f"backend: need 'auto', 'cpu' or 'reference', got '{name}'")


class _Package(ModuleType):
    """Keeps `cpu` and `reference` the functions: importing the packages would replace them."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in ("cpu", "reference") and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
