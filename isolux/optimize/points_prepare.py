"""What is done to points before a surface is fitted: sensors, cleaning, normals."""

import torch

from isolux.confs.points import CleanConf, NormalsConf, PointsConf
from isolux.geometry.points.clean import cleaned
from isolux.geometry.points.cloud import PointCloud
from isolux.geometry.points.normals import estimate_normals

__all__ = ["as_told", "prepared", "prepared_tile"]


def prepared(cloud: PointCloud, conf: PointsConf) -> PointCloud:
    """The points that are used, with normals.

    Raises:
        ValueError: nothing is left, or normals that the settings ask for cannot be had.
    """
    cloud = _clean(as_told(cloud, conf.normals), conf.clean)
    return cloud if cloud.normals is not None else _with_normals(cloud, conf.normals)


def prepared_tile(cloud: PointCloud, clean: CleanConf, normals: NormalsConf) -> PointCloud:
    """The same of a tile and what lies about it, of a cloud that is `as_told`.

    It may have no points. Without a sensor normals are of any side: a tile does not know its
    outside, `fit_tiles` does. It also estimates normals of which nothing is said.
    """
    cloud = _clean(cloud, clean)
    if cloud.normals is not None or (normals.neighbours, normals.drop_degrees) == (None, None):
        return cloud
    if len(cloud) < 3:  # no plane goes through them
        none = cloud[:0]
        return PointCloud(none.xyz, torch.zeros(0, 3), none.sensor, none.colors)
    return _with_normals(cloud, normals)


def as_told(cloud: PointCloud, normals: NormalsConf) -> PointCloud:
    """The cloud with the sensor of the settings, and without normals that are not wanted.

    Raises:
        ValueError: normals that the settings ask for cannot be had.
    """
    if normals.sensor is not None:
        place = torch.tensor(normals.sensor, dtype=torch.float64).repeat(len(cloud), 1)
        cloud = PointCloud(cloud.xyz, cloud.normals, place, cloud.colors)
    if normals.source == "estimated":
        cloud = PointCloud(cloud.xyz, None, cloud.sensor, cloud.colors)
    if cloud.normals is None:
        if normals.source == "given":
            raise ValueError(
                "normals.source=given: the cloud has none; take normals.source=auto"
            )
        if normals.drop_degrees is not None and cloud.sensor is None:
            raise ValueError("normals.drop_degrees: needs a sensor; give normals.sensor=x,y,z")
    return cloud


def _clean(cloud: PointCloud, clean: CleanConf) -> PointCloud:
    return cleaned(cloud, outliers=clean.outliers or None, voxel=clean.downsample)


def _with_normals(cloud: PointCloud, normals: NormalsConf) -> PointCloud:
    if normals.drop_degrees is None:
        return estimate_normals(cloud, normals.neighbours)[0]
    return estimate_normals(
        cloud, normals.neighbours, drop_grazing=True, drop_degrees=normals.drop_degrees
    )[0]
