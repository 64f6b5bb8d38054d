"""Machine code to running kernels: a thin hand on the CUDA driver.

The driver's library comes with the graphics driver. Contexts, memory and streams are torch's;
here modules are loaded into the current context and kernels started on a given stream.
"""

import ctypes
import sys
from collections.abc import Sequence
from functools import cache

__all__ = ["DriverError", "Function", "available", "function_of", "load", "start"]

Function = ctypes.c_void_p
_NEEDED = 12000  # the oldest driver whose programming interface is asked for: CUDA 12.0
_OUT_OF_MEMORY = 2


class DriverError(RuntimeError):
    """The driver refused; what it said."""


def available() -> str | None:
    """None when there is a driver that is new enough, else in one line why not."""
    try:
        _library()
    except OSError as error:
        return str(error)
    return None


def load(cubin: bytes) -> ctypes.c_void_p:
    """A module of the current context.

    Raises:
        DriverError: e.g. for another architecture's code.
    """
    module = ctypes.c_void_p()
    _checked(_library().cuModuleLoadData(ctypes.byref(module), cubin), "loading a module")
    return module


def function_of(module: ctypes.c_void_p, name: str) -> Function:
    """A kernel of a module.

    Raises:
        DriverError: there is none of that name.
    """
    function = Function()
    status = _library().cuModuleGetFunction(ctypes.byref(function), module, name.encode())
    _checked(status, f"finding the kernel {name}")
    return function


def start(
    function: Function,
    blocks: int,
    threads: int,
    stream: int,
    arguments: Sequence["ctypes._SimpleCData[int] | ctypes._SimpleCData[float]"],
) -> None:
    """Queue a kernel; its arguments are copied at once.

    Raises:
        DriverError: e.g. after an earlier kernel has failed.
    """
    places = (ctypes.c_void_p * len(arguments))(
        *(ctypes.cast(ctypes.pointer(value), ctypes.c_void_p) for value in arguments)
    )
    status = _library().cuLaunchKernel(
        function, blocks, 1, 1, threads, 1, 1, 0, ctypes.c_void_p(stream), places, None
    )
    _checked(status, "starting a kernel")


def _checked(status: int, doing: str) -> None:
    if not status:
        return
    text = ctypes.c_char_p()
    _library().cuGetErrorString(status, ctypes.byref(text))
    reason = text.value.decode() if text.value else f"error {status}"
    if status == _OUT_OF_MEMORY:
        raise MemoryError(f"CUDA, {doing}: {reason}")
    raise DriverError(f"CUDA, {doing}: {reason}")


@cache
def _library() -> ctypes.CDLL:
    """The driver, initialised.

    Raises:
        OSError: in one line, that there is none, that it is too old, or that it sees no device.
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError:
        raise OSError(
            f"no CUDA driver ({name} is not here): install NVIDIA's driver, or use backend=cpu"
        ) from None
    if status := library.cuInit(0):
        raise OSError(
            f"the CUDA driver sees no usable device (cuInit gives {status}): check nvidia-smi, "
            "or use backend=cpu"
        )
    number = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(number))
    if number.value < _NEEDED:
        raise OSError(
            f"the CUDA driver is too old (for CUDA {_dotted(number.value)}, at least "
            f"{_dotted(_NEEDED)} is needed): update NVIDIA's driver, or use backend=cpu"
        )
    return library


def _dotted(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
