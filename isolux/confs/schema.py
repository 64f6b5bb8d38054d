"""The settings of a run: frozen records, checked where they are read.

Units: scene units for lengths, pixels for image sizes, texels for textures, linear radiance
for light. Nothing here imports torch, so that a file is read and checked at once.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from isolux.confs.points import PointsConf
from isolux.confs.record import (
    AtLeastOne,
    Coordinate,
    Count,
    Edge,
    Length,
    NotNegative,
    PerStage,
    Positive,
    Range3,
    Record,
    wants_tuple,
)

__all__ = [
    "DataConf",
    "GeometryConf",
    "LightConf",
    "LossConf",
    "MaterialConf",
    "ObserveConf",
    "OperatorsConf",
    "OptimizeConf",
    "RunConf",
]

Source = Literal["reference", "cpu", "cuda", "nvdiffrast", "tinycudann", "kaolin"]


class DataConf(Record):
    """What the pictures are and how they are read."""

    path: Path | None = Field(
        None, description="scene folder, or the mesh file to be rendered as reference"
    )
    kind: Literal["auto", "nerf_synthetic", "mesh", "procedural"] = Field(
        "auto", description="the format; auto looks at the folder"
    )
    size: Edge | tuple[Edge, Edge] | None = Field(
        None,
        description="image size to train at: one number, or height and width; "
        "none keeps the files' own [pixels]",
    )
    background: Literal["white", "black", "checker"] = Field(
        "white", description="background of validation pictures and of the reported PSNR"
    )
    train_views: AtLeastOne | None = Field(
        None, description="use only so many training views, evenly spread; none uses all"
    )
    test_views: AtLeastOne | None = Field(
        None, description="evaluate only so many test views, evenly spread; none uses all"
    )
    envmap: Path | None = Field(
        None, description="probe (.hdr or .exr) under which a reference mesh is rendered"
    )
    envmap_scale: Positive = Field(1.0, description="factor on that probe")
    camera_distance: Length = Field(
        3.0,
        description="cameras around a reference mesh: distance from its centre [scene units]",
    )
    camera_fov: Annotated[float, Field(gt=1, lt=170)] = Field(
        45.0, description="their vertical field of view [degrees]"
    )
    camera_jitter: NotNegative = Field(
        0.25, description="their random shift along each axis, both ways [scene units]"
    )
    points: Path | None = Field(
        None, description="a point cloud of the scene, or a folder of COLMAP; see points.*"
    )
    near: Length = Field(0.1, description="near plane [scene units]")
    far: Length = Field(1000.0, description="far plane [scene units]")

    @model_validator(mode="after")
    def _near_before_far(self) -> "DataConf":
        if self.near >= self.far:
            raise ValueError(f"near ({self.near}) must be smaller than far ({self.far})")
        return self


class GeometryConf(Record):
    """The surface of the topology stage."""

    sdf: Literal["grid", "network"] = Field(
        "grid",
        description="where the signed distance lives: values on the lattice, "
        "or a hash-grid network",
    )
    extractor: Literal["tets", "flexicubes"] = Field(
        "tets", description="how the surface is taken out"
    )
    resolution: Annotated[int, Field(ge=4, le=512)] = Field(
        64, description="cells along an axis at the end of the topology stage"
    )
    extent: Length | None = Field(
        None,
        description="edge length of the grid's cube; none fits it to the masks [scene units]",
    )
    centre: tuple[Coordinate, Coordinate, Coordinate] | None = Field(
        None, description="centre of the cube; none fits it to the masks [scene units]"
    )
    init: str = Field(
        "hull",
        description="start: hull, sphere, random, points (data.points), or a file: a mesh or a "
        "cloud",
    )
    most_triangles: Annotated[int, Field(ge=100)] = Field(
        60000, description="a surface with more is simplified before charts are made"
    )
    base_mesh: Path | None = Field(
        None, description="start the mesh stage from this mesh and skip the topology stage"
    )
    deform: bool = Field(True, description="let lattice vertices move by up to half a cell")
    lock_positions: bool = Field(False, description="keep the vertices in the mesh stage")


class MaterialConf(Record):
    """Albedo, occlusion-roughness-metalness, normal map."""

    albedo_min: Range3 = Field((0.0, 0.0, 0.0), description="lower limit of linear albedo")
    albedo_max: Range3 = Field((1.0, 1.0, 1.0), description="upper limit of linear albedo")
    orm_min: Range3 = Field(
        (0.0, 0.08, 0.0), description="lower limits of occlusion, roughness, metalness"
    )
    orm_max: Range3 = Field(
        (0.0, 1.0, 1.0), description="upper limits of occlusion, roughness, metalness"
    )
    normal_map: bool = Field(True, description="learn a tangent-space normal map")
    texture_size: Annotated[int, Field(ge=16, le=8192)] = Field(
        512, description="edge of the square textures [texels]"
    )
    levels: Annotated[int, Field(ge=1, le=32)] = Field(8, description="hash grid: levels")
    log2_rows: Annotated[int, Field(ge=8, le=24)] = Field(
        16, description="hash grid: log2 of the rows a level has at most"
    )
    coarsest: Annotated[int, Field(ge=2)] = Field(
        16, description="hash grid: cells along an axis at the first level"
    )
    finest: Annotated[int, Field(ge=2)] = Field(
        256, description="hash grid: cells along an axis at the last level"
    )
    width: Annotated[int, Field(ge=4, le=512)] = Field(
        32, description="neurons of a hidden layer"
    )
    hidden: Annotated[int, Field(ge=1, le=8)] = Field(2, description="hidden layers")

    @model_validator(mode="after")
    def _limits_in_order(self) -> "MaterialConf":
        for name in ("albedo", "orm"):
            low, high = getattr(self, f"{name}_min"), getattr(self, f"{name}_max")
            if any(a > b for a, b in zip(low, high, strict=True)):
                raise ValueError(f"{name}_min {low} must nowhere be above {name}_max {high}")
        if self.coarsest > self.finest:
            raise ValueError(
                f"coarsest ({self.coarsest}) must not be above finest ({self.finest})"
            )
        return self


class LightConf(Record):
    """The environment."""

    envmap: Path | None = Field(
        None,
        description="probe to start from, or to keep (learn=false); none starts from grey, or"
        " keeps the one under which a reference mesh is rendered",
    )
    scale: Positive = Field(1.0, description="factor on that probe")
    learn: bool = Field(True, description="train the probe")
    lock_in_mesh_stage: bool = Field(False, description="keep it in the mesh stage")
    resolution: Literal[16, 32, 64, 128, 256, 512] = Field(
        64, description="edge of a cube face [texels]"
    )
    initial: Positive = Field(
        0.5, description="constant radiance to start from without a probe"
    )
    camera_space: bool = Field(
        False, description="the light is fixed to the camera (turntable captures)"
    )
    solid_angles: Literal["exact", "nvdiffrec"] = Field(
        "exact",
        description="weights of the prefilter; nvdiffrec's are not solid angles "
        "and serve parity only",
    )


class LossConf(Record):
    """Weights of the objective; zero leaves a term out."""

    image: Literal["logl1", "logl2", "mse", "smape", "relmse"] = Field(
        "logl1", description="how colours are compared"
    )
    mask: NotNegative = Field(1.0, description="coverage against alpha")
    mask_norm: Literal["mse", "l1"] = Field("mse", description="how coverage is compared")
    sdf_start: NotNegative = Field(0.2, description="sign changes of the lattice, at first")
    sdf_end: NotNegative = Field(
        0.01, description="the same after a quarter of the topology stage"
    )
    flexicubes_dev: NotNegative = Field(0.25, description="FlexiCubes' L_dev")
    smooth_sdf: NotNegative = Field(0.0, description="squared Laplacian of the lattice values")
    eikonal: NotNegative = Field(0.1, description="unit gradient of a network's distance")
    albedo_smooth: NotNegative = Field(0.03, description="albedo against albedo nearby")
    orm_smooth: NotNegative = Field(
        0.0, description="roughness and metalness against those nearby"
    )
    occlusion: NotNegative = Field(0.001, description="mean occlusion")
    normal_smooth: NotNegative = Field(0.0, description="deviation of the normal map from flat")
    light_white: NotNegative = Field(0.005, description="the probe against its own grey")
    laplacian: NotNegative = Field(
        10000.0,
        description="uniform Laplacian of the mesh stage, at first; it falls to zero",
    )
    laplacian_kind: Literal["relative", "absolute"] = Field(
        "relative", description="of the displacement, or of the position"
    )
    normal_consistency: NotNegative = Field(
        0.0, description="angle between neighbouring faces of the mesh stage"
    )


class OptimizeConf(Record):
    """How long, how fast, how many views."""

    steps: tuple[Count, Count] = Field(
        (1000, 1000),
        description="steps of the topology stage and of the mesh stage; "
        "one number is taken for both",
    )
    batch: Annotated[int, Field(ge=1, le=64)] = Field(4, description="views a step")
    minutes: Positive | None = Field(
        None,
        description="time budget of the whole command: schedules fit themselves to it "
        "[minutes]",
    )
    learning_rate_geometry: PerStage | None = Field(
        None,
        description="Adam's rate of lattice values and of vertices, by stage; none is "
        "0.03,0.003, or 0.005,0.003 where geometry.init is points or a cloud (any file but "
        ".obj, .glb, .gltf), which begins near its goal",
    )
    learning_rate_material: PerStage = Field(
        (0.01, 0.01), description="Adam's rate of the field and of the textures, by stage"
    )
    learning_rate_light: PerStage = Field(
        (0.01, 0.005), description="Adam's rate of the probe, by stage"
    )
    decay: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.1, description="factor on all rates at the end of a stage"
    )
    coarse_to_fine: bool = Field(
        True, description="begin on smaller images and a coarser lattice"
    )
    deterministic: bool = Field(
        False,
        description="the same bits on every run on one GPU, without a time budget; slower. On "
        "the processor (backend=cpu) runs always are the same, bit for bit",
    )
    graph: bool = Field(
        False,
        description="steps of the mesh stage as CUDA graphs, see docs/backends.md: only with "
        "backend=cuda, in one process; it has never run on hardware",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_number_is_both(cls, values: object) -> object:
        if isinstance(values, dict):
            for key, field in cls.model_fields.items():
                value = values.get(key)
                number = isinstance(value, int | float) and not isinstance(value, bool)
                if number and wants_tuple(field.annotation):
                    values = {**values, key: (value, value)}
        return values


class ObserveConf(Record):
    """What is written while it runs; zero is never."""

    log_every: Count = Field(10, description="steps between lines of log.jsonl")
    checkpoint_every: Count = Field(200, description="steps between checkpoints")
    picture_every: Count = Field(200, description="steps between progress pictures")
    validate_every: Count = Field(
        0, description="steps between validations on a few test views"
    )


class OperatorsConf(Record):
    """Single operators from elsewhere than `backend`; none keeps it. See docs/backends.md."""

    rasterize: Source | None = Field(None, description="which triangle a pixel sees")
    screen_derivatives: Source | None = Field(
        None, description="how a raster's weights change from pixel to pixel"
    )
    interpolate: Source | None = Field(
        None, description="values at pixels from values at corners"
    )
    antialias: Source | None = Field(None, description="silhouettes")
    edge_adjacency: Source | None = Field(None, description="neighbours of faces")
    vertex_normals: Source | None = Field(None, description="normals of vertices")
    texture2d: Source | None = Field(None, description="lookups in textures")
    halve: Source | None = Field(None, description="mips of textures")
    cubemap: Source | None = Field(None, description="lookups in cube maps")
    hash_grid: Source | None = Field(None, description="features of positions")
    hash_grid_second: Source | None = Field(None, description="second derivatives of these")
    mlp: Literal[Source, "half"] | None = Field(
        None, description="small networks; half is for backend=cuda"
    )
    cube_filter: Source | None = Field(None, description="prefiltering of the light")
    shading_frame: Source | None = Field(None, description="frames of normal maps")
    split_sum: Source | None = Field(None, description="shading")
    image_loss: Source | None = Field(None, description="comparison of pictures")
    marching_tetrahedra: Source | None = Field(None, description="surfaces out of tetrahedra")
    flexicubes: Source | None = Field(None, description="surfaces out of cubes")


_RATES = {"hull": (0.03, 0.003), "points": (0.005, 0.003)}
_STARTS = {"hull", "sphere", "random", "points"}
_MESHES = (".obj", ".glb", ".gltf")  # starts that are no clouds; .ply may be either


class RunConf(Record):
    """Everything that defines a run."""

    out: Path | None = Field(None, description="run folder; none is out/NAME")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="of all random choices")
    backend: Literal["auto", "cpu", "reference", "cuda"] = Field(
        "auto",
        description="operators; auto takes cuda where it works, else cpu "
        "(isolux doctor says why)",
    )
    threads: Count = Field(0, description="processor threads; zero takes all")
    operators: OperatorsConf = OperatorsConf()
    data: DataConf = DataConf()
    geometry: GeometryConf = GeometryConf()
    material: MaterialConf = MaterialConf()
    light: LightConf = LightConf()
    losses: LossConf = LossConf()
    optimize: OptimizeConf = OptimizeConf(learning_rate_geometry=_RATES["hull"])
    observe: ObserveConf = ObserveConf()
    points: PointsConf = PointsConf()

    @model_validator(mode="before")
    @classmethod
    def _rate_of_the_start(cls, values: object) -> object:
        """The geometry's rate where none is given; what is shown and kept has the number."""
        if not isinstance(values, dict):
            return values
        geometry, optimize = values.get("geometry", {}), values.get("optimize", {})
        if not isinstance(geometry, dict | GeometryConf):
            return values
        init = geometry.get("init") if isinstance(geometry, dict) else geometry.init
        # By the name alone: the file's folder is not known yet.
        file = init is not None and init not in _STARTS
        cloud = file and Path(str(init)).suffix.lower() not in _MESHES
        rate = _RATES["points" if cloud or init == "points" else "hull"]
        if isinstance(optimize, dict) and optimize.get("learning_rate_geometry") in (
            None,
            "none",
        ):
            return {**values, "optimize": {**optimize, "learning_rate_geometry": rate}}
        if isinstance(optimize, OptimizeConf) and optimize.learning_rate_geometry is None:
            optimize = optimize.model_copy(update={"learning_rate_geometry": rate})
            return {**values, "optimize": optimize}
        return values
