"""What a run optimises: a surface, its material and the light, as one module."""

import torch
from torch import nn

from isolux.backends import Backend
from isolux.backends.normals import vertex_normals
from isolux.backends.rasterize import edge_adjacency
from isolux.geometry.fixed_mesh import FixedMesh, chart_tangents
from isolux.geometry.sdf_grid import SdfGrid
from isolux.geometry.sdf_network import SdfNetwork
from isolux.render.gbuffer import Surface
from isolux.render.light import EnvironmentLight
from isolux.render.material import MaterialField, TextureMaterial

__all__ = ["MeshScene", "TopologyScene"]


class TopologyScene(nn.Module):
    """A signed distance, a volumetric material and a light."""

    def __init__(
        self, geometry: SdfGrid | SdfNetwork, material: MaterialField, light: EnvironmentLight
    ) -> None:
        super().__init__()
        self.geometry = geometry
        self.material = material
        self.light = light


class MeshScene(nn.Module):
    """A mesh with charts, its textures and a light."""

    def __init__(
        self,
        backend: Backend,
        geometry: FixedMesh,
        material: TextureMaterial,
        light: EnvironmentLight,
    ) -> None:
        super().__init__()
        self.geometry = geometry
        self.material = material
        self.light = light
        self._backend = backend
        self.opposite = edge_adjacency(backend, geometry.faces)

    def surface(self) -> Surface:
        """The mesh ready for drawing; gradients go to its vertices."""
        geometry = self.geometry
        with torch.no_grad():
            tangents = chart_tangents(
                geometry.vertices, geometry.faces, geometry.uvs, geometry.uv_faces
            )
        return Surface(
            geometry.vertices,
            geometry.faces,
            vertex_normals(self._backend, geometry.vertices, geometry.faces),
            self.opposite,
            geometry.uvs,
            geometry.uv_faces,
            tangents,
        )
