"""From a configuration to objects: the only reader of configurations in this package."""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from isolux import backends
from isolux.backends import Backend
from isolux.backends.cpu import pool
from isolux.backends.cuda import launch
from isolux.backends.encode import HashGridSpec
from isolux.confs.schema import GeometryConf, LightConf, RunConf
from isolux.data.assets.hdr import load_probe
from isolux.data.detect import is_mesh, read_asset
from isolux.data.views import Views
from isolux.geometry.cameras import Cameras
from isolux.geometry.fields import Field, MeshField, SphereField
from isolux.geometry.hull import fit_box, rays_beside, visual_hull
from isolux.geometry.mesh import Mesh
from isolux.geometry.sdf_grid import SdfGrid
from isolux.geometry.sdf_network import SdfNetwork
from isolux.optimize.depths import check_depths
from isolux.optimize.objective import ImageTerms
from isolux.optimize.open import Scene, open_scene
from isolux.optimize.points import field_of_file
from isolux.optimize.randomness import generator_for
from isolux.optimize.stages import Rates, Recipe
from isolux.optimize.weights import Ramp, constant
from isolux.render.draw import Lens
from isolux.render.light import EnvironmentLight, cube_from_latlong
from isolux.render.material import Limits

__all__ = ["Problem", "build", "select_backend"]

_HULL_VIEWS = 64  # masks that carve the starting shape: more add time and little shape
_BESIDE, _MUCH_BESIDE = 0.005, 0.05  # of the masked pixels: worth a word; too many
_log = logging.getLogger(__name__)

# World points [n, 3] to signed distances [n].
Values = Callable[[Float[Tensor, "n 3"]], Float[Tensor, " n"]]


@dataclass(frozen=True)
class Problem:
    """Everything that a run needs, made from its configuration."""

    backend: Backend
    scene: Scene
    recipe: Recipe
    lens: Lens
    compare: ImageTerms
    weights: Mapping[str, Mapping[str, Ramp]]  # by stage
    rates: Mapping[str, Rates]  # by stage
    base_mesh: Mesh | None


def select_backend(conf: RunConf, elsewhere: bool = False) -> Backend:
    """The operators that a configuration asks for, with its number of threads.

    Torch itself gets one thread: its reductions depend on the number of threads, ours do not,
    and its idle workers spin beside ours.

    Args:
        conf: the settings.
        elsewhere: they may be another machine's. What cannot be had here is told and done
            without, since results do not depend on the backend.

    Raises:
        ValueError, ImportError: what cannot be had here, in one line.
    """
    torch.set_num_threads(1)
    pool.set_threads(conf.threads or os.cpu_count() or 1)
    taken = conf.operators.model_dump(exclude_none=True)
    try:
        backend = backends.select(conf.backend, taken)
    except (ValueError, ImportError) as error:
        if not elsewhere:
            raise
        backend = backends.select("auto")
        _log.warning("%s; going on with backend=%s", error, backend.name)
    for operator, source in backend.taken.items():
        _log.info("operators.%s: from %s", operator, source)
    return backend


def build(conf: RunConf) -> Problem:
    """Read the scene and prepare everything that does not depend on progress.

    Raises:
        ValueError, FileNotFoundError: what is wrong with files or settings, in one line.
    """
    backend = select_backend(conf)
    if backend.name == "cuda" and torch.cuda.is_available():
        launch.prepare()
    scene = open_scene(conf.data, backend, conf.seed)
    base = _base_mesh(conf.geometry.base_mesh)
    needs_box = base is None
    centre, extent = _box(conf.geometry, scene.train) if needs_box else _box_of(base)
    check_depths(scene.train.cameras, centre, extent, conf.data.near, conf.data.far)
    rate = conf.optimize.learning_rate_geometry
    assert rate is not None  # RunConf sees to it
    return Problem(
        backend=backend,
        scene=scene,
        recipe=_recipe(conf, backend, scene, centre, extent),
        lens=Lens(conf.data.near, conf.data.far, conf.light.camera_space),
        compare=ImageTerms(conf.losses.image, conf.losses.mask_norm, frozenset()),
        weights={
            "topology": _topology_weights(conf),
            "mesh": _mesh_weights(conf),
        },
        rates={
            stage: Rates(
                rate[i],
                conf.optimize.learning_rate_material[i],
                conf.optimize.learning_rate_light[i],
            )
            for i, stage in enumerate(("topology", "mesh"))
        },
        base_mesh=base,
    )


