"""Smooth shapes by formula, for points_shapes.py: torus knots, a genus-3 blend, a thin bowl.

Letters: n points, s along a knot. Values are negative inside; they need not be distances, since
nearest points are found by descent (`foot_points`).
"""

import math

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn import functional

from isolux.geometry.fields import Field

__all__ = ["Bowl", "Knot", "Rings", "Scaled", "foot_points", "torus_faces", "turned"]

_STEPS = 8  # of the descent; its error shrinks by distance / radius of curvature in each
_STILL = 1e-8  # a step that ends it; what is left is of second order
_TABLE = 512  # points of a knot to start a search from; more would only slow it down


def turned() -> Tensor:
    """A rotation [3, 3] that puts nothing along an axis: by 1 radian about (1, 2, 3)."""
    x, y, z = (torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64) / math.sqrt(14.0)).tolist()
    cross = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]], dtype=torch.float64)
    return torch.linalg.matrix_exp(cross)


def foot_points(field: Field, points: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest points [n, 3] of a smooth zero set, and its unit normals there.

    Newton's step to the surface and a step along it, towards the foot of the perpendicular, in
    turn.

    Args:
        field: its gradient must not vanish near the surface.
        points: [n, 3], nearer to the surface than its radius of curvature.
        start: [n, 3], near the feet.
    """
    foot, active = start.clone(), torch.arange(len(points))
    for _ in range(_STEPS):
        if len(active) == 0:
            break
        old, target = foot[active], points[active]
        value, normal, steep = _slope(field, old)
        new = old - (value / steep)[:, None] * normal
        away = target - new
        new = new + away - (away * normal).sum(-1, keepdim=True) * normal
        foot[active] = new
        active = active[(new - old).norm(dim=-1) > _STILL]
    for _ in range(2):
        value, normal, steep = _slope(field, foot)
        foot = foot - (value / steep)[:, None] * normal
    return foot, normal


def _slope(field: Field, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values [n], unit gradients [n, 3] and the gradients' lengths [n], all in one pass."""
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        value = field.value(points)
        (slope,) = torch.autograd.grad(value.sum(), points)
    steep = slope.norm(dim=-1)
    return value.detach(), slope / steep[:, None], steep


class Scaled(Field):
    """A field in other units: value(p) = scale * base(p / scale + middle)."""

    def __init__(self, base: Field, middle: Tensor, scale: float) -> None:
        self.base, self.middle, self.scale = base, middle, scale

    @property
    def bounds(self) -> Tensor:
        """The box [2, 3] of the base, moved and scaled."""
        return (self.base.bounds - self.middle) * self.scale

    def value(self, points: Tensor) -> Tensor:
        """Values [n] at points [n, 3]."""
        return self.scale * self.base.value(points / self.scale + self.middle)


class Knot(Field):
    """A tube about the (2, 3) torus knot, its radius rippled along and around.

    Args:
        radius: of the tube; the torus has radii 2 and 1.
        height: of the ripples, as a share of the radius.
        along: how many ripples along the knot.
        around: how many around the tube.
    """

    def __init__(self, radius: float, height: float, along: int, around: int) -> None:
        self.radius, self.height, self.along, self.around = radius, height, along, around
        self._s = 2.0 * math.pi * torch.arange(_TABLE, dtype=torch.float64) / _TABLE
        self._tree = cKDTree(self._frame(self._s)[0].numpy())

    @property
    def bounds(self) -> Tensor:
        """The torus' box [2, 3] with room for the tube."""
        reach = self.radius * (1.0 + self.height)
        top = torch.tensor([3.0, 3.0, 1.0], dtype=torch.float64) + reach
        return torch.stack([-top, top])

    def value(self, points: Tensor) -> Tensor:
        """How far points [n, 3] are from the knot, less the tube's radius there."""
        near = self._s[self._tree.query(points.detach().numpy())[1]]
        with torch.no_grad():
            for _ in range(3):
                near = self._newton(near, points)
        s = self._newton(near, points)  # once with gradients, which makes them exact
        centre, normal, side = self._frame(s)
        away = points - centre
        angle = torch.atan2((away * side).sum(-1), (away * normal).sum(-1))
        return away.norm(dim=-1) - self._radius(s, angle)

    def _newton(self, s: Tensor, points: Tensor) -> Tensor:
        """A step of s [n] towards the nearest point of the curve."""
        centre, speed, bend = _knot_curve(s)
        away = points - centre
        slope = speed.square().sum(-1) - (away * bend).sum(-1)
        return s + (away * speed).sum(-1) / slope.detach()

    def _radius(self, s: Tensor, angle: Tensor) -> Tensor:
        wave = torch.cos(self.along * s) * torch.cos(self.around * angle)
        return self.radius * (1.0 + self.height * wave)

    def _frame(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The curve [n, 3], the torus' normal there and the direction across both."""
        centre, speed, _ = _knot_curve(s)
        ring = torch.stack([torch.cos(2 * s), torch.sin(2 * s), torch.zeros_like(s)], -1)
        normal = functional.normalize(centre - 2.0 * ring, dim=-1)
        return centre, normal, torch.linalg.cross(functional.normalize(speed, dim=-1), normal)

    def grid(self, along: int, around: int) -> tuple[Tensor, Tensor]:
        """Exact points of the surface as a closed mesh: vertices [n, 3] and faces."""
        s = (2.0 * math.pi * torch.arange(along, dtype=torch.float64) / along)[:, None]
        angle = 2.0 * math.pi * torch.arange(around, dtype=torch.float64)[None] / around
        s, angle = (part.reshape(-1) for part in torch.broadcast_tensors(s, angle))
        centre, normal, side = self._frame(s)
        out = torch.cos(angle)[:, None] * normal + torch.sin(angle)[:, None] * side
        return centre + self._radius(s, angle)[:, None] * out, torus_faces(along, around)


def torus_faces(rows: int, columns: int) -> Tensor:
    """Two triangles for each cell [rows, columns] of a grid that closes both ways."""
    i, j = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    down, right = (i + 1) % rows, (j + 1) % columns
    a, b, c, d = (r * columns + q for r, q in ((i, j), (i, right), (down, right), (down, j)))
    cells = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], 2)
    return torch.from_numpy(cells.reshape(-1, 3))


