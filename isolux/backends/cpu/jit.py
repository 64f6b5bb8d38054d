"""How the CPU kernels are compiled: numba, serial, without the GIL, cached on disc.

Rules that a kernel keeps, found by measurement: one-dimensional contiguous arrays, unsigned
indices, a select instead of a branch in an inner loop, no `prange` and no OpenMP (threads come
from `pool.py`), no constant of a fixed precision (the same text runs in float64 under
gradcheck). The cache sees edits of a kernel's own file only, so helpers stand beside the
kernel that calls them.
"""

import inspect
import os
import stat
import sys
import tempfile
import zlib
from collections.abc import Callable, Set
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar, cast, overload

import numba

__all__ = ["SHADING_MATH", "SUM_MATH", "cache_directory", "kernel"]

F = TypeVar("F", bound=Callable[..., Any])

SHADING_MATH = frozenset({"contract", "nsz", "arcp"})
"""What `fastmath` may hold in shading and hash kernels. Visibility keeps plain IEEE arithmetic,
and nothing may assume that NaN and infinity do not occur.

Sums keep their order: where an inner loop stores, the compiler makes two loops and chooses by
the addresses at run time whether it may take several steps at once, and in another order the
sum is another number. So results would depend on where memory lies."""

SUM_MATH = SHADING_MATH | {"reassoc"}
"""For inner loops that add up products and store nothing: there is one loop, with one order."""

_NUMBA: Any = numba.config
_LOCK = Lock()  # guards numba's global cache directory while a kernel is declared


def _version() -> str:
    try:
        return version("isolux")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "source"


def _usable(folder: Path) -> bool:
    """Whether `folder` can be made, belongs to this user and takes files."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if hasattr(os, "getuid") and status.st_uid != os.getuid():
            return False  # compiled code is loaded from here: only from our own hand
        if sys.platform != "win32" and status.st_mode & stat.S_IWOTH:
            return False
        with tempfile.TemporaryFile(dir=folder):
            return True
    except (OSError, RuntimeError):
        return False


def _candidates() -> list[Path]:
    # numba notices edits of a kernel's file, but not of how this one has it compiled.
    flags = zlib.crc32(Path(__file__).read_bytes())
    name = f"numba-{_version()}-{flags:08x}"
    folders: list[Path] = []
    if chosen := os.environ.get("ISOLUX_CACHE_DIR"):
        folders.append(Path(chosen) / name)
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        folders.append(Path(chosen) / "isolux" / name)
    with suppress(RuntimeError):  # no home directory
        folders.append(Path.home() / ".cache" / "isolux" / name)
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folders.append(Path(tempfile.gettempdir()) / f"isolux-{user}" / name)
    return folders


_chosen: list[Path | None] = []  # decided once a process


def cache_directory() -> Path | None:
    """The folder that compiled kernels are kept in, or None when none can be written.

    The first that works of `$ISOLUX_CACHE_DIR`, `$XDG_CACHE_HOME/isolux`, `~/.cache/isolux`
    and a folder of this user in the temporary directory. The package version is part of the
    name.
    """
    if not _chosen:
        _chosen.append(next((folder for folder in _candidates() if _usable(folder)), None))
    return _chosen[0]


def _compile(function: F, fastmath: bool | set[str], inline: str) -> F:
    options: dict[str, Any] = {
        "nogil": True,
        "boundscheck": False,
        "error_model": "numpy",  # a division by zero is inf, not an exception
        "fastmath": fastmath,
        "inline": inline,
    }
    folder = cache_directory()
    if folder is not None and not _NUMBA.DISABLE_JIT:
        with _LOCK:
            before = _NUMBA.CACHE_DIR
            _NUMBA.CACHE_DIR = str(folder)
            try:
                cached: F = numba.njit(cache=True, **options)(function)
                return cached
            except (RuntimeError, OSError):  # "no locator available"
                pass
            finally:
                _NUMBA.CACHE_DIR = before
    plain: F = numba.njit(cache=False, **options)(function)
    return plain


@overload
def kernel(function: F) -> F: ...


@overload
def kernel(*, fastmath: bool | Set[str] = False, inline: bool = False) -> Callable[[F], F]: ...


def kernel(
    function: F | None = None,
    *,
    fastmath: bool | Set[str] = False,
    inline: bool = False,
) -> F | Callable[[F], F]:
    """Declare a serial CPU kernel; it compiles when first called, once a set of argument types.

    Args:
        function: written in numba's subset of Python. Arguments are NumPy arrays and scalars.
        fastmath: what the compiler may assume, e.g. `SHADING_MATH`. Never in visibility.
        inline: paste the function into its callers before types are known. LLVM inlines small
            helpers by itself, so this is rarely of use.

    Returns:
        The compiled function, under the type of the written one.
    """
    flags: bool | set[str] = fastmath if isinstance(fastmath, bool) else set(fastmath)

    def declare(function: F) -> F:
        # Runtime type checkers wrap what they check; numba needs the written function.
        function = cast(F, inspect.unwrap(function))
        return _compile(function, flags, "always" if inline else "never")

    return declare if function is None else declare(function)