def _recipe(
    conf: RunConf, backend: Backend, scene: Scene, centre: Float[Tensor, " 3"], extent: float
) -> Recipe:
    material = conf.material
    half = 0.5 * extent
    return Recipe(
        backend=backend,
        seed=conf.seed,
        limits=Limits(
            material.albedo_min, material.albedo_max, material.orm_min, material.orm_max
        ),
        spec=HashGridSpec(
            material.levels, 2, material.log2_rows, material.coarsest, material.finest
        ),
        width=material.width,
        hidden=material.hidden,
        texture_size=material.texture_size,
        normal_map=material.normal_map,
        most_triangles=conf.geometry.most_triangles,
        lock_positions=conf.geometry.lock_positions,
        lock_light=conf.light.lock_in_mesh_stage,
        light=_light(conf.light, scene.probe, backend),
        field=_start(conf, backend, _shape(conf, scene.train, centre, extent), centre, extent),
        sphere=_start(conf, backend, lambda: _sphere(centre, extent), centre, extent),
        bounds=torch.stack([centre - half, centre + half]),
    )


def _light(
    light: LightConf, known: Float[Tensor, "h w 3"] | None, backend: Backend
) -> Callable[[], EnvironmentLight]:
    """The light to begin with: the probe given, else grey, or the known one if it stays."""
    if light.envmap is not None:
        base = cube_from_latlong(load_probe(light.envmap) * light.scale, light.resolution)
    elif light.learn:
        base = EnvironmentLight.constant(light.resolution, light.initial)
    elif known is not None:
        base = cube_from_latlong(known, light.resolution)
    else:
        raise ValueError(
            "light.learn=false needs a probe to keep: set light.envmap to an .hdr or .exr"
        )
    base = base.to(backend.device)
    return lambda: EnvironmentLight(base, light.learn, light.solid_angles)


def _masks(train: Views) -> tuple[Float[Tensor, "v h w"], list[int]]:
    count = min(len(train), _HULL_VIEWS)
    chosen = [round(i * (len(train) - 1) / max(count - 1, 1)) for i in range(count)]
    return train.batch(chosen).alpha[..., 0].cpu(), chosen


def _box(conf: GeometryConf, train: Views) -> tuple[Float[Tensor, " 3"], float]:
    """Centre and edge length of the grid: those given, the rest fitted to the masks.

    Raises:
        ValueError: when the box that is given leaves out much of what the masks show, with
            the one that would fit.
    """
    masks, chosen = _masks(train)
    cameras = train.cameras[chosen]
    given = conf.centre is not None or conf.extent is not None
    if conf.centre is not None and conf.extent is not None:
        centre, extent = torch.tensor(conf.centre), conf.extent
    else:
        centre, extent = fit_box(masks, cameras)
        if conf.centre is not None:
            centre = torch.tensor(conf.centre)
        extent = conf.extent or extent
    _log.info("grid: centre %s, extent %.3f", _rounded(centre), extent)
    missed = rays_beside(masks, cameras, centre, extent) if given else 0.0
    if missed > _BESIDE:
        text = (
            f"object outside the grid: {missed:.0%} of the masked pixels see nothing of the "
            f"cube with centre {_rounded(centre)} and extent {extent:.4g}"
        )
        if missed <= _MUCH_BESIDE:
            _log.warning("%s", text)
        else:
            raise ValueError(f"{text}; {_fitting_box(masks, cameras)}")
    return centre, float(extent)


def _fitting_box(masks: Float[Tensor, "v h w"], cameras: Cameras) -> str:
    try:
        centre, extent = fit_box(masks, cameras)
    except ValueError:  # no box follows from these masks
        return "set geometry.centre and geometry.extent"
    numbers = ",".join(f"{c:.4g}" for c in centre.tolist())
    return f"this one fits: geometry.centre={numbers} geometry.extent={extent:.4g}"


