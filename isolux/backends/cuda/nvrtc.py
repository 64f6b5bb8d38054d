"""Text to machine code: a thin hand on NVIDIA's run-time compiler.

NVRTC is a library that comes with torch's CUDA builds, or alone as the package
nvidia-cuda-nvrtc. It needs neither a driver nor a device, so compiling is tested anywhere.
"""

import ctypes
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import util
from pathlib import Path

from isolux.failure import Failure

__all__ = ["CompileError", "available", "compile_text", "version"]

_REMEDY = "pip install nvidia-cuda-nvrtc (torch's CUDA builds bring it along)"
_INVALID_OPTION = 5  # NVRTC_ERROR_INVALID_OPTION, e.g. for an architecture it does not know


class CompileError(Failure):
    """The text does not compile; what the compiler said."""


def available() -> str | None:
    """None when the compiler can be used, else in one line why not."""
    try:
        _library()
    except OSError as error:
        return str(error)
    return None


def version() -> tuple[int, int]:
    """Of the compiler.

    Raises:
        OSError: it is not here; names the package that brings it.
    """
    major, minor = ctypes.c_int(), ctypes.c_int()
    _checked(_library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return major.value, minor.value


def compile_text(
    text: str, name: str, architecture: str, options: Sequence[str] = ()
) -> tuple[bytes, str]:
    """Compile CUDA C++.

    Args:
        text: without includes.
        name: of the file, for messages.
        architecture: of the device, e.g. "sm_90".
        options: more of NVRTC's, e.g. "--fmad=false".

    Returns:
        The cubin, and the compiler's warnings.

    Raises:
        CompileError: with what the compiler said; an architecture it does not know included.
        OSError: NVRTC is not here; names the package that brings it.
    """
    library, program = _library(), ctypes.c_void_p()
    _checked(
        library.nvrtcCreateProgram(
            ctypes.byref(program), text.encode(), name.encode(), 0, None, None
        )
    )
    try:
        given = [f"--gpu-architecture={architecture}", "--std=c++17", *options]
        array = (ctypes.c_char_p * len(given))(*(option.encode() for option in given))
        status = library.nvrtcCompileProgram(program, len(given), array)
        said = _text_of(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog")
        log = said.rstrip(b"\0").decode(errors="replace").strip()
        if status == _INVALID_OPTION:
            known = ".".join(str(part) for part in version())
            raise CompileError(
                f"{name}: NVRTC {known} does not know {architecture}; a newer one may: "
                f"pip install -U nvidia-cuda-nvrtc ({log})"
            )
        if status:
            first = next(
                (line for line in log.splitlines() if "error" in line), _reason(status)
            )
            raise CompileError(f"{name} for {architecture}: {first}\n{log}".rstrip())
        return _text_of(program, "nvrtcGetCUBINSize", "nvrtcGetCUBIN"), log
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _text_of(program: ctypes.c_void_p, size_of: str, get: str) -> bytes:
    library, length = _library(), ctypes.c_size_t()
    _checked(getattr(library, size_of)(program, ctypes.byref(length)))
    buffer = ctypes.create_string_buffer(length.value)
    _checked(getattr(library, get)(program, buffer))
    return buffer.raw


def _reason(status: int) -> str:
    reason: bytes = _library().nvrtcGetErrorString(status)
    return reason.decode()


def _checked(status: int) -> None:
    if status:
        raise CompileError(f"NVRTC: {_reason(status)}")


@cache
def _library() -> ctypes.CDLL:
    """NVRTC, from wherever it was installed.

    Raises:
        OSError: in one line, how to get it.
    """
    found = "it was not found"
    for path in _candidates():
        try:
            library = ctypes.CDLL(str(path))
        except OSError as error:
            if Path(path).exists():  # here, but it cannot be loaded: that is the news
                found = str(error)
            continue
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        return library
    raise OSError(f"NVRTC, the run-time compiler of CUDA, cannot be used ({found}): {_REMEDY}")


def _candidates() -> Iterator[str | Path]:
    """Files, then names that the system may know; torch's CUDA first, then the newest.

    A driver runs code of its own major version and of older ones. That of torch's build suits
    the driver; what else is installed may be too new.
    """
    from torch.version import cuda  # here: compiling by itself needs no torch

    wanted = int(cuda.split(".")[0]) if cuda else 0
    pattern = "nvrtc64_*_0.dll" if sys.platform == "win32" else "libnvrtc.so.*"
    found: list[Path] = []
    for package, inner in (("nvidia", "*/lib"), ("nvidia", "*/bin*"), ("torch", "lib")):
        spec = util.find_spec(package)
        for root in (spec.submodule_search_locations or []) if spec else []:
            found += Path(root).glob(f"{inner}/{pattern}")
    yield from sorted(found, key=lambda path: _rank(path, wanted), reverse=True)
    for major in sorted((12, 13), key=lambda major: (major == wanted, major), reverse=True):
        yield f"libnvrtc.so.{major}"
    yield "libnvrtc.so"


def _rank(path: Path, wanted: int) -> tuple[bool, list[int]]:
    """Whether a library is of the wanted major version, and its version."""
    numbers = [int(number) for number in re.findall(r"\d+", path.name)]
    if path.suffix == ".dll":  # nvrtc64_130_0.dll is of 13.0
        numbers = [numbers[1] // 10, numbers[1] % 10]
    return numbers[:1] == [wanted], numbers
