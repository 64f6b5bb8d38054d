"""Hash grid in plain torch. Letters as in `isolux.backends.encode`."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from isolux.backends.encode import HashGridSpec

__all__ = ["backward", "forward", "second"]

# Corner k of a cell: bit 0 is x, bit 1 is y, bit 2 is z.
_CORNERS = torch.tensor([[k & 1, k >> 1 & 1, k >> 2 & 1] for k in range(8)])
_PRIMES = (1, 2654435761, 805459861)  # Müller et al. 2022, equation 4


def forward(points: Tensor, table: Tensor, spec: "HashGridSpec", levels: int) -> Tensor:
    """Encoding [p, c]; columns of levels from `levels` on are zero."""
    columns = [_level(points, table, spec, level) for level in range(levels)]
    rest = points.new_zeros(len(points), (spec.levels - levels) * spec.features)
    return torch.cat([*columns, rest], dim=1)


def backward(
    points: Tensor,
    table: Tensor,
    grad: Tensor,
    spec: "HashGridSpec",
    levels: int,
    need_points: bool,
    need_table: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients to points and to the table, None where not needed."""
    with torch.enable_grad():
        points = points.detach().requires_grad_(need_points)
        table = table.detach().requires_grad_(need_table)
        encoded = forward(points, table, spec, levels)
        asked = [t for t in (points, table) if t.requires_grad]
        if encoded.requires_grad:
            found = iter(torch.autograd.grad(encoded, asked, grad, materialize_grads=True))
        else:
            found = iter([torch.zeros_like(t) for t in asked])
    return next(found) if need_points else None, next(found) if need_table else None


def second(
    points: Tensor,
    table: Tensor,
    grad: Tensor,
    direction: Tensor,
    spec: "HashGridSpec",
    levels: int,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of <direction, gradient to points> to (gradient above, points, table)."""
    with torch.enable_grad():
        inputs = [t.detach().requires_grad_() for t in (grad, points, table)]
        encoded = forward(inputs[1], inputs[2], spec, levels)
        if not encoded.requires_grad:  # no level is active
            return torch.zeros_like(grad), torch.zeros_like(points), torch.zeros_like(table)
        (to_points,) = torch.autograd.grad(encoded, inputs[1], inputs[0], create_graph=True)
        found = torch.autograd.grad(to_points, inputs, direction, materialize_grads=True)
    return found[0], found[1], found[2]


def _level(points: Tensor, table: Tensor, spec: "HashGridSpec", level: int) -> Tensor:
    scaled = points.clamp(0.0, 1.0) * spec.scales[level] + 0.5
    cell = scaled.detach().floor()
    inside = (scaled - cell)[:, None, :]  # [p, 1, 3], in [0, 1)
    corners = _CORNERS.to(points.device)
    # A corner's weight is a product over axes: `inside` where the corner is the far one.
    weight = torch.where(corners == 1, inside, 1.0 - inside).prod(dim=-1)  # [p, 8]
    rows = _rows(cell.long()[:, None, :] + corners, spec, level)  # [p, 8]
    return torch.einsum("pk,pkf->pf", weight, table[spec.offsets[level] + rows])


def _rows(corner: Tensor, spec: "HashGridSpec", level: int) -> Tensor:
    x, y, z = corner.unbind(-1)
    resolution = spec.resolutions[level]
    rows = spec.offsets[level + 1] - spec.offsets[level]
    if spec.direct[level]:
        # Corners past the last one, half a cell outside, share rows with the next line.
        return (x + resolution * (y + resolution * z)) % rows
    return (x * _PRIMES[0] ^ y * _PRIMES[1] ^ z * _PRIMES[2]) & (rows - 1)
