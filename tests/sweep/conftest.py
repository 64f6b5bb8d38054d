"""Sweeps of trials that only pretend to train."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from isolux.sweep.engines import Engine, LocalEngine
from isolux.sweep.run import sweep
from isolux.sweep.spec import SweepSpec

STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in.py")))
SPEC = """
conf = demo
settings { data.size = 32 }
scenes { a { seed = 1 }, b { seed = 2 } }
grid { geometry.resolution = [16, 32] }
resources { cpus = 1 }
out = out
"""


@pytest.fixture
def stand_in() -> tuple[str, ...]:
    """What is called in the place of isolux."""
    return STAND_IN


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    """A sweep of four trials: a and b, at 16 and 32 cells."""
    path = tmp_path / "s.conf"
    path.write_text(SPEC)
    return path


class Bench:
    """A sweep in a folder, how its trials shall go, and what they did."""

    def __init__(self, spec: Path) -> None:
        self.spec = spec
        self.out = spec.parent / "out"
        self.out.mkdir()
        self.plan({})

    def plan(self, words: dict[str, Sequence[str]]) -> None:
        """A word for each start of a trial, see stand_in.py."""
        (self.out / "plan.json").write_text(json.dumps(words))

    def run(
        self,
        *overrides: str,
        resume: bool = False,
        engine: Callable[[SweepSpec, int], tuple[Engine, str]] | None = None,
    ) -> dict[str, Any]:
        """Run it: what each trial came to, by name."""

        def local(spec: SweepSpec, _: int) -> tuple[Engine, str]:
            return LocalEngine(spec.resources), ""

        tree = sweep(self.spec, overrides, resume, engine or local, STAND_IN)
        return {item["name"]: item for item in tree["trials"]}

    def starts(self) -> list[str]:
        """`NAME NUMBER new|resume`, sorted."""
        path = self.out / "starts.txt"
        return sorted(path.read_text().splitlines()) if path.exists() else []


@pytest.fixture
def bench(spec_file: Path) -> Bench:
    """The sweep of `spec_file`, ready to run."""
    return Bench(spec_file)
