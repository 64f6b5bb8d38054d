"""Views of a known mesh under a known light, drawn when they are asked for.

The cameras are nvdiffrec's (Munkberg et al. 2022, the released data set of a reference mesh):
a fixed distance, a random turn and a small random shift to train on, an orbit to validate.
Letters: v views, h, w pixels.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from isolux.backends import Backend
from isolux.backends.rasterize import edge_adjacency
from isolux.backends.sample import mip_chain, texture2d
from isolux.data.assets.textures import MeshAsset, TextureSet, constant_textures
from isolux.data.views import Batch, Views
from isolux.geometry.cameras import Cameras
from isolux.geometry.fixed_mesh import chart_tangents
from isolux.geometry.mesh import Mesh, face_normals, vertex_normals
from isolux.render.draw import Lens, photograph
from isolux.render.gbuffer import GBuffer, Surface
from isolux.render.light import EnvironmentLight, cube_from_latlong
from isolux.render.material import MaterialSample

__all__ = ["RenderedViews", "orbit_cameras", "random_cameras"]

_KEPT_BYTES = 256 << 20  # of pictures, so that views which come again are drawn once
_LEAST_PIXELS = 4  # that a mesh is high in its pictures
_LIGHT_SIZE = 128  # texels: edge of the cube map's faces


class RenderedViews(Views):
    """Views of a mesh from random cameras; view i is the same whenever it is asked for.

    Args:
        asset: the mesh; without a material it is grey.
        probe: the light, lat-long, linear radiance.
        backend: draws.
        size: height and width in pixels.
        count: how many different views there are.
        distance: from the cameras to the middle, scene units. The middle is the origin when
            the mesh's box holds it, else the middle of that box.
        fov_degrees: vertical field of view.
        jitter: shift along each axis, uniform both ways, scene units.
        seed: of turns and shifts; views of another seed are other views.
        near, far: clip planes, scene units.
        cameras: these ones in place of random ones.
        label: how names begin.

    Raises:
        ValueError: a mesh without faces or extent, or one that random cameras cannot see:
            larger than their distance, smaller than a few pixels, outside the clip planes.
    """

    def __init__(
        self,
        asset: MeshAsset,
        probe: Float[Tensor, "h w 3"],
        backend: Backend,
        size: tuple[int, int],
        count: int = 64,
        distance: float = 3.0,
        fov_degrees: float = 45.0,
        jitter: float = 0.25,
        seed: int = 0,
        near: float = 0.1,
        far: float = 1000.0,
        cameras: Cameras | None = None,
        label: str = "view",
    ) -> None:
        if not len(asset.mesh.faces):
            raise ValueError(f"{asset.name}: the reference mesh has no faces, nothing to draw")
        if cameras is None:
            pose = random_cameras(count, distance, jitter, seed)
            _check_in_view(asset, size, distance, fov_degrees, near, far)
            cameras = _cameras(pose, _middle(asset.mesh), size, fov_degrees)
        self._cameras, self._backend, self._lens = cameras, backend, Lens(near, far)
        self._names = tuple(f"{label}_{i:05d}" for i in range(len(cameras)))
        material = (asset.material or constant_textures()).to(backend.device)
        self._surface = _surface(backend, asset.mesh.to(backend.device), material)
        self._material = _Textures(backend, material, asset.mesh.uvs is not None)
        size_ = min(_LIGHT_SIZE, max(16, 1 << (probe.shape[0] // 2).bit_length() >> 1))
        cube = cube_from_latlong(probe, size_).to(backend.device)
        light = EnvironmentLight(cube, learn=False)
        with torch.no_grad():
            self._light = light.maps(backend)
        self._kept: dict[int, Float[Tensor, "h w 4"]] = {}

    @classmethod
    def orbit(
        cls,
        asset: MeshAsset,
        probe: Float[Tensor, "h w 3"],
        backend: Backend,
        size: tuple[int, int],
        count: int = 50,
        distance: float = 3.0,
        fov_degrees: float = 45.0,
        near: float = 0.1,
        far: float = 1000.0,
    ) -> "RenderedViews":
        """Views to hold out: once around, from slightly above. Arguments as of the class."""
        _check_in_view(asset, size, distance, fov_degrees, near, far)
        pose = orbit_cameras(count, distance)
        cameras = _cameras(pose, _middle(asset.mesh), size, fov_degrees)
        return cls(
            asset, probe, backend, size, near=near, far=far, cameras=cameras, label="orbit"
        )

    @property
    def cameras(self) -> Cameras:
        """All cameras."""
        return self._cameras

    @property
    def names(self) -> tuple[str, ...]:
        """All names."""
        return self._names

    @torch.no_grad()
    def batch(self, indices: Sequence[int]) -> Batch:
        """The views at `indices`; those not drawn before are drawn now."""
        height, width = self.size
        drawn: dict[int, Tensor] = {}
        missing = [i for i in dict.fromkeys(indices) if i not in self._kept]
        for i in missing:  # one by one: a picture's parts take fifty times its own memory
            drawn[i] = self._drawn(i)
            if len(self._kept) < _KEPT_BYTES // (16 * height * width):
                self._kept[i] = drawn[i]
        picked = [drawn[i] if i in drawn else self._kept[i] for i in indices]
        device = self._backend.device
        none = torch.zeros(0, height, width, 4, device=device)
        rgba = torch.stack(picked) if picked else none
        return Batch(
            self._cameras[list(indices)].to(device),
            rgba[..., :3].contiguous(),
            rgba[..., 3:].contiguous(),
            tuple(self._names[i] for i in indices),
        )

    def _drawn(self, index: int) -> Float[Tensor, "h w 4"]:
        """Straight colour and coverage of a view."""
        rgb, alpha = photograph(
            self._backend,
            self._surface,
            self._material,
            self._light,
            self._cameras[[index]].to(self._backend.device),
            self._lens,
        )
        # Drawn over black, so divided by coverage it is straight.
        rgb = torch.where(alpha > 0, rgb / alpha.clamp_min(1e-6), 0.0)
        return torch.cat([rgb.clamp_min(0.0), alpha.clamp(0.0, 1.0)], dim=-1)[0]


def random_cameras(
    count: int, distance: float, jitter: float, seed: int
) -> Float[Tensor, "v 4 4"]:
    """`world_from_camera` of cameras that see the origin `distance` ahead, turned at random.

    The first ones do not depend on how many are asked for.
    """
    generator = np.random.default_rng([seed, 0x150])
    rows, shift = np.empty((count, 3, 3)), np.empty((count, 3))
    for i in range(count):  # in turn, so that the numbers of view i do not depend on `count`
        rows[i] = generator.standard_normal((3, 3))
        shift[i] = generator.uniform(-jitter, jitter, 3)
    rows[:, 1] = np.cross(rows[:, 0], rows[:, 2])
    rows[:, 2] = np.cross(rows[:, 0], rows[:, 1])
    turn = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return _from_opengl(turn, shift - np.array([0.0, 0.0, distance]))


def orbit_cameras(count: int, distance: float, tilt: float = 0.4) -> Float[Tensor, "v 4 4"]:
    """`world_from_camera` around the y axis, `tilt` radians above the horizon."""
    angle = 2.0 * math.pi * np.arange(count) / max(count, 1)
    c, s, zero, one = np.cos(angle), np.sin(angle), np.zeros(count), np.ones(count)
    around = np.stack([c, zero, s, zero, one, zero, -s, zero, c], axis=-1).reshape(-1, 3, 3)
    ct, st = math.cos(tilt), math.sin(tilt)
    down = np.array([[1.0, 0.0, 0.0], [0.0, ct, -st], [0.0, st, ct]])
    return _from_opengl(down @ around, np.tile([0.0, 0.0, -distance], (count, 1)))


def _from_opengl(
    turn: Float[np.ndarray, "v 3 3"], shift: Float[np.ndarray, "v 3"]
) -> Float[Tensor, "v 4 4"]:
    """From `x_camera = turn x + shift` with OpenGL's axes (y up, looking to -z) to ours."""
    pose = np.tile(np.eye(4), (len(turn), 1, 1))
    back = turn.transpose(0, 2, 1)
    pose[:, :3, :3] = back * np.array([1.0, -1.0, -1.0])
    pose[:, :3, 3] = -(back @ shift[..., None])[..., 0]
    return torch.from_numpy(pose.astype(np.float32))


