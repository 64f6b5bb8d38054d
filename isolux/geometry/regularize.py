"""Terms that keep a surface tame: pure functions to a scalar, without weights.

Letters: n vertices of a lattice or mesh, e lattice edges, f faces, q pairs of faces. Empty
input gives zero with a zero gradient. On the processor the sums are kernels that run in the
order of the edges or faces, so that results do not depend on threads; on other devices they
are torch's.
"""

import weakref
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from isolux.backends.cpu.jit import kernel
from isolux.geometry.mesh import face_normals

__all__ = [
    "deviation",
    "face_pairs",
    "laplacian",
    "lattice_roughness",
    "normal_consistency",
    "sign_changes",
]


def sign_changes(sdf: Float[Tensor, " n"], edges: Int[Tensor, "e 2"]) -> Float[Tensor, ""]:
    """How sharply the field changes sign, averaged over the lattice edges that it crosses.

    Each end's value is scored by binary cross entropy against the other end's sign, so a sheet
    pays wherever it exists and unseen ones fade first (Munkberg et al. 2022, after Liao et al.
    2018).

    Returns:
        Zero, not NaN, when the field crosses no edge.
    """
    if sdf.device.type != "cpu":
        return _sign_changes_there(sdf, edges)
    return _EdgeTerm.apply(sdf, edges, _sign_change_sums)  # type: ignore[no-untyped-call,no-any-return]


def lattice_roughness(sdf: Float[Tensor, " n"], edges: Int[Tensor, "e 2"]) -> Float[Tensor, ""]:
    """Mean square of how far values are from the mean of their neighbours along edges.

    The uniform graph Laplacian of the field: zero for a field that is linear about each inner
    vertex of the lattice.
    """
    if sdf.device.type != "cpu":
        return _roughness_there(sdf, edges)
    return _EdgeTerm.apply(sdf, edges, _roughness_sums)  # type: ignore[no-untyped-call,no-any-return]


def laplacian(vertices: Float[Tensor, "n 3"], faces: Int[Tensor, "f 3"]) -> Float[Tensor, ""]:
    """Mean square, over vertices and axes, of the distance to the mean of the neighbours.

    Neighbours count once for each face that they share with the vertex, so twice inside the
    surface, as in nvdiffrec. Give it positions, or how far they have moved since the start
    ("relative"), which lets the starting shape keep its edges.
    """
    if vertices.device.type != "cpu":
        return _laplacian_there(vertices, faces)
    return _Laplacian.apply(vertices, faces)  # type: ignore[no-untyped-call,no-any-return]


def normal_consistency(
    vertices: Float[Tensor, "n 3"],
    faces: Int[Tensor, "f 3"],
    pairs: Int[Tensor, "q 2"] | None = None,
) -> Float[Tensor, ""]:
    """Mean of one minus the cosine between the normals of faces that share an edge.

    Args:
        vertices: positions.
        faces: corners.
        pairs: as `face_pairs` gives them; None works them out, and remembers them for as long
            as `faces` lives.

    Returns:
        From 0 (flat) to 2. Faces without an area count as perpendicular to their neighbours
        and get no gradient.
    """
    pairs = _remembered_pairs(faces) if pairs is None else pairs
    if len(pairs) == 0:
        return vertices.sum() * 0
    normals = face_normals(vertices, faces)
    square = normals.square().sum(-1, keepdim=True)
    # where() comes before sqrt(): the gradient of sqrt at 0 is infinite.
    length = torch.where(square > 0, square, 1.0).sqrt()
    unit = normals / length
    ends = pairs.long()
    cosine = (unit.index_select(0, ends[:, 0]) * unit.index_select(0, ends[:, 1])).sum(-1)
    return (1 - cosine).mean()


def deviation(l_dev: Float[Tensor, " k"]) -> Float[Tensor, ""]:
    """The mean of FlexiCubes' deviations, zero when there is none."""
    return l_dev.sum() / max(len(l_dev), 1)


def face_pairs(faces: Int[Tensor, "f 3"]) -> Int[Tensor, "q 2"]:
    """Faces that share an edge, each pair once.

    An edge of one face, or of more than two, gives none. Pairs are in their edges' order.
    """
    corner = faces.long()
    ends = torch.cat([corner[:, [0, 1]], corner[:, [1, 2]], corner[:, [2, 0]]])
    size = int(corner.max()) + 1 if len(corner) else 1
    key = ends.amin(-1) * size + ends.amax(-1)
    key, order = key.sort(stable=True)
    same = key[1:] == key[:-1]
    # Exactly two: equal to the next, and neither the one before nor the one after is.
    no = same.new_zeros(1)
    alone = same & ~torch.cat([no, same])[:-1] & ~torch.cat([same, no])[1:]
    first = alone.nonzero()[:, 0]
    owner = order % max(len(corner), 1)
    return torch.stack([owner[first], owner[first + 1]], dim=-1)


_pairs: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}


def _remembered_pairs(faces: Tensor) -> Tensor:
    known = _pairs.get(id(faces))
    if known is not None and known[0]() is faces:
        return known[1]
    for key in [key for key, (owner, _) in _pairs.items() if owner() is None]:
        del _pairs[key]
    pairs = face_pairs(faces)
    _pairs[id(faces)] = (weakref.ref(faces), pairs)
    return pairs


# The same on other devices, by torch, without waiting for them.


def _sign_changes_there(sdf: Tensor, edges: Tensor) -> Tensor:
    here, there = (sdf.index_select(0, end) for end in edges.long().unbind(1))
    crossed = (here < 0) != (there < 0)
    each = [
        functional.binary_cross_entropy_with_logits(a, (b >= 0).to(a.dtype), reduction="none")
        for a, b in ((here, there), (there, here))
    ]
    total = torch.where(crossed, each[0] + each[1], 0.0).sum()
    return total / crossed.sum().clamp_min(1)


