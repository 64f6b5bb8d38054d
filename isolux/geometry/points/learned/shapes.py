"""Random shapes by formula, to train on: solids cut and blended, tubes, extrusions, shells.

Letters: n points. A shape is a function of float64 points [n, 3] about the origin, negative
inside, whose gradient is not far from one in length; `surface_of` samples its zero set exactly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

__all__ = ["Implicit", "Surface", "random_shape", "surface_of"]

Implicit = Callable[[Any], Any]

_CELLS = 48  # of the box that a surface is looked for in, along an axis
_BOX = 1.35  # half its edge; shapes keep within 1.25
_TINY = 1e-5  # of numerical gradients
_STEPS = 4  # of Newton's, to the surface


@dataclass(frozen=True)
class Surface:
    """Samples of a zero set, about even by area; the longest side is 1."""

    points: Any  # float64 [n, 3]
    normals: Any  # float64 [n, 3], unit, outward
    tree: Any  # cKDTree of the points


def random_shape(rng: np.random.Generator) -> Implicit:
    """A shape of one of the kinds, turned at random."""
    kinds = (_solids, _solids, _blobs, _tube, _tube, _extrusion, _shell, _shell, _superquadric)
    shape = kinds[rng.integers(len(kinds))](rng)
    if rng.random() < 0.35:
        shape = _rippled(shape, rng)
    return _turned(shape, rng)


def surface_of(shape: Implicit, count: int, rng: np.random.Generator) -> Surface | None:
    """About `count` samples of a shape's surface, or None when it has hardly any.

    Random points of the cells that it crosses go down the gradient; those that were next to it
    are as even as they were in space.
    """
    axis = (np.arange(_CELLS) + 0.5) * (2 * _BOX / _CELLS) - _BOX
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    edge = 2 * _BOX / _CELLS
    value = shape(grid)
    slope = np.stack(np.gradient(value.reshape((_CELLS,) * 3), edge), -1).reshape(-1, 3)
    length = np.maximum(np.linalg.norm(slope, axis=1), 0.3)
    near = np.flatnonzero(np.abs(value) < 1.8 * edge * length)
    if len(near) < 200:
        return None
    band = 0.25 * edge
    tries = min(4 * count, 400_000)
    start = grid[rng.choice(near, tries)] + (rng.random((tries, 3)) - 0.5) * edge
    value, slope = _rough_slope(shape, start)
    length = np.maximum(np.linalg.norm(slope, axis=1), 1e-9)
    start = start[np.abs(value) < 1.5 * band * length]
    points = start.copy()
    for _ in range(_STEPS):
        value, slope = _rough_slope(shape, points)
        square = np.maximum((slope * slope).sum(1), 1e-9)
        points -= np.clip(value / square, -edge, edge)[:, None] * slope
    value, slope = _slope(shape, points)
    length = np.linalg.norm(slope, axis=1)
    moved = np.linalg.norm(points - start, axis=1)
    good = (length > 0.2) & (np.abs(value) < 1e-5) & (moved < band)
    points, normals = points[good][:count], (slope / length[:, None])[good][:count]
    if len(points) < count // 4:
        return None
    low, high = points.min(0), points.max(0)
    points = (points - 0.5 * (low + high)) / (high - low).max()
    return Surface(points, normals, cKDTree(points))


def _rough_slope(shape: Implicit, points: Any) -> tuple[Any, Any]:
    """Values [n] and gradients [n, 3] by differences to one side."""
    value, slope = shape(points), np.empty_like(points)
    for axis in range(3):
        step = np.zeros(3)
        step[axis] = _TINY
        slope[:, axis] = (shape(points + step) - value) / _TINY
    return value, slope


def _slope(shape: Implicit, points: Any) -> tuple[Any, Any]:
    """Values [n] and gradients [n, 3] by central differences."""
    slope = np.empty_like(points)
    for axis in range(3):
        step = np.zeros(3)
        step[axis] = _TINY
        slope[:, axis] = (shape(points + step) - shape(points - step)) / (2 * _TINY)
    return shape(points), slope


def _turn(rng: np.random.Generator) -> Any:
    """A random rotation [3, 3]."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


def _turned(shape: Implicit, rng: np.random.Generator) -> Implicit:
    turn = _turn(rng)
    return lambda p: shape(p @ turn)


def _norm(p: Any) -> Any:
    return np.sqrt((p * p).sum(-1) + 1e-18)


