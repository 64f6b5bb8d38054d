"""From a point cloud and settings to a field and a mesh. Letters: n points or vertices."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from jaxtyping import Float
from torch import Tensor

from isolux.confs.points import PointsConf
from isolux.data.assets.cloud_blocks import CloudBlocks
from isolux.data.assets.clouds import read_cloud
from isolux.geometry.mesh import Mesh
from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.colors import vertex_colors
from isolux.geometry.points.hierarchy import fit_hierarchy
from isolux.geometry.points.hierarchy_field import HierarchyField
from isolux.geometry.points.span import extent_of_most
from isolux.geometry.points.spline_field import SplineField
from isolux.geometry.points.spline_options import SplineOptions
from isolux.geometry.points.splines import fit_splines
from isolux.optimize.points_prepare import prepared
from isolux.optimize.points_tiles import field_of_tiles, hierarchy_options, is_large

__all__ = ["PointsField", "Tell", "field_of", "field_of_file", "fitted", "mesh_of", "strays"]

Tell = Callable[[str, float], None]  # told what is being done, and its share of the whole
PointsField = HierarchyField | SplineField
_MOST_CELLS = 16_384  # of the solver `splines`
_STRAY = 100.0  # times the extent of most points: no scan reaches so far beyond its object
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Drawn:
    """A mesh, and the colours of its vertices where the cloud has any."""

    mesh: Mesh
    colors: Float[Tensor, "n 3"] | None  # linear


def field_of(
    cloud: PointCloud, conf: PointsConf, tell: Tell = lambda text, share: None
) -> PointsField:
    """The field of a cloud that `prepared` gave.

    Raises:
        ValueError: points that span no surface, or settings that the solver does not take.
    """
    if conf.solver == "hierarchy":
        return fit_hierarchy(cloud, hierarchy_options(conf), tell)
    return fit_splines(cloud, _spline_options(cloud, conf), tell)


def field_of_file(path: Path, conf: PointsConf) -> PointsField:
    """The field of a file of points, in memory. A large cloud is fitted tile by tile.

    Raises:
        ValueError, OSError, ImportError: as `read_cloud` and `field_of`.
    """
    large, read = is_large(path, conf), None
    if large is None:
        read = read_cloud(path)
        large = len(read) > conf.tiles.above
    if large:
        _log.info("%s: more than %d points, so by tiles", path, conf.tiles.above)
        with TemporaryDirectory(prefix="isolux-") as folder:
            return field_of_tiles(CloudBlocks(path), Path(folder), conf).load()
    field, cloud = fitted(path, read_cloud(path) if read is None else read, conf)
    _log.info("%s: %d points", path, len(cloud))
    return field


def fitted(
    path: Path, read: PointCloud, conf: PointsConf, tell: Tell = lambda text, share: None
) -> tuple[PointsField, PointCloud]:
    """The field of a cloud that was read from a file, and the points that were used.

    Raises:
        ValueError: as `prepared` and `field_of`, with the file's name and what may help.
    """
    cloud = read
    try:
        cloud = prepared(read, conf)
        return field_of(cloud, conf, tell), cloud
    except ValueError as error:
        raise ValueError(f"{path}: {error}{strays(cloud)}") from None


def strays(cloud: PointCloud) -> str:
    """What to do about points far beyond the others, as the end of a message; or nothing."""
    xyz = cloud.xyz[cloud.xyz.isfinite().all(1)].double().numpy()
    if not len(xyz):
        return ""
    extent, most = float((xyz.max(0) - xyz.min(0)).max()), extent_of_most(xyz)
    if not 0 < _STRAY * most < extent:
        return ""
    return (
        f"; nearly all points lie within {most:.4g}, some as far as {extent:.4g}: "
        "clean.outliers=4 leaves strays out"
    )


def mesh_of(field: PointsField, cloud: PointCloud, conf: PointsConf) -> Drawn:
    """The field's surface."""
    how = conf.mesh
    mesh = field.extract_mesh(
        how.resolution,
        voxel_size=how.voxel_size,
        refine=how.refine,
        adaptive=how.adaptive,
        trim=how.trim,
        watertight=how.watertight,
    )
    painted = how.colors and cloud.colors is not None and len(mesh.vertices) > 0
    return Drawn(mesh, vertex_colors(mesh, cloud) if painted else None)


def _spline_options(cloud: PointCloud, conf: PointsConf) -> SplineOptions:
    """The solver's own; cells of the finest size are those of its grid."""
    given = conf.splines.model_dump(exclude_none=True) | {"seed": conf.seed}
    for name, theirs in (("solver_tol", "cg_tolerance"), ("max_iter", "cg_iterations")):
        if getattr(conf, name) is not None:
            given[theirs] = getattr(conf, name)
    for name in ("detail_level", "value_weight", "normal_weight", "smoothness"):
        if getattr(conf, name) is not None:
            raise ValueError(f"{name}: is of solver=hierarchy; splines has splines.*")
    if conf.depth is not None:
        given["grid_size"] = 2**conf.depth
    if conf.voxel_size is not None and len(cloud):
        longest = float((cloud.xyz.amax(0) - cloud.xyz.amin(0)).max())
        cells = round(conf.splines.scale * longest / conf.voxel_size)
        if not 2 <= cells <= _MOST_CELLS:
            raise ValueError(
                f"voxel_size={conf.voxel_size:g}: makes {cells} cells along the longest side, "
                f"need 2 to {_MOST_CELLS}"
            )
        given["grid_size"] = cells
    return SplineOptions(**given)
