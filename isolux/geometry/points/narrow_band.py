"""The zero set of any function, followed from where it is known to pass.

Letters: n points, c cubes, m surface vertices, f faces.

Cubes of an endless lattice are visited from seeds and from there across every face that the
surface passes, so that a function costly to evaluate is asked next to its surface only.
Vertices are dual: one for each patch of a cube, four to a quad (Wenger 2013, "Isosurfaces"),
which gives a 2-manifold with boundary only where the search was told to end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from isolux.backends.extraction_tables import (
    CUBE_EDGE_AXES,
    CUBE_EDGE_SLOTS,
    CUBE_EDGES,
    NEXT_TO_NOTHING,
    cube_groups,
    cube_twists,
)
from isolux.geometry.mesh import Mesh
from isolux.geometry.points.adaptive import merged
from isolux.geometry.points.extraction import Dual

__all__ = ["coarse_seeds", "extract_narrow_band", "project"]

Function = Callable[[Tensor], Tensor]

_BITS = 20  # of a cube's number for each axis, which leaves two for an edge's
_HALF = 1 << (_BITS - 1)
_PART = 2**16  # points evaluated at once
_AXES = np.array([1 << 2 * _BITS, 1 << _BITS, 1])
_CORNERS = np.array([[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)]) @ _AXES
_AROUND = np.array(
    [s * step for step in _AXES for s in (-1, 1)]
)  # face 2 a + s, as in the tables
# The four corners of each of those faces.
_FACES = np.array(
    [[i for i in range(8) if (i >> axis & 1) == side] for axis in range(3) for side in (0, 1)]
)
_LOWER = np.array([min(edge) for edge in CUBE_EDGES])


@dataclass(frozen=True)
class _Lattice:
    """Node (i, j, k) lies at origin + voxel (i, j, k)."""

    origin: Tensor  # float64 [3]
    voxel: float

    def key(self, points: Tensor) -> Any:
        """Numbers of the cubes that hold the points."""
        place = ((points.double() - self.origin) / self.voxel).floor().long()
        if len(place) and int(place.abs().max()) >= _HALF - 8:
            raise ValueError(
                f"voxel_size: {self.voxel:g} is too small for a surface of this extent "
                f"({_HALF} cells to each side of the middle at most)"
            )
        return (place.numpy() + _HALF) @ _AXES

    def position(self, keys: Any) -> Tensor:
        """Where nodes lie, float64."""
        place = np.stack([keys >> 2 * _BITS, keys >> _BITS, keys], -1) & (2 * _HALF - 1)
        return self.world(torch.from_numpy(place.astype(np.float64)))

    def world(self, local: Tensor) -> Tensor:
        """Points given in cubes, from the corner of all that have a number."""
        return self.origin + self.voxel * (local - _HALF)

    def local(self, points: Tensor) -> Any:
        """The inverse of `world`, as an array."""
        return ((points - self.origin) / self.voxel + _HALF).numpy()


class _Nodes:
    """Values at nodes, each asked once."""

    def __init__(self, function: Function, lattice: _Lattice) -> None:
        self.function, self.lattice = function, lattice
        self.keys: Any = np.empty(0, np.int64)  # sorted
        self.values: Any = np.empty(0)

    def at(self, keys: Any) -> Any:
        """Values at `keys`, of any shape."""
        wanted = np.unique(keys)
        new = wanted[~_among(wanted, self.keys)]
        if len(new):
            points = torch.split(self.lattice.position(new), _PART)
            found = [self.function(part).detach().double().cpu() for part in points]
            values = torch.cat(found).numpy()
            merged = np.concatenate([self.keys, new])
            order = np.argsort(merged, kind="stable")
            self.keys = merged[order]
            self.values = np.concatenate([self.values, values])[order]
        return self.values[np.searchsorted(self.keys, keys)]


@torch.no_grad()
def extract_narrow_band(
    function: Function,
    seeds: Float[Tensor, "n 3"],
    voxel_size: float,
    *,
    keep: Function | None = None,
    bounds: Float[Tensor, "2 3"] | None = None,
    gradient: Function | None = None,
    steps: int = 1,
    reach: int = 2,
    origin: Float[Tensor, " 3"] | None = None,
    adaptive: float | None = None,
    near: Function | None = None,
    progress: Callable[[float], None] | None = None,
) -> Mesh:
    """The surface through or near the seeds, as triangles that face outwards.

    Args:
        function: values at float64 points, negative inside; asked in parts of bounded size.
        seeds: points near the surface; every connected part of it needs one.
        voxel_size: edge length of the cubes.
        keep: true at the centres of cubes that may hold surface; None: all may.
        bounds: cubes with their centre beyond this box hold none.
        gradient: of the function. With it vertices are moved onto the surface by `steps` of
            Newton's method, which takes the error of interpolation away.
        steps: of Newton's method.
        reach: how many cubes from a seed the surface may be.
        origin: of the lattice; None: the lowest corner of the seeds, or of `bounds`.
        adaptive: cubes become one where the surface in them stays within this many cubes of
            its tangent planes, which needs the gradient. None: all are of one size.
        near: true at the vertices of faces that are kept; None keeps all.
        progress: told the share that is done.

    Returns:
        Vertices float32, or float64 where that would cost a millionth of the extent; zero
        faces where the surface is nowhere near a seed.

    Raises:
        ValueError: when `voxel_size` is not positive, or far too small for the seeds, or when
            `adaptive` has no gradient.
    """
    if adaptive is not None and gradient is None:
        raise ValueError("adaptive: needs the function's gradient")
    if not (voxel_size > 0 and np.isfinite(voxel_size)):
        raise ValueError(f"voxel_size: must be positive, got {voxel_size}")
    told = progress or (lambda share: None)
    seeds = seeds.detach().double().cpu()
    if origin is None:
        low = bounds[0] if bounds is not None else None
        low = seeds.amin(0) if low is None and len(seeds) else low
        origin = torch.zeros(3) if low is None else low
    # A lattice that passes through the middle of things would meet values of exactly zero.
    start = origin.double().cpu() - 0.4871 * voxel_size
    lattice = _Lattice(start, voxel_size)
    nodes = _Nodes(function, lattice)
    cubes = _follow(nodes, lattice.key(seeds), _allowed(lattice, keep, bounds), reach)
    told(0.7)
    values = nodes.at(cubes[:, None] + _CORNERS)
    vertices, quads, case, first = _dual(lattice, cubes, values)
    if gradient is not None:
        vertices = project(vertices, function, gradient, steps, 0.5 * voxel_size)
    if adaptive is None or gradient is None:
        faces = _split(vertices.numpy(), quads)
    else:
        good = _asked(near, vertices).numpy()
        slopes = _asked(gradient, vertices).numpy().reshape(-1)
        dual = Dual(
            *(cubes, case.astype(np.uint8), first, lattice.local(vertices).reshape(-1)),
            *(slopes, quads[good[quads].all(1)].reshape(-1)),
        )
        local, faces = merged(dual, adaptive)
        vertices, near = lattice.world(torch.from_numpy(local)), None
    told(1.0)
    mesh = Mesh(vertices, torch.from_numpy(faces))
    if near is not None:
        mesh = _kept(mesh, _asked(near, vertices))
    return Mesh(_narrowed(mesh.vertices), mesh.faces)


def coarse_seeds(
    function: Function, bounds: Float[Tensor, "2 3"], cells: int = 32
) -> Float[Tensor, "n 3"]:
    """Middles of the edges of a coarse grid over the bounds at whose ends the signs differ.

    For functions of which nothing is known. Parts smaller than a cell may be missed.
    """
    low, high = bounds.double().cpu()
    step = float((high - low).max()) / cells
    size = [int(n) + 2 for n in ((high - low) / step).ceil()]
    axes = [
        torch.arange(n, dtype=torch.float64) * step + low[i] - 0.5 * step
        for i, n in enumerate(size)
    ]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    inside = torch.cat(
        [function(part).cpu() < 0 for part in torch.split(grid.reshape(-1, 3), _PART)]
    ).reshape(size)
    seeds = []
    for axis, n in enumerate(size):
        one, two = inside.narrow(axis, 0, n - 1), inside.narrow(axis, 1, n - 1)
        seeds.append((grid.narrow(axis, 0, n - 1)[one != two], axis))
    shift = 0.5 * step * torch.eye(3, dtype=torch.float64)
    return torch.cat([points + shift[axis] for points, axis in seeds])


def project(
    points: Float[Tensor, "n 3"],
    function: Function,
    gradient: Function,
    steps: int,
    most: float,
) -> Float[Tensor, "n 3"]:
    """Points moved onto the zero set by Newton's method, by no more than `most` a step."""
    out = []
    for part in torch.split(points, _PART):
        for _ in range(steps):
            slope = gradient(part).to(part)
            square = slope.square().sum(1, keepdim=True).clamp_min(1e-30)
            move = function(part).to(part)[:, None] * slope / square
            length = move.norm(dim=1, keepdim=True).clamp_min(1e-300)
            move = torch.where(length > most, move * (most / length), move)
            part = part - torch.where(move.isfinite(), move, 0.0)
        out.append(part)
    return torch.cat(out) if out else points


