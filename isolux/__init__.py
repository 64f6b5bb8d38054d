"""isolux: textured, relightable triangle meshes from masked photographs.

Nothing heavy is imported until it is used, so that the command line answers at once and
`import isolux` does not load torch.
"""

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isolux.optimize.points import PointsField
    from isolux.points import Array, Places
    from isolux.train import Run

__all__ = ["Run", "__version__", "fit_points", "load", "train"]

__version__ = "0.1.0"

# Public names that live elsewhere and are imported on first use (PEP 562).
_HOMES = {"Run": "isolux.train"}


def train(
    conf: str | Path, *, overrides: Mapping[str, object] | None = None, resume: bool = False
) -> "Run":
    """Train a scene, as `isolux train` does.

    Args:
        conf: the name of a preset, or a .conf or .json file.
        overrides: settings by dotted name, e.g. `{"optimize.steps": 500}`.
        resume: go on from the last checkpoint of the run folder.

    Returns:
        The finished run: its mesh, cameras, light and folder.

    Raises:
        isolux.confs.read.ConfError: every mistake of the settings at once, a line each.
        FileNotFoundError: for a file, scene or preset that is not there.
    """
    from isolux.confs.read import read_conf

    given = [f"{key}={_text(value)}" for key, value in (overrides or {}).items()]
    run: Run = import_module("isolux.train").train(read_conf(conf, given), resume)
    return run


def load(folder: str | Path) -> "Run":
    """The run that a run folder holds.

    Raises:
        FileNotFoundError: if the folder or its checkpoint is not there.
    """
    run: Run = import_module("isolux.train").load(Path(folder))
    return run


def fit_points(
    xyz: "Array",
    normals: "Array | None" = None,
    *,
    sensor: "Places | None" = None,
    colors: "Array | None" = None,
    solver: str = "hierarchy",
    **settings: object,
) -> "PointsField":
    """A signed distance field from points, as `isolux points` makes it.

    Args:
        xyz: positions [n, 3], of any units; float64 for coordinates of surveys.
        normals: outward [n, 3]; without them they are estimated, and oriented by `sensor` or,
            without that, by the points themselves.
        sensor: where the points were seen from: [3], or [n, 3].
        colors: linear, [n, 3] in [0, 1], for `field.colors_at`.
        solver: "hierarchy", or "splines" for small clouds.
        settings: others of docs/configuration.md, section points, by name; groups as
            dictionaries, e.g. `detail_level=0.5, mesh={"trim": 0.1}`.

    Returns:
        The field: `extract_mesh()`, `value(x)`, `gradient(x)`, in the points' own units.

    Raises:
        isolux.confs.read.ConfError: a setting that is not one, a line each.
        ValueError: points that make no surface, in one line.
    """
    from isolux.confs.read import read_points

    given = [f"{key}={_text(value)}" for key, value in {"solver": solver, **settings}.items()]
    made: PointsField = import_module("isolux.points").fit_points(
        xyz, normals, sensor, colors, read_points(given)
    )
    return made


def _text(value: object) -> str:
    """A Python value as the right side of `key=value`."""
    import json

    return json.dumps(value, default=str)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'isolux' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """Keeps `isolux.train` the function: importing the module of that name would replace it."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name == "train" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
