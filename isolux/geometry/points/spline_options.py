"""What the engine `splines` can be told."""

from dataclasses import dataclass
from typing import Literal

from isolux.geometry.points.centres import Sampling
from isolux.geometry.points.spline_kernels import KernelName, SplineKernel

__all__ = ["SplineOptions"]

# Name, lowest, highest. Where a value may be None, None lets the points decide.
_RANGES: tuple[tuple[str, float, float], ...] = (
    ("variance", 0.0, 1e6),
    ("laplace_power", 1e-3, 2.0),
    ("regularization", 0.0, 1e6),
    ("cg_tolerance", 0.0, 1.0),
    ("cg_iterations", 1, 100_000),
    ("grid_size", 2, 16_384),
    ("scale", 1.0, 100.0),
    ("downsample_threshold", 1, 2**40),
    ("memory", 2**20, 2**50),
    ("cells_per_axis", 1, 1024),
    ("overlap", 0.0, 1.0),
    ("min_points_per_cell", 0, 2**40),
    ("seed", 0, 2**63 - 1),
)
_CHOICES: dict[str, tuple[str, ...]] = {
    "kernel": ("neural-spline", "spherical-laplace", "linear-angle"),
    "gradients": ("exact", "triples"),
    "sampling": ("blue-noise", "random", "k-means"),
    "placement": ("pairs", "alternate", "points"),
    "dtype": ("mixed", "float64", "float32"),
    "weights": ("smooth", "trilinear", "none"),
}


@dataclass(frozen=True, kw_only=True)
class SplineOptions:
    """Settings of a fit, of one piece or of a grid of overlapping ones.

    Raises:
        ValueError: naming the option, its range and the value.
    """

    centres: int | None = None
    """Kernel functions of a fit (each cell's own); negative: two for every point (one
    if `placement` is another than pairs). None: as many, up to 4000 in one piece and 2000
    in a cell."""
    sampling: Sampling = "blue-noise"
    """How points are chosen for centres."""
    placement: Literal["pairs", "alternate", "points"] | None = None
    """Centres to both sides of a chosen point, where they can form a slope; to one side of
    each of twice as many, by chance; or at the points. None: pairs unless there are more
    points than centres, when detail needs them more than smoothness does."""
    kernel: KernelName = "neural-spline"
    variance: float = 0.001
    """v of the neural-spline kernel: what its inner layer counts; 0 is smoothest."""
    laplace_decay: float = -0.5
    laplace_power: float = 0.5
    gradients: Literal["exact", "triples"] = "exact"
    """Ask for the gradient at the points, or for values at x - eps n, x and x + eps n."""
    eps: float | None = None
    """Of the triples: offset; of exact gradients: the distance at which a slope counts as a
    value. In diagonals of a voxel; None: 0.4 spacings of the centres, with triples 0.05."""
    absolute_units: bool = False
    """`eps` and `trim` are in world units."""
    grid_size: int = 128
    """Voxels along the longest side of the scaled box."""
    scale: float = 1.1
    """The box that is meshed, relative to the points' own."""
    trim: float | None = None
    """Surface farther than this from the points is left out, in diagonals of a voxel. None: a
    few spacings of the points, by how dense they are nearby."""
    regularization: float | None = None
    """Of the squared norm of the function. None: what suits the noise, 1e-12 at least."""
    cg_iterations: int = 50
    cg_tolerance: float = 1e-5
    """Of the residual, relative to the right side."""
    downsample_threshold: int = 150_000
    """More points than this are averaged, one for each voxel."""
    dtype: Literal["mixed", "float64", "float32"] = "mixed"
    """mixed: rows in single, sums, factors and evaluations in double precision."""
    memory: int = 2**30
    """Bytes that the matrices may take."""
    cells_per_axis: int = 1
    """More than one: cells fitted on their own and blended."""
    overlap: float = 0.25
    """Of cells, as a share of a cell's side; half of it is added to each side."""
    weights: Literal["smooth", "trilinear", "none"] = "smooth"
    """How cells are blended: with a continuous slope, continuously, or not."""
    min_points_per_cell: int = 0
    """A cell with no more points than this is not fitted."""
    seed: int = 0

    def __post_init__(self) -> None:
        """See Raises."""
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is None and name == "regularization":
                continue
            if not low <= value <= high:  # NaN as well
                raise ValueError(f"{name} must be between {low:g} and {high:g}, got {value}")
        for name, choices in _CHOICES.items():
            if name == "placement" and self.placement is None:
                continue
            if getattr(self, name) not in choices:
                known = ", ".join(choices)
                raise ValueError(f"{name} must be one of {known}; got {getattr(self, name)!r}")
        for name in ("eps", "trim"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        if self.centres == 0:
            raise ValueError("centres must be at least 1, or negative for all; got 0")
        if not -1e6 <= self.laplace_decay < 0:
            raise ValueError(f"laplace_decay must be negative, got {self.laplace_decay}")

    @property
    def spec(self) -> SplineKernel:
        """The kernel with its parameters."""
        return SplineKernel(self.kernel, self.variance, self.laplace_decay, self.laplace_power)
