"""The run folder, and its files of JSON."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isolux.render.files import PARTIAL, write_error, write_text

__all__ = ["RunFolder", "write_json"]

_LEFTOVERS = (f"{PARTIAL}*", "checkpoints/.tmp*")  # of a kill: ours, those of safetensors


def write_json(path: Path, value: object) -> None:
    """Writes JSON for people, whole or not at all; paths become strings.

    Raises:
        OSError: as `replacing` does.
        ValueError: for infinities and NaN, which JSON does not have.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    write_text(path, text + "\n")


def _plain(value: object) -> object:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item"):  # a number of numpy or torch
        return value.item()
    raise TypeError(f"{type(value).__name__} is no JSON")


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps its things. Making the record touches no file."""

    path: Path

    @property
    def conf(self) -> Path:
        """The resolved settings, with what ran them under `run`."""
        return self.path / "conf.json"

    @property
    def log(self) -> Path:
        """A line of JSON for every logged step."""
        return self.path / "log.jsonl"

    @property
    def metrics(self) -> Path:
        """What the run reached."""
        return self.path / "metrics.json"

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.path / "report.html"

    @property
    def checkpoints(self) -> Path:
        """Folder of the last checkpoints."""
        return self.path / "checkpoints"

    @property
    def mesh(self) -> Path:
        """Folder of the exported assets."""
        return self.path / "mesh"

    @property
    def images(self) -> Path:
        """Folder of comparison and progress pictures."""
        return self.path / "images"

    @property
    def cameras(self) -> Path:
        """Folder of the cameras that the run ended with."""
        return self.path / "cameras"

    @property
    def begun(self) -> bool:
        """Whether there is something that a new run would destroy."""
        return (
            self.metrics.exists()
            or any(self.checkpoints.glob("[!.]*.safetensors"))
            or any(not path.name.startswith(PARTIAL) for path in self.mesh.glob("*"))
        )

    def check(self, resume: bool) -> None:
        """Refuses a folder that holds another run, or nothing to go on from. Writes nothing.

        A folder that is empty or in which a run ended before its first checkpoint is fine.

        Raises:
            FileExistsError: a run is there and `resume` is false.
            FileNotFoundError: no run is there and `resume` is true.
            NotADirectoryError: the name is that of a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise NotADirectoryError(f"{self.path}: is a file; name a folder with out=...")
        if self.begun and not resume:
            raise FileExistsError(
                f"{self.path}: already holds a run; go on with it by --resume, "
                "or choose another folder with out=..."
            )
        if resume and not self.conf.exists():
            raise FileNotFoundError(
                f"{self.path}: holds no run to resume (conf.json is missing); "
                "start without --resume"
            )

    def create(self, conf: Mapping[str, Any], resume: bool = False) -> None:
        """Makes the folders and writes `conf.json`; leftovers of a killed writer go.

        Call it with the folder's lock held. A run that is resumed keeps its `conf.json`: new
        settings take its place once the checkpoint is seen to fit them.

        Args:
            conf: the resolved settings, with version, commit and so on under `run`.
            resume: go on with the run that is there.

        Raises:
            OSError: as `check`, or one line if the folder cannot be written.
        """
        self.check(resume)
        try:
            for folder in (self.path, self.checkpoints, self.mesh, self.images, self.cameras):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(self.path, error) from error
        for pattern in _LEFTOVERS:
            for leftover in self.path.rglob(pattern):
                leftover.unlink(missing_ok=True)
        if not resume:
            self.log.unlink(missing_ok=True)
            self.report.unlink(missing_ok=True)
            write_json(self.conf, conf)

    def read_json(self, path: Path) -> dict[str, Any]:
        """An object of one of the folder's JSON files; empty if it is missing.

        Raises:
            ValueError: one line, if the file is no JSON object.
        """
        if not path.exists():
            return {}
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: is no JSON ({error})") from None
        if not isinstance(value, dict):
            raise ValueError(f"{path}: holds no JSON object")
        return value