def _asked(function: Function | None, points: Tensor) -> Tensor:
    """What the function says, part by part; None says yes."""
    if function is None or len(points) == 0:
        return torch.ones(len(points), dtype=torch.bool)
    return torch.cat([function(part).cpu() for part in torch.split(points, _PART)])


def _kept(mesh: Mesh, good: Tensor) -> Mesh:
    """The faces whose vertices all are good, and their vertices."""
    faces = mesh.faces[good[mesh.faces.long()].all(1)]
    used = torch.zeros(len(mesh.vertices), dtype=torch.bool)
    used[faces.long().reshape(-1)] = True
    number = (used.cumsum(0) - 1).int()
    return Mesh(mesh.vertices[used], number[faces.long()])


def _among(keys: Any, known: Any) -> Any:
    """Which keys are in the sorted `known`."""
    if len(known) == 0:
        return np.zeros(keys.shape, bool)
    place = np.searchsorted(known, keys)
    return known[np.minimum(place, len(known) - 1)] == keys


def _allowed(
    lattice: _Lattice, keep: Function | None, bounds: Tensor | None
) -> Callable[[Any], Any]:
    def allowed(cubes: Any) -> Any:
        centre = lattice.position(cubes) + 0.5 * lattice.voxel
        good = torch.ones(len(cubes), dtype=torch.bool)
        if bounds is not None:
            low, high = bounds.double().cpu()
            good &= ((centre >= low) & (centre <= high)).all(1)
        if keep is not None and len(cubes):
            parts = [keep(part).cpu() for part in torch.split(centre[good], _PART)]
            good[good.clone()] = torch.cat(parts).bool()
        return cubes[good.numpy()]

    return allowed


