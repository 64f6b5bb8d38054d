"""Steps of sizes that do not depend on what is seen, and their recording as a CUDA graph."""

import dataclasses
import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from emulated import emulated
from stand_in_device import DEVICE, copies, there, waits
from stand_in_graph import graphs
from torch import Tensor

from isolux import backends
from isolux.backends import Backend
from isolux.backends.available import cuda_problem
from isolux.backends.cuda.launch import use_host
from isolux.data.views import Batch
from isolux.geometry.cameras import Cameras, look_at
from isolux.geometry.fixed_mesh import FixedMesh
from isolux.geometry.mesh import Mesh
from isolux.optimize import fit
from isolux.optimize.checkpoint import latest
from isolux.optimize.graph import check_graph
from isolux.optimize.objective import ImageTerms, mesh_terms
from isolux.optimize.randomness import Buffered
from isolux.optimize.scene import MeshScene
from isolux.render.draw import Lens
from isolux.render.gbuffer import draw_surface
from isolux.render.light import EnvironmentLight
from isolux.render.material import Limits, TextureMaterial

F64 = torch.float64
NAMES = frozenset({"image", "mask", "laplacian", "normal_consistency", "albedo_smooth",
                   "orm_smooth", "normal_smooth", "occlusion", "light_white"})  # fmt: skip


def noise(*shape: int) -> Tensor:
    return torch.rand(
        shape, dtype=F64, generator=torch.Generator().manual_seed(math.prod(shape))
    )


def scene(backend: Backend, normal_map: bool) -> MeshScene:
    """A sheet with waves, in [-1, 1]^2 about z = 0, with everything trained."""
    edge = 9
    at = torch.linspace(-1.0, 1.0, edge, dtype=F64)
    y, x = (grid.reshape(-1) for grid in torch.meshgrid(at, at, indexing="ij"))
    vertices = torch.stack([x, y, 0.2 * torch.sin(3 * x + 2 * y)], dim=-1)
    corner = torch.arange(edge * edge).reshape(edge, edge)
    a, b, c, d = corner[:-1, :-1], corner[:-1, 1:], corner[1:, :-1], corner[1:, 1:]
    faces = torch.cat([torch.stack(t, -1).reshape(-1, 3) for t in ((a, b, d), (a, d, c))])
    uvs = 0.05 + 0.45 * torch.stack([x + 1, 1 - y], dim=-1)
    mesh = Mesh(vertices, faces, uvs, faces)
    texels = torch.cat([noise(16, 16, 6), noise(16, 16, 3) - 0.3], dim=-1)
    texture = TextureMaterial(texels, Limits(), normal_map, backend).double()
    light = EnvironmentLight(noise(6, 16, 16, 3))
    made = MeshScene(backend, FixedMesh(mesh), texture, light)
    with torch.no_grad():
        made.geometry.vertices += 0.02 * noise(*made.geometry.vertices.shape)
    return made


def batch(distance: float, size: int = 13) -> Batch:
    """Two views from so far in front of the sheet; a negative distance looks away from it."""
    places = torch.tensor([[0.2, 0.1, 1.0], [-0.3, 0.2, 1.0]], dtype=F64) * abs(distance)
    target = torch.zeros(3, dtype=F64) if distance > 0 else 2 * places[0]
    pose = look_at(places, target, torch.tensor([0.0, 1, 0], dtype=F64))
    focal = torch.full((2, 2), 1.0 * size, dtype=F64)
    cameras = Cameras(pose, focal, torch.full_like(focal, size / 2), size, size)
    return Batch(cameras, noise(2, size, size, 3), noise(2, size, size, 1), ("a", "b"))


class Table(Buffered):
    """Numbers of float64 whose first rows are the same, however many are asked for."""

    def next(
        self, draw: Callable[..., Tensor], shape: Sequence[int], device: torch.device
    ) -> Tensor:
        whole = draw(1000, *shape[1:], dtype=F64, generator=torch.Generator().manual_seed(3))
        return whole[: shape[0]]


