"""One writer a run folder.

The lock is the operating system's (flock), which ends with the process however it ends, so
that a folder is free after a kill. Where there is none, the file itself is the lock, and
one whose process is gone is taken over.
"""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isolux.render.files import write_error

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["locked"]

_NAME = ".lock"
_NO_FLOCK = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder for one process; the folder is made if it is missing.

    Raises:
        BlockingIOError: another process holds it; one line that says which.
        OSError: one line, if the folder cannot be written.
    """
    path = Path(folder) / _NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _acquire(path)
    except BlockingIOError:
        raise
    except OSError as error:
        raise write_error(path.parent, error) from error
    try:
        yield
    finally:
        # Unlinked while still locked: whoever opened the old file sees that it is gone.
        if os.name != "nt":
            path.unlink(missing_ok=True)
        os.close(handle)
        if os.name == "nt":  # an open file cannot be removed there
            path.unlink(missing_ok=True)


def _acquire(path: Path) -> int:
    """An open handle to the lock file, with the lock on it."""
    while True:
        handle = _open(path)
        if _same_file(handle, path):
            os.ftruncate(handle, 0)
            os.write(handle, _self().encode())
            return handle
        os.close(handle)  # the holder removed it between our opening and our locking


def _open(path: Path) -> int:
    if fcntl is None:
        return _open_alone(path)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if error.errno in _NO_FLOCK:
            return _open_alone(path)
        if isinstance(error, BlockingIOError):
            raise _refusal(path) from None
        raise
    return handle


def _open_alone(path: Path) -> int:
    """The lock without flock: to have made the file, or to find that its maker is gone."""
    for _ in range(2):
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            if _alive(path):
                break
            try:
                path.unlink(missing_ok=True)
            except PermissionError:  # Windows: still open somewhere, hence held
                break
    raise _refusal(path)


def _alive(path: Path) -> bool:
    """Whether the process that a lock file names may still be there."""
    host, _, number = _holder(path).partition(" ")
    if os.name == "nt":
        return False  # there the removal of an open file fails, which answers the question
    if host != socket.gethostname() or not number.isdigit():
        return bool(host)  # another machine's: cannot be asked
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _self() -> str:
    return f"{socket.gethostname()} {os.getpid()}"


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:200]
    except OSError:
        return ""


def _refusal(path: Path) -> BlockingIOError:
    host, _, number = _holder(path).partition(" ")
    who = f" (process {number} on {host})" if number else ""
    return BlockingIOError(
        f"{path.parent}: another run is writing here{who}; wait for it, stop it, "
        "or choose another folder (out=..., --work ...)"
    )
