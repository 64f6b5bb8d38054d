"""Entering the stages, the empty surface among them."""

import pytest
import torch

from isolux import backends
from isolux.backends.encode import HashGridSpec
from isolux.data.views import Batch
from isolux.geometry.cameras import Cameras, look_at
from isolux.geometry.fields import SphereField
from isolux.geometry.mesh import Mesh
from isolux.geometry.sdf_grid import SdfGrid
from isolux.optimize.clock import Clock
from isolux.optimize.fit import fit
from isolux.optimize.objective import ImageTerms, mesh_terms, topology_terms
from isolux.optimize.stages import (
    Rates,
    Recipe,
    mesh_scene,
    optimizer_for,
    restored_mesh_scene,
    restored_topology_scene,
    topology_scene,
)
from isolux.optimize.weights import constant
from isolux.render.draw import Lens
from isolux.render.light import EnvironmentLight
from isolux.render.material import Limits

RATES = Rates(0.03, 0.01, 0.01)


def recipe(radius: float = 0.5, **changes: object) -> Recipe:
    backend = backends.select("cpu")

    def field(resolution: int) -> SdfGrid:
        values = SphereField(torch.zeros(3), abs(radius)).value
        sign = 1.0 if radius > 0 else -1.0
        return SdfGrid.start(
            lambda p: values(p) if sign > 0 else values(p).abs() + 0.1, resolution,
            torch.zeros(3), 2.0, "tets", True, backend, torch.Generator(),
        )  # fmt: skip

    def sphere(resolution: int) -> SdfGrid:
        return SdfGrid.start(
            SphereField(torch.zeros(3), 0.7).value, resolution, torch.zeros(3), 2.0, "tets",
            True, backend, torch.Generator(),
        )  # fmt: skip

    values: dict[str, object] = {
        "backend": backend,
        "seed": 0,
        "limits": Limits(),
        "spec": HashGridSpec(4, 2, 8, 4, 16),
        "width": 8,
        "hidden": 1,
        "texture_size": 32,
        "normal_map": True,
        "most_triangles": 60000,
        "lock_positions": False,
        "lock_light": False,
        "light": lambda: EnvironmentLight(EnvironmentLight.constant(16, 0.5)),
        "field": field,
        "sphere": sphere,
        "bounds": torch.tensor([[-1.0] * 3, [1.0] * 3]),
    }
    return Recipe(**(values | changes))  # type: ignore[arg-type]


def batch(size: int = 24) -> Batch:
    """A disc from two sides."""
    pose = look_at(
        torch.tensor([[0.0, 0, 3], [3.0, 0, 0]]), torch.zeros(3), torch.tensor([0.0, 1, 0])
    )
    cameras = Cameras(
        pose, torch.full((2, 2), 1.2 * size), torch.full((2, 2), size / 2), size, size
    )
    at = torch.arange(size) + 0.5 - size / 2
    disc = ((at[:, None] ** 2 + at[None] ** 2) < (0.2 * size) ** 2).float()
    alpha = disc[None, ..., None].repeat(2, 1, 1, 1)
    return Batch(cameras, alpha * torch.tensor([0.7, 0.3, 0.1]), alpha, ("a", "b"))


TOPOLOGY = {"image", "mask", "sdf", "albedo_smooth", "orm_smooth", "occlusion", "light_white"}
MESH = TOPOLOGY - {"sdf"} | {"laplacian", "normal_consistency", "normal_smooth"}


def train(scene: object, stage: str, steps: int = 3) -> list[dict[str, float]]:
    names = TOPOLOGY if stage == "topology" else MESH
    compare, told = ImageTerms("logl1", "mse", frozenset(names)), list[dict[str, float]]()
    backend, generator = backends.select("cpu"), torch.Generator().manual_seed(0)

    def objective(step: int, progress: float) -> dict[str, torch.Tensor]:
        if stage == "topology":
            return topology_terms(backend, scene, batch(), compare, Lens(), generator)  # type: ignore[arg-type]
        return mesh_terms(backend, scene, batch(), compare, Lens(), generator, True)  # type: ignore[arg-type]

    weights = {name: constant(1.0) for name in names}
    optimizer = optimizer_for(scene, RATES)  # type: ignore[arg-type]
    fit(stage, objective, weights, optimizer, 0.1, Clock(steps),
        observers=[lambda info: told.append(info.terms)])  # fmt: skip
    return told


def test_groups_hold_what_is_trained() -> None:
    scene = topology_scene(recipe(), 8)
    groups = {g["name"]: g for g in optimizer_for(scene, RATES).param_groups}
    assert groups.keys() == {"geometry", "material", "light"}
    assert [groups[n]["initial_lr"] for n in groups] == [0.03, 0.01, 0.01]
    mesh = scene.geometry.extract_mesh()
    kept = mesh_scene(recipe(lock_positions=True, lock_light=True), mesh, None, scene.light)
    assert [g["name"] for g in optimizer_for(kept, RATES).param_groups] == ["material"]


def test_textures_are_baked_from_the_field() -> None:
    """Drawn with textures, the picture is that of the field, but for filtering."""
    scene = topology_scene(recipe(texture_size=128), 12)
    mesh = scene.geometry.extract_mesh()
    after = mesh_scene(recipe(texture_size=128), mesh, scene.material, scene.light)
    points = mesh.vertices[mesh.faces.long()].mean(1)
    uvs = after.geometry.uvs[after.geometry.uv_faces.long()].mean(1)
    field = scene.material(points)
    torch.testing.assert_close(
        after.material.sample(uvs, None)[:, :6], field, rtol=0, atol=0.02
    )
    assert after.material.texels[..., 6:].reshape(-1, 3).unique(dim=0).tolist() == [[0, 0, 1]]


@pytest.mark.parametrize("stage", ["topology", "mesh"])
def test_saved_scenes_come_back(stage: str) -> None:
    scene = topology_scene(recipe(), 8)
    if stage == "mesh":
        mesh = scene.geometry.extract_mesh()
        scene = mesh_scene(recipe(), mesh, scene.material, scene.light)  # type: ignore[assignment]
    train(scene, stage)
    state = {name: value.clone() for name, value in scene.state_dict().items()}
    if stage == "mesh":
        again = restored_mesh_scene(recipe().backend, state, Limits(), True, False, True)
    else:
        again = restored_topology_scene(recipe(), 8, state)  # type: ignore[assignment]
    assert again.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    assert train(again, stage) == train(scene, stage)


def test_an_empty_surface_trains_on() -> None:
    """All of the lattice is outside: terms and gradients stay finite, and nothing dies."""
    scene = topology_scene(recipe(-0.5), 8)
    assert len(scene.geometry.extract_mesh().faces) == 0
    told = train(scene, "topology")
    assert all(torch.tensor(list(terms.values())).isfinite().all() for terms in told)
    assert told[0]["mask"] > 0.05
    after = mesh_scene(recipe(), scene.geometry.extract_mesh(), scene.material, scene.light)
    told = train(after, "mesh")
    assert all(torch.tensor(list(terms.values())).isfinite().all() for terms in told)
    assert all(value.isfinite().all() for value in after.state_dict().values())


def test_a_mesh_without_a_field_is_grey() -> None:
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], dtype=torch.int32)
    scene = mesh_scene(recipe(), Mesh(vertices, faces), None, recipe().light())
    texel = scene.material.texels.reshape(-1, 9).unique(dim=0)
    assert texel.tolist() == [pytest.approx([0.5, 0.5, 0.5, 0.5, 0.54, 0.5, 0, 0, 1])]
