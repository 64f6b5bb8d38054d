"""The bytes of a cloud's file, from front to back, as often as asked and in little memory."""

import io
import logging
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

__all__ = ["CloudSource", "pieces"]

_log = logging.getLogger(__name__)
_GZIP = b"\x1f\x8b"
_RATIO = 200  # deflate reaches 1032; coordinates never come near this
_CHUNK = 1 << 20


class CloudSource:
    """A file, unpacked if gzip'd.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder, empty, damaged gzip, or one that grows beyond all measure.
        OSError: it cannot be read; one line.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise ValueError(f"{path}: is a folder, expected a file with points")
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such cloud")
        self.path = path
        self.packed = False
        self._said: set[str] = set()
        try:
            with path.open("rb") as file:
                self.packed = file.read(2) == _GZIP
            self.size = path.stat().st_size
            if self.packed:
                with self.open() as stream:
                    self.size = sum(map(len, iter(lambda: stream.read(_CHUNK), b"")))
        except OSError as error:
            raise type(error)(f"{path}: cannot be read: {error.strerror}") from None
        if not self.size:
            raise ValueError(f"{path}: is empty, expected points")

    def open(self, start: int = 0) -> io.BufferedReader:
        """A stream that begins at a byte of what is unpacked; to be closed."""
        if not self.packed:
            file = self.path.open("rb")
            file.seek(start)
            return file
        stream = cast("io.BufferedReader", io.BufferedReader(_Unpacked(self.path), _CHUNK))
        while start > 0 and (passed := len(stream.read(min(start, _CHUNK)))):
            start -= passed
        return stream

    def say(self, text: str) -> None:
        """Log something about the file, however often it is read only once."""
        if text not in self._said:
            self._said.add(text)
            _log.info("%s: %s", self.path, text)

    def head(self, count: int) -> bytes:
        """The first bytes."""
        with self.open() as stream:
            return stream.read(count)

    def whole(self) -> bytes:
        """All bytes."""
        return self.head(self.size)


def pieces(
    source: CloudSource,
    start: int,
    row: int,
    count: int,
    rows: int | None,
    short: Callable[[int], ValueError],
) -> Iterator[tuple[bytes, int]]:
    """The bytes of `count` rows of `row` bytes, and how many rows they are.

    Args:
        source: the file.
        start: where the first row begins.
        row: bytes of a row.
        count: of all rows.
        rows: at most so many at a time; none takes all at once.
        short: makes the error of a file that has only so many bytes of them.
    """
    if (has := max(source.size - start, 0)) < row * count:
        raise short(has)
    with source.open(start) as stream:
        for first in range(0, count, rows or count):
            number = min(rows or count, count - first)
            data = stream.read(number * row)
            if len(data) < number * row:  # it became shorter meanwhile
                raise short(first * row + len(data))
            yield data, number


class _Unpacked(io.RawIOBase):
    """All members of a gzip file, one after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        self._most = _RATIO * path.stat().st_size + (1 << 20)
        self._member: Any = None
        self._rest = b""
        self._given = 0

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        data = self._next(len(buffer))
        self._given += len(data)
        if self._given > self._most:
            raise ValueError(
                f"{self._path}: unpacks to more than {_RATIO} times its size, refused"
            )
        buffer[: len(data)] = data
        return len(data)

    def _next(self, most: int) -> bytes:
        while True:
            if len(self._rest) < 2:
                self._rest += self._file.read(_CHUNK)
            if self._member is None:
                if not self._rest.startswith(_GZIP):
                    return b""  # the end, or what somebody has appended
                self._member = zlib.decompressobj(wbits=31)
            given = self._rest
            try:
                data: bytes = self._member.decompress(given, most)
            except zlib.error as error:
                raise ValueError(f"{self._path}: damaged gzip ({error})") from None
            self._rest = self._member.unconsumed_tail
            if self._member.eof:
                self._rest, self._member = self._member.unused_data, None
            elif not data and not given:
                raise ValueError(
                    f"{self._path}: truncated gzip, ends after {self._given} bytes"
                )
            if data:
                return data
