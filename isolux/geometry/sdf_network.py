"""A surface whose signed distances come from a hash grid and a small network.

Müller et al. 2022 for the encoding, Gropp et al. 2020 for the eikonal term. The network says
how far the distance is from that of a sphere, so that its output can start near zero. Letters:
n lattice vertices, e lattice edges, p points.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from isolux import backends
from isolux.backends import Backend
from isolux.backends.encode import HashGridSpec
from isolux.encoders.hashgrid import HashGrid
from isolux.encoders.mlp import MLP
from isolux.geometry.fields import Field
from isolux.geometry.mesh import Mesh
from isolux.geometry.sdf_grid import Extracted, Extractor, SdfGrid, lattice_of

__all__ = ["NetworkField", "SdfNetwork"]

_SPHERE = 0.7  # the sphere's radius, in halves of the cube's edge
_SPEC = HashGridSpec(levels=8, features=2, log2_rows=16, coarsest=8, finest=128)
_FIT_STEPS = 300
_FIT_POINTS = 4096
_CHUNK = 2**17


class SdfNetwork(nn.Module):
    """A signed distance anywhere in a cube, sampled at the vertices of a lattice.

    It has the face of `SdfGrid`: `surface`, `refined`, `roughness`, `eikonal`, `field`. Points
    go in as halves of the cube's edge, and distances come out so.

    Args:
        lattice: carries the surface's topology; its moves and FlexiCubes' weights are
            parameters, as in `SdfGrid`.
        backend: what computes encoding and network.
        generator: seeds both.
        spec: the hash grid; the default is coarse enough not to make noise.
        width: neurons of a hidden layer.
    """

    def __init__(
        self,
        lattice: SdfGrid,
        backend: Backend,
        generator: torch.Generator,
        spec: HashGridSpec = _SPEC,
        width: int = 32,
    ) -> None:
        super().__init__()
        self.lattice = lattice
        lattice.sdf.requires_grad_(False)  # the network says it
        sizes = (spec.out_dim + 3, width, width, 1)
        self.grid = HashGrid(spec, backend, generator).to(backend.device)
        self.network = MLP(sizes, backend, generator, bias=True).to(backend.device)
        with torch.no_grad():
            self.network.weights[-1].mul_(0.1)  # start close to the sphere
        self.backend = backend

    @staticmethod
    def start(
        values: Callable[[Float[Tensor, "n 3"]], Float[Tensor, " n"]],
        resolution: int,
        centre: Float[Tensor, " 3"],
        extent: float,
        extractor: Extractor,
        deform: bool,
        backend: Backend,
        generator: torch.Generator,
    ) -> "SdfNetwork":
        """A network fitted to `values` by a short regression; asked for as `SdfGrid.start`.

        Args:
            values, resolution, centre, extent, extractor, deform: as of a grid.
            backend: what computes encoding and network.
            generator: seeds them, and the regression's points.
        """
        grid = SdfGrid.start(
            values, resolution, centre, extent, extractor, deform, backend, generator
        )
        network = SdfNetwork(grid, backend, generator)
        network.fit(values, generator)
        return network

    def forward(self, local: Float[Tensor, "p 3"]) -> Float[Tensor, " p"]:
        """Distances at points, both in halves of the cube's edge; the cube is [-1, 1]^3."""
        features = torch.cat([self.grid(0.5 * local + 0.5), local], dim=-1)
        # where() comes before sqrt(): the gradient of a norm at zero is not a number.
        square = local.square().sum(-1)
        away = torch.where(square > 0, square, 1.0).sqrt() * (square > 0)
        offset: Tensor = self.network(features)[:, 0]
        return away - _SPHERE + offset

    def fit(
        self,
        values: Callable[[Float[Tensor, "n 3"]], Float[Tensor, " n"]],
        generator: torch.Generator,
        steps: int = _FIT_STEPS,
    ) -> None:
        """Regress the network to values of world points, which count most near their zero."""
        half = 0.5 * self.lattice.extent
        parameters = [*self.grid.parameters(), *self.network.parameters()]
        optimiser = torch.optim.Adam(parameters, lr=1e-2, betas=(0.9, 0.99), eps=1e-15)
        points = self.lattice.lattice.vertices * 2  # [-1, 1]
        target = self.lattice.sdf.detach()
        for step in range(steps):
            rows = torch.randint(len(points), (_FIT_POINTS,), generator=generator)
            rows = rows.to(points.device)
            jitter = (torch.rand(_FIT_POINTS, 3, generator=generator) - 0.5).to(points)
            if step % 2:  # between lattice vertices too
                local = (points[rows] + 2 * self.lattice.lattice.spacing * jitter).clamp(-1, 1)
                wanted = values(self.lattice.centre + half * local) / half
            else:
                local, wanted = points[rows], target[rows]
            weight = 1 / (0.05 + wanted.abs())
            loss = (weight * (self(local) - wanted).square()).mean()
            optimiser.zero_grad()
            loss.backward()
            for group in optimiser.param_groups:
                group["lr"] = 1e-2 * 0.05 ** (step / steps)
            optimiser.step()

    @property
    def edges(self) -> Int[Tensor, "e 2"]:
        """The lattice's edges, for `sign_changes`."""
        return self.lattice.edges

    @property
    def bounds(self) -> Float[Tensor, "2 3"]:
        """The lattice's cube in the world."""
        return self.lattice.bounds

    def surface(self, backend: Backend, training: bool = True) -> Extracted:
        """The surface now, differentiable in all parameters; see `SdfGrid.surface`."""
        sdf = self(2 * self.lattice.lattice.vertices.to(self.lattice.centre))
        return self.lattice.surface(backend, training, sdf)

    @torch.no_grad()
    def extract_mesh(self, backend: Backend | None = None) -> Mesh:
        """The surface as a mesh, quads cut into two triangles."""
        return self.surface(backend or backends.select("auto"), training=False).mesh()

    def field(self) -> "NetworkField":
        """The signed distance in the world, as it stands now and as it goes on."""
        return NetworkField(self)

    @torch.no_grad()
    def refined(self, resolution: int) -> "SdfNetwork":
        """The same network, sampled by a lattice of another resolution."""
        old = self.lattice
        lattice = lattice_of(old.extractor, resolution, old.sdf.device)
        sdf = old.sdf.new_zeros(len(lattice.vertices))
        grid = SdfGrid(lattice, old.centre, old.extent, sdf, old.deform is not None)
        generator = torch.Generator().manual_seed(0)  # overwritten by the next line
        network = SdfNetwork(
            grid, self.backend, generator, self.grid.spec, self.network.sizes[1]
        )
        network.grid.load_state_dict(self.grid.state_dict())
        network.network.load_state_dict(self.network.state_dict())
        network.grid.active = self.grid.active
        return network

    def roughness(self, sdf: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """How far values are from the mean of their lattice neighbours (see `regularize`)."""
        return self.lattice.roughness(sdf)

    def eikonal(self, generator: torch.Generator, count: int = 4096) -> Float[Tensor, ""]:
        """Mean squared gap between the field's slope and one, at random points of the cube.

        Gropp et al. 2020, "Implicit Geometric Regularization".
        """
        points = (
            2 * torch.rand(count, 3, generator=generator, device=self.grid.table.device) - 1
        )
        points.requires_grad_()
        (slope,) = torch.autograd.grad(self(points).sum(), points, create_graph=True)
        gap: Tensor = slope.norm(dim=-1) - 1
        return gap.square().mean()


class NetworkField(Field):
    """The field of an `SdfNetwork`, in world units."""

    def __init__(self, network: SdfNetwork) -> None:
        self.network = network

    @property
    def bounds(self) -> Float[Tensor, "2 3"]:
        """The lattice's cube."""
        return self.network.bounds

    def value(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Distances, differentiable in the points."""
        half = 0.5 * self.network.lattice.extent
        centre = self.network.lattice.centre
        local = (points.to(centre.device) - centre) / half
        parts = [self.network(part) for part in torch.split(local, _CHUNK)]
        return half * torch.cat(parts).to(points.device)
