"""Kernels of the visual hull: distance to a silhouette, and the lookup over views."""

from typing import Any

import numpy as np

from isolux.backends.cpu.jit import kernel

__all__ = ["carve", "distance_to_silhouette"]

_FAR = 1e20


@kernel
def distance_to_silhouette(mask: Any, distance: Any) -> None:
    """Signed distance in pixels to where coverage is one half, negative inside.

    Exact between pixel centres (Felzenszwalb and Huttenlocher 2012), and to a fraction of a
    pixel next to a soft edge. A mask without an edge gets a constant of the image's size.
    """
    height, width = mask.shape
    outside = np.empty((height, width))
    inside = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            covered = mask[y, x] > 0.5
            outside[y, x] = 0.0 if covered else _FAR  # to the nearest covered pixel
            inside[y, x] = _FAR if covered else 0.0
    _squared_distance(outside)
    _squared_distance(inside)
    most = float(height + width)
    for y in range(height):
        for x in range(width):
            away = min(np.sqrt(outside[y, x]), most)
            deep = min(np.sqrt(inside[y, x]), most)
            gap = away - 0.5 if away > 0 else 0.5 - deep
            alpha = mask[y, x]
            # The edge runs through this pixel: its coverage says where.
            if abs(gap) < 1 and 0.02 < alpha < 0.98:
                gap = 0.5 - alpha
            distance[y, x] = gap


@kernel
def _squared_distance(field: Any) -> None:
    """In place, by rows and then by columns."""
    height, width = field.shape
    longest = max(height, width)
    line = np.empty(longest)
    vertex = np.empty(longest, np.int64)
    border = np.empty(longest + 1)
    for y in range(height):
        for x in range(width):
            line[x] = field[y, x]
        _lower_envelope(line, width, vertex, border)
        k = 0
        for x in range(width):
            while border[k + 1] < x:
                k += 1
            field[y, x] = (x - vertex[k]) ** 2 + line[vertex[k]]
    for x in range(width):
        for y in range(height):
            line[y] = field[y, x]
        _lower_envelope(line, height, vertex, border)
        k = 0
        for y in range(height):
            while border[k + 1] < y:
                k += 1
            field[y, x] = (y - vertex[k]) ** 2 + line[vertex[k]]


@kernel
def _lower_envelope(line: Any, size: int, vertex: Any, border: Any) -> None:
    """Which parabola line[i] + (x - i)^2 is lowest, and from where on."""
    k = 0
    vertex[0] = 0
    border[0] = -_FAR
    border[1] = _FAR
    for q in range(1, size):
        while True:
            p = vertex[k]
            cut = ((line[q] + q * q) - (line[p] + p * p)) / (2 * (q - p))
            if cut > border[k] or k == 0:
                break
            k -= 1
        if cut > border[k]:
            k += 1
        vertex[k] = q
        border[k] = cut if k > 0 else -_FAR
        border[k + 1] = _FAR


@kernel
def carve(
    distance: Any,
    views: int,
    height: int,
    width: int,
    camera_from_world: Any,
    intrinsics: Any,
    points: Any,
    values: Any,
    start: int,
    stop: int,
) -> None:
    """The largest over the views of the signed distance at a point's depth."""
    for p in range(start, stop):
        px, py, pz = points[3 * p], points[3 * p + 1], points[3 * p + 2]
        most = -np.inf
        nearest = np.inf  # of the cameras, for a point that no view sees
        for v in range(views):
            m = 12 * v
            c = camera_from_world
            x = c[m] * px + c[m + 1] * py + c[m + 2] * pz + c[m + 3]
            y = c[m + 4] * px + c[m + 5] * py + c[m + 6] * pz + c[m + 7]
            z = c[m + 8] * px + c[m + 9] * py + c[m + 10] * pz + c[m + 11]
            nearest = min(nearest, np.sqrt(x * x + y * y + z * z))
            if z <= 0:
                continue
            fx, fy = intrinsics[4 * v], intrinsics[4 * v + 1]
            u = fx * x / z + intrinsics[4 * v + 2] - 0.5
            w = fy * y / z + intrinsics[4 * v + 3] - 0.5
            inside_u = min(max(u, 0.0), width - 1.0)
            inside_w = min(max(w, 0.0), height - 1.0)
            gap = _bilinear(distance, v * height * width, height, width, inside_u, inside_w)
            beyond = np.hypot(u - inside_u, w - inside_w)
            if beyond > 0.5:
                if gap < 0:  # the mask goes on beyond the picture
                    continue
                gap = gap + beyond
            most = max(most, gap * z / np.sqrt(fx * fy))
        values[p] = most if most > -np.inf else nearest


@kernel
def _bilinear(image: Any, first: int, height: int, width: int, u: float, v: float) -> float:
    x = min(int(u), max(width - 2, 0))
    y = min(int(v), max(height - 2, 0))
    right = 1 if width > 1 else 0
    down = width if height > 1 else 0
    a = u - x
    b = v - y
    at = first + y * width + x
    top = (1 - a) * image[at] + a * image[at + right]
    bottom = (1 - a) * image[at + down] + a * image[at + down + right]
    low: float = (1 - b) * top + b * bottom
    return low
