"""What a measured case holds, and who took part in it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isolux.backends import Backend
from isolux.bench.gpu.clock import Clock, Sample
from isolux.bench.measure import Figure

__all__ = [
    "FAILURES",
    "OURS",
    "OURS_BY_OTHERS",
    "SAME_BITS",
    "Cell",
    "Job",
    "Plan",
    "attempted",
    "first_line",
]

OURS = ("isolux", "isolux, half")
OURS_BY_OTHERS = "isolux with tinycudann"  # this and the next are told, and not compared
SAME_BITS = "isolux, same bits"  # on every run: optimize.deterministic=true

# What a package, a driver or a full device may raise. Its first line stands in the table.
FAILURES = (
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, eq=False)
class Plan:
    """How to measure."""

    backend: Backend
    device: str
    clock: Clock
    dry_run: bool = False  # tiny sizes: whether everything runs
    quick: bool = False  # fewer repeats, no case of a million triangles
    data: Path | None = None  # spot, bob and their light; none takes the scene that ships

    @property
    def repeats(self) -> int:
        """Of an operator."""
        return 1 if self.dry_run else 20 if self.quick else 100

    @property
    def warm_up(self) -> int:
        """Repeats that do not count."""
        return 0 if self.dry_run else 5 if self.quick else 20


@dataclass(frozen=True)
class Cell:
    """One case: what each took, and what is wanted of us."""

    group: str
    case: str
    unit: str
    values: Mapping[str, Sample | str]  # by name; a text says why there is none
    figure: Figure | None = None  # for the median of the fastest of ours
    aim: float | None = None  # times faster than the fastest of the others; 1 is the figure
    note: str = ""

    @property
    def ours(self) -> float | None:
        """The least median of ours."""
        return self._least(lambda name: name in OURS)

    @property
    def ratio(self) -> float | None:
        """How many times longer the fastest of the others takes than ours."""
        if self.aim is None:
            return None
        ours = self.ours
        theirs = self._least(lambda name: name not in (*OURS, OURS_BY_OTHERS, SAME_BITS))
        return theirs / ours if ours and theirs is not None else None

    @property
    def met(self) -> bool | None:
        """Whether the figure is reached; none without one, or without who is compared."""
        if self.aim is not None:
            return None if self.ratio is None else self.ratio >= 1.0
        if self.figure is None or self.ours is None:
            return None
        sign, bound = self.figure
        return self.ours <= bound if sign == "<=" else self.ours >= bound

    def _least(self, wanted: Callable[[str], bool]) -> float | None:
        found = [
            value.median
            for name, value in self.values.items()
            if wanted(name) and isinstance(value, Sample)
        ]
        return min(found) if found else None

    def as_tree(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "group": self.group,
            "case": self.case,
            "unit": self.unit,
            "values": {
                name: {"median": value.median, "least": value.least, "count": value.count}
                for name, value in self.values.items()
                if isinstance(value, Sample)
            },
            "absent": {
                name: value for name, value in self.values.items() if isinstance(value, str)
            },
            "figure": None if self.figure is None else f"{self.figure[0]} {self.figure[1]:g}",
            "aim": self.aim,
            "ratio": self.ratio,
            "met": self.met,
            "note": self.note,
        }


@dataclass(frozen=True)
class Job:
    """A case that is measured when its turn comes."""

    group: str
    case: str
    measure: Callable[[], list[Cell]]

    @property
    def name(self) -> str:
        """What patterns are matched with."""
        return f"{self.group}: {self.case}"


def attempted(action: Callable[[], Any]) -> Any:
    """What an action gives, or in one line why it gives nothing."""
    try:
        return action()
    except FAILURES as error:
        return first_line(error)


def first_line(error: BaseException) -> str:
    """The first line of what an error says, with its kind where that is all there is."""
    said = (str(error).splitlines() or [""])[0]
    return said or type(error).__name__
