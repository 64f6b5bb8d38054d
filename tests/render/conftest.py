"""Small surfaces and materials for the tests of drawing."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from isolux import backends
from isolux.backends import Backend
from isolux.backends.normals import vertex_normals
from isolux.backends.rasterize import edge_adjacency
from isolux.geometry.cameras import Cameras, look_at
from isolux.geometry.fixed_mesh import chart_tangents
from isolux.geometry.mesh import Mesh
from isolux.render.gbuffer import GBuffer, Surface
from isolux.render.material import MaterialSample


@pytest.fixture(params=["cpu", "reference"], scope="session")
def backend(request: pytest.FixtureRequest) -> Backend:
    return backends.select(request.param)


@dataclass(frozen=True)
class Uniform:
    """The same material everywhere."""

    albedo: tuple[float, float, float] = (1.0, 1.0, 1.0)
    orm: tuple[float, float, float] = (0.0, 1.0, 0.0)

    def at(self, gbuffer: GBuffer) -> MaterialSample:
        count = len(gbuffer.pixels)
        return MaterialSample(
            torch.tensor(self.albedo).expand(count, 3).contiguous(),
            torch.tensor(self.orm).expand(count, 3).contiguous(),
        )


@pytest.fixture
def uniform() -> type[Uniform]:
    return Uniform


def sphere_mesh(rings: int = 16) -> Mesh:
    """A closed unit sphere of latitudes and longitudes, counter-clockwise from outside."""
    theta = torch.arange(1, rings) / rings * torch.pi
    phi = torch.arange(2 * rings) / rings * torch.pi
    t, p = torch.meshgrid(theta, phi, indexing="ij")
    ring = torch.stack([t.sin() * p.sin(), t.cos(), t.sin() * p.cos()], -1).reshape(-1, 3)
    vertices = torch.cat([ring, torch.tensor([[0.0, 1, 0], [0.0, -1, 0]])])
    n, top, bottom, faces = 2 * rings, len(ring), len(ring) + 1, []
    for j in range(n):
        k = (j + 1) % n
        faces += [(top, j, k), (bottom, (rings - 2) * n + k, (rings - 2) * n + j)]
        for i in range(rings - 2):
            a, b, c, d = i * n + j, i * n + k, (i + 1) * n + j, (i + 1) * n + k
            faces += [(a, c, d), (a, d, b)]
    return Mesh(vertices, torch.tensor(faces, dtype=torch.int32))


@pytest.fixture(scope="session")
def sphere() -> Mesh:
    return sphere_mesh()


def quad_mesh(mirrored: bool = False) -> Mesh:
    """A square in the plane z = 0 that faces +z; u grows along +x, or along -x."""
    vertices = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    u, v = 0.5 * (vertices[:, 0] + 1), 0.5 * (1 - vertices[:, 1])
    uvs = torch.stack([1 - u if mirrored else u, v], dim=-1)
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)
    return Mesh(vertices, faces, uvs, faces.clone())


@pytest.fixture
def quad() -> Callable[..., Mesh]:
    return quad_mesh


@pytest.fixture(scope="session")
def surface_of() -> Callable[[Backend, Mesh], Surface]:
    def make(backend: Backend, mesh: Mesh) -> Surface:
        tangents = None
        if mesh.uvs is not None and mesh.uv_faces is not None:
            tangents = chart_tangents(mesh.vertices, mesh.faces, mesh.uvs, mesh.uv_faces)
        return Surface(
            mesh.vertices,
            mesh.faces,
            vertex_normals(backend, mesh.vertices, mesh.faces),
            edge_adjacency(backend, mesh.faces),
            mesh.uvs,
            mesh.uv_faces,
            tangents,
        )

    return make


@pytest.fixture(scope="session")
def cameras_at() -> Callable[..., Cameras]:
    """Cameras at some places that look at the origin; focal length in image heights."""

    def make(places: Tensor, size: int = 32, focal: float = 1.0) -> Cameras:
        pose = look_at(places, torch.zeros(3), torch.tensor([0.0, 1.0, 0.0]))
        lens = torch.full((len(places), 2), focal * size)
        return Cameras(pose, lens, torch.full((len(places), 2), 0.5 * size), size, size)

    return make
