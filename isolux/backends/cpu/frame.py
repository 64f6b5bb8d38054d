"""Directions of shading, fused. Letters as in `isolux.backends.frame`.

Vectors are tuples of three numbers; names of gradients begin with `g`.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from isolux.backends.cpu.arrays import check_indices, flat, flat_index
from isolux.backends.cpu.jit import SHADING_MATH, kernel
from isolux.backends.cpu.pool import chunks, parallel_for

__all__ = ["backward", "forward"]

_CHUNK = 16384  # pixels of a task
_BEND = 0.1  # cosine to the viewer under which a normal is bent towards the face's
_LEAST = 1e-3  # of a perturbation's z
_EPS = 1e-30  # squared length under which a vector counts as zero


def forward(position: Tensor, normal: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
    """Raw `shading_frame`: unit normal, mirrored direction, cosine."""
    given = _arrays(position, normal, *rest)
    found = torch.empty_like(normal), torch.empty_like(normal), torch.empty_like(normal[:, 0])
    out = [flat(t) for t in found]
    parallel_for(_forward, [(*given, *out, *part) for part in chunks(len(normal), _CHUNK)])
    return found


def backward(*inputs: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients to position, normal, tangent and perturbation."""
    given = _arrays(*inputs[:9])
    above = [flat(t) for t in inputs[9:] if t is not None]
    count = len(above[2])
    found = [
        None if t is None else torch.empty_like(t) for t in (*inputs[:2], inputs[6], inputs[8])
    ]
    out = [given[0][:0] if t is None else flat(t) for t in found]
    parallel_for(_backward, [(*given, *above, *out, *part) for part in chunks(count, _CHUNK)])
    return tuple(found)


def _arrays(*inputs: Tensor | None) -> tuple[Any, ...]:
    """The inputs as flat arrays, empty where there are none; then the three constants."""
    position, normal, face_normal, triangle, camera, view, *frame = inputs
    assert position is not None
    assert normal is not None
    assert face_normal is not None
    assert triangle is not None
    assert camera is not None
    assert view is not None
    check_indices("triangle", triangle, len(face_normal))
    check_indices("view", view, len(camera))
    none = flat(normal)[:0]
    real = none.dtype.type
    return (
        flat(position),
        flat(normal),
        flat(face_normal),
        flat_index(triangle),
        flat(camera),
        flat_index(view),
        *(none if t is None else flat(t) for t in frame),
        (real(_BEND), real(_LEAST), real(_EPS)),
    )


@kernel(fastmath=SHADING_MATH)
def _at(array: Any, index: Any) -> Any:
    i = np.uint64(3) * np.uint64(index)
    return array[i], array[i + np.uint64(1)], array[i + np.uint64(2)]


@kernel(fastmath=SHADING_MATH)
def _put(array: Any, index: Any, a: Any) -> None:
    i = np.uint64(3) * np.uint64(index)
    array[i], array[i + np.uint64(1)], array[i + np.uint64(2)] = a


@kernel(fastmath=SHADING_MATH)
def _dot(a: Any, b: Any) -> Any:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@kernel(fastmath=SHADING_MATH)
def _cross(a: Any, b: Any) -> Any:
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )


@kernel(fastmath=SHADING_MATH)
def _sum(a: Any, x: Any, b: Any) -> Any:
    """a + x b."""
    return a[0] + x * b[0], a[1] + x * b[1], a[2] + x * b[2]


@kernel(fastmath=SHADING_MATH)
def _times(a: Any, x: Any) -> Any:
    return a[0] * x, a[1] * x, a[2] * x


@kernel(fastmath=SHADING_MATH)
def _unit(a: Any, eps: Any) -> Any:
    """a at length 1, and one over its length; zeros where it has none."""
    square = _dot(a, a)
    one = type(square)(1)
    inverse = one / np.sqrt(square) if square > eps else one - one
    return _times(a, inverse), inverse


@kernel(fastmath=SHADING_MATH)
def _unit_back(unit: Any, inverse: Any, g: Any) -> Any:
    """The gradient before `_unit`: what is across, by the length."""
    return _times(_sum(g, -_dot(unit, g), unit), inverse)


@kernel(fastmath=SHADING_MATH)
def _bump(n: Any, tangent: Any, hand: Any, bump: Any, limits: Any) -> Any:
    """The perturbed normal, and what its gradient needs."""
    _, least, eps = limits
    along = _dot(n, tangent)
    t, by_t = _unit(_sum(tangent, -along, n), eps)
    b = _times(_cross(n, t), hand)
    z = max(bump[2], least)
    whole = _sum(_sum(_times(t, bump[0]), bump[1], b), z, n)
    w, by_w = _unit(whole, eps)
    return w, by_w, t, by_t, b, along, z


