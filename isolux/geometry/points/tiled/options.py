"""What the fit by tiles can be told."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["TileOptions"]


@dataclass(frozen=True)
class TileOptions:
    """How a large cloud is cut up, and who works on it. The surface does not depend on who.

    Raises:
        ValueError: when a value is out of its range.
    """

    points: int = 500_000
    """That a tile may hold."""
    workers: int = 1
    """Tiles at a time: processes, or tasks of Ray."""
    runner: Literal["here", "processes", "ray"] = "here"
    """In this process, in processes of this machine, or on Ray."""
    address: str | None = None
    """Of a cluster of Ray (`auto`, `HOST:6379`, `ray://HOST:10001`); None starts one here. The
    work folder must be the same for all of its machines."""
    retries: int = 2
    """How often a tile that failed is tried again."""

    def __post_init__(self) -> None:
        """See Raises."""
        for name, least in (("points", 100), ("workers", 1), ("retries", 0)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"tiles.{name} must be at least {least}, got {getattr(self, name)}"
                )
        if self.runner not in ("here", "processes", "ray"):
            raise ValueError(
                f"tiles.runner must be here, processes or ray, got '{self.runner}'"
            )