def _rounded(centre: Float[Tensor, " 3"]) -> list[float]:
    return [round(c, 3) for c in centre.tolist()]


def _box_of(mesh: Mesh | None) -> tuple[Float[Tensor, " 3"], float]:
    assert mesh is not None
    low, high = mesh.vertices.min(0).values, mesh.vertices.max(0).values
    return 0.5 * (low + high), float((high - low).max()) * 1.1


def _start(
    conf: RunConf,
    backend: Backend,
    shape: Callable[[], Values],
    centre: Float[Tensor, " 3"],
    extent: float,
) -> Callable[[int], SdfGrid | SdfNetwork]:
    """The surface of a shape, at whatever resolution it is asked for."""
    geometry = conf.geometry

    def made(resolution: int) -> SdfGrid | SdfNetwork:
        kind = SdfGrid if geometry.sdf == "grid" else SdfNetwork
        return kind.start(
            shape(), resolution, centre, extent, geometry.extractor, geometry.deform, backend,
            generator_for(conf.seed, 3),
        )  # fmt: skip

    return made


def _shape(
    conf: RunConf, train: Views, centre: Float[Tensor, " 3"], extent: float
) -> Callable[[], Values]:
    """What a run starts from, worked out when it is called."""
    init = conf.geometry.init

    def shape() -> Values:
        if init == "hull":
            masks, chosen = _masks(train)
            return visual_hull(masks, train.cameras[chosen])
        if init == "sphere":
            return _sphere(centre, extent)
        if init == "random":
            generator = generator_for(conf.seed, 2)
            return lambda points: torch.rand(len(points), generator=generator).to(points) - 0.1
        if init == "points":
            assert conf.data.points is not None  # check_inputs() sees to it
            return field_of_file(conf.data.points, conf.points).value
        return _field_of(Path(init), conf).value

    return shape


def _sphere(centre: Float[Tensor, " 3"], extent: float) -> Values:
    return SphereField(centre, 0.35 * extent).value


def _topology_weights(conf: RunConf) -> dict[str, Ramp]:
    losses = conf.losses
    weights = _shared_weights(conf)
    weights["sdf"] = Ramp(losses.sdf_start, losses.sdf_end, 0.25)
    if conf.geometry.extractor == "flexicubes":
        weights["flexicubes_dev"] = constant(losses.flexicubes_dev)
    if conf.geometry.sdf == "network":
        weights["eikonal"] = constant(losses.eikonal)
    weights["smooth_sdf"] = constant(losses.smooth_sdf)
    return _without_zeros(weights)


def _mesh_weights(conf: RunConf) -> dict[str, Ramp]:
    losses = conf.losses
    weights = _shared_weights(conf)
    weights["laplacian"] = Ramp(losses.laplacian, 0.0, 1.0)
    weights["normal_consistency"] = constant(losses.normal_consistency)
    if conf.material.normal_map:
        weights["normal_smooth"] = constant(losses.normal_smooth)
    return _without_zeros(weights)


def _shared_weights(conf: RunConf) -> dict[str, Ramp]:
    losses = conf.losses
    weights = {
        "image": constant(1.0),
        "mask": constant(losses.mask),
        "albedo_smooth": Ramp(0.0, losses.albedo_smooth, 0.1),
        "orm_smooth": Ramp(0.0, losses.orm_smooth, 0.1),
    }
    if conf.material.orm_max[0] > 0.0:
        weights["occlusion"] = Ramp(0.0, losses.occlusion, 0.1)
    if conf.light.learn:
        weights["light_white"] = constant(losses.light_white)
    return weights


def _without_zeros(weights: dict[str, Ramp]) -> dict[str, Ramp]:
    return {n: r for n, r in weights.items() if r.start or r.end or n in ("image", "mask")}


def _base_mesh(path: Path | None) -> Mesh | None:
    return None if path is None else read_asset(path).mesh


def _field_of(path: Path, conf: RunConf) -> Field:
    """The signed distance of a mesh, or what a cloud's points make of it, as a start."""
    if is_mesh(path):
        return MeshField(read_asset(path).mesh)
    return field_of_file(path, conf.points)