def _roughness_there(sdf: Tensor, edges: Tensor) -> Tensor:
    a, b = edges.long().unbind(1)
    around, degree = torch.zeros_like(sdf), torch.zeros_like(sdf)
    for here, there in ((a, b), (b, a)):
        around = around.index_add(0, here, sdf.index_select(0, there))
        degree = degree.index_add(0, here, torch.ones_like(sdf[:1]).expand(len(here)))
    gap = torch.where(degree > 0, around / degree.clamp_min(1) - sdf, 0.0)
    return gap.square().sum() / max(len(sdf), 1)


def _laplacian_there(vertices: Tensor, faces: Tensor) -> Tensor:
    corners = faces.long().unbind(1)
    positions = [vertices.index_select(0, corner) for corner in corners]
    whole = positions[0] + positions[1] + positions[2]
    gap, count = torch.zeros_like(vertices), torch.zeros_like(vertices[:, :1])
    for corner, position in zip(corners, positions, strict=True):
        gap = gap.index_add(0, corner, whole - 3 * position)
        count = count.index_add(0, corner, torch.full_like(position[:, :1], 2.0))
    return (gap / count.clamp_min(1)).square().sum() / max(vertices.numel(), 1)


class _EdgeTerm(torch.autograd.Function):
    """A scalar that a kernel makes together with its gradient."""

    @staticmethod
    def forward(ctx: Any, sdf: Tensor, edges: Tensor, sums: Any) -> Tensor:
        value = sdf.detach().contiguous().cpu().numpy()
        grad = np.zeros_like(value)
        total = sums(edges.contiguous().cpu().numpy().reshape(-1), value, grad)
        ctx.save_for_backward(torch.from_numpy(grad).to(sdf))
        return sdf.new_tensor(total)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * grad, None, None


class _Laplacian(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vertices: Tensor, faces: Tensor) -> Tensor:
        point = vertices.detach().contiguous().cpu().numpy()
        grad = np.zeros_like(point)
        total = _laplacian_sums(
            faces.contiguous().cpu().numpy().reshape(-1), point.reshape(-1), grad.reshape(-1)
        )
        ctx.save_for_backward(torch.from_numpy(grad).to(vertices))
        return vertices.new_tensor(total)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return slope * grad, None


@kernel
def _sign_change_sums(edges: Any, value: Any, grad: Any) -> float:
    total = 0.0
    count = 0
    for e in range(len(edges) // 2):
        a = np.uint32(edges[2 * e])
        b = np.uint32(edges[2 * e + 1])
        if (value[a] < 0) == (value[b] < 0):
            continue
        count += 1
        for here, there in ((a, b), (b, a)):
            wanted = 0.0 if value[there] < 0 else 1.0
            small = np.exp(-abs(value[here]))
            total += max(value[here], 0.0) - value[here] * wanted + np.log1p(small)
            chance = (1.0 if value[here] >= 0 else small) / (1.0 + small)
            grad[here] += chance - wanted
    if count > 0:
        for i in range(len(grad)):
            grad[i] /= count
    return total / max(count, 1)


@kernel
def _roughness_sums(edges: Any, value: Any, grad: Any) -> float:
    size = len(value)
    mean = np.zeros_like(value)
    degree = np.zeros(size, np.int32)
    for e in range(len(edges) // 2):
        a = np.uint32(edges[2 * e])
        b = np.uint32(edges[2 * e + 1])
        mean[a] += value[b]
        mean[b] += value[a]
        degree[a] += 1
        degree[b] += 1
    total = 0.0
    for i in range(size):
        if degree[i] > 0:
            gap = mean[i] / degree[i] - value[i]
            total += gap * gap
            mean[i] = 2 * gap / (size * degree[i])  # from here on: what neighbours get
            grad[i] = -2 * gap / size
    for e in range(len(edges) // 2):
        a = np.uint32(edges[2 * e])
        b = np.uint32(edges[2 * e + 1])
        grad[a] += mean[b]
        grad[b] += mean[a]
    return total / max(size, 1)


@kernel
def _laplacian_sums(faces: Any, point: Any, grad: Any) -> float:
    size = len(point) // 3
    gap = np.zeros_like(point)
    count = np.zeros(size, np.int32)
    for f in range(len(faces) // 3):
        a = np.uint32(faces[3 * f])
        b = np.uint32(faces[3 * f + 1])
        c = np.uint32(faces[3 * f + 2])
        count[a] += 2
        count[b] += 2
        count[c] += 2
        for axis in range(3):
            x = point[3 * a + axis]
            y = point[3 * b + axis]
            z = point[3 * c + axis]
            gap[3 * a + axis] += y + z - 2 * x
            gap[3 * b + axis] += z + x - 2 * y
            gap[3 * c + axis] += x + y - 2 * z
    total = 0.0
    for i in range(size):
        for axis in range(3):
            here = gap[3 * i + axis] / max(count[i], 1)
            total += here * here
            # From here on: the loss's slope at the sum, divided by the count.
            gap[3 * i + axis] = 2 * here / (3 * size * max(count[i], 1))
    for f in range(len(faces) // 3):
        a = np.uint32(faces[3 * f])
        b = np.uint32(faces[3 * f + 1])
        c = np.uint32(faces[3 * f + 2])
        for axis in range(3):
            x = gap[3 * a + axis]
            y = gap[3 * b + axis]
            z = gap[3 * c + axis]
            grad[3 * a + axis] += y + z - 2 * x
            grad[3 * b + axis] += z + x - 2 * y
            grad[3 * c + axis] += x + y - 2 * z
    return total / max(3 * size, 1)
