"""A GLB file under a probe, drawn by Mitsuba 3: an independent reader and renderer.

The material is that of glTF, put together from Mitsuba's own parts: half a Lambert lobe of
`albedo (1 - metal)` and half a GGX lobe with Schlick's Fresnel term of normal reflectance
`0.04 (1 - metal) + albedo metal` (`principled` as pure metal is that), the sum doubled
afterwards. The file is read by trimesh, so nothing of isolux stands in the path.

Letters: v views, h, w pixels, n vertices, f triangles.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from torch import Tensor

from isolux.geometry.cameras import Cameras

__all__ = ["GlbMesh", "read_glb", "render"]


@dataclass(frozen=True)
class GlbMesh:
    """What a GLB file holds, as arrays; textures linear, row 0 at v = 0."""

    positions: np.ndarray  # [n, 3]
    normals: np.ndarray  # [n, 3]
    uvs: np.ndarray  # [n, 2], v runs down
    faces: np.ndarray  # [f, 3]
    albedo: np.ndarray  # [h, w, 3]
    orm: np.ndarray  # [h, w, 3], glTF's: visibility, roughness, metalness
    normal: np.ndarray | None  # [h, w, 3], in [0, 1]


def read_glb(path: Path) -> GlbMesh:
    """Read a file with one mesh and one material, by trimesh.

    Raises:
        ValueError: when there is not exactly one mesh in it.
    """
    scene = trimesh.load_scene(path, process=False)
    if len(scene.geometry) != 1:
        raise ValueError(f"{path}: one mesh is expected, got {len(scene.geometry)}")
    mesh = next(iter(scene.geometry.values()))
    material = mesh.visual.material
    uvs = np.array(mesh.visual.uv, dtype=np.float32)
    uvs[:, 1] = 1.0 - uvs[:, 1]  # trimesh turns v upwards
    srgb = _pixels(material.baseColorTexture, 1.0)
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    orm = _pixels(material.metallicRoughnessTexture, 1.0)
    orm = orm.copy()
    orm[..., 0] = 1.0
    if material.occlusionTexture is not None:
        visible = material.occlusionTexture.resize(orm.shape[1::-1])
        orm[..., 0] = _pixels(visible, 1.0)[..., 0]
    scale = [material.roughnessFactor, material.metallicFactor]
    orm[..., 1:] *= np.array([1.0 if x is None else x for x in scale], np.float32)
    normal = material.normalTexture
    return GlbMesh(
        np.asarray(mesh.vertices, np.float32),
        np.asarray(mesh.vertex_normals, np.float32),
        uvs,
        np.asarray(mesh.faces, np.uint32),
        linear.astype(np.float32),
        orm,
        None if normal is None else _pixels(normal, 0.5),
    )


def _pixels(image: Any, value: float) -> np.ndarray:
    if image is None:
        return np.full((1, 1, 3), value, np.float32)
    return np.asarray(image.convert("RGB"), np.float32) / 255.0


def render(
    mesh: GlbMesh,
    probe: Tensor,
    cameras: Cameras,
    samples: int = 128,
    occlusion: bool = True,
    depth: int = 2,
    shadows: bool = True,
) -> tuple[Tensor, Tensor]:
    """Pictures over black, linear, and their coverage.

    Args:
        mesh: what is drawn.
        probe: lat-long radiance [h, w, 3] as `docs/conventions.md` has it.
        cameras: with their principal points in the middle.
        samples: a pixel, box filter.
        occlusion: multiply all reflected light by the occlusion texture, as isolux does.
        depth: of paths; 2 is direct light with shadows, more adds interreflection.
        shadows: without them, direct light comes through whatever is in its way, the surface
            under a tilted normal with it, as in every split-sum renderer; an integrator in
            Python, so slow.

    Returns:
        [v, h, w, 3] and [v, h, w, 1].
    """
    import mitsuba as mi

    mi.set_variant("scalar_rgb")
    mi.set_log_level(mi.LogLevel.Error)
    samples = max(1, round(samples**0.5)) ** 2  # whole strata
    parts = {f"part{i}": part for i, part in enumerate(_by_handedness(mesh))}
    if shadows:
        integrator = {"type": "path", "max_depth": depth, "hide_emitters": True}
    else:
        integrator = _unshadowed(mi, parts)
        parts = {name: replace(part, normal=None) for name, part in parts.items()}
    shapes = {name: _shape(mi, name, part, occlusion) for name, part in parts.items()}
    scene = mi.load_dict(
        {"type": "scene", "integrator": integrator, "light": _light(mi, probe), **shapes}
    )
    pictures = []
    for view in range(len(cameras)):
        sensor = mi.load_dict(_sensor(mi, cameras, view, samples))
        pictures.append(np.array(mi.render(scene, sensor=sensor, seed=view), np.float32))
    rgba = torch.from_numpy(np.stack(pictures))
    return 2.0 * rgba[..., :3], rgba[..., 3:4]  # doubled: the lobes have weights of a half


def _unshadowed(mi: Any, parts: dict[str, GlbMesh]) -> Any:
    """Direct light of the environment by both strategies, its visibility never asked.

    Veach 1997, chapter 9: multiple importance sampling with the balance heuristic. Normal maps
    are applied here, since Mitsuba's own lets no light through from below the surface that a
    normal was tilted on.
    """
    maps = {
        name: mi.load_dict(_texture(mi, part.normal))
        for name, part in parts.items()
        if part.normal is not None
    }

    import drjit as dr

    class Unshadowed(mi.SamplingIntegrator):  # type: ignore[misc, name-defined]
        def sample(
            self, scene: Any, sampler: Any, ray: Any, medium: Any = None, active: bool = True
        ) -> tuple[Any, bool, list[float]]:
            del medium
            hit = scene.ray_intersect(ray, active)
            if not hit.is_valid():
                return mi.Color3f(0.0), False, []
            if (texture := maps.get(hit.shape.id())) is not None:
                tilted = mi.Vector3f(2.0 * texture.eval_3(hit) - 1.0)
                hit.sh_frame = mi.Frame3f(dr.normalize(hit.sh_frame.to_world(tilted)))
                hit.wi = hit.to_local(-ray.d)
            bsdf, context = hit.bsdf(ray), mi.BSDFContext()
            to_light, radiance = scene.sample_emitter_direction(
                hit, sampler.next_2d(), False, active
            )
            wo = hit.to_local(to_light.d)
            value, pdf = bsdf.eval_pdf(context, hit, wo, active)
            total = mi.Color3f(0.0)
            if to_light.pdf > 0.0:
                total += value * radiance * (to_light.pdf / (to_light.pdf + pdf))
            lobe, weight = bsdf.sample(context, hit, sampler.next_1d(), sampler.next_2d())
            if lobe.pdf > 0.0:
                sky = scene.environment()
                beyond = mi.SurfaceInteraction3f()
                beyond.wi = -hit.to_world(lobe.wo)
                towards = mi.DirectionSample3f()
                towards.d = hit.to_world(lobe.wo)
                other = sky.pdf_direction(hit, towards)
                total += weight * sky.eval(beyond) * (lobe.pdf / (lobe.pdf + other))
            return total, True, []

    return Unshadowed(mi.Properties())


def _light(mi: Any, probe: Tensor) -> dict[str, Any]:
    # Mitsuba's maps begin at -z where ours have their middle.
    turn = mi.ScalarTransform4f().rotate([0, 1, 0], 180)
    bitmap = mi.Bitmap(np.ascontiguousarray(probe.numpy(), np.float32))
    return {"type": "envmap", "bitmap": bitmap, "to_world": turn}


def _sensor(mi: Any, cameras: Cameras, view: int, samples: int) -> dict[str, Any]:
    height, width = cameras.height, cameras.width
    middle = torch.tensor([0.5 * width, 0.5 * height])
    if not torch.allclose(cameras.centre_px[view], middle, atol=1e-3):
        raise ValueError("principal points off the middle are not supported here")
    pose = cameras.world_from_camera[view].double().numpy().copy()
    pose[:, :2] *= -1.0  # from x right, y down to x left, y up
    focal = float(cameras.focal_px[view, 1])
    return {
        "type": "perspective",
        "fov": math.degrees(2.0 * math.atan(0.5 * height / focal)),
        "fov_axis": "y",
        "near_clip": 1e-3,
        "far_clip": 1e4,
        "to_world": mi.ScalarTransform4f(pose),
        "film": {
            "type": "hdrfilm",
            "width": width,
            "height": height,
            "pixel_format": "rgba",
            "rfilter": {"type": "box"},
        },
        "sampler": {"type": "multijitter", "sample_count": samples},
    }


def _by_handedness(mesh: GlbMesh) -> list[GlbMesh]:
    """The mesh in two parts where charts are mirrored.

    Mitsuba takes normal x tangent for the second tangent; glTF turns it round in a mirrored
    chart. So the green channel is turned round there.
    """
    corner = mesh.uvs[mesh.faces].astype(np.float64)
    a, b = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    mirrored = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0] > 0.0  # v runs down
    if mesh.normal is None or not mirrored.any():
        return [mesh]
    turned = mesh.normal.copy()
    turned[..., 1] = 1.0 - turned[..., 1]
    parts = [
        replace(mesh, faces=mesh.faces[~mirrored]),
        replace(mesh, faces=mesh.faces[mirrored], normal=turned),
    ]
    return [part for part in parts if len(part.faces)]


def _shape(mi: Any, name: str, mesh: GlbMesh, occlusion: bool) -> Any:
    properties = mi.Properties()
    properties["bsdf"] = mi.load_dict(_material(mi, mesh, occlusion))
    shape = mi.Mesh(
        "glb", len(mesh.positions), len(mesh.faces), properties,
        has_vertex_normals=True, has_vertex_texcoords=True,
    )  # fmt: skip
    parameters = mi.traverse(shape)
    parameters["vertex_positions"] = mesh.positions.ravel()
    parameters["vertex_normals"] = mesh.normals.ravel()
    parameters["vertex_texcoords"] = mesh.uvs.ravel()
    parameters["faces"] = mesh.faces.ravel()
    parameters.update()
    shape.set_id(name)
    return shape


def _material(mi: Any, mesh: GlbMesh, occlusion: bool) -> dict[str, Any]:
    height = max(mesh.albedo.shape[0], mesh.orm.shape[0])
    albedo, orm = _repeated(mesh.albedo, height), _repeated(mesh.orm, height)
    rough, metal = orm[..., 1:2], orm[..., 2:3]
    lobes = {
        "type": "blendbsdf",
        "weight": 0.5,
        "diffuse": {"type": "diffuse", "reflectance": _texture(mi, albedo * (1.0 - metal))},
        "specular": {
            "type": "principled",
            "base_color": _texture(mi, 0.04 * (1.0 - metal) + albedo * metal),
            "roughness": _texture(mi, rough),
            "metallic": 1.0,
        },
    }
    if mesh.normal is not None:
        lobes = {"type": "normalmap", "normalmap": _texture(mi, mesh.normal), "nested": lobes}
    if occlusion:
        black = {"type": "diffuse", "reflectance": {"type": "rgb", "value": 0.0}}
        hidden = _texture(mi, 1.0 - orm[..., :1])
        lobes = {"type": "blendbsdf", "weight": hidden, "lit": lobes, "unlit": black}
    return {"type": "twosided", "nested": lobes}


def _repeated(image: np.ndarray, height: int) -> np.ndarray:
    """The texture at a whole multiple of its size, by repeating texels."""
    times = height // image.shape[0]
    return image.repeat(times, axis=0).repeat(times, axis=1)


def _texture(mi: Any, values: np.ndarray) -> dict[str, Any]:
    bitmap = mi.Bitmap(np.ascontiguousarray(values, np.float32))
    return {"type": "bitmap", "bitmap": bitmap, "raw": True, "filter_type": "bilinear"}
