"""Values that live on the vertices of a lattice, read anywhere in its cube.

Letters: n lattice vertices, c channels, p points. Points are those of the undeformed lattice,
in [-0.5, 0.5]^3; outside it the nearest point of the cube counts.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from isolux.backends.extract import CubeLattice, TetLattice

__all__ = ["interpolate_lattice"]


def interpolate_lattice(
    lattice: TetLattice | CubeLattice,
    values: Float[Tensor, "n c"],
    points: Float[Tensor, "p 3"],
) -> Float[Tensor, "p c"]:
    """Linear within each tetrahedron, or trilinear within each cube.

    Continuous, and exact for a linear function. At the border of a tetrahedral lattice the
    values are those of a lattice that goes on beyond it by linear extension. Differentiable in
    values and points.
    """
    points = points.clamp(-0.5, 0.5)
    if isinstance(lattice, CubeLattice):
        return _trilinear(values, points, lattice.resolution)
    return _body_centred(values, points, lattice.cells)


def _trilinear(values: Tensor, points: Tensor, size: tuple[int, int, int]) -> Tensor:
    count = torch.tensor(size, device=points.device)
    scaled = (points + 0.5) * count
    cell = torch.minimum(scaled.detach().floor().long(), count - 1)
    cell = cell.clamp(min=0)
    inside = scaled - cell
    total: Tensor = values.new_zeros(())
    for corner in range(8):
        bits = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2 & 1])
        bits = bits.to(points.device)
        weight = torch.where(bits == 1, inside, 1 - inside).prod(-1, keepdim=True)
        at = cell + bits
        row = (at[:, 0] * (size[1] + 1) + at[:, 1]) * (size[2] + 1) + at[:, 2]
        total = total + weight * values[row]
    return total


def _body_centred(values: Tensor, points: Tensor, m: int) -> Tensor:
    """Two centres a and b on both sides of a wall, and the wall's edge from q to r."""
    scaled = (points + 0.5) * m
    cell = scaled.detach().floor().long().clamp(0, m - 1)
    local = scaled - cell - 0.5  # [-0.5, 0.5]
    order = local.detach().abs().argsort(dim=-1, descending=True, stable=True)
    w, u, v = local.gather(1, order).unbind(-1)  # |w| >= |u| >= |v|
    axis, across, along = torch.nn.functional.one_hot(order, 3).unbind(1)
    outwards = torch.where(w < 0, -1, 1)[:, None] * axis
    sideways = torch.where(u < 0, -1, 1)[:, None] * across
    weights = torch.stack(
        [1 - w.abs() - u.abs(), w.abs() - u.abs(), u.abs() - v, u.abs() + v], -1
    )
    middle = (outwards + sideways + 1 - along) // 2  # the lower end of the wall's edge
    corner, centre = _padded(values, m)
    size, padded = m + 1, m + 2
    ends = (
        centre[_row(cell + 1, padded)],
        centre[_row(cell + 1 + outwards, padded)],
        corner[_row(cell + middle, size)],
        corner[_row(cell + middle + along, size)],
    )
    return sum(
        (weights[:, i : i + 1] * end for i, end in enumerate(ends)), values.new_zeros(())
    )


def _row(index: Int[Tensor, "p 3"], size: int) -> Int[Tensor, " p"]:
    return (index[:, 0] * size + index[:, 1]) * size + index[:, 2]


def _padded(values: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """Values at corners, and at centres with one more layer by linear extension all around."""
    channels = values.shape[-1]
    corner = values[: (m + 1) ** 3]
    centre = values[(m + 1) ** 3 :].reshape(m, m, m, channels)
    grid = corner.reshape(m + 1, m + 1, m + 1, channels)
    padded = torch.nn.functional.pad(centre, (0, 0, 1, 1, 1, 1, 1, 1))
    for axis in range(3):
        walls = grid
        for other in range(3):
            if other != axis:
                low = walls.narrow(other, 0, m)
                walls = 0.5 * (low + walls.narrow(other, 1, m))
        inner = [slice(1, m + 1)] * 3
        for side, wall, behind in ((0, 0, 0), (m + 1, m, m - 1)):
            inner[axis] = slice(side, side + 1)
            extended = 2 * walls.narrow(axis, wall, 1) - centre.narrow(axis, behind, 1)
            padded[tuple(inner)] = extended
    return corner, padded.reshape(-1, channels)
