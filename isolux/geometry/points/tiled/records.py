"""Points on disk: one record after the other, read a block at a time.

Letters: n points.
"""

import hashlib
import json
import logging
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.tiled.store import replace_file

__all__ = [
    "BLOCK",
    "PointStore",
    "cloud_of",
    "empty_folder",
    "gathered",
    "known_store",
    "read_records",
    "record_type",
    "records_of",
    "remove_others",
]

_log = logging.getLogger(__name__)
BLOCK = 1 << 19
"""Points that are read at once."""

_KINDS = {"xyz": "<f8", "normals": "<f4", "sensor": "<f8", "colors": "<f4"}
Tell = Callable[[str, float], None]


@dataclass(frozen=True)
class PointStore:
    """Points in one file, and what is known of all of them."""

    path: Path
    kind: list[str]  # the columns
    count: int
    low: list[float]  # of their box
    high: list[float]
    digest: str  # of all bytes

    @property
    def dtype(self) -> Any:
        """Of one record."""
        return record_type(self.kind)

    def records(self, start: int, stop: int) -> Any:
        """Some of the records."""
        size = self.dtype.itemsize
        with self.path.open("rb") as file:
            file.seek(start * size)
            return np.fromfile(file, self.dtype, max(stop - start, 0))

    def blocks(self) -> Iterator[Any]:
        """All records, a block at a time."""
        for start in range(0, self.count, BLOCK):
            yield self.records(start, min(start + BLOCK, self.count))

    def some(self, most: int) -> Any:
        """Records that are spread evenly over the file, about `most`."""
        step = max(1, self.count // most)
        parts, skip = [], 0
        for block in self.blocks():
            parts.append(block[skip::step].copy())
            skip = (skip - len(block)) % step
        return np.concatenate(parts) if parts else np.zeros(0, self.dtype)


def record_type(columns: list[str]) -> Any:
    """The type of a record of these columns of a cloud."""
    return np.dtype([(name, _KINDS[name], 3) for name in columns])


def records_of(cloud: PointCloud) -> Any:
    """A cloud as records."""
    parts: dict[str, Tensor] = {
        name: part for name in _KINDS if (part := getattr(cloud, name)) is not None
    }
    out = np.empty(len(cloud), record_type(list(parts)))
    for name, part in parts.items():
        out[name] = part.detach().cpu().numpy()
    return out


def cloud_of(records: Any) -> PointCloud:
    """Records as a cloud."""
    names = records.dtype.names
    parts = {name: torch.from_numpy(np.ascontiguousarray(records[name])) for name in names}
    return PointCloud(**parts)


def read_records(path: Path, columns: list[str]) -> Any:
    """All records of a file; none where there is no file."""
    kind = record_type(columns)
    return np.fromfile(path, kind) if path.exists() else np.zeros(0, kind)


def _finite(records: Any) -> Any:
    """Those without a number that is not finite."""
    fine = np.ones(len(records), bool)
    for name in records.dtype.names:
        fine &= np.isfinite(records[name]).all(1)
    return records if fine.all() else records[fine]


def known_store(folder: Path, name: str, made_from: str | None = None) -> PointStore | None:
    """The points of a folder, if they are whole, and made from this where it is said."""
    try:
        values = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        of_these = values.pop("made_from") == made_from or made_from is None
        store = PointStore(**{**values, "path": folder / values["path"]})
        whole = store.path.stat().st_size == store.count * store.dtype.itemsize
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return store if whole and of_these else None


def gathered(
    blocks: Callable[[], Iterator[Any]],
    folder: Path,
    name: str,
    tell: Tell,
    made_from: str | None = None,
) -> PointStore:
    """Copy blocks of records to one file, unless the file holds these very records already.

    Args:
        blocks: a fresh iterator over records of one type.
        folder: of the file `name.points` and what is known of it, `name.json`.
        name: of the files.
        tell: told how many points were read.
        made_from: fingerprint of what the blocks were worked out from.

    Raises:
        ValueError: blocks that know different things of their points.
    """
    known = known_store(folder, name, made_from)
    if known is not None and _Reader(blocks, tell).digest() == known.digest:
        return known
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".partial-{secrets.token_hex(6)}"
    try:
        reader = _Reader(blocks, tell)
        with partial.open("wb") as file:
            digest = reader.digest(file)
        path = folder / f"{name}.points"
        replace_file(partial, path)
    finally:
        with suppress(OSError):
            partial.unlink()
    low, high = reader.low.tolist(), reader.high.tolist()
    store = PointStore(path, reader.columns, reader.count, low, high, digest)
    if reader.dropped:
        _log.info("dropped %d points that are not finite", reader.dropped)
    text = json.dumps({**vars(store), "path": path.name, "made_from": made_from})
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
    return store


class _Reader:
    """One pass over all blocks."""

    def __init__(self, blocks: Callable[[], Iterator[Any]], tell: Tell) -> None:
        self.blocks, self.tell = blocks, tell
        self.low, self.high = np.full(3, np.inf), np.full(3, -np.inf)
        self.count, self.dropped = 0, 0
        self.columns: list[str] = []

    def digest(self, file: Any = None) -> str:
        """Of all finite records, which are written to `file` where there is one."""
        found = hashlib.blake2b(digest_size=16)
        for block in self.blocks():
            if not len(block):
                continue
            columns = list(block.dtype.names)
            if self.columns and columns != self.columns:
                raise ValueError(
                    f"points with {', '.join(columns)} come after points with "
                    f"{', '.join(self.columns)}: all blocks of a cloud must have the same"
                )
            self.columns = columns
            fine: Any = np.ascontiguousarray(_finite(block))
            self.dropped += len(block) - len(fine)
            if not len(fine):
                continue
            self.count += len(fine)
            self.low = np.minimum(self.low, fine["xyz"].min(0))
            self.high = np.maximum(self.high, fine["xyz"].max(0))
            data = memoryview(fine.view(np.uint8))
            found.update(data)
            if file is not None:
                file.write(data)
            self.tell(f"{self.count} points read", 0.0)
        found.update(" ".join(self.columns).encode())
        return found.hexdigest()


def empty_folder(folder: Path) -> Path:
    """The folder, without what was in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def remove_others(own: Path, pattern: str) -> None:
    """Remove what earlier settings left beside a folder of ours."""
    for other in own.parent.glob(pattern):
        if other.is_dir() and other.name != own.name:
            shutil.rmtree(other, ignore_errors=True)
