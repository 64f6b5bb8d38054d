"""Machine code to running kernels: a thin hand on the CUDA driver.

The driver's library comes with the graphics driver. Contexts, memory and streams are torch's;
here modules are loaded into the context that torch uses and kernels started on a given stream.
"""

import ctypes
import sys
from collections.abc import Sequence
from functools import cache

from isolux.failure import Failure

__all__ = [
    "DriverError",
    "Function",
    "ImageError",
    "available",
    "function_of",
    "load",
    "start",
    "use",
]

Function = ctypes.c_void_p
_NEEDED = 12000  # the oldest driver whose programming interface is asked for: CUDA 12.0
_OUT_OF_MEMORY = 2
_BAD_IMAGE = (200, 209)  # CUDA_ERROR_INVALID_IMAGE, CUDA_ERROR_NO_BINARY_FOR_GPU


class DriverError(Failure):
    """The driver refused; what it said."""


class ImageError(DriverError):
    """Machine code that this device or driver does not run, or that is damaged."""


def available() -> str | None:
    """None when there is a driver that is new enough, else in one line why not."""
    try:
        _library()
    except OSError as error:
        return str(error)
    return None


def use(index: int) -> None:
    """Make torch's context of a device the calling thread's.

    A thread has none at first, and in autograd's threads torch makes one current only when it
    needs it itself; `torch.cuda.device` does nothing where the number is already right.

    Raises:
        DriverError, MemoryError: e.g. for a device that another process has for itself.
    """
    wanted, current = _context(index), ctypes.c_void_p()
    _checked(_library().cuCtxGetCurrent(ctypes.byref(current)), "asking for the context")
    if current.value != wanted.value:
        _checked(_library().cuCtxSetCurrent(wanted), f"taking device {index}")


def load(cubin: bytes, name: str) -> ctypes.c_void_p:
    """A module of the current context.

    Args:
        cubin: machine code.
        name: of it, for messages.

    Raises:
        ImageError: the code is for another architecture, or newer than the driver, or damaged.
        MemoryError: the device is full.
        DriverError: the rest.
    """
    module = ctypes.c_void_p()
    status = _library().cuModuleLoadData(ctypes.byref(module), cubin)
    if status in _BAD_IMAGE:
        known = f"the driver is for CUDA {_dotted(_version(_library()))}"
        raise ImageError(f"CUDA, loading {name}: {_reason(_library(), status)}; {known}")
    _checked(status, f"loading {name}")
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
    name: str,
) -> None:
    """Queue a kernel; its arguments are copied at once.

    Args:
        function: of the current context.
        blocks: how many.
        threads: of a block.
        stream: torch's number of it; 0 is the default one.
        arguments: in C's types, as the kernel declares them.
        name: of the kernel, for messages.

    Raises:
        MemoryError: the device is full.
        DriverError: e.g. after an earlier kernel has failed.
    """
    places = (ctypes.c_void_p * len(arguments))(
        *(ctypes.cast(ctypes.pointer(value), ctypes.c_void_p) for value in arguments)
    )
    status = _library().cuLaunchKernel(
        function, blocks, 1, 1, threads, 1, 1, 0, ctypes.c_void_p(stream), places, None
    )
    _checked(status, f"starting {name}")


def _checked(status: int, doing: str) -> None:
    if not status:
        return
    said = f"CUDA, {doing}: {_reason(_library(), status)}"
    if status == _OUT_OF_MEMORY:
        raise MemoryError(f"{said}; use smaller batches, or a device with more memory free")
    raise DriverError(said)


def _reason(library: ctypes.CDLL, status: int) -> str:
    text = ctypes.c_char_p()
    library.cuGetErrorString(status, ctypes.byref(text))
    return text.value.decode(errors="replace") if text.value else f"error {status}"


def _version(library: ctypes.CDLL) -> int:
    """Of CUDA, that the driver is for: 1000 major + 10 minor."""
    number = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(number))
    return number.value


@cache
def _context(index: int) -> ctypes.c_void_p:
    """A device's primary context, which torch uses; kept until the process ends."""
    device, context = ctypes.c_int(), ctypes.c_void_p()
    doing = f"taking device {index}"
    _checked(_library().cuDeviceGet(ctypes.byref(device), index), doing)
    _checked(_library().cuDevicePrimaryCtxRetain(ctypes.byref(context), device), doing)
    return context


def _name() -> str:
    return "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


@cache
def _library() -> ctypes.CDLL:
    """The driver, initialised.

    Raises:
        OSError: in one line, that there is none, that it is too old, or that it sees no device.
    """
    try:
        library = ctypes.CDLL(_name())
    except OSError:
        raise OSError(
            f"no CUDA driver ({_name()} is not here): install NVIDIA's driver, or use "
            "backend=cpu"
        ) from None
    if status := library.cuInit(0):
        raise OSError(
            f"the CUDA driver sees no usable device ({_reason(library, status)}): check "
            "nvidia-smi, or use backend=cpu"
        )
    if (number := _version(library)) < _NEEDED:
        raise OSError(
            f"the CUDA driver is too old (for CUDA {_dotted(number)}, at least "
            f"{_dotted(_NEEDED)} is needed): update NVIDIA's driver, or use backend=cpu"
        )
    return library


def _dotted(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
