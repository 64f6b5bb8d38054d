"""The operators that exist more than once, as one record.

Code above this package receives a `Backend` and never asks which one it is. An operator is a
pair of raw functions on tensors; the autograd side stands once, in the modules beside this
one, for all backends.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Backend", "Operator"]


@dataclass(frozen=True)
class Operator:
    """A raw forward and its raw backward; neither builds a graph."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]


@dataclass(frozen=True)
class Backend:
    """One implementation of each operator, with its name for logs and run folders.

    `device` is where the operators want their tensors, as torch names it. `taken` says which
    operators are another's: their names, and whose.

    The signatures stand at the callers: `rasterize.py`, `sample.py`, `encode.py`, `light.py`,
    `shade.py` and `extract.py` in this package.
    """

    name: str
    rasterize: Operator
    screen_derivatives: Callable[..., Any]
    interpolate: Operator
    antialias: Operator
    edge_adjacency: Callable[..., Any]
    vertex_normals: Operator
    texture2d: Operator
    halve: Operator
    cubemap: Operator
    hash_grid: Operator
    hash_grid_second: Callable[..., Any]
    mlp: Operator
    cube_filter: Operator
    shading_frame: Operator
    split_sum: Operator
    image_loss: Operator
    marching_tetrahedra: Operator
    flexicubes: Operator
    taken: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"