def _middle(mesh: Mesh) -> Float[Tensor, " 3"]:
    used = mesh.vertices[mesh.faces.reshape(-1).long()]
    low, high = used.amin(dim=0), used.amax(dim=0)
    holds_origin = bool(((low <= 0) & (high >= 0)).all())
    return torch.zeros(3) if holds_origin else (0.5 * (low + high)).float()


def _check_in_view(
    asset: MeshAsset,
    size: tuple[int, int],
    distance: float,
    fov_degrees: float,
    near: float,
    far: float,
) -> None:
    """Says what to set when pictures would show nothing of the mesh, or only its inside."""
    used = asset.mesh.vertices[asset.mesh.faces.reshape(-1).long()].double()
    radius = float((used - _middle(asset.mesh)).norm(dim=-1).max())
    if not face_normals(asset.mesh.vertices.double(), asset.mesh.faces).any():
        raise ValueError(f"{asset.name}: the reference mesh has no area, nothing to draw")
    slope = math.tan(math.radians(0.5 * fov_degrees))
    pixels = radius / (distance * slope) * size[0]
    tells = f"{asset.name}: the reference mesh reaches {radius:.4g} from its middle"
    if radius >= distance or pixels < _LEAST_PIXELS:
        fitting = 1.2 * radius / math.sin(math.atan(min(slope, size[1] / size[0] * slope)))
        raise ValueError(
            f"{tells}, the cameras stand {distance:.4g} away; this fits:"
            f" data.camera_distance={fitting:.4g} data.camera_jitter={0.05 * fitting:.4g}"
            f" data.near={0.01 * fitting:.4g} data.far={100 * fitting:.4g}"
        )
    if near >= distance + radius or far <= distance - radius:
        raise ValueError(
            f"{tells} and {distance:.4g} from the cameras, outside the clip planes; this fits:"
            f" data.near={0.01 * distance:.4g} data.far={100 * distance:.4g}"
        )


