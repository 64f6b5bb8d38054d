"""Other packages' operators, for who has them installed: nvdiffrast, tiny-cuda-nn, kaolin.

An adapter is a row of `ADAPTERS` and a module of the same name here, whose `operators` takes
the imported package and gives raw operators with our conventions. Packages are looked up by
name and imported when selected, never before; `auto` selects none. What each conversion does,
and what it costs, stands in `docs/backends.md`.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata, util

from isolux.backends.table import Backend, Operator

__all__ = ["ADAPTERS", "Adapter", "load", "problem", "version"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adapter:
    """What can be said of a package without importing it."""

    package: str  # the top-level name by which it is found
    module: str  # what is imported
    distribution: str  # its name among installed distributions
    needs: tuple[int, ...]  # the oldest version whose interface is the one written to
    operators: tuple[str, ...]  # of our table
    licence: str
    commercial: bool  # whether the licence allows commercial use
    how: str  # to get it

    @property
    def wanted(self) -> str:
        """The package with its version, for messages."""
        return f"{self.package} >= {'.'.join(map(str, self.needs))}"


ADAPTERS: Mapping[str, Adapter] = {
    "nvdiffrast": Adapter(
        package="nvdiffrast",
        module="nvdiffrast.torch",
        distribution="nvdiffrast",
        needs=(0, 4),
        operators=("rasterize", "interpolate", "antialias", "texture2d"),
        licence="Nvidia Source Code License (1-Way Commercial): research and evaluation only, "
        "no commercial use",
        commercial=False,
        how="pip install --no-build-isolation git+https://github.com/NVlabs/nvdiffrast "
        "(needs nvcc)",
    ),
    "tinycudann": Adapter(
        package="tinycudann",
        module="tinycudann",
        distribution="tinycudann",
        needs=(1, 6),
        operators=("hash_grid", "mlp"),
        licence="BSD-3-Clause",
        commercial=True,
        how="pip install --no-build-isolation "
        "git+https://github.com/NVlabs/tiny-cuda-nn#subdirectory=bindings/torch (needs nvcc)",
    ),
    "kaolin": Adapter(
        package="kaolin",
        module="kaolin.ops.conversions",
        distribution="kaolin",
        needs=(0, 18),
        operators=("flexicubes",),
        licence="Apache-2.0 (what is used of it; its non_commercial part is not)",
        commercial=True,
        how="pip install kaolin, as its documentation says for your torch",
    ),
}


def version(name: str) -> str | None:
    """The version that is installed; None where the package is not, or does not say."""
    try:
        return metadata.version(ADAPTERS[name].distribution)
    except metadata.PackageNotFoundError:
        return None


def problem(name: str) -> str | None:
    """Why an adapter cannot be had, in one line; None if its package is here and new enough.

    Nothing is imported, so a package that is broken is found out by `load` alone.
    """
    adapter = ADAPTERS[name]
    if util.find_spec(adapter.package) is None:
        return f"{adapter.package} is not installed, need {adapter.wanted}: {adapter.how}"
    return _too_old(adapter, version(name))


def load(name: str, base: Backend) -> dict[str, Operator]:
    """Import a package and give its operators; its licence is logged once a process.

    Args:
        name: a key of `ADAPTERS`.
        base: does what the package cannot, see each adapter.

    Raises:
        ImportError: the package is missing, too old, or does not load; one line.
    """
    adapter = ADAPTERS[name]
    if said := problem(name):
        raise ImportError(said)
    try:
        package = import_module(adapter.module)
    except Exception as error:  # builds for another torch or device fail in many ways
        found = version(name) or "of unknown version"
        raise ImportError(
            f"{adapter.package} {found} cannot be loaded ({_first_line(error)}), need "
            f"{adapter.wanted} built for this torch: {adapter.how}"
        ) from error
    if version(name) is None and (
        said := _too_old(adapter, getattr(package, "__version__", None))
    ):
        raise ImportError(said)
    home = import_module(f"isolux.backends.adapters.{name}")
    try:
        operators: dict[str, Operator] = home.operators(package, base)
    except AttributeError as error:  # another package of that name
        raise ImportError(
            f"{adapter.package} is not the package that is known ({_first_line(error)}), need "
            f"{adapter.wanted}: {adapter.how}"
        ) from error
    _tell_licence(name)
    return operators


@cache
def _tell_licence(name: str) -> None:
    adapter = ADAPTERS[name]
    level = logging.INFO if adapter.commercial else logging.WARNING
    found = version(name) or ""
    _log.log(level, "%s %s is used; its licence: %s", adapter.package, found, adapter.licence)


def _too_old(adapter: Adapter, found: str | None) -> str | None:
    """A version that cannot be read passes: a build may call itself anything."""
    numbers = re.match(r"\d+(\.\d+)*", found or "")
    if not numbers:
        return None
    have = tuple(int(part) for part in numbers[0].split("."))
    if have >= adapter.needs:
        return None
    return f"{adapter.package} {found} is too old, need {adapter.wanted}: {adapter.how}"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
