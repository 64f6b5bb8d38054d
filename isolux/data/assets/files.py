"""Files appear whole or not at all."""

import contextlib
import os
from pathlib import Path

__all__ = ["write_bytes"]


def write_bytes(path: Path, data: bytes) -> None:
    """Writes beside the name and renames, so that a kill leaves the old file or the new one.

    Folders on the way are made.

    Raises:
        OSError: in one line that names the file; what was there before is kept.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        plain = type(error)(f"{path}: cannot be written: {error.strerror or error}")
        plain.errno = error.errno
        raise plain from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