def _box(size: Any, round_: float) -> Implicit:
    def value(p: Any) -> Any:
        q = np.abs(p) - (size - round_)
        return _norm(np.maximum(q, 0)) + np.minimum(q.max(-1), 0) - round_

    return value


def _ellipsoid(size: Any) -> Implicit:
    def value(p: Any) -> Any:
        k, m = _norm(p / size), _norm(p / size**2)
        return k * (k - 1) / np.maximum(m, 1e-6)

    return value


def _cylinder(radius: float, half: float, taper: float) -> Implicit:
    def value(p: Any) -> Any:
        side = np.hypot(p[:, 0], p[:, 1]) - radius * (1 + taper * p[:, 2] / half)
        end = np.abs(p[:, 2]) - half
        q = np.maximum(np.stack([side, end], -1), 0)
        return _norm(q) + np.minimum(np.maximum(side, end), 0)

    return value


def _torus(big: float, small: float) -> Implicit:
    return lambda p: np.hypot(np.hypot(p[:, 0], p[:, 1]) - big, p[:, 2]) - small


def _primitive(rng: np.random.Generator, size: float) -> Implicit:
    kind = rng.integers(4)
    extent = size * rng.uniform(0.35, 1.0, 3)
    part: Implicit
    if kind == 0:
        part = _box(extent, float(rng.choice([0.0, 0.0, 0.15])) * float(extent.min()))
    elif kind == 1:
        part = _ellipsoid(extent)
    elif kind == 2:
        part = _cylinder(extent[0], extent[1], float(rng.choice([0.0, rng.uniform(-0.6, 0.6)])))
    else:
        part = _torus(0.7 * size, size * rng.uniform(0.1, 0.28))
    turn, shift = _turn(rng), rng.uniform(-1, 1, 3) * 0.45 * (1 - size) / 0.6
    return lambda p: part((p - shift) @ turn)


def _smooth_least(a: Any, b: Any, width: float) -> Any:
    h = np.maximum(width - np.abs(a - b), 0) / width
    return np.minimum(a, b) - 0.25 * width * h * h


def _joined(one: Implicit, two: Implicit, how: int, width: float) -> Implicit:
    def value(p: Any) -> Any:
        a, b = one(p), two(p)
        if how == 0:
            return _smooth_least(a, b, width) if width > 0 else np.minimum(a, b)
        b = -b if how == 1 else b
        return -_smooth_least(-a, -b, width) if width > 0 else np.maximum(a, b)

    return value


def _solids(rng: np.random.Generator) -> Implicit:
    """A few solids, joined, cut and blended."""
    shape = _primitive(rng, rng.uniform(0.6, 0.9))
    for _ in range(int(rng.integers(0, 6))):
        how = int(rng.choice([0, 0, 0, 1, 1, 2], p=[0.2, 0.2, 0.15, 0.2, 0.2, 0.05]))
        width = float(rng.choice([0.0, rng.uniform(0.02, 0.25)]))
        size = rng.uniform(0.6, 1.0) if how == 2 else rng.uniform(0.15, 0.55)
        shape = _joined(shape, _primitive(rng, size), how, width)
    return shape


def _blobs(rng: np.random.Generator) -> Implicit:
    """Metaballs."""
    count = int(rng.integers(3, 14))
    middle = rng.normal(size=(count, 3)) * 0.32
    radius = rng.uniform(0.1, 0.4, count) * (1.0 if count < 8 else 0.7)

    def value(p: Any) -> Any:
        total = np.zeros(len(p))
        for at, r in zip(middle, radius, strict=True):
            d = p - at
            total += np.exp(-(d * d).sum(-1) / (r * r))
        # A logarithm makes a sum of bells about a distance.
        return 0.35 * radius.mean() * (np.log(0.4) - np.log(total + 1e-300)) * 1.4

    return value


def _curve(rng: np.random.Generator) -> tuple[Any, Any]:
    """A closed curve [k, 3] by a short Fourier series, and its parameter."""
    turns = 2 * np.pi * np.arange(3000) / 3000
    waves = int(rng.integers(1, 5))
    path = np.zeros((3000, 3))
    for k in range(1, waves + 1):
        a, b = rng.normal(size=(2, 3)) / k**0.8
        path += a * np.cos(k * turns)[:, None] + b * np.sin(k * turns)[:, None]
    path -= 0.5 * (path.min(0) + path.max(0))
    return path * (0.85 / np.abs(path).max()), turns


