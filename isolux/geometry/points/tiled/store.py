"""Files of arrays that are whole or not there, and say what they were made from.

A file holds a line of JSON (what it was made from, and each array's name, type and shape), the
arrays' bytes, and a checksum of all of it.
"""

import hashlib
import json
import os
import secrets
import zlib
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["described", "fingerprint", "is_made", "read", "replace_file", "write"]

_FORMAT = 1  # raised when what the files mean, or how it is computed, changes


def fingerprint(*parts: Any) -> str:
    """A short text that differs when any of the parts does."""
    text = json.dumps([_FORMAT, *(described(part) for part in parts)], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def described(part: Any) -> Any:
    """What tells a part of a fingerprint from others, the same in every process."""
    if is_dataclass(part) and not isinstance(part, type):
        return [type(part).__qualname__, asdict(part)]
    if isinstance(part, partial):
        words = {name: described(value) for name, value in part.keywords.items()}
        return [described(part.func), [described(value) for value in part.args], words]
    if hasattr(part, "__qualname__"):
        return f"{part.__module__}.{part.__qualname__}"
    if part is None or isinstance(part, (str, int, float, list, tuple, dict)):
        return part
    return repr(part)


def write(path: Path, made_from: str, arrays: dict[str, Any]) -> None:
    """Write arrays, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    kept: dict[str, Any] = {name: np.ascontiguousarray(part) for name, part in arrays.items()}
    names = [[name, values.dtype.str, values.shape] for name, values in kept.items()]
    head = json.dumps({"made_from": made_from, "arrays": names}).encode() + b"\n"
    partial_path = path.with_name(f".partial-{secrets.token_hex(6)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial_path.open("wb") as file:
            check = 0
            parts: list[Any] = [
                head,
                *(part.reshape(-1).view(np.uint8) for part in kept.values()),
            ]
            for part in parts:
                file.write(part)
                check = zlib.crc32(part, check)
            file.write(check.to_bytes(4, "little"))
        replace_file(partial_path, path)
    finally:
        with suppress(OSError):
            partial_path.unlink()


def replace_file(partial_path: Path, path: Path) -> None:
    """Give a finished file its name, after its bytes have reached the disk."""
    with partial_path.open("rb+") as file:
        os.fsync(file.fileno())
    partial_path.replace(path)


def read(path: Path, made_from: str) -> dict[str, Any]:
    """The arrays of a file.

    Raises:
        ValueError: the file is not there, is damaged, or was made from something else.
    """
    arrays = _read(path, made_from)
    if arrays is None:
        raise ValueError(
            f"{path}: is damaged or of another run; the same command makes it again"
        )
    return arrays


def is_made(path: Path, made_from: str) -> bool:
    """Whether a file is there, undamaged, and made from this."""
    return _read(path, made_from) is not None


def _read(path: Path, made_from: str) -> dict[str, Any] | None:
    try:
        data = path.read_bytes()
        line = data.index(b"\n") + 1
        head = json.loads(data[:line])
        if head["made_from"] != made_from:
            return None
        if zlib.crc32(memoryview(data)[:-4]) != int.from_bytes(data[-4:], "little"):
            return None
        arrays, at = {}, line
        for name, kind, shape in head["arrays"]:
            count = int(np.prod(shape))
            # Not a view: rows of the text before are of any length, and kernels want to write.
            values = np.frombuffer(data, np.dtype(kind), count, at).copy()
            arrays[name] = values.reshape(shape)
            at += values.nbytes
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return arrays
