"""From a kernel's name and tensors to its start on the device.

Signatures are read from the text, so each argument is checked against what the kernel
declares: a tensor of another type would be read as garbage. Machine code is kept on disc by
text, options, architecture and version of the compiler.
"""

import ctypes
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import torch
from torch import Tensor

from isolux.backends.cpu.jit import cache_directory
from isolux.backends.cuda import driver, nvrtc

__all__ = ["FILES", "launch", "options_of", "prepare", "source", "use_host"]

FILES = tuple(
    sorted(
        path.name.removesuffix(".cu")
        for path in resources.files("isolux.backends.cuda").joinpath("text").iterdir()
        if path.name.endswith(".cu")
    )
)
# Of operators that nobody has to ask for.
DEFAULT = tuple(file for file in FILES if file != "half_mlp")
_made: dict[tuple[str, str], bytes] = {}  # machine code by text and architecture, till loaded
# Visibility: every operation rounded by itself, as on the processor.
_EXACT = {"antialias", "raster"}
_WARPS = {"half_mlp"}  # whose threads work together, by `warp.cuh`
_THREADS = 256  # of a block
_MOST_BLOCKS = 1 << 20  # a kernel's loop goes on from there
_POINTERS = {
    "int": (torch.int32,),
    "long long": (torch.int64,),
    "word": (torch.int64,),
    "float": (torch.float32,),
    "double": (torch.float64,),
    "bool": (torch.bool, torch.uint8),
}
_SCALARS: dict[str, Any] = {
    "int": ctypes.c_int,
    "long long": ctypes.c_longlong,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
    "bool": ctypes.c_bool,
}
_HEAD = re.compile(r"^KERNEL\s+(\w+)\s*\(([^)]*)\)", re.MULTILINE)
_ARGUMENT = re.compile(r"^(?:const\s+)?(\w+(?: long)?)\s*(\*?)\s*\w+$")

# File, `real` and constants to a library for the processor.
Host = Callable[..., ctypes.CDLL]
_host: list[Host] = []


@dataclass(frozen=True)
class Parameter:
    """What a kernel declares of one argument."""

    type: str
    is_pointer: bool