def _tube(rng: np.random.Generator) -> Implicit:
    """A tube about a closed curve, thick and thin, with rings."""
    path, turns = _curve(rng)
    tree = cKDTree(path)
    radius = rng.uniform(0.05, 0.2)
    share, waves = rng.uniform(0, 0.25), int(rng.integers(1, 50))

    def value(p: Any) -> Any:
        index = tree.query(p)[1]
        best, at = np.full(len(p), np.inf), np.zeros(len(p))
        for step in (-1, 1):  # the two pieces of line about the nearest corner
            a, other = path[index], (index + step) % len(path)
            line = path[other] - a
            t = np.clip(((p - a) * line).sum(-1) / (line * line).sum(-1), 0, 1)
            far = _norm(p - a - t[:, None] * line)
            at = np.where(far < best, turns[index] + step * t * turns[1], at)
            best = np.minimum(best, far)
        return best - radius * (1 + share * np.cos(waves * at))

    return value


def _extrusion(rng: np.random.Generator) -> Implicit:
    """A star-shaped outline with corners, pulled along z or turned about it."""
    corners = int(rng.integers(4, 24))
    angle = 2 * np.pi * (np.arange(corners) + 0.7 * rng.random(corners)) / corners
    radius = rng.uniform(0.35, 1.0, corners)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    half, twist = rng.uniform(0.1, 0.6), float(rng.choice([0.0, rng.uniform(-1.5, 1.5)]))

    def outline(u: Any, v: Any) -> Any:
        best, inside = np.full(len(u), np.inf), np.zeros(len(u), bool)
        for i in range(corners):
            j = (i + 1) % corners
            ex, ey, wx, wy = x[j] - x[i], y[j] - y[i], u - x[i], v - y[i]
            t = np.clip((wx * ex + wy * ey) / (ex * ex + ey * ey), 0, 1)
            best = np.minimum(best, (wx - t * ex) ** 2 + (wy - t * ey) ** 2)
            if y[i] != y[j]:
                inside ^= ((y[i] > v) != (y[j] > v)) & (u < x[i] + (v - y[i]) / ey * ex)
        return np.where(inside, -1, 1) * np.sqrt(best)

    def value(p: Any) -> Any:
        c, s = np.cos(twist * p[:, 2]), np.sin(twist * p[:, 2])
        side = outline(c * p[:, 0] + s * p[:, 1], c * p[:, 1] - s * p[:, 0])
        end = np.abs(p[:, 2]) - half
        q = np.maximum(np.stack([side, end], -1), 0)
        return _norm(q) + np.minimum(np.maximum(side, end), 0)

    return value


def _shell(rng: np.random.Generator) -> Implicit:
    """A wall of even thickness about something, often cut open."""
    base = [_blobs, _solids, _superquadric][rng.integers(3)](rng)
    half = np.exp(rng.uniform(np.log(0.008), np.log(0.05)))
    cuts = int(rng.integers(0, 3))
    normal = rng.normal(size=(cuts, 3))
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    level = rng.uniform(0.0, 0.5, cuts)

    def value(p: Any) -> Any:
        out = np.abs(base(p)) - half
        for n, at in zip(normal, level, strict=True):
            out = np.maximum(out, p @ n - at)
        return out

    return value


def _superquadric(rng: np.random.Generator) -> Implicit:
    size = rng.uniform(0.35, 0.95, 3)
    power, across = rng.uniform(1.3, 6.0), rng.uniform(1.3, 6.0)

    def value(p: Any) -> Any:
        q = np.abs(p / size) + 1e-9
        flat = (q[:, 0] ** across + q[:, 1] ** across) ** (power / across)
        return (((flat + q[:, 2] ** power) ** (1 / power)) - 1) * size.min()

    return value


def _rippled(shape: Implicit, rng: np.random.Generator) -> Implicit:
    """Waves of some length on a shape, not higher than they may be without folds."""
    wave = rng.normal(size=(3, 3))
    wave *= rng.uniform(10, 60) / np.linalg.norm(wave, axis=1, keepdims=True)
    phase = rng.uniform(0, 2 * np.pi, 3)
    height = rng.uniform(0.1, 0.5) / np.linalg.norm(wave, axis=1).max()

    def value(p: Any) -> Any:
        return shape(p) + height * np.sin(p @ wave.T + phase).mean(-1)

    return value
