"""Named terms of a batch."""

import pytest
import torch

from isolux import backends
from isolux.backends.encode import HashGridSpec
from isolux.data.views import Batch
from isolux.geometry.cameras import Cameras, look_at
from isolux.geometry.fields import SphereField
from isolux.geometry.sdf_grid import SdfGrid
from isolux.optimize.objective import ImageTerms, topology_terms
from isolux.optimize.results import surface_of
from isolux.optimize.scene import TopologyScene
from isolux.render.draw import Lens, draw
from isolux.render.light import EnvironmentLight
from isolux.render.material import Limits, MaterialField

BACKEND = backends.select("cpu")
NAMES = frozenset({"sdf", "smooth_sdf", "eikonal", "albedo_smooth", "orm_smooth", "occlusion",
                   "light_white"})  # fmt: skip


def scene(radius: float = 0.6) -> TopologyScene:
    box = torch.tensor([[-1.0] * 3, [1.0] * 3])
    generator = torch.Generator().manual_seed(0)
    grid = SdfGrid.start(
        SphereField(torch.zeros(3), radius).value, 12, torch.zeros(3), 2.0, "tets", True,
        BACKEND, generator,
    )  # fmt: skip
    field = MaterialField(HashGridSpec(4, 2, 8, 4, 16), 8, 1, Limits(), box, BACKEND, generator)
    return TopologyScene(grid, field, EnvironmentLight(EnvironmentLight.constant(16, 0.7)))


def cameras(size: int = 32) -> Cameras:
    pose = look_at(
        torch.tensor([[0.0, 0, 3], [3.0, 0, 0.5]]), torch.zeros(3), torch.tensor([0.0, 1, 0])
    )
    focal, centre = torch.full((2, 2), 1.2 * size), torch.full((2, 2), size / 2)
    return Cameras(pose, focal, centre, size, size)


def drawn(shape: TopologyScene) -> Batch:
    """The scene's own picture as the reference."""
    views = cameras()
    surface, light = surface_of(BACKEND, shape), shape.light.maps(BACKEND)
    with torch.no_grad():
        picture = draw(BACKEND, surface, shape.material, light, views, Lens())
    alpha = picture.alpha.clamp(0, 1)
    return Batch(views, picture.rgb / alpha.clamp(min=1e-6), alpha, ("a", "b"))


def of(shape: TopologyScene, batch: Batch, compare: ImageTerms) -> dict[str, torch.Tensor]:
    return topology_terms(BACKEND, shape, batch, compare, Lens(), torch.Generator())


@pytest.mark.parametrize("kind", ["logl1", "logl2", "mse", "smape", "relmse"])
@pytest.mark.parametrize("norm", ["mse", "l1"])
def test_a_perfect_picture_costs_nothing(kind: str, norm: str) -> None:
    shape = scene()
    compare = ImageTerms(kind, norm, frozenset())  # type: ignore[arg-type]
    terms = of(shape, drawn(shape), compare)
    assert terms.keys() == {"image", "mask"}
    assert terms["mask"].item() == pytest.approx(0.0, abs=1e-6)
    # Where coverage is partial the background shows, in ours as it is antialiased.
    assert terms["image"].item() < 2e-3


def test_what_is_wanted_is_there() -> None:
    compare = ImageTerms("mse", "mse", NAMES)
    terms = of(scene(), drawn(scene(0.5)), compare)
    assert terms.keys() == {"image", "mask"} | NAMES
    assert all(term.dim() == 0 and bool(term.isfinite()) for term in terms.values())
    # A sphere's distance has slope one but where the lattice bends it.
    assert terms["eikonal"].item() < 0.05
    assert terms["light_white"].item() == 0.0


@pytest.mark.parametrize(("radius", "sign"), [(0.7, -1.0), (0.5, 1.0)])
def test_the_mask_moves_the_surface(radius: float, sign: float) -> None:
    """Too large: distances must grow; too small: they must fall."""
    shape = scene(radius)
    compare = ImageTerms("mse", "mse", frozenset())
    terms = of(shape, drawn(scene(0.6)), compare)
    terms["mask"].backward()
    assert shape.geometry.sdf.grad is not None
    assert float(shape.geometry.sdf.grad.sum()) * sign > 0


def test_the_background_is_the_same_for_both_and_new_each_time() -> None:
    """Nothing drawn, nothing there: any background matches itself."""
    shape, views = scene(), cameras()
    shape.geometry.sdf.data.abs_().add_(0.1)
    blank = torch.zeros(2, 32, 32, 1)
    batch = Batch(views, blank.repeat(1, 1, 1, 3), blank, ("a", "b"))
    compare = ImageTerms("mse", "mse", NAMES)
    terms = of(shape, batch, compare)
    assert terms["image"].item() == 0.0
    assert terms["mask"].item() == 0.0
    total = sum(terms.values(), torch.zeros(()))
    total.backward()  # type: ignore[no-untyped-call]
    grads = [p.grad for p in shape.parameters() if p.grad is not None]
    assert all(bool(g.isfinite().all()) for g in grads)
