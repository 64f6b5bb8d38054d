"""How far a stage has come: by steps, or by a time budget."""

import time
from dataclasses import dataclass, field

__all__ = ["Clock"]


@dataclass
class Clock:
    """Progress of one stage, between 0 and 1.

    By steps it depends on nothing else, so runs repeat exactly. By time it follows the wall
    clock, `already` seconds of which were spent before (a resumed run).
    """

    steps: int
    seconds: float | None = None  # the stage's share of a time budget; none goes by steps
    already: float = 0.0
    _began: float = field(default_factory=time.monotonic)

    def elapsed(self) -> float:
        """Seconds spent in this stage, interrupted ones included."""
        return self.already + time.monotonic() - self._began

    def progress(self, step: int) -> float:
        """Between 0 at the first step and 1 when the stage is over."""
        if self.seconds is None:
            return min(step / self.steps, 1.0) if self.steps else 1.0
        return min(self.elapsed() / self.seconds, 1.0) if self.seconds > 0 else 1.0

    def expected_steps(self, step: int) -> int:
        """How many steps the stage will have made at its end, as far as can be told.

        `step` of them are done.
        """
        if self.seconds is None:
            return self.steps
        progress = self.progress(step)
        least = step if progress >= 1.0 else step + 1
        return max(least, round(step / progress)) if progress > 0.0 and step else least
