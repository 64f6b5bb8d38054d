"""Entering and leaving the stages: first surface, refinement, charts and textures."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from isolux.backends import Backend
from isolux.backends.encode import HashGridSpec
from isolux.geometry.atlas import unwrap
from isolux.geometry.fixed_mesh import FixedMesh
from isolux.geometry.mesh import Mesh
from isolux.geometry.sdf_grid import SdfGrid
from isolux.geometry.sdf_network import SdfNetwork
from isolux.optimize.randomness import generator_for
from isolux.optimize.scene import MeshScene, TopologyScene
from isolux.render.bake import bake
from isolux.render.light import EnvironmentLight
from isolux.render.material import Limits, MaterialField, TextureMaterial

__all__ = [
    "Rates",
    "Recipe",
    "mesh_scene",
    "optimizer_for",
    "restored_mesh_scene",
    "restored_topology_scene",
    "topology_scene",
]


@dataclass(frozen=True)
class Rates:
    """Adam's learning rates in one stage."""

    geometry: float
    material: float
    light: float


@dataclass(frozen=True)
class Recipe:
    """How scenes are made, in plain values."""

    backend: Backend
    seed: int
    limits: Limits
    spec: HashGridSpec
    width: int
    hidden: int
    texture_size: int
    normal_map: bool
    most_triangles: int  # that charts are made for
    lock_positions: bool
    lock_light: bool
    light: Callable[[], EnvironmentLight]  # the light that a run starts with
    field: Callable[[int], SdfGrid | SdfNetwork]  # the starting surface at a lattice resolution
    sphere: Callable[[int], SdfGrid | SdfNetwork]  # the one to fall back on
    bounds: Float[Tensor, "2 3"]  # of the material field


def topology_scene(recipe: Recipe, resolution: int) -> TopologyScene:
    """The scene that a run starts with."""
    material = MaterialField(
        recipe.spec,
        recipe.width,
        recipe.hidden,
        recipe.limits,
        recipe.bounds,
        recipe.backend,
        generator_for(recipe.seed, 1),
    ).to(recipe.backend.device)
    return TopologyScene(recipe.field(resolution), material, recipe.light())


def restored_topology_scene(
    recipe: Recipe, resolution: int, state: Mapping[str, Tensor]
) -> TopologyScene:
    """The scene of the topology stage that saved tensors hold."""
    scene = topology_scene(recipe, resolution)
    scene.load_state_dict(dict(state))
    return scene


def mesh_scene(
    recipe: Recipe,
    mesh: Mesh,
    material: MaterialField | TextureMaterial | None,
    light: EnvironmentLight,
) -> MeshScene:
    """Charts for a mesh, textures from the field (grey without one), and the light so far."""
    if mesh.uvs is None or mesh.uv_faces is None:
        mesh = unwrap(mesh, recipe.texture_size)
    mesh = mesh.to(recipe.backend.device)
    assert mesh.uvs is not None
    assert mesh.uv_faces is not None
    size = recipe.texture_size
    if isinstance(material, TextureMaterial):
        textures = material
    else:
        low, high = recipe.limits.tensors()
        channels = (0.5 * (low + high)).to(mesh.uvs.device).expand(size, size, 6)
        if material is not None:
            channels, _ = bake(
                recipe.backend,
                material,
                mesh.vertices,
                mesh.faces,
                mesh.uvs,
                mesh.uv_faces,
                size,
            )
        flat = channels.new_tensor([0.0, 0.0, 1.0]).expand(size, size, 3)
        texels = torch.cat([channels, flat], dim=-1)
        textures = TextureMaterial(texels, recipe.limits, recipe.normal_map, recipe.backend)
        textures = textures.to(recipe.backend.device)
    if recipe.lock_light:
        light = EnvironmentLight(light.base.detach(), False, light.solid_angles)
    geometry = FixedMesh(mesh, recipe.lock_positions)
    return MeshScene(recipe.backend, geometry, textures, light)


def restored_mesh_scene(
    backend: Backend,
    state: Mapping[str, Tensor],
    limits: Limits,
    normal_map: bool,
    lock_positions: bool = True,
    learn_light: bool = False,
    solid_angles: Literal["exact", "nvdiffrec"] = "exact",
) -> MeshScene:
    """The scene of the mesh stage that saved tensors hold; they tell all the sizes."""
    part = {
        name.removeprefix("geometry."): value
        for name, value in state.items()
        if name.startswith("geometry.")
    }
    device = backend.device
    light = EnvironmentLight(state["light.base"], learn_light, solid_angles).to(device)
    textures = TextureMaterial(state["material.texels"], limits, normal_map, backend)
    geometry = FixedMesh.from_state(part, lock_positions).to(device)
    scene = MeshScene(backend, geometry, textures.to(device), light)
    scene.load_state_dict(dict(state))
    return scene


def optimizer_for(scene: TopologyScene | MeshScene, rates: Rates) -> torch.optim.Adam:
    """One group each for geometry, material and light, of whatever in them is trained."""
    groups = []
    for name, module, rate in (
        ("geometry", scene.geometry, rates.geometry),
        ("material", scene.material, rates.material),
        ("light", scene.light, rates.light),
    ):
        parameters = [p for p in module.parameters() if p.requires_grad]
        if parameters:
            groups.append({"name": name, "params": parameters, "lr": rate, "initial_lr": rate})
    return torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-12, fused=True)
