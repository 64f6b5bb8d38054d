"""The kernels of FlexiCubes. Arrays are flat; weights without elements count as ones."""

from typing import Any

import numpy as np

from isolux.backends.cpu.jit import kernel
from isolux.backends.extraction_tables import NEXT_TO_NOTHING

__all__ = [
    "count_quads",
    "draw_quads",
    "fill_quads",
    "find_cases",
    "number_vertices",
    "place_vertices",
    "quads_backward",
    "vertices_backward",
]


@kernel
def find_cases(cubes: Any, value: Any, case: Any, start: int, stop: int) -> None:
    """Bit i is set where corner i is inside."""
    for c in range(start, stop):
        mask = 0
        for i in range(8):
            mask |= (1 if value[np.uint32(cubes[8 * c + i])] < 0 else 0) << i
        case[c] = mask


@kernel
def number_vertices(
    crossed: Any,
    case: Any,
    twists: Any,
    groups: Any,
    nx: int,
    ny: int,
    nz: int,
    row: Any,
    first: Any,
    pair: Any,
    cube_of_dual: Any,
) -> tuple[int, int]:
    """Dual vertices and deviations in the order of the cubes; returns how many."""
    duals, pairs = 0, 0
    for at in range(len(crossed)):
        c = crossed[at]
        twist = twists[case[c]]
        if twist >= 0:
            axis, side = twist // 2, twist % 2
            place = (c // (ny * nz), c // nz % ny, c % nz)
            step = (ny * nz, nz, 1)[axis] * (1 if side == 1 else -1)
            here = place[axis] + (1 if side == 1 else -1)
            if 0 <= here < (nx, ny, nz)[axis] and twists[case[c + step]] >= 0:
                row[c] = case[c] + 256
        first[c] = duals
        pair[c] = pairs
        most = -1
        for e in range(12):
            group = groups[12 * np.int64(row[c]) + e]
            most = max(most, group)
            pairs += 1 if group >= 0 else 0
        for k in range(most + 1):
            cube_of_dual[duals + k] = c
        duals += most + 1
    return duals, pairs


@kernel
def count_quads(edges: Any, around: Any, value: Any, start: int, stop: int) -> int:
    """Crossed edges with a cube on all four sides."""
    count = 0
    for e in range(start, stop):
        a, b = np.uint32(edges[2 * e]), np.uint32(edges[2 * e + 1])
        if (value[a] < 0) != (value[b] < 0):
            low = min(
                min(around[4 * e], around[4 * e + 1]), min(around[4 * e + 2], around[4 * e + 3])
            )
            count += 1 if low >= 0 else 0
    return count


@kernel
def fill_quads(
    edges: Any,
    around: Any,
    slots: Any,
    value: Any,
    row: Any,
    first: Any,
    groups: Any,
    quads: Any,
    begin: int,
    start: int,
    stop: int,
) -> None:
    """Dual vertices about each crossed edge, counter-clockwise seen from outside."""
    q = 4 * begin
    for e in range(start, stop):
        a, b = np.uint32(edges[2 * e]), np.uint32(edges[2 * e + 1])
        inside = value[a] < 0
        if inside == (value[b] < 0):
            continue
        low = min(
            min(around[4 * e], around[4 * e + 1]), min(around[4 * e + 2], around[4 * e + 3])
        )
        if low < 0:
            continue
        for i in range(4):
            k = 4 * e + (i if inside else (4 - i) % 4)
            c = around[k]
            quads[q + i] = first[c] + groups[12 * np.int64(row[c]) + slots[k]]
        q += 4


@kernel
def _bounded(weights: Any, i: int) -> float:
    """1 + 0.99 tanh(w), or one without weights."""
    if len(weights) == 0:
        return 1.0
    weight: float = 1.0 + 0.99 * np.tanh(np.float64(weights[i]))
    return weight


@kernel
def _along(near: float, far: float) -> float:
    """How far from the near end the zero lies, or minus one when values cannot say."""
    gap = near - far
    along = near / gap
    usable = along >= 0 and along <= 1 and abs(gap) > NEXT_TO_NOTHING
    return along if usable else -1.0


@kernel
def place_vertices(
    cubes: Any,
    ends: Any,
    groups: Any,
    row: Any,
    first: Any,
    pair: Any,
    crossed: Any,
    point: Any,
    value: Any,
    alpha: Any,
    beta: Any,
    vertices: Any,
    deviation: Any,
    start: Any,
    stop: Any,
) -> None:
    """Each dual vertex is the beta-weighted mean of its group's alpha-weighted crossings."""
    plain = np.empty(36)
    distance = np.empty(12)
    vertex = np.empty(3)
    for at in range(start, stop):
        c = crossed[at]
        table = 12 * np.int64(row[c])
        at_pair = np.int64(pair[c])
        group = 0
        while True:
            count, total = 0, 0.0
            vertex[:] = 0.0
            for e in range(12):
                if groups[table + e] != group:
                    continue
                i, j = ends[2 * e], ends[2 * e + 1]
                a, b = np.int64(cubes[8 * c + i]), np.int64(cubes[8 * c + j])
                near, far = np.float64(value[a]), np.float64(value[b])
                level = _along(near, far)
                level = 0.5 if level < 0 else level
                slant = _along(
                    near * _bounded(alpha, 8 * c + i), far * _bounded(alpha, 8 * c + j)
                )
                slant = 0.5 if slant < 0 else slant
                weight = _bounded(beta, 12 * c + e)
                for axis in range(3):
                    p, q = point[3 * a + axis], point[3 * b + axis]
                    plain[3 * count + axis] = p + level * (q - p)
                    vertex[axis] += weight * (p + slant * (q - p))
                total += weight
                count += 1
            if count == 0:
                break
            dual = np.int64(first[c]) + group
            mean = 0.0
            for axis in range(3):
                vertex[axis] /= total
                vertices[3 * dual + axis] = vertex[axis]
            for k in range(count):
                distance[k] = _gap(vertex, plain, 3 * k)
                mean += distance[k]
            mean /= count
            for k in range(count):
                deviation[at_pair + k] = abs(distance[k] - mean)
            at_pair += count
            group += 1


@kernel
def _gap(vertex: Any, plain: Any, i: int) -> Any:
    x, y, z = vertex[0] - plain[i], vertex[1] - plain[i + 1], vertex[2] - plain[i + 2]
    return np.sqrt(x * x + y * y + z * z)


@kernel
def vertices_backward(
    cubes: Any,
    ends: Any,
    groups: Any,
    row: Any,
    first: Any,
    pair: Any,
    crossed: Any,
    point: Any,
    value: Any,
    alpha: Any,
    beta: Any,
    vertex_grad: Any,
    deviation_grad: Any,
    to_point: Any,
    to_value: Any,
    to_alpha: Any,
    to_beta: Any,
) -> None:
    """From dual vertices and deviations to positions, values, alpha and beta."""
    plain, slanted = np.empty(36), np.empty(36)
    distance, slope = np.empty(12), np.empty(12)
    edge = np.empty(12, np.int64)
    vertex, grad = np.empty(3), np.empty(3)
    to_plain, to_slanted = np.empty(3), np.empty(3)
    for at in range(len(crossed)):
        c = crossed[at]
        table = 12 * np.int64(row[c])
        at_pair = np.int64(pair[c])
        group = 0
        while True:
            # Forward once more.
            count, total = 0, 0.0
            vertex[:] = 0.0
            for e in range(12):
                if groups[table + e] != group:
                    continue
                edge[count] = e
                i, j = ends[2 * e], ends[2 * e + 1]
                a, b = np.int64(cubes[8 * c + i]), np.int64(cubes[8 * c + j])
                near, far = np.float64(value[a]), np.float64(value[b])
                level = _along(near, far)
                level = 0.5 if level < 0 else level
                slant = _along(
                    near * _bounded(alpha, 8 * c + i), far * _bounded(alpha, 8 * c + j)
                )
                slant = 0.5 if slant < 0 else slant
                weight = _bounded(beta, 12 * c + e)
                for axis in range(3):
                    p, q = point[3 * a + axis], point[3 * b + axis]
                    plain[3 * count + axis] = p + level * (q - p)
                    slanted[3 * count + axis] = p + slant * (q - p)
                    vertex[axis] += weight * slanted[3 * count + axis]
                total += weight
                count += 1
            if count == 0:
                break
            mean = 0.0
            for axis in range(3):
                vertex[axis] /= total
                grad[axis] = vertex_grad[3 * (np.int64(first[c]) + group) + axis]
            for k in range(count):
                distance[k] = _gap(vertex, plain, 3 * k)
                mean += distance[k]
            mean /= count
            # slope[k]: of the loss with the distance to crossing k.
            common = 0.0
            for k in range(count):
                slope[k] = np.sign(distance[k] - mean) * deviation_grad[at_pair + k]
                common += slope[k]
            for k in range(count):
                slope[k] -= common / count
                slope[k] = slope[k] / distance[k] if distance[k] > 0 else 0.0
                for axis in range(3):
                    grad[axis] += slope[k] * (vertex[axis] - plain[3 * k + axis])
            for k in range(count):
                e = edge[k]
                i, j = ends[2 * e], ends[2 * e + 1]
                weight = _bounded(beta, 12 * c + e)
                to_weight = 0.0
                for axis in range(3):
                    to_weight += grad[axis] * (slanted[3 * k + axis] - vertex[axis])
                    to_slanted[axis] = grad[axis] * weight / total
                    to_plain[axis] = slope[k] * (plain[3 * k + axis] - vertex[axis])
                if len(beta) > 0:
                    # 1 + 0.99 tanh(w) has the slope (0.99^2 - (itself - 1)^2) / 0.99.
                    to_beta[12 * c + e] += (
                        to_weight / total * (0.99 * 0.99 - (weight - 1) ** 2) / 0.99
                    )
                _crossing_backward(
                    *(np.int64(cubes[8 * c + i]), np.int64(cubes[8 * c + j])),
                    *(1.0, 1.0, to_plain, point, value, to_point, to_value),
                )
                near_weight = _bounded(alpha, 8 * c + i)
                far_weight = _bounded(alpha, 8 * c + j)
                to_near, to_far = _crossing_backward(
                    *(np.int64(cubes[8 * c + i]), np.int64(cubes[8 * c + j])),
                    *(near_weight, far_weight, to_slanted, point, value, to_point, to_value),
                )
                if len(alpha) > 0:
                    to_alpha[8 * c + i] += (
                        to_near * (0.99 * 0.99 - (near_weight - 1) ** 2) / 0.99
                    )
                    to_alpha[8 * c + j] += to_far * (0.99 * 0.99 - (far_weight - 1) ** 2) / 0.99
            at_pair += count
            group += 1


@kernel
def _crossing_backward(
    a: Any,
    b: Any,
    near_weight: Any,
    far_weight: Any,
    grad: Any,
    point: Any,
    value: Any,
    to_point: Any,
    to_value: Any,
) -> tuple[Any, Any]:
    """Scatter from a crossing to its edge's ends; return the slopes with the two weights."""
    near, far = value[a] * near_weight, value[b] * far_weight
    along = _along(near, far)
    fixed = along < 0
    along = 0.5 if fixed else along
    slope = 0.0
    for axis in range(3):
        to_point[3 * a + axis] += (1 - along) * grad[axis]
        to_point[3 * b + axis] += along * grad[axis]
        slope += grad[axis] * (point[3 * b + axis] - point[3 * a + axis])
    if fixed:
        return 0.0, 0.0
    to_near = (1 - along) * slope / (near - far)
    to_far = along * slope / (near - far)
    to_value[a] += to_near * near_weight
    to_value[b] += to_far * far_weight
    return to_near * value[a], to_far * value[b]


@kernel
def _diagonals(quads: Any, cube_of_dual: Any, gamma: Any, q: int) -> tuple[float, float]:
    """Products of 0.005 + 0.99 sigmoid(gamma) along a quad's diagonals."""
    if len(gamma) == 0:
        return 1.0, 1.0
    one, other = 1.0, 1.0
    for i in range(4):
        raw = np.float64(gamma[cube_of_dual[quads[4 * q + i]]])
        weight = 0.005 + 0.99 / (1 + np.exp(-raw))
        if i % 2 == 0:
            one *= weight
        else:
            other *= weight
    return one, other


@kernel
def draw_quads(
    quads: Any, cube_of_dual: Any, gamma: Any, training: bool, vertices: Any, faces: Any
) -> None:
    """Cut each quad along a diagonal, or about a middle vertex between the diagonals."""
    count = len(quads) // 4
    duals = len(cube_of_dual)
    for q in range(count):
        one, other = _diagonals(quads, cube_of_dual, gamma, q)
        v0, v1 = np.int64(quads[4 * q]), np.int64(quads[4 * q + 1])
        v2, v3 = np.int64(quads[4 * q + 2]), np.int64(quads[4 * q + 3])
        if training:
            for axis in range(3):
                across = one * (vertices[3 * v0 + axis] + vertices[3 * v2 + axis]) / 2
                across += other * (vertices[3 * v1 + axis] + vertices[3 * v3 + axis]) / 2
                vertices[3 * (duals + q) + axis] = across / (one + other + 1e-8)
            for i in range(4):
                faces[12 * q + 3 * i] = quads[4 * q + i]
                faces[12 * q + 3 * i + 1] = quads[4 * q + (i + 1) % 4]
                faces[12 * q + 3 * i + 2] = duals + q
        else:
            f = 6 * q
            if one > other:
                faces[f], faces[f + 1], faces[f + 2] = v0, v1, v2
                faces[f + 3], faces[f + 4], faces[f + 5] = v0, v2, v3
            else:
                faces[f], faces[f + 1], faces[f + 2] = v0, v1, v3
                faces[f + 3], faces[f + 4], faces[f + 5] = v3, v1, v2


@kernel
def quads_backward(
    quads: Any, cube_of_dual: Any, gamma: Any, vertices: Any, grad: Any, to_gamma: Any
) -> None:
    """From the middle vertices to the dual ones (added to `grad`) and to gamma."""
    duals = len(cube_of_dual)
    for q in range(len(quads) // 4):
        one, other = _diagonals(quads, cube_of_dual, gamma, q)
        total = one + other + 1e-8
        to_one, to_other = 0.0, 0.0
        for axis in range(3):
            g = np.float64(grad[3 * (duals + q) + axis]) / total
            middle = 0.0
            for i in range(4):
                v = np.int64(quads[4 * q + i])
                share = one if i % 2 == 0 else other
                middle += share * vertices[3 * v + axis] / 2
                grad[3 * v + axis] += g * share / 2
            middle /= total
            for i in range(4):
                half = vertices[3 * np.int64(quads[4 * q + i]) + axis] / 2
                if i % 2 == 0:
                    to_one += g * half
                else:
                    to_other += g * half
            to_one -= g * middle
            to_other -= g * middle
        if len(gamma) == 0:
            continue
        for i in range(4):
            c = cube_of_dual[quads[4 * q + i]]
            chance = 1 / (1 + np.exp(-np.float64(gamma[c])))
            share, slope = (one, to_one) if i % 2 == 0 else (other, to_other)
            to_gamma[c] += (
                slope * share / (0.005 + 0.99 * chance) * 0.99 * chance * (1 - chance)
            )
