"""Smooth normals on the processor: serial passes over the faces, a few ms for 100k."""

from typing import Any

import torch
from torch import Tensor

from isolux.backends.cpu.arrays import check_indices, flat, flat_index
from isolux.backends.cpu.jit import kernel

__all__ = ["backward", "forward"]

_EPS = 1e-24  # squared length under which a sum of face normals counts as zero


def forward(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Raw `vertex_normals`: unit normals, and the length that each sum had (0: none)."""
    check_indices("faces", faces, len(vertices))
    normals, length = torch.zeros_like(vertices), torch.zeros_like(vertices[:, 0])
    _forward(flat(vertices), flat_index(faces), _EPS, flat(normals), flat(length))
    return normals, length


def backward(
    vertices: Tensor, faces: Tensor, normals: Tensor, length: Tensor, grad: Tensor
) -> Tensor:
    """Raw adjoint."""
    out, scratch = torch.zeros_like(vertices), torch.empty_like(vertices)
    unit, size, above = flat(normals), flat(length), flat(grad)
    given = flat(vertices), flat_index(faces), unit, size, above
    _backward(*given, flat(scratch), flat(out))
    return out


@kernel
def _forward(vertices: Any, faces: Any, eps: Any, normals: Any, length: Any) -> None:
    three = 3
    for f in range(faces.size // 3):
        a, b, c = faces[3 * f] * three, faces[3 * f + 1] * three, faces[3 * f + 2] * three
        ux, uy = vertices[b] - vertices[a], vertices[b + 1] - vertices[a + 1]
        vx, vy = vertices[c] - vertices[a], vertices[c + 1] - vertices[a + 1]
        uz, vz = vertices[b + 2] - vertices[a + 2], vertices[c + 2] - vertices[a + 2]
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for at in (a, b, c):
            normals[at] += x
            normals[at + 1] += y
            normals[at + 2] += z
    for n in range(length.size):
        x, y, z = normals[3 * n], normals[3 * n + 1], normals[3 * n + 2]
        square = x * x + y * y + z * z
        if square > eps:
            size = square**0.5
            length[n] = size
            normals[3 * n], normals[3 * n + 1], normals[3 * n + 2] = (
                x / size,
                y / size,
                z / size,
            )
        else:
            normals[3 * n] = normals[3 * n + 1] = normals[3 * n + 2] = 0


@kernel
def _backward(
    vertices: Any, faces: Any, normals: Any, length: Any, grad: Any, sums: Any, out: Any
) -> None:
    """`sums` becomes the gradient of each vertex's sum: the part across the normal."""
    for n in range(length.size):
        i = 3 * n
        if length[n] > 0:
            along = (
                grad[i] * normals[i]
                + grad[i + 1] * normals[i + 1]
                + grad[i + 2] * normals[i + 2]
            )
            for k in range(3):
                sums[i + k] = (grad[i + k] - along * normals[i + k]) / length[n]
        else:
            sums[i] = sums[i + 1] = sums[i + 2] = 0
    three = 3
    for f in range(faces.size // 3):
        a, b, c = faces[3 * f] * three, faces[3 * f + 1] * three, faces[3 * f + 2] * three
        x = sums[a] + sums[b] + sums[c]
        y = sums[a + 1] + sums[b + 1] + sums[c + 1]
        z = sums[a + 2] + sums[b + 2] + sums[c + 2]
        ux, uy = vertices[b] - vertices[a], vertices[b + 1] - vertices[a + 1]
        vx, vy = vertices[c] - vertices[a], vertices[c + 1] - vertices[a + 1]
        uz, vz = vertices[b + 2] - vertices[a + 2], vertices[c + 2] - vertices[a + 2]
        # n = u x v:  d(g.n)/du = v x g,  d(g.n)/dv = g x u.
        bx, by, bz = vy * z - vz * y, vz * x - vx * z, vx * y - vy * x
        cx, cy, cz = y * uz - z * uy, z * ux - x * uz, x * uy - y * ux
        out[b] += bx
        out[b + 1] += by
        out[b + 2] += bz
        out[c] += cx
        out[c + 1] += cy
        out[c + 2] += cz
        out[a] -= bx + cx
        out[a + 1] -= by + cy
        out[a + 2] -= bz + cz
