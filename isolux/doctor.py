"""What was found on this machine: versions, backends, threads, caches.

Looks and reports; it changes nothing and raises nothing, since it is asked when something is
wrong already.
"""

import os
import platform
import shutil
from importlib import metadata, util
from typing import Any

from isolux import __version__

__all__ = ["examine"]

_PACKAGES = ("torch", "numpy", "numba", "scipy", "trimesh", "xatlas", "pydantic", "pyhocon")
_OPTIONAL = {
    "viser": "live viewer: pip install 'isolux[viewer]'",
    "imageio-ffmpeg": "video: pip install 'isolux[video]'",
    "mitsuba": "tests against a path tracer",
    "embreex": "tests against a ray caster",
}


def examine() -> dict[str, Any]:
    """Everything as a tree of plain values, ready for JSON.

    Returns:
        `isolux`, `python`, `system`; `packages` (version or "missing"); `optional` and
        `tools` (version, or what it would serve); `torch` (build, CUDA); `threads`;
        `cache` (folder, or why there is none); `backends` (`cpu` and `reference`: "ok", or
        what is wrong) and `backend`, the one that `auto` takes.
    """
    return {
        "isolux": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name, "missing") for name in _PACKAGES},
        "optional": {
            name: _version(name, f"not here ({why})") for name, why in _OPTIONAL.items()
        },
        "tools": {"node": shutil.which("node") or "not here (glTF validation in tests)"},
        "torch": _torch(),
        "threads": _threads(),
        "cache": _cache(),
        "backends": {name: _backend(name) for name in ("cpu", "reference")},
        "backend": _chosen(),
    }


def _version(name: str, absent: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return absent


def _torch() -> dict[str, Any]:
    if util.find_spec("torch") is None:
        return {"error": "missing: pip install torch"}
    try:
        import torch
    except (ImportError, OSError) as error:  # a build that does not fit this machine
        return {"error": f"cannot be loaded: {_first_line(error)}"}
    return {
        "version": torch.__version__,
        "cuda_build": torch.version.cuda,
        "cuda_device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
    }


def _threads() -> dict[str, Any]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    found: dict[str, Any] = {"processors": os.cpu_count(), "usable": usable or os.cpu_count()}
    try:
        from isolux.backends.cpu.pool import threads

        found["kernels"] = threads()
    except Exception as error:
        found["kernels"] = _first_line(error)
    found.update({name: value for name, value in os.environ.items() if name.startswith("OMP_")})
    return found


def _cache() -> str:
    try:
        from isolux.backends.cpu.jit import cache_directory

        folder = cache_directory()
    except Exception as error:
        return f"not known: {_first_line(error)}"
    if folder is None:
        return "none: no folder can be written, kernels are compiled anew in every process"
    return str(folder)


def _backend(name: str) -> str:
    """`ok` if a small triangle is drawn right."""
    try:
        import torch

        from isolux.backends import select
        from isolux.backends.rasterize import rasterize

        clip = torch.tensor([[[-3.0, -1, 0, 1], [3, -1, 0, 1], [0, 5, 0, 1]]])
        faces = torch.tensor([[0, 1, 2]], dtype=torch.int32)
        raster = rasterize(select(name), clip, faces, 4, 4)
    except Exception as error:
        return f"fails: {_first_line(error)}"
    return "ok" if bool((raster.triangle == 1).all()) else "fails: a triangle is drawn wrong"


def _chosen() -> str:
    try:
        from isolux.backends import select

        return select("auto").name
    except Exception as error:
        return f"none: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
