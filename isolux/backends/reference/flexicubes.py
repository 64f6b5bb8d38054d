"""FlexiCubes in plain PyTorch.

Letters: c cubes, k pairs of a dual vertex and a crossed edge of its cube, d dual vertices, q
quads.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from isolux.backends.extract import CubeLattice
from isolux.backends.extraction_tables import (
    CUBE_EDGES,
    NEXT_TO_NOTHING,
    cube_groups,
    cube_twists,
)

__all__ = ["backward", "forward"]


@dataclass(frozen=True)
class Topology:
    """Everything that follows from the signs alone."""

    cube: Int[Tensor, " k"]
    edge: Int[Tensor, " k"]  # of the cube's twelve
    dual: Int[Tensor, " k"]
    cube_of_dual: Int[Tensor, " d"]
    quads: Int[Tensor, "q 4"]  # dual vertices, counter-clockwise seen from outside


def forward(
    lattice: CubeLattice,
    positions: Tensor,
    sdf: Tensor,
    alpha: Tensor | None,
    beta: Tensor | None,
    gamma: Tensor | None,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor, Topology]:
    """Vertices, faces, deviations, and what the backward pass needs."""
    topology = _topology(lattice, sdf)
    vertices, deviation = _surface(
        topology, lattice, positions, sdf, alpha, beta, gamma, training
    )
    q0, q1, q2, q3 = topology.quads.unbind(-1)
    if training:
        middle = len(topology.cube_of_dual) + torch.arange(len(q0), device=q0.device)
        corners = [q0, q1, middle, q1, q2, middle, q2, q3, middle, q3, q0, middle]
    else:
        split = _gammas(topology, positions, gamma)
        first = (split[:, 0] > split[:, 1])[:, None]
        one, other = [q0, q1, q2, q0, q2, q3], [q0, q1, q3, q3, q1, q2]
        corners = list(torch.where(first, torch.stack(one, -1), torch.stack(other, -1)).T)
    faces = torch.stack(corners, -1).reshape(-1, 3).int()
    return vertices, faces, deviation, topology


def backward(
    lattice: CubeLattice,
    positions: Tensor,
    sdf: Tensor,
    alpha: Tensor | None,
    beta: Tensor | None,
    gamma: Tensor | None,
    training: bool,
    kept: Topology,
    grad: Tensor,
    deviation_grad: Tensor,
) -> tuple[Tensor | None, ...]:
    """Gradients to positions, signed distances and the three weights."""
    with torch.enable_grad():
        inputs = [
            None if t is None else t.detach().requires_grad_()
            for t in (positions, sdf, alpha, beta, gamma)
        ]
        point, value, *weights = inputs
        assert point is not None
        assert value is not None
        outputs = _surface(
            kept, lattice, point, value, weights[0], weights[1], weights[2], training
        )
        leaves = [t for t in inputs if t is not None]
        found = iter(
            torch.autograd.grad(outputs, leaves, (grad, deviation_grad), allow_unused=True)
        )
    grads = [None if t is None else next(found) for t in inputs]
    return tuple(
        torch.zeros_like(t) if g is None and t is not None else g
        for g, t in zip(grads, inputs, strict=True)
    )


def _topology(lattice: CubeLattice, sdf: Tensor) -> Topology:
    device = sdf.device
    inside = sdf < 0
    cubes = lattice.cubes.long()
    case = (inside[cubes] * (1 << torch.arange(8, device=device))).sum(-1)
    twist = torch.tensor(cube_twists(), device=device).long()[case]
    row = case + 256 * _twisted_pairs(twist.reshape(lattice.resolution)).reshape(-1)
    group = torch.tensor(cube_groups(), device=device).long()[row]  # [c, 12]
    count = group.amax(-1) + 1
    first = count.cumsum(0) - count
    cube, edge = (group >= 0).nonzero(as_tuple=True)
    dual = first[cube] + group[cube, edge]
    order = (dual * 12 + edge).argsort()
    ends = lattice.edges.long()
    around = lattice.edge_cubes.long()  # [e, 4]
    drawn = (inside[ends[:, 0]] != inside[ends[:, 1]]) & (around >= 0).all(-1)
    around, slot = around[drawn], lattice.edge_slots.long()[drawn]
    quads = first[around] + group[around, slot]
    turned = quads[:, [0, 3, 2, 1]]
    quads = torch.where(inside[ends[drawn, 0]][:, None], quads, turned)
    return Topology(
        cube[order],
        edge[order],
        dual[order],
        torch.arange(len(cubes), device=device).repeat_interleave(count),
        quads,
    )


def _twisted_pairs(twist: Int[Tensor, "x y z"]) -> Int[Tensor, "x y z"]:
    """One for cubes that share a twisted face with a neighbour that has one too."""
    result = torch.zeros_like(twist)
    for axis in range(3):
        size = twist.shape[axis]
        low, high = twist.narrow(axis, 0, size - 1), twist.narrow(axis, 1, size - 1)
        both = ((low == 2 * axis + 1) & (high == 2 * axis)).long()
        result.narrow(axis, 0, size - 1).add_(both)
        result.narrow(axis, 1, size - 1).add_(both)
    return result


def _gammas(topology: Topology, positions: Tensor, gamma: Tensor | None) -> Tensor:
    """[q, 2]: products of gamma along the quads' two diagonals."""
    if gamma is None:
        return positions.new_ones(len(topology.quads), 2)
    each = (0.005 + 0.99 * torch.sigmoid(gamma))[topology.cube_of_dual[topology.quads]]
    return torch.stack([each[:, 0] * each[:, 2], each[:, 1] * each[:, 3]], -1)