def results(
    backend: Backend, made: MeshScene, views: Batch, all_pixels: bool
) -> dict[str, list[Tensor]]:
    """Each term and its gradients."""
    compare = ImageTerms("logl1", "mse", NAMES)
    numbers = Table(torch.Generator())
    terms = mesh_terms(
        backend, made, views, compare, Lens(), numbers, True, all_pixels=all_pixels
    )
    assert terms.keys() == NAMES
    parameters = list(made.parameters())
    found = {}
    for name, term in terms.items():
        gradients: Sequence[Tensor | None] = [None] * len(parameters)
        if term.requires_grad:
            gradients = torch.autograd.grad(
                term, parameters, retain_graph=True, allow_unused=True
            )
        pairs = zip(gradients, parameters, strict=True)
        found[name] = [
            term.detach(),
            *(torch.zeros_like(p) if g is None else g for g, p in pairs),
        ]
    return found


@pytest.mark.parametrize("normal_map", [True, False])
@pytest.mark.parametrize(
    ("distance", "seen"), [(3.0, "a part"), (0.8, "everything"), (-3.0, "nothing")]
)
@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_rows_for_all_pixels_change_no_term_and_no_gradient(
    name: str, distance: float, seen: str, normal_map: bool
) -> None:
    backend = getattr(backends, name)()
    made, views = scene(backend, normal_map), batch(distance)
    rows = draw_surface(backend, made.surface(), views.cameras, 0.1, 100.0, all_pixels=True)
    assert rows.covered is not None
    count, pixels = int(rows.covered.sum()), len(rows.covered)
    assert {0: "nothing", pixels: "everything"}.get(count, "a part") == seen
    covered = results(backend, made, views, False)
    everything = results(backend, made, views, True)
    for term in NAMES:
        for found, expected in zip(everything[term], covered[term], strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)
    if seen != "nothing":
        moved = {t: [bool(g.any()) for g in covered[t]] for t in NAMES}
        assert all(moved["image"])
        assert all(moved[t][2] for t in ("albedo_smooth", "orm_smooth", "occlusion"))
        assert moved["normal_smooth"][2] == normal_map


Train = Callable[..., int]


