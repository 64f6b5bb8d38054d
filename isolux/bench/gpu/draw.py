"""Drawing: rasterise, interpolate and antialias, ours and nvdiffrast's.

The work is a picture of four channels from positions and attributes, and the gradients of both
from the gradient of the picture. What does not change from step to step is made before: our
adjacency, its context and its table of neighbours.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from isolux.backends.rasterize import antialias, edge_adjacency, interpolate, rasterize
from isolux.bench.gpu.cells import SAME_BITS, Cell, Job, Plan, attempted
from isolux.bench.gpu.clock import Sample, sampled
from isolux.bench.gpu.peers import package
from isolux.bench.operators import turned
from isolux.optimize.determinism import determinism

__all__ = ["cube_sphere", "jobs"]

GROUP = "draw"
_CELLS = {"20k": 41, "100k": 91, "1M": 289}  # along an edge of a cube; 12 n^2 triangles
_CHANNELS = 4
_VIEWS = 8
_AIM = 1.3
_PARTS = ("rasterise", "interpolate", "antialias")

Pass = Callable[[], Any]


@dataclass(frozen=True)
class _Inputs:
    """What everybody is given."""

    clip: Float[Tensor, "v n 4"]  # ours; row 0 of the picture is at y/w = +1
    faces: Int32[Tensor, "f 3"]
    attributes: Float[Tensor, "n 4"]
    above: Float[Tensor, "v h w 4"]  # the gradient of the picture
    size: int


@dataclass(frozen=True)
class _Party:
    """One implementation, ready to run."""

    forward: Callable[[], Tensor]  # the picture
    moving: tuple[Tensor, Tensor]  # positions and attributes
    parts: tuple[Pass, Pass, Pass]  # forward passes alone, in the order of `_PARTS`
    covered: float  # share of the pixels


def jobs(plan: Plan) -> Iterator[Job]:
    """A job for each number of triangles and each size."""
    if plan.dry_run:
        yield Job(GROUP, "300 triangles, 2 x 24x24", partial(_measure, plan, 5, 24, 2))
        return
    for name, cells in _CELLS.items():
        for size in (512, 1024):
            if not (plan.quick and name == "1M"):
                case = f"{name} triangles, {_VIEWS} x {size}x{size}"
                yield Job(GROUP, case, partial(_measure, plan, cells, size, _VIEWS))


def cube_sphere(cells: int) -> tuple[Float[Tensor, "n 3"], Int32[Tensor, "f 3"]]:
    """A closed unit sphere of 12 cells^2 triangles that face outwards: a cube blown up."""
    axis = torch.arange(cells)
    row, column = (i.reshape(-1) for i in torch.meshgrid(axis, axis, indexing="ij"))
    corners = []
    for k in range(6):
        squares = torch.empty(cells * cells, 4, 3, dtype=torch.long)
        steps = [(0, 0), (1, 0), (1, 1), (0, 1)]
        for c, (down, right) in enumerate(steps if k < 3 else steps[::-1]):
            squares[:, c, k % 3] = cells if k < 3 else 0
            squares[:, c, (k + 1) % 3] = row + down
            squares[:, c, (k + 2) % 3] = column + right
        corners += [squares[:, [0, 1, 2]], squares[:, [0, 2, 3]]]
    # Lattice points of the cube's surface, of which neighbouring sides share some.
    points, faces = torch.cat(corners).reshape(-1, 3).unique(dim=0, return_inverse=True)  # type: ignore[no-untyped-call]
    # The tangent spreads them evenly over the sphere.
    outward = torch.tan((2.0 * points / cells - 1.0) * (torch.pi / 4.0))
    return torch.nn.functional.normalize(outward, dim=-1), faces.reshape(-1, 3).int()


def _inputs(plan: Plan, cells: int, size: int, views: int) -> _Inputs:
    generator = torch.Generator().manual_seed(0)
    vertices, faces = cube_sphere(cells)
    noise = torch.randn(len(vertices), 1, generator=generator)
    clip = turned(vertices * (1.0 + 0.15 * 1.7 / cells * noise), views)
    return _Inputs(
        clip.to(plan.device),
        faces.to(plan.device),
        torch.rand(len(vertices), _CHANNELS, generator=generator).to(plan.device),
        torch.rand(views, size, size, _CHANNELS, generator=generator).to(plan.device),
        size,
    )


def _measure(plan: Plan, cells: int, size: int, views: int) -> list[Cell]:
    given = _inputs(plan, cells, size, views)
    parties = {
        "isolux": attempted(lambda: _ours(plan, given)),
        "nvdiffrast": attempted(lambda: _nvdiffrast(plan, given)),
    }
    case = f"{len(given.faces)} triangles, {views} x {size}x{size}"
    note = _likeness(parties)

    def cell(what: str, of: Callable[[_Party], Sample], aim: float | None = None) -> Cell:
        values = {
            name: party if isinstance(party, str) else attempted(partial(of, party))
            for name, party in parties.items()
        }
        ours = parties["isolux"]
        if what == "backward" and isinstance(ours, _Party):
            with determinism(True):
                values[SAME_BITS] = attempted(partial(of, ours))
        said = note if what == "forward" else ""
        return Cell(GROUP, f"{case}, {what}", "ms", values, None, aim, said)

    def timed(prepare: Callable[[], Any], job: Callable[[Any], Any]) -> Sample:
        return sampled(plan.clock, prepare, job, plan.repeats, plan.warm_up)

    def backward(party: _Party) -> Sample:
        return timed(
            party.forward, lambda out: torch.autograd.grad(out, party.moving, given.above)
        )

    def alone(k: int, party: _Party) -> Sample:
        return timed(_nothing, lambda _: party.parts[k]())

    both = [
        cell("forward", lambda party: timed(_nothing, lambda _: party.forward()), _AIM),
        cell("backward", backward, _AIM),
    ]
    return both + [cell(f"{part} alone", partial(alone, k)) for k, part in enumerate(_PARTS)]


def _nothing() -> None:
    return None


def _ours(plan: Plan, given: _Inputs) -> _Party:
    backend, faces, size = plan.backend, given.faces, given.size
    clip = given.clip.clone().requires_grad_()
    attributes = given.attributes.clone().requires_grad_()
    opposite = edge_adjacency(backend, faces)

    def drawn() -> Any:
        return rasterize(backend, clip, faces, size, size)

    def painted(raster: Any) -> Tensor:
        index = raster.triangle.reshape(-1)
        pixels = index.nonzero().squeeze(-1)
        uv = raster.uv.reshape(-1, 2).index_select(0, pixels)
        seen = index.index_select(0, pixels) - 1
        mixed = interpolate(backend, attributes, faces, seen, uv)
        picture = mixed.new_zeros(len(index), _CHANNELS).index_copy(0, pixels, mixed)
        return picture.reshape(given.above.shape)

    def softened(color: Tensor, raster: Any) -> Tensor:
        return antialias(backend, color, raster, clip, faces, opposite)

    def forward() -> Tensor:
        raster = drawn()
        return softened(painted(raster), raster)

    with torch.no_grad():
        still = drawn()
        color = painted(still)
    covered = float((still.triangle > 0).float().mean())
    parts = (drawn, lambda: painted(still), lambda: softened(color, still))
    return _Party(forward, (clip, attributes), parts, covered)


def _nvdiffrast(plan: Plan, given: _Inputs) -> _Party:
    dr, faces, size = package("nvdiffrast"), given.faces, given.size
    # Its row 0 is at y/w = -1: turned round before, its picture is ours.
    turn = given.clip.new_tensor([1.0, -1.0, 1.0, 1.0])
    clip = (given.clip * turn).contiguous().requires_grad_()
    attributes = given.attributes[None].clone().requires_grad_()
    context = dr.RasterizeCudaContext(device=plan.device)
    neighbours = dr.antialias_construct_topology_hash(faces)

    def drawn() -> Tensor:
        raster: Tensor = dr.rasterize(
            context, clip, faces, resolution=[size, size], grad_db=False
        )[0]
        return raster

    def painted(raster: Tensor) -> Tensor:
        color: Tensor = dr.interpolate(attributes, raster, faces)[0]
        return color

    def softened(color: Tensor, raster: Tensor) -> Tensor:
        out: Tensor = dr.antialias(color, raster, clip, faces, topology_hash=neighbours)
        return out

    def forward() -> Tensor:
        raster = drawn()
        return softened(painted(raster), raster)

    with torch.no_grad():
        still = drawn()
        color = painted(still)
    covered = float((still[..., 3] != 0).float().mean())
    parts = (drawn, lambda: painted(still), lambda: softened(color, still))
    return _Party(forward, (clip, attributes), parts, covered)


def _likeness(parties: dict[str, Any]) -> str:
    """How much of the pictures is covered, and how far they differ: the same work is done."""
    drawn = {name: p for name, p in parties.items() if isinstance(p, _Party)}
    if "isolux" not in drawn:
        return ""
    said = f"{drawn['isolux'].covered:.1%} covered"
    if "nvdiffrast" in drawn:
        with torch.no_grad():
            pictures = [attempted(party.forward) for party in drawn.values()]
        if all(isinstance(picture, Tensor) for picture in pictures):
            differ = float((pictures[0] - pictures[1]).abs().mean())
            said += f", theirs {drawn['nvdiffrast'].covered:.1%}, mean difference {differ:.1e}"
    return said