def _crossing(near: Tensor, far: Tensor, near_value: Tensor, far_value: Tensor) -> Tensor:
    """Where a linear field is zero; the middle of edges that cannot say."""
    gap = near_value - far_value
    along = near_value / gap
    usable = (along >= 0) & (along <= 1) & (gap.abs() > NEXT_TO_NOTHING)
    along = torch.where(usable, near_value, 0.5) / torch.where(usable, gap, 1.0)
    return near + along[:, None] * (far - near)


def _surface(
    topology: Topology,
    lattice: CubeLattice,
    positions: Tensor,
    sdf: Tensor,
    alpha: Tensor | None,
    beta: Tensor | None,
    gamma: Tensor | None,
    training: bool,
) -> tuple[Float[Tensor, "m 3"], Float[Tensor, " k"]]:
    """Vertices and deviations, differentiable."""
    cube, edge, dual = topology.cube, topology.edge, topology.dual
    duals = len(topology.cube_of_dual)
    corner = torch.tensor(CUBE_EDGES, device=sdf.device)[edge]  # [k, 2]
    ends = lattice.cubes.long()[cube[:, None], corner]
    near, far = positions[ends[:, 0]], positions[ends[:, 1]]
    value = sdf[ends]
    plain = _crossing(near, far, value[:, 0], value[:, 1])
    if alpha is not None:
        value = value * (1 + 0.99 * torch.tanh(alpha[cube[:, None], corner]))
    weighted = _crossing(near, far, value[:, 0], value[:, 1])
    weight = sdf.new_ones(len(cube))
    if beta is not None:
        weight = 1 + 0.99 * torch.tanh(beta[cube, edge])
    total = sdf.new_zeros(duals).index_add(0, dual, weight)
    vertices = sdf.new_zeros(duals, 3).index_add(0, dual, weight[:, None] * weighted)
    vertices = vertices / total[:, None]

    square = (vertices[dual] - plain).square().sum(-1)
    distance = torch.where(square > 0, square, 1.0).sqrt() * (square > 0)
    count = sdf.new_zeros(duals).index_add(0, dual, torch.ones_like(weight))
    mean = sdf.new_zeros(duals).index_add(0, dual, distance) / count
    deviation = (distance - mean[dual]).abs()
    if training:
        split = _gammas(topology, positions, gamma)
        v0, v1, v2, v3 = vertices[topology.quads].unbind(1)
        across = split[:, :1] * (v0 + v2) / 2 + split[:, 1:] * (v1 + v3) / 2
        vertices = torch.cat([vertices, across / (split.sum(-1, keepdim=True) + 1e-8)])
    return vertices, deviation
