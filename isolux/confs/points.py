"""The settings of a surface from points: how it is cleaned, oriented, fitted and drawn."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from isolux.confs.record import (
    AtLeastOne,
    Coordinate,
    Count,
    Fraction,
    Length,
    NotNegative,
    Record,
)

__all__ = ["CleanConf", "MeshingConf", "NormalsConf", "PointsConf", "SplinesConf", "TilesConf"]

Tolerance = Annotated[float, Field(ge=1e-12, le=0.5)]


class CleanConf(Record):
    """What is dropped before anything else, beside rows that are not finite and duplicates."""

    outliers: Literal["auto"] | NotNegative = Field(
        "auto",
        description="points that lie so many standard deviations sparser than their "
        "neighbours (2 is strict, 4 mild) are dropped; zero keeps them; auto drops clear "
        "strays, sparser than their neighbours and off any plane, unless the whole cloud is "
        "uneven",
    )
    downsample: Length | None = Field(
        None, description="edge of cells of which one mean point is kept each [scene units]"
    )


class NormalsConf(Record):
    """Directions out of the surface, and which side is out."""

    source: Literal["auto", "given", "estimated"] = Field(
        "auto", description="auto takes those of the file, and estimates where it has none"
    )
    neighbours: Annotated[int, Field(ge=3, le=1024)] | None = Field(
        None, description="points that a plane is fitted to; none lets the noise decide"
    )
    sensor: tuple[Coordinate, Coordinate, Coordinate] | None = Field(
        None,
        description="where all points were seen from; none takes what the file says "
        "[scene units]",
    )
    drop_degrees: Annotated[float, Field(gt=0, le=90)] | None = Field(
        None,
        description="points seen at more of a slant are dropped, with estimated normals and "
        "a sensor; none keeps all [degrees]",
    )


class MeshingConf(Record):
    """How the field becomes triangles."""

    voxel_size: Length | None = Field(
        None, description="of the triangles' cells; none takes the field's own [scene units]"
    )
    resolution: Annotated[int, Field(ge=2, le=16384)] | None = Field(
        None, description="cells along the longest side, in place of mesh.voxel_size"
    )
    refine: Annotated[int, Field(ge=0, le=4)] = Field(
        0, description="how many times the cells are halved"
    )
    adaptive: Annotated[float, Field(gt=0, le=4)] | None = Field(
        None,
        description="neighbouring cells become one where the surface stays this near to its "
        "tangent planes; 0.05 is a good value; none draws cells of one size "
        "[the field's finest cells]",
    )
    trim: Length | None = Field(
        None,
        description="surface further than this from all points is left out; none takes a "
        "few spacings of the points [scene units]",
    )
    watertight: bool = Field(False, description="leave nothing out: closed")
    colors: bool = Field(True, description="colours of the points on the vertices")

    @model_validator(mode="after")
    def _one_size(self) -> "MeshingConf":
        if self.voxel_size is not None and self.resolution is not None:
            raise ValueError("give one of mesh.voxel_size and mesh.resolution, not both")
        return self


class SplinesConf(Record):
    """What only the solver `splines` asks for."""

    kernel: Literal["neural-spline", "spherical-laplace", "linear-angle"] = Field(
        "neural-spline", description="the kernel"
    )
    variance: NotNegative = Field(
        0.001, description="of neural-spline: what its inner layer counts; 0 is smoothest"
    )
    gradients: Literal["exact", "triples"] = Field(
        "exact", description="normals as gradients, or as values on both sides of a point"
    )
    eps: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="of triples: distance to both sides; none takes 0.05 [voxel diagonals]",
    )
    centres: int | None = Field(
        None, description="kernel centres, negative for all points; none chooses"
    )
    sampling: Literal["blue-noise", "random", "k-means"] = Field(
        "blue-noise", description="how points are chosen for centres"
    )
    placement: Literal["pairs", "points"] = Field(
        "pairs", description="centres to both sides of a chosen point, or at it"
    )
    regularization: NotNegative | None = Field(
        None, description="ridge; none takes it from the noise"
    )
    scale: Annotated[float, Field(ge=1, le=100)] = Field(
        1.1, description="of the box that is meshed, relative to the points' own"
    )
    downsample_threshold: AtLeastOne = Field(
        150_000, description="more points than this are averaged, one for each voxel"
    )
    dtype: Literal["mixed", "float64", "float32"] = Field("mixed", description="precision")
    memory: Annotated[int, Field(ge=2**20)] = Field(
        2**31, description="that the matrices may take [bytes]"
    )
    cells_per_axis: Annotated[int, Field(ge=1, le=1024)] = Field(
        1, description="cells along each axis that are fitted alone and blended"
    )
    overlap: Fraction = Field(0.25, description="of a cell's side, that neighbours share")
    weights: Literal["smooth", "trilinear", "none"] = Field(
        "smooth", description="how cells are blended"
    )
    min_points_per_cell: Count = Field(
        0, description="a cell with no more points than this is left out"
    )


class TilesConf(Record):
    """How a cloud too large for memory is cut up, with the solver `hierarchy`."""

    above: Count = Field(
        4_000_000, description="clouds of more points are cut into tiles; zero: all"
    )
    points: Annotated[int, Field(ge=100)] = Field(
        500_000, description="that a tile holds at most"
    )
    workers: AtLeastOne = Field(1, description="tiles that are worked on at a time")
    runner: Literal["here", "processes", "ray"] = Field(
        "here",
        description="who works on them: this process with all threads, `tiles.workers` "
        "processes of one thread, or as many tasks of Ray",
    )
    address: str | None = Field(
        None, description="a cluster of Ray, e.g. auto; none starts Ray on this machine"
    )
    retries: Count = Field(2, description="how often a tile that failed is tried again")

    @model_validator(mode="after")
    def _fitting(self) -> "TilesConf":
        if self.workers > 1 and self.runner == "here":
            raise ValueError(
                f"tiles.workers={self.workers} needs tiles.runner=processes or tiles.runner=ray"
            )
        if self.address is not None and self.runner != "ray":
            raise ValueError(f"tiles.address={self.address} needs tiles.runner=ray")
        return self


class PointsConf(Record):
    """A surface from points."""

    solver: Literal["hierarchy", "splines"] = Field(
        "hierarchy",
        description="B-splines on a hierarchy of cells, or a kernel machine (small clouds)",
    )
    detail_level: Fraction | None = Field(
        None, description="from 0 (smooth) to 1 (fine); none lets density and noise decide"
    )
    voxel_size: Length | None = Field(
        None, description="edge of the finest cells, in place of detail_level [scene units]"
    )
    depth: Annotated[int, Field(ge=1, le=16)] | None = Field(
        None,
        description="the cloud's longest side has 2^depth cells, in place of detail_level",
    )
    value_weight: NotNegative | None = Field(
        None, description="of values at points; none lets the noise decide"
    )
    normal_weight: NotNegative | None = Field(
        None, description="of gradients at points; none lets the noise decide"
    )
    smoothness: NotNegative | None = Field(
        None, description="of second differences; none lets the noise decide"
    )
    learned: Literal["auto", "on", "off"] = Field(
        "auto",
        description="a trained network adjusts weights, normals and values in each cell; auto: "
        "on levels where points held out speak for it",
    )
    solver_tol: Tolerance | None = Field(
        None, description="relative residual at which the solver ends; none takes its own"
    )
    max_iter: AtLeastOne | None = Field(
        None, description="steps that the solver makes at most; none takes its own"
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="of random choices")
    threads: Count = Field(0, description="processor threads; zero takes all")
    clean: CleanConf = CleanConf()
    normals: NormalsConf = NormalsConf()
    mesh: MeshingConf = MeshingConf()
    splines: SplinesConf = SplinesConf()
    tiles: TilesConf = TilesConf()

    @model_validator(mode="after")
    def _one_size(self) -> "PointsConf":
        sizes = ("detail_level", "voxel_size", "depth")
        given = [name for name in sizes if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of {', '.join(sizes)}, not {' and '.join(given)}")
        return self