def _cameras(
    pose: Float[Tensor, "v 4 4"],
    middle: Float[Tensor, " 3"],
    size: tuple[int, int],
    fov_degrees: float,
) -> Cameras:
    height, width = size
    pose[:, :3, 3] += middle
    focal = 0.5 * height / math.tan(math.radians(0.5 * fov_degrees))
    centre = torch.tensor([0.5 * width, 0.5 * height])
    return Cameras(
        pose, torch.full((len(pose), 2), focal), centre.repeat(len(pose), 1), height, width
    )


def _surface(backend: Backend, mesh: Mesh, material: TextureSet) -> Surface:
    """The mesh with the normals of its file, or else smooth ones."""
    vertices, faces = mesh.vertices.float(), mesh.faces
    opposite = edge_adjacency(backend, faces)
    tangents = None
    if mesh.uvs is not None and mesh.uv_faces is not None and material.normal is not None:
        tangents = chart_tangents(vertices, faces, mesh.uvs, mesh.uv_faces)
    vertices, faces, normals = _split_at_hard_edges(mesh)
    # Adjacency numbers corners of faces, which splitting keeps: a hard edge is no silhouette.
    return Surface(vertices, faces, normals, opposite, mesh.uvs, mesh.uv_faces, tangents)


def _split_at_hard_edges(
    mesh: Mesh,
) -> tuple[Float[Tensor, "n 3"], Int[Tensor, "f 3"], Float[Tensor, "n 3"]]:
    """Vertices, faces and a normal for each vertex: a copy for each normal given at a vertex.

    A normal that is given as zero is taken from the faces, as all are when none are given.
    """
    vertices, faces = mesh.vertices.float(), mesh.faces
    smooth = vertex_normals(vertices, faces)
    if mesh.normals is None or mesh.normal_faces is None:
        return vertices, faces, smooth
    pairs = torch.stack([faces, mesh.normal_faces], dim=-1).reshape(-1, 2).long()
    pairs, corners = torch.unique(pairs, dim=0, return_inverse=True)
    given = mesh.normals.float().index_select(0, pairs[:, 1])
    length = given.norm(dim=-1, keepdim=True)
    own = smooth.index_select(0, pairs[:, 0])
    normals = torch.where(length > 1e-6, given / length.clamp_min(1e-6), own)
    split = corners.reshape(-1, 3).to(faces.dtype)
    return vertices.index_select(0, pairs[:, 0]), split, normals


class _Textures:
    """A texture set that is looked up and never trained."""

    def __init__(self, backend: Backend, textures: TextureSet, has_uvs: bool) -> None:
        self._backend, self._has_uvs = backend, has_uvs
        self._albedo = mip_chain(textures.albedo)
        self._orm = mip_chain(textures.orm)
        self._normal = None if textures.normal is None else mip_chain(textures.normal)

    def at(self, gbuffer: GBuffer) -> MaterialSample:
        """The material at the pixels of a G-buffer; without texture coordinates its mean."""
        if not self._has_uvs or gbuffer.texcoord is None:
            count = len(gbuffer.pixels)
            albedo, orm = (
                m[-1].reshape(1, 3).expand(count, 3) for m in (self._albedo, self._orm)
            )
            return MaterialSample(albedo.contiguous(), orm.contiguous())
        uv, uv_da = gbuffer.texcoord, gbuffer.texcoord_da
        albedo, orm = (
            texture2d(self._backend, levels, uv, uv_da, "wrap")
            for levels in (self._albedo, self._orm)
        )
        if self._normal is None:
            return MaterialSample(albedo, orm)
        return MaterialSample(
            albedo, orm, texture2d(self._backend, self._normal, uv, uv_da, "wrap")
        )