def _follow(nodes: _Nodes, seeds: Any, allowed: Callable[[Any], Any], reach: int) -> Any:
    """Sorted cubes that the surface passes: those about the seeds, and on from there."""
    new = allowed(np.unique(seeds))
    seen, passed, rounds = new, [np.empty(0, np.int64)], 0
    while len(new):
        inside = nodes.at(new[:, None] + _CORNERS) < 0
        crossed = inside.any(1) != inside.all(1)
        passed.append(new[crossed])
        face = inside[crossed][:, _FACES]  # [c, 6, 4]
        across = (new[crossed][:, None] + _AROUND)[face.any(2) != face.all(2)]
        if rounds < reach:  # a seed may stand beside the surface
            beside = (new[~crossed][:, None] + _AROUND).reshape(-1)
            across = np.concatenate([across, beside])
        across = np.unique(across)
        new = allowed(across[~_among(across, seen)])
        seen = np.sort(np.concatenate([seen, new]))
        rounds += 1
    return np.sort(np.concatenate(passed))


def _dual(lattice: _Lattice, cubes: Any, values: Any) -> tuple[Tensor, Any, Any, Any]:
    """Vertices float64 [m, 3] and quads int64 [q, 4], counter-clockwise seen from outside; each
    cube's case and its first vertex."""
    inside = values < 0
    case = (inside << np.arange(8)).sum(1)
    group = cube_groups()[case + 256 * _twisted(cubes, case)].astype(np.int64)  # [c, 12]
    first = np.concatenate([[0], np.cumsum(group.max(1, initial=-1) + 1)])
    cube, edge = np.nonzero(group >= 0)
    dual = first[cube] + group[cube, edge]
    ends = np.array(CUBE_EDGES)[edge]
    a, b = values[cube, ends[:, 0]], values[cube, ends[:, 1]]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        t = np.where(np.abs(a - b) > NEXT_TO_NOTHING, a / (a - b), 0.5)
    t = np.where(np.isfinite(t), t, 0.5)[:, None]
    bits = np.array([[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)], np.float64)
    local = bits[ends[:, 0]] * (1 - t) + bits[ends[:, 1]] * t
    count = np.bincount(dual, minlength=first[-1])
    total = np.stack([np.bincount(dual, local[:, i], first[-1]) for i in range(3)], -1)
    mean = torch.from_numpy(total / np.maximum(count, 1)[:, None])
    owner = np.repeat(cubes, np.diff(first))
    vertices: Tensor = lattice.position(owner) + lattice.voxel * mean
    return vertices, _quads(cubes, inside, cube, edge, dual), case, first


