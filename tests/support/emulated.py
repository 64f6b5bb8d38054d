"""The CUDA text compiled for the processor, so that it is tested where no device is."""

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from isolux import backends
from isolux.backends import Backend, Operator
from isolux.backends.cuda.launch import source, use_host

__all__ = ["emulated"]

HEAD = """
#define ISOLUX_HOST
#include <cmath>
using std::sqrt;
"""
# Each operation rounded by itself, as the processor's visibility kernels are compiled.
FLAGS = ("-std=c++17", "-O2", "-shared", "-fPIC", "-ffp-contract=off", "-Wall", "-Werror")


@cache
def _library(file: str, real: str, *constants: str, backwards: bool = False) -> ctypes.CDLL:
    head = "#define ISOLUX_REVERSED\n" if backwards else ""
    text = head + HEAD + source(file, real, *constants)
    key = hashlib.sha256(repr((text, FLAGS)).encode()).hexdigest()[:24]
    folder = Path(tempfile.gettempdir()) / "isolux-emulated"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{file}-{real}-{key}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder) as work:
            written, made = Path(work) / f"{file}.cpp", Path(work) / "made.so"
            written.write_text(text)
            command = ["g++", *FLAGS, "-Wno-unused-function", str(written), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            made.replace(path)
    return ctypes.CDLL(str(path))


def emulated(backwards: bool = False) -> Backend:
    """The cuda backend for the processor's tensors; skips where there is no compiler.

    Threads run one after the other: from the first to the last, or backwards. The order is
    that of the latest call, for every backend that this has made.
    """
    if shutil.which("g++") is None:
        pytest.skip("needs g++ to compile the CUDA text for the processor")
    use_host(partial(_library, backwards=backwards))
    operators = {}
    for name, (module, *functions) in backends._HOMES.items():
        package = "cuda" if find_spec(f"isolux.backends.cuda.{module}") else "cpu"
        home = import_module(f"isolux.backends.{package}.{module}")
        found = [getattr(home, function) for function in functions]
        operators[name] = Operator(*found) if len(found) == 2 else found[0]
    return Backend(name="cuda", **operators)