def _knot_curve(s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The (2, 3) torus knot [n, 3] with its first and second derivative."""
    r, dr, ddr = 2.0 + torch.cos(3 * s), -3.0 * torch.sin(3 * s), -9.0 * torch.cos(3 * s)
    c, d = torch.cos(2 * s), torch.sin(2 * s)
    curve = torch.stack([r * c, r * d, torch.sin(3 * s)], -1)
    speed = torch.stack([dr * c - 2 * r * d, dr * d + 2 * r * c, 3 * torch.cos(3 * s)], -1)
    bend = torch.stack(
        [
            ddr * c - 4 * dr * d - 4 * r * c,
            ddr * d + 4 * dr * c - 4 * r * d,
            -9.0 * torch.sin(3 * s),
        ],
        -1,
    )
    return curve, speed, bend


class Rings(Field):
    """Three rings in a row that melt into one body of genus 3, turned off the axes."""

    _MIDDLE = (-1.15, 0.0, 1.15)
    _SHARP = 9.0  # of the blend

    def __init__(self) -> None:
        self._turn = turned()

    @property
    def bounds(self) -> Tensor:
        """A box [2, 3] about the body."""
        half = torch.full((3,), 2.2, dtype=torch.float64)
        return torch.stack([-half, half])

    def value(self, points: Tensor) -> Tensor:
        """A smooth minimum of the rings' distances at points [n, 3]."""
        local = points.double() @ self._turn
        parts = []
        for middle in self._MIDDLE:
            across = (local[:, 0] - middle).square() + (1.25 * local[:, 1]).square()
            flat = (across + 1e-12).sqrt() - 0.62
            parts.append((flat.square() + local[:, 2].square() + 1e-12).sqrt() - 0.24)
        stacked = torch.stack(parts, -1)
        return -torch.logsumexp(-self._SHARP * stacked, -1) / self._SHARP


class Bowl(Field):
    """A shell of half a thickness about a part of a sphere, its lip round: exact distances.

    Args:
        half: of the thickness; the sphere has radius 1.
        opening: angle from the axis to the lip, radians.
    """

    def __init__(self, half: float, opening: float) -> None:
        self.half, self.opening, self._turn = half, opening, turned()

    @property
    def bounds(self) -> Tensor:
        """A box [2, 3] about the sphere."""
        top = torch.full((3,), 1.0 + self.half, dtype=torch.float64)
        return torch.stack([-top, top])

    def value(self, points: Tensor) -> Tensor:
        """Signed distances of points [n, 3]."""
        local = points @ self._turn
        out = (local[:, :2].square().sum(-1) + 1e-30).sqrt()
        up = local[:, 2]
        # Beyond the lip's cone the nearest point of the cap is its rim.
        beyond = torch.atan2(out, up) < self.opening
        rim = torch.hypot(out - math.sin(self.opening), up - math.cos(self.opening))
        cap = (torch.hypot(out, up) - 1.0).abs()
        return torch.where(beyond, rim, cap) - self.half

    def grid(self, around: int) -> tuple[Tensor, Tensor]:
        """Exact points of the surface as a mesh with two poles: vertices [n, 3] and faces."""
        inner = torch.linspace(math.pi, self.opening, around // 2, dtype=torch.float64)[1:]
        lip = torch.linspace(math.pi, 0.0, 24, dtype=torch.float64)[1:-1]
        sine, cosine = math.sin(self.opening), math.cos(self.opening)
        radial = self.half * torch.cos(lip)
        # At the rim, along the sphere's normal and across it, towards the axis.
        across = self.half * torch.sin(lip)
        rim = torch.stack(
            [sine * (1 + radial) - cosine * across, cosine * (1 + radial) + sine * across], -1
        )
        polar = torch.stack([torch.sin(inner), torch.cos(inner)], -1)
        profile = torch.cat(
            [(1 - self.half) * polar, rim, (1 + self.half) * polar.flip(0)]
        )  # from the inner pole over the lip to the outer one
        vertices, faces = revolved(profile, around)
        low = torch.tensor(
            [[0, 0, self.half - 1.0], [0, 0, -1.0 - self.half]], dtype=torch.float64
        )
        poles = _caps(len(profile), around)
        return torch.cat([vertices, low]) @ self._turn.T, torch.cat([faces, poles])[
            :, [0, 2, 1]
        ]


def revolved(profile: Tensor, around: int) -> tuple[Tensor, Tensor]:
    """An open strip [rows, 2] of (distance from the axis, height) turned about the axis."""
    angle = 2.0 * math.pi * torch.arange(around, dtype=torch.float64) / around
    out, up = profile[:, :1], profile[:, 1:].expand(-1, around)
    rings = torch.stack([out * torch.cos(angle), out * torch.sin(angle), up], -1)
    faces = torus_faces(len(profile), around)[: 2 * around * (len(profile) - 1)]
    return rings.reshape(-1, 3), faces


def _caps(rows: int, around: int) -> Tensor:
    """Fans that close the first and the last ring of `revolved` at vertices after them."""
    j = torch.arange(around)
    following = (j + 1) % around
    first, last = torch.full((around,), rows * around), (rows - 1) * around
    return torch.cat(
        [
            torch.stack([first, following, j], -1),
            torch.stack([first + 1, last + j, last + following], -1),
        ]
    )
