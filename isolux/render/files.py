"""Files that are either whole or not there.

Every file is written beside its name and renamed, so that a kill leaves the old one or the
new one, and a full disk costs the new one only.
"""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["PARTIAL", "replacing", "write_bytes", "write_error", "write_text"]

PARTIAL = ".partial-"  # how names of unfinished files begin
_SPACE = "free some space; a run goes on with --resume"
_ANOTHER = "choose a folder that you may write to (out=..., -o ...)"
_IN_THE_WAY = "a file is in the way of a folder; choose another one (out=..., -o ...)"
_REMEDIES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "raise the limit on file sizes",
    errno.EACCES: _ANOTHER,
    errno.EPERM: _ANOTHER,
    errno.EROFS: _ANOTHER,
    errno.ENOENT: _ANOTHER,
    errno.ENAMETOOLONG: "choose a shorter name (out=..., -o ...)",
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EEXIST: _IN_THE_WAY,
}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to, in the same folder; it takes the place of `path` if all went well.

    The name has the suffix of `path`, by which some writers choose their format. Folders on
    the way are made.

    Raises:
        OSError: one line that names the file; what was there before is kept.
    """
    path = Path(path)
    partial = path.with_name(f"{PARTIAL}{secrets.token_hex(6)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        with suppress(OSError):  # gone already, or its folder never was
            partial.unlink()


def write_error(path: Path, error: OSError) -> OSError:
    """The same kind of error in one line for a person: the file, the reason, the remedy."""
    reason = error.strerror or str(error)
    remedy = _REMEDIES.get(error.errno or 0)
    line = f"{path}: cannot be written: {reason}" + (f"; {remedy}" if remedy else "")
    plain = type(error)(line)  # one argument: its text is the line, without "[Errno ...]"
    plain.errno = error.errno
    return plain


def _sync_folder(folder: Path) -> None:
    """Makes a renaming last through a power cut, where a folder can be opened (not Windows)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError:
        pass  # some network file systems cannot; the file itself is safe
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Writes a file whole or not at all. Raises OSError as `replacing` does."""
    with replacing(path) as partial:
        partial.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 with Unix line ends, whole or not at all. Raises as `replacing` does."""
    write_bytes(path, text.encode("utf-8"))
