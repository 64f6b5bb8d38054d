"""What the engine `hierarchy` can be told."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["HierarchyOptions"]

# Name, lowest, highest, whether None is allowed; the lowest itself is not, unless it is zero.
_RANGES: tuple[tuple[str, float, float], ...] = (
    ("detail_level", 0.0, 1.0),
    ("value_weight", 0.0, 1e6),
    ("normal_weight", 0.0, 1e6),
    ("smoothness", 0.0, 1e6),
    ("solver_tol", 1e-12, 0.5),
    ("max_iter", 1, 100_000),
    ("depth", 1, 16),
    ("dilation", 1, 4),
)


@dataclass(frozen=True)
class HierarchyOptions:
    """Settings of the fit; None lets the points decide.

    Raises:
        ValueError: when a value is out of its range, or when more than one of `detail_level`,
            `voxel_size` and `depth` is given.
    """

    detail_level: float | None = None
    """From 0 (smooth, 20 points in an occupied finest cell) to 1 (fine, one point)."""
    voxel_size: float | None = None
    """Edge of the finest cells, in world units."""
    depth: int | None = None
    """The longest side of the points' box, and a tenth, has 2^depth of the finest cells."""
    value_weight: float | None = None
    """Of the squared value at points (in cells)."""
    normal_weight: float | None = None
    """Of the squared difference of gradient and normal."""
    smoothness: float | None = None
    """Of the squared second differences of the coefficients."""
    solver_tol: float = 1e-3
    """Residual of the solver on each level, relative to the right side."""
    max_iter: int = 2000
    """Steps of the solver on each level."""
    robust: bool = True
    """Weigh points down that the coarser levels do not explain."""
    dilation: int = 1
    """Layers of cells about the occupied ones that carry coefficients."""
    learned: Literal["auto", "on", "off"] = "auto"
    """Whether a trained network adjusts weights, normals and values in each cell; `auto` is on
    those levels where points held out speak for it."""

    def __post_init__(self) -> None:
        """See Raises."""
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name} must be between {low:g} and {high:g}, got {value}")
        if self.learned not in ("auto", "on", "off"):
            raise ValueError(f"learned must be auto, on or off, got {self.learned!r}")
        if self.voxel_size is not None and not 0 < self.voxel_size < float("inf"):
            raise ValueError(f"voxel_size must be positive and finite, got {self.voxel_size}")
        sizes = ("detail_level", "voxel_size", "depth")
        if len(given := [name for name in sizes if getattr(self, name) is not None]) > 1:
            raise ValueError(f"give at most one of {', '.join(sizes)}; got {', '.join(given)}")