def _twisted(cubes: Any, case: Any) -> Any:
    """Pairs of cubes whose shared face is cut the other way: see `cube_twists`."""
    twist = cube_twists()[case]
    rare = np.flatnonzero(twist >= 0)
    partner = cubes[rare] + _AROUND[twist[rare]]
    both = _among(partner, cubes[rare])
    flags = np.zeros(len(cubes), np.int64)
    flags[rare[both]] = 1
    return flags


def _quads(cubes: Any, inside: Any, cube: Any, edge: Any, dual: Any) -> Any:
    """Four duals about each crossed edge that has all its four cubes."""
    lower = cubes[cube] + _CORNERS[_LOWER[edge]]
    axis = np.array(CUBE_EDGE_AXES)[edge]
    name, number = np.unique(4 * lower + axis, return_inverse=True)
    quads = np.full((len(name), 4), -1, np.int64)
    quads[number, np.array(CUBE_EDGE_SLOTS)[edge]] = dual
    begins = np.zeros(len(name), bool)  # whether the lower end is inside
    begins[number] = inside[cube, _LOWER[edge]]
    quads = np.where(begins[:, None], quads, quads[:, ::-1])
    return quads[(quads >= 0).all(1)]


def _split(vertices: Any, quads: Any) -> Any:
    """Quads cut along the shorter diagonal, int32 [f, 3]."""
    if len(quads) == 0:
        return np.empty((0, 3), np.int32)
    p = vertices[quads]  # [q, 4, 3]
    first = ((p[:, 0] - p[:, 2]) ** 2).sum(1) <= ((p[:, 1] - p[:, 3]) ** 2).sum(1)
    even, odd = quads[:, [0, 1, 2, 0, 2, 3]], quads[:, [1, 2, 3, 1, 3, 0]]
    faces = np.where(first[:, None], even, odd).reshape(-1, 3)
    return np.ascontiguousarray(faces, np.int32)


def _narrowed(vertices: Tensor) -> Tensor:
    """float32 where that keeps a millionth of the extent."""
    if len(vertices) == 0:
        return vertices.float()
    extent = float((vertices.amax(0) - vertices.amin(0)).max())
    rounding = float(vertices.abs().max()) * 2.0**-24
    return vertices.float() if rounding <= 1e-6 * extent else vertices