def launch(
    file: str,
    kernel: str,
    count: int,
    *arguments: Tensor | float | None,
    constants: tuple[str, ...] = (),
) -> None:
    """Start a kernel on the device of its tensors, on torch's current stream.

    Args:
        file: of the text, without its ending.
        kernel: its name there.
        count: of indices that the kernel goes through; zero starts nothing.
        arguments: in the order of the text: contiguous tensors, numbers, None for no tensor.
        constants: as `source` takes them; each choice of them is compiled by itself.

    Raises:
        ValueError: arguments that do not fit what the text declares, or tensors that are not
            on a CUDA device.
        CompileError, DriverError, OSError: what the device's software refuses.
        MemoryError: the device is full; names the file.
    """
    if count <= 0:
        return
    tensors = [value for value in arguments if isinstance(value, Tensor)]
    device = tensors[0].device
    real = next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)
    parameters = _signatures(file)[kernel]
    if len(parameters) != len(arguments):
        raise ValueError(
            f"{kernel}: takes {len(parameters)} arguments, {len(arguments)} are given"
        )
    values = [
        _value(f"{kernel}, argument {i}", parameter, argument, real, device)
        for i, (parameter, argument) in enumerate(zip(parameters, arguments, strict=True))
    ]
    name = "double" if real == torch.float64 else "float"
    if _host and device.type != "cuda":
        getattr(_host[0](file, name, *constants), kernel)(*values)
    elif device.type == "cuda":
        blocks = min(-(-count // _THREADS), _MOST_BLOCKS)
        with torch.cuda.device(device):
            driver.use(device.index)
            stream = torch.cuda.current_stream(device).cuda_stream
            function = _function(file, kernel, name, device.index, *constants)
            driver.start(function, blocks, _THREADS, stream, values, f"{kernel} of {file}.cu")
    else:
        raise ValueError(f"backend=cuda needs its tensors on a CUDA device, got {device}")


def source(file: str, real: str, *constants: str) -> str:
    """The whole text of a file: the type of its numbers, its constants, what is shared, itself.

    Args:
        file: without its ending.
        real: "float" or "double".
        constants: what the text leaves open, as names with values, "WIDTH 32".
    """
    text = resources.files("isolux.backends.cuda").joinpath("text")
    names = ["common.cuh", *(["warp.cuh"] if file in _WARPS else []), f"{file}.cu"]
    parts = [f'#line 1 "{name}"\n{text.joinpath(name).read_text()}' for name in names]
    head = [f"typedef {real} real;", *(f"#define {constant}" for constant in constants)]
    return "\n".join([*head, *parts])


def options_of(file: str) -> tuple[str, ...]:
    """The compiler's options for a file."""
    return ("--fmad=false",) if file in _EXACT else ()


def use_host(host: Host | None) -> None:
    """Let kernels on the processor's tensors be run by a compiler for the processor, or not."""
    _host[:] = [] if host is None else [host]


@cache
def prepare(architecture: str | None = None, files: Sequence[str] = DEFAULT) -> None:
    """Compile what is not in the cache, side by side: each file takes a part of a second.

    Done once in a process; what is compiled is kept until its first kernel is started.

    Args:
        architecture: e.g. sm_90; None takes the present device's.
        files: of the text; by default those of a training that asks for nothing special.

    Raises:
        CompileError, OSError: as `launch`.
    """
    if architecture is None:
        major, minor = torch.cuda.get_device_capability()
        architecture = f"sm_{major}{minor}"
    with ThreadPoolExecutor(min(len(files), os.cpu_count() or 1)) as pool:
        made = pool.map(lambda file: _cubin(source(file, "float"), file, architecture), files)
        for file, cubin in zip(files, made, strict=True):
            _made[source(file, "float"), architecture] = cubin


@cache
def _signatures(file: str) -> dict[str, list[Parameter]]:
    text = re.sub(r"//[^\n]*", "", source(file, "float"))
    return {
        name: [_parameter(name, part) for part in inner.split(",")]
        for name, inner in _HEAD.findall(text)
    }


def _parameter(kernel: str, text: str) -> Parameter:
    found = _ARGUMENT.match(" ".join(text.replace("*", " * ").split()))
    if found is None or found[1] not in {*_POINTERS, "real"}:
        raise ValueError(f"{kernel}: cannot read the argument {text.strip()!r}")
    return Parameter(found[1], found[2] == "*")


def _value(
    where: str,
    parameter: Parameter,
    value: Tensor | float | None,
    real: torch.dtype,
    device: torch.device,
) -> Any:
    """The argument as C takes it."""
    kind = parameter.type
    if not parameter.is_pointer:
        if kind == "real":
            kind = "double" if real == torch.float64 else "float"
        if isinstance(value, Tensor) or value is None:
            raise ValueError(f"{where}: a number is needed, got {type(value).__name__}")
        if kind == "int" and not -(1 << 31) <= value < 1 << 31:
            raise ValueError(f"{where}: {value} does not fit in 32 bits; use smaller batches")
        return _SCALARS[kind](value)
    if value is None:
        return ctypes.c_void_p(None)
    types = (real,) if kind == "real" else _POINTERS[kind]
    if not isinstance(value, Tensor) or value.dtype not in types:
        said = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{where}: a tensor of {types[0]} is needed, got {said}")
    if not value.is_contiguous() or value.device != device:
        raise ValueError(f"{where}: must be contiguous and on {device}")
    return ctypes.c_void_p(value.data_ptr())


@cache
def _function(
    file: str, kernel: str, real: str, index: int, *constants: str
) -> driver.Function:
    return driver.function_of(_module(file, real, index, *constants), kernel)


@cache
def _module(file: str, real: str, index: int, *constants: str) -> ctypes.c_void_p:
    major, minor = torch.cuda.get_device_capability(index)
    architecture, text = f"sm_{major}{minor}", source(file, real, *constants)
    name = f"{file}.cu ({architecture}, NVRTC {'.'.join(map(str, nvrtc.version()))})"
    try:
        cubin = _made.pop((text, architecture), None)
        return driver.load(cubin or _cubin(text, file, architecture), name)
    except driver.ImageError:  # a file of the cache may be damaged
        return driver.load(_cubin(text, file, architecture, anew=True), name)


def _cubin(text: str, file: str, architecture: str, anew: bool = False) -> bytes:
    """Machine code: from the cache unless anew, else compiled and kept there if it can be."""
    options = options_of(file)
    key = hashlib.sha256(repr((text, architecture, options, nvrtc.version())).encode())
    folder = cache_directory()
    path = None if folder is None else folder / f"{file}-{key.hexdigest()[:24]}.cubin"
    if path is not None and not anew:
        with suppress(OSError):
            return path.read_bytes()
    cubin, _ = nvrtc.compile_text(text, f"{file}.cu", architecture, options)
    if path is not None:
        partial = path.with_suffix(f".{hashlib.sha256(cubin).hexdigest()[:8]}")
        with suppress(OSError):  # a cache that cannot be written costs time only
            partial.write_bytes(cubin)
            partial.replace(path)
    return cubin