@pytest.fixture
def mesh(tmp_path: Path) -> str:
    """The setting that makes a run begin with a mesh, in its mesh stage."""
    at = torch.tensor([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * 0.6
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    lines = ["v " + " ".join(map(str, row)) for row in at.tolist()]
    lines += ["f " + " ".join(str(i + 1) for i in quad) for quad in quads]
    path = tmp_path / "cube.obj"
    path.write_text("\n".join(lines))
    return f"geometry.base_mesh={path}"


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The cuda backend, emulated, on a device that is pretended."""
    base = dataclasses.replace(emulated(), device=DEVICE)
    monkeypatch.setattr(backends, "select", lambda *_: base)
    with there():
        yield
    use_host(None)


def told(out: Path) -> list[dict[str, float]]:
    lines = (json.loads(line) for line in (out / "log.jsonl").read_text().splitlines())
    return [
        line["terms"] | {"total": line["total"]} for line in lines if line["kind"] == "step"
    ]


SMALL = ("optimize.steps=0,5", "data.size=24", "data.train_views=3", "observe.log_every=1",
         "material.orm_max=1,1,1", "material.texture_size=32")  # fmt: skip


def assert_same(one: Path, other: Path, rel: float) -> None:
    """Two runs have the same terms at each step, and in the end the same parameters."""
    plain, graphed = told(one), told(other)
    assert len(plain) == len(graphed) == 5
    for before, after in zip(plain, graphed, strict=True):
        assert after == pytest.approx(before, rel=rel, abs=1e-7)
    assert len({step["image"] for step in plain}) == 5
    last = [latest(out / "checkpoints") for out in (one, other)]
    assert last[0] is not None
    assert last[1] is not None
    for name, value in last[0].tensors.items():
        torch.testing.assert_close(last[1].tensors[name], value, rtol=10 * rel, atol=rel)


def test_a_run_is_the_same_with_a_graph(
    tmp_path: Path,
    isolux_train: Train,
    mesh: str,
    device: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Terms, and in the end parameters; a step waits for the guard and for nothing else."""
    each: list[tuple[dict[str, int], dict[str, int]]] = []
    looked_at = fit._looked_at

    def look(*given: object) -> object:
        each.append((dict(waits), dict(copies)))
        return looked_at(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(fit, "_looked_at", look)
    assert isolux_train("demo", tmp_path / "plain", *SMALL, mesh) == 0
    each.clear()
    with graphs() as begun:
        settings = (*SMALL, mesh, "optimize.graph=true")
        assert isolux_train("demo", tmp_path / "graph", *settings) == 0
    assert "CUDA graph" not in caplog.text
    assert [graph.replays for graph in begun] == [5]
    assert begun[0].kernels > 30
    assert_same(tmp_path / "plain", tmp_path / "graph", 1e-5)
    for before, after in pairwise(each[1:]):
        new = [
            {place for place, count in now.items() if count != then.get(place, 0)}
            for then, now in zip(before, after, strict=True)
        ]
        # The log is asked to read every step here.
        observed = {"isolux.optimize.fit", "isolux.optimize.observers"}
        assert {place.partition(":")[0] for place in new[0]} == observed
        inputs = {"isolux.data.rendered", "isolux.data.views", "isolux.geometry.cameras"}
        assert {place.partition(":")[0] for place in new[1]} <= inputs


@pytest.mark.gpu
def test_a_run_is_the_same_with_a_graph_on_a_device(
    tmp_path: Path, isolux_train: Train, mesh: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each sum in any order of threads, hence the wider bound."""
    if problem := cuda_problem():
        pytest.skip(problem)
    settings = (*SMALL, mesh, "backend=cuda")
    assert isolux_train("demo", tmp_path / "plain", *settings) == 0
    assert isolux_train("demo", tmp_path / "graph", *settings, "optimize.graph=true") == 0
    assert "CUDA graph" not in caplog.text
    assert_same(tmp_path / "plain", tmp_path / "graph", 1e-3)


@pytest.mark.parametrize("kind", ["a wait", "a copy", "random numbers"])
def test_a_recording_that_fails_is_told_once_and_the_run_goes_on(
    kind: str,
    tmp_path: Path,
    isolux_train: Train,
    mesh: str,
    device: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    surface = MeshScene.surface

    def spoilt(scene: MeshScene) -> object:
        vertices = scene.geometry.vertices
        if kind == "a wait":
            vertices.sum().item()
        elif kind == "a copy":
            vertices.new_tensor([1.0])
        else:
            torch.rand(3, device=vertices.device)
        return surface(scene)

    monkeypatch.setattr(MeshScene, "surface", spoilt)
    settings = (*SMALL, "optimize.graph=true")
    # Once after a topology stage, which is not recorded.
    settings += ("optimize.steps=1,2",) if kind == "a wait" else ("optimize.steps=0,3", mesh)
    with graphs() as begun, caplog.at_level(logging.WARNING):
        assert isolux_train("demo", tmp_path / "run", *settings) == 0
    (said,) = [r.getMessage() for r in caplog.records if "CUDA graph" in r.getMessage()]
    assert kind in said
    assert "\n" not in said
    assert [graph.replays for graph in begun] == [0]
    assert len(told(tmp_path / "run")) == 3


def test_it_is_refused_where_it_cannot_be(
    tmp_path: Path, mistake: Callable[[Sequence[str]], str], mesh: str
) -> None:
    arguments = ["train", "--conf", "demo", *SMALL, mesh, "optimize.graph=true", "backend=cpu"]
    line = mistake([*arguments, f"out={tmp_path / 'run'}"])
    assert "optimize.graph=true" in line
    assert "backend=cpu" in line
    with pytest.raises(ValueError, match="one process"):
        check_graph("cuda", 2)
    check_graph("cuda", 1)
