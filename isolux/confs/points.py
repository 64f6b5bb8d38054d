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

__all__ = ["CleanConf", "MeshingConf", "NormalsConf", "PointsConf", "SplinesConf"]

Tolerance = Annotated[float, Field(ge=1e-12, le=0.5)]


class CleanConf(Record):
    """What is dropped before anything else; rows that are not finite always are."""

    duplicates: bool = Field(True, description="points at the same place, but for one")
    outliers: NotNegative = Field(
        0.0,
        description="points whose mean distance to their neighbours is more than so many "
        "standard deviations above the cloud's; zero keeps them",
    )
    downsample: Length | None = Field(
        None, description="edge of cells of which one mean point is kept each [scene units]"
    )


class NormalsConf(Record):
    """Directions out of the surface, and which side is out."""

    source: Literal["auto", "given", "estimated"] = Field(
        "auto", description="auto takes those of the file, and estimates where it has none"
    )
    neighbours: Annotated[int, Field(ge=3, le=512)] = Field(
        16, description="points that a plane is fitted to"
    )
    sensor: tuple[Coordinate, Coordinate, Coordinate] | None = Field(
        None,
        description="where all points were seen from; none takes what the file says "
        "[scene units]",
    )
    drop_degrees: Annotated[float, Field(gt=0, le=90)] = Field(
        90.0,
        description="points whose normal is further than this from the direction to the "
        "sensor are dropped; 90 keeps all [degrees]",
    )


class MeshingConf(Record):
    """How the field becomes triangles."""

    voxel_size: Length | None = Field(
        None, description="of the triangles' cells; none takes the field's own [scene units]"
    )
    refine: Annotated[int, Field(ge=0, le=4)] = Field(
        0, description="how many times the cells are halved"
    )
    trim: NotNegative | None = Field(
        None,
        description="surface further than this from all points is left out; none takes a "
        "few spacings of the points, zero as little as holes allow [scene units]",
    )
    watertight: bool = Field(False, description="leave nothing out: closed")
    colors: bool = Field(True, description="colours of the points on the vertices")


class SplinesConf(Record):
    """What only the solver `splines` asks for."""

    kernel: Literal["neural-spline", "spherical-laplace", "linear-angle"] = Field(
        "neural-spline", description="the kernel"
    )
    outer_layer_variance: NotNegative = Field(
        0.001, description="of neural-spline: share of the inner layer; 0 is smoothest"
    )
    gradients: Literal["exact", "triples"] = Field(
        "triples", description="normals as gradients, or as points on both sides"
    )
    eps: Annotated[float, Field(gt=0)] = Field(
        0.05, description="of triples: distance to both sides [cells' diagonals]"
    )
    centres: int | None = Field(
        None, description="kernel centres; none takes 20 for each root of a point, at most 4000"
    )
    sampler: Literal["blue-noise", "random", "k-means"] = Field(
        "blue-noise", description="how centres are chosen"
    )
    regularization: NotNegative = Field(1e-10, description="ridge")
    tiles: AtLeastOne = Field(1, description="cells along each axis that are fitted alone")
    overlap: Fraction = Field(0.25, description="of a tile's edge, that neighbours share")
    least_points: Count = Field(0, description="a tile with no more than so many is left out")


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

    @model_validator(mode="after")
    def _one_size(self) -> "PointsConf":
        sizes = ("detail_level", "voxel_size", "depth")
        given = [name for name in sizes if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of {', '.join(sizes)}, not {' and '.join(given)}")
        return self
