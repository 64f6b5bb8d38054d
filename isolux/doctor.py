"""What was found on this machine: versions, backends, threads, caches.

Looks and reports; it changes nothing and raises nothing, since it is asked when something is
wrong already.
"""

import os
import platform
import shutil
from importlib import import_module, metadata, util
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
        `cache` (folder, or why there is none); `cuda` (driver and run-time compiler: "ok", or
        what is wrong); `backends` (`cpu`, `reference` and `cuda`: "ok", or what is wrong);
        `backend`, the one that `auto` takes, and `backend_why`; `adapters` (for each package
        whether it is here, what it offers, its licence, and how it is chosen).
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
        "cuda": {part: _cuda_part(part) for part in ("driver", "nvrtc")},
        "backends": {name: _backend(name) for name in ("cpu", "reference", "cuda")},
        **_chosen(),
        "adapters": _adapters(),
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


def _cuda_part(part: str) -> str:
    """`ok`, or what the driver or the compiler of the CUDA backend says of itself."""
    try:
        module = import_module(f"isolux.backends.cuda.{part}")
        return str(module.available() or "ok")
    except Exception as error:
        return f"fails: {_first_line(error)}"


def _backend(name: str) -> str:
    """`ok` if a small triangle is drawn right."""
    try:
        import torch

        from isolux.backends import select, why_not_cuda
        from isolux.backends.rasterize import rasterize

        if name == "cuda" and (problem := why_not_cuda()):
            return f"not usable: {problem}"
        device = "cuda" if name == "cuda" else "cpu"
        clip = torch.tensor([[[-3.0, -1, 0, 1], [3, -1, 0, 1], [0, 5, 0, 1]]], device=device)
        faces = torch.tensor([[0, 1, 2]], dtype=torch.int32, device=device)
        raster = rasterize(select(name), clip, faces, 4, 4)
        right = bool((raster.triangle == 1).all())
    except Exception as error:
        return f"fails: {_first_line(error)}"
    return "ok" if right else "fails: a triangle is drawn wrong"


def _chosen() -> dict[str, str]:
    """What `auto` takes, and why."""
    try:
        from isolux.backends import select, why_not_cuda

        chosen = select("auto").name
        why = why_not_cuda() or "a CUDA device and the run-time compiler are here"
    except Exception as error:
        return {"backend": "none", "backend_why": _first_line(error)}
    rule = "auto takes cuda where it can run, else cpu, and packages only where they are named"
    verb = "not cuda: " if chosen != "cuda" else ""
    return {"backend": chosen, "backend_why": f"{verb}{why} ({rule})"}


def _adapters() -> dict[str, dict[str, str] | str]:
    """Each package that could stand in for operators; none of them is imported."""
    try:
        from isolux.backends.adapters import ADAPTERS, problem, version

        found: dict[str, dict[str, str] | str] = {}
        for name, adapter in ADAPTERS.items():
            here = f"{version(name) or 'of unknown version'} is here, taken where it is named"
            example = f"operators.{adapter.operators[0]}={name}"
            found[name] = {
                "state": problem(name) or here,
                "offers": ", ".join(adapter.operators),
                "licence": adapter.licence,
                "chosen_by": f"{example}, with backend=cuda",
            }
    except Exception as error:
        return {"error": _first_line(error)}
    return found


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