@kernel(fastmath=SHADING_MATH)
def _bent(v: Any, face: Any, n: Any, limits: Any) -> Any:
    """The unit normal of shading, and what its gradient needs."""
    bend, _, eps = limits
    one = type(bend)(1)
    side = -one if _dot(v, face) < one - one else one
    face, n = _times(face, side), _times(n, side)
    share = _dot(v, n) / bend
    weight = min(max(share, one - one), one)
    away = _sum(n, -one, face)
    s, by_s = _unit(_sum(face, weight, away), eps)
    free = one / bend if weight == share else one - one
    return s, by_s, n, side, weight, away, free


@kernel(fastmath=SHADING_MATH)
def _forward(
    position: Any,
    normal: Any,
    face_normal: Any,
    triangle: Any,
    camera: Any,
    view: Any,
    tangent: Any,
    handedness: Any,
    perturbation: Any,
    limits: Any,
    out: Any,
    mirrored: Any,
    cosine: Any,
    start: int,
    stop: int,
) -> None:
    bend, _, eps = limits
    one = type(bend)(1)
    for p in range(start, stop):
        v, _ = _unit(_sum(_at(camera, view[p]), -one, _at(position, p)), eps)
        n, _ = _unit(_at(normal, p), eps)
        if tangent.size:
            n, _, _, _, _, _, _ = _bump(
                n, _at(tangent, p), handedness[p], _at(perturbation, p), limits
            )
        s, _, _, _, _, _, _ = _bent(v, _at(face_normal, triangle[p]), n, limits)
        c = _dot(v, s)
        _put(out, p, s)
        _put(mirrored, p, _sum(_times(s, c + c), -one, v))
        cosine[p] = c


@kernel(fastmath=SHADING_MATH)
def _bump_back(
    n: Any, tangent: Any, hand: Any, bump: Any, kept: Any, g: Any, limits: Any
) -> Any:
    """Gradients to the normal, the tangent and the perturbation; `_bump` gave `kept`."""
    w, by_w, t, by_t, b, along, z = kept
    one = type(z)(1)
    g = _unit_back(w, by_w, g)
    g_z = _dot(g, n)
    g_bump = _dot(g, t), _dot(g, b), g_z if bump[2] >= limits[1] else g_z - g_z
    g_n, g_t, g_b = _times(g, z), _times(g, bump[0]), _times(g, bump[1] * hand)
    # d(n x t).g = dn.(t x g) + dt.(g x n); g_b is of n x t, handedness included
    g_n = _sum(g_n, one, _cross(t, g_b))
    g_t = _sum(g_t, one, _cross(g_b, n))
    g_t = _unit_back(t, by_t, g_t)
    across = _dot(g_t, n)
    g_n = _sum(_sum(g_n, -along, g_t), -across, tangent)
    return g_n, _sum(g_t, -across, n), g_bump


@kernel(fastmath=SHADING_MATH)
def _backward(
    position: Any,
    normal: Any,
    face_normal: Any,
    triangle: Any,
    camera: Any,
    view: Any,
    tangent: Any,
    handedness: Any,
    perturbation: Any,
    limits: Any,
    g_out: Any,
    g_mirrored: Any,
    g_cosine: Any,
    to_position: Any,
    to_normal: Any,
    to_tangent: Any,
    to_perturbation: Any,
    start: int,
    stop: int,
) -> None:
    bend, _, eps = limits
    one = type(bend)(1)
    two = one + one
    for p in range(start, stop):
        v, by_v = _unit(_sum(_at(camera, view[p]), -one, _at(position, p)), eps)
        smooth, by_n = _unit(_at(normal, p), eps)
        kept = smooth, by_n, smooth, by_n, smooth, by_n, by_n  # of the kind that `_bump` gives
        if tangent.size:
            kept = _bump(smooth, _at(tangent, p), handedness[p], _at(perturbation, p), limits)
        n = kept[0]
        face = _at(face_normal, triangle[p])
        s, by_s, n, side, weight, away, free = _bent(v, face, n, limits)
        g_s, g_r = _at(g_out, p), _at(g_mirrored, p)
        g_c = g_cosine[p] + two * _dot(s, g_r)
        g_s = _sum(_sum(g_s, two * _dot(v, s), g_r), g_c, v)
        g_v = _sum(_times(s, g_c), -one, g_r)
        g_s = _unit_back(s, by_s, g_s)
        g_facing = _dot(g_s, away) * free
        g_n = _times(_sum(_times(g_s, weight), g_facing, v), side)
        g_v = _sum(g_v, g_facing, n)
        _put(to_position, p, _times(_unit_back(v, by_v, g_v), -one))
        if tangent.size:
            g_n, g_t, g_bump = _bump_back(
                smooth,
                _at(tangent, p),
                handedness[p],
                _at(perturbation, p),
                kept,
                g_n,
                limits,
            )
            _put(to_tangent, p, g_t)
            _put(to_perturbation, p, g_bump)
        _put(to_normal, p, _unit_back(smooth, by_n, g_n))
