"""The trained surfaces: lattice and network, with the same face."""

import copy
import math
from functools import cache

import pytest
import torch

from isolux import backends
from isolux.backends import Backend
from isolux.geometry.fields import SphereField
from isolux.geometry.regularize import sign_changes
from isolux.geometry.sdf_grid import SdfGrid
from isolux.geometry.sdf_network import SdfNetwork
from isolux.geometry.statistics import statistics_of

CENTRE = torch.tensor([0.5, -0.2, 0.1])
SPHERE = SphereField(CENTRE + 0.1, 0.6)


@cache
def _network(extractor: str, resolution: int) -> SdfNetwork:
    """Fitting takes seconds: once is enough."""
    generator = torch.Generator().manual_seed(0)
    return SdfNetwork.start(
        SPHERE.value, resolution, CENTRE, 2.0, extractor, True, backends.cpu(), generator
    )


def start(
    kind: type[SdfGrid] | type[SdfNetwork], extractor: str, backend: Backend, n: int = 16
) -> SdfGrid | SdfNetwork:
    if kind is SdfNetwork:
        return copy.deepcopy(_network(extractor, n))
    generator = torch.Generator().manual_seed(0)
    return kind.start(SPHERE.value, n, CENTRE, 2.0, extractor, True, backend, generator)


@pytest.mark.parametrize("extractor", ["tets", "flexicubes"])
def test_grid_starts_as_the_field_it_is_given(backend: Backend, extractor: str) -> None:
    grid = start(SdfGrid, extractor, backend)
    surface = grid.surface(backend)
    assert SPHERE.value(surface.vertices.detach()).abs().max() < 0.03
    numbers = statistics_of(grid.extract_mesh())
    assert numbers.watertight
    assert numbers.euler == 2
    assert (len(surface.l_dev) > 0) == (extractor == "flexicubes")
    at = SPHERE.centre + 0.6 * torch.nn.functional.normalize(torch.randn(100, 3), dim=-1)
    assert grid.field().value(at).abs().max() < 0.03


@pytest.mark.parametrize("extractor", ["tets", "flexicubes"])
def test_all_parameters_get_gradients(backend: Backend, extractor: str) -> None:
    grid = start(SdfGrid, extractor, backend)
    generator = torch.Generator().manual_seed(1)
    surface = grid.surface(backend)
    loss = surface.vertices.square().sum() + sign_changes(surface.sdf, grid.edges)
    loss = loss + grid.roughness(surface.sdf) + grid.eikonal(generator) + surface.l_dev.sum()
    loss.backward()
    for name, parameter in grid.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()


def test_values_scale_with_the_cube(backend: Backend) -> None:
    """A scene ten times as large trains the same parameters."""
    generator = torch.Generator()
    small = SdfGrid.start(
        SphereField(torch.zeros(3), 0.5).value, 16, torch.zeros(3), 2.0, "tets", True, backend,
        generator,
    )  # fmt: skip
    large = SdfGrid.start(
        SphereField(torch.zeros(3), 5.0).value, 16, torch.zeros(3), 20.0, "tets", True, backend,
        generator,
    )  # fmt: skip
    torch.testing.assert_close(small.sdf, large.sdf)
    torch.testing.assert_close(
        10 * small.surface(backend).vertices, large.surface(backend).vertices
    )


def test_vertices_move_by_at_most_half_a_cell(backend: Backend) -> None:
    grid = start(SdfGrid, "tets", backend)
    rest = grid.positions().detach()
    with torch.no_grad():
        grid.deform.fill_(math.inf)
    move = (grid.positions().detach() - rest).abs().amax()
    assert move == pytest.approx(0.5 * grid.extent * grid.lattice.spacing, rel=1e-5)


@pytest.mark.parametrize("kind", [SdfGrid, SdfNetwork])
@pytest.mark.parametrize("extractor", ["tets", "flexicubes"])
def test_refinement_keeps_the_surface(
    backend: Backend, kind: type[SdfGrid] | type[SdfNetwork], extractor: str
) -> None:
    coarse = start(kind, extractor, backend, 16)
    fine = coarse.refined(32)
    vertices = fine.surface(backend).vertices.detach()
    assert len(vertices) > 3 * len(coarse.surface(backend).vertices) / 2
    assert SPHERE.value(vertices).abs().max() < 0.06
    assert coarse.field().value(vertices).abs().max() < 0.06


def test_state_goes_round(backend: Backend) -> None:
    grid, other = start(SdfGrid, "tets", backend), start(SdfGrid, "tets", backend)
    with torch.no_grad():
        grid.sdf.add_(0.1)
        grid.deform.normal_()
    other.load_state_dict(grid.state_dict())
    torch.testing.assert_close(other.surface(backend).vertices, grid.surface(backend).vertices)


def test_a_lattice_learns_another_shape(backend: Backend) -> None:
    """Vertices that are pulled towards a smaller sphere make one."""
    grid = start(SdfGrid, "tets", backend, 16)
    optimiser = torch.optim.Adam(grid.parameters(), lr=0.01)
    for _ in range(60):
        surface = grid.surface(backend)
        away = (surface.vertices - SPHERE.centre).norm(dim=-1) - 0.4
        optimiser.zero_grad()
        away.square().sum().backward()
        optimiser.step()
    vertices = grid.surface(backend).vertices.detach()
    assert (((vertices - SPHERE.centre).norm(dim=-1) - 0.4).abs() < 0.05).all()


def test_network_starts_as_the_field_it_is_given(backend: Backend) -> None:
    network = start(SdfNetwork, "tets", backend)
    surface = network.surface(backend)
    assert SPHERE.value(surface.vertices.detach()).abs().max() < 0.04
    inner = CENTRE + 0.8 * (torch.rand(500, 3) - 0.5)
    assert (network.field().value(inner) - SPHERE.value(inner)).abs().mean() < 0.04
    slope = network.field().gradient(surface.vertices.detach())
    cosine = torch.nn.functional.cosine_similarity(
        slope, surface.vertices.detach() - SPHERE.centre
    )
    assert cosine.mean() > 0.97


def test_network_trains_and_its_eikonal_term_too(backend: Backend) -> None:
    network = start(SdfNetwork, "tets", backend)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        network.network.weights[-1].mul_(3)
    optimiser = torch.optim.Adam(network.network.parameters(), lr=1e-3)
    before = network.eikonal(generator).item()
    for _ in range(30):
        optimiser.zero_grad()
        network.eikonal(generator).backward()
        optimiser.step()
    assert network.eikonal(generator).item() < 0.7 * before
    network.zero_grad()
    network.surface(backend).vertices.sum().backward()
    assert all(p.grad is not None for p in network.network.weights)
    assert network.lattice.sdf.grad is None
