"""The small network's inner loops: everything for a few hundred points at a time.

Inside, a column is a point, so that the innermost loops run over points and become vector
instructions. Sizes are multiples of four (padded with zeros), and products go in blocks of
four by four, which loads each number an eighth as often as it is used.
"""

from typing import Any

import numpy as np

from isolux.backends.cpu.jit import SHADING_MATH, SUM_MATH, kernel

__all__ = ["backward", "forward"]


@kernel(fastmath=SHADING_MATH)
def _product(weight: Any, x: Any, out: Any, rows: int, inner: int, n: int) -> None:
    """out [rows, n] += weight [rows, inner] @ x [inner, n]."""
    for o in range(0, rows, 4):
        h0, h1 = out[o * n : (o + 1) * n], out[(o + 1) * n : (o + 2) * n]
        h2, h3 = out[(o + 2) * n : (o + 3) * n], out[(o + 3) * n : (o + 4) * n]
        for i in range(0, inner, 4):
            a = o * inner + i
            b, c, d = a + inner, a + 2 * inner, a + 3 * inner
            a0, a1, a2, a3 = weight[a], weight[a + 1], weight[a + 2], weight[a + 3]
            b0, b1, b2, b3 = weight[b], weight[b + 1], weight[b + 2], weight[b + 3]
            c0, c1, c2, c3 = weight[c], weight[c + 1], weight[c + 2], weight[c + 3]
            d0, d1, d2, d3 = weight[d], weight[d + 1], weight[d + 2], weight[d + 3]
            x0, x1 = x[i * n : (i + 1) * n], x[(i + 1) * n : (i + 2) * n]
            x2, x3 = x[(i + 2) * n : (i + 3) * n], x[(i + 3) * n : (i + 4) * n]
            for p in range(n):
                e, f, g, h = x0[p], x1[p], x2[p], x3[p]
                h0[p] += (a0 * e + a1 * f) + (a2 * g + a3 * h)
                h1[p] += (b0 * e + b1 * f) + (b2 * g + b3 * h)
                h2[p] += (c0 * e + c1 * f) + (c2 * g + c3 * h)
                h3[p] += (d0 * e + d1 * f) + (d2 * g + d3 * h)


@kernel(fastmath=SUM_MATH)
def _outer(above: Any, x: Any, out: Any, rows: int, inner: int, n: int) -> None:
    """out [rows, inner] += above [rows, n] @ x [inner, n]^T."""
    zero = x.dtype.type(0)
    for o in range(0, rows, 2):
        g0, g1 = above[o * n : (o + 1) * n], above[(o + 1) * n : (o + 2) * n]
        for i in range(0, inner, 4):
            x0, x1 = x[i * n : (i + 1) * n], x[(i + 1) * n : (i + 2) * n]
            x2, x3 = x[(i + 2) * n : (i + 3) * n], x[(i + 3) * n : (i + 4) * n]
            a, b, c, d, e, f, g, h = zero, zero, zero, zero, zero, zero, zero, zero
            for p in range(n):
                u, v = g0[p], g1[p]
                a += u * x0[p]
                b += u * x1[p]
                c += u * x2[p]
                d += u * x3[p]
                e += v * x0[p]
                f += v * x1[p]
                g += v * x2[p]
                h += v * x3[p]
            at, under = o * inner + i, (o + 1) * inner + i
            out[at] += a
            out[at + 1] += b
            out[at + 2] += c
            out[at + 3] += d
            out[under] += e
            out[under + 1] += f
            out[under + 2] += g
            out[under + 3] += h


@kernel(fastmath=SHADING_MATH)
def _load(source: Any, point: int, column: int, used: int, rows: int, out: Any, n: int) -> None:
    """`used` columns of n points into rows; `point` and `column` are the source's strides."""
    for i in range(used):
        row = out[i * n : (i + 1) * n]
        for p in range(n):
            row[p] = source[p * point + i * column]
    out[used * n : rows * n] = 0


@kernel(fastmath=SHADING_MATH)
def _activate(weights: Any, biases: Any, sizes: Any, hidden: Any, layers: int, n: int) -> None:
    """Fill the hidden layers of `hidden` from its first, the inputs."""
    zero = weights.dtype.type(0)
    first, offset, shift = 0, 0, 0
    for layer in range(layers):
        inner, rows = sizes[layer], sizes[layer + 1]
        after = first + inner * n
        out = hidden[after : after + rows * n]
        for o in range(rows):
            out[o * n : (o + 1) * n] = biases[shift + o]
        _product(weights[offset:], hidden[first:after], out, rows, inner, n)
        if layer + 1 < sizes.size - 1:
            for k in range(rows * n):
                out[k] = max(out[k], zero)
        first, offset, shift = after, offset + rows * inner, shift + rows


@kernel(fastmath=SUM_MATH)
def _sums(above: Any, out: Any, rows: int, n: int) -> None:
    for o in range(rows):
        total = above.dtype.type(0)
        for p in range(n):
            total += above[o * n + p]
        out[o] += total


@kernel(fastmath=SHADING_MATH)
def _stop_inactive(slopes: Any, active: Any) -> None:
    """The gradient of ReLU: none where it gave zero."""
    zero = slopes.dtype.type(0)
    for k in range(slopes.size):
        slopes[k] = slopes[k] if active[k] > zero else zero


@kernel(fastmath=SHADING_MATH)
def forward(
    x: Any,
    point: int,
    column: int,
    used: int,
    weights: Any,
    biases: Any,
    sizes: Any,
    out: Any,
    width: int,
    chunk: int,
    start: int,
    stop: int,
) -> None:
    """Outputs of points in [start, stop), a point a row of `width`."""
    layers = sizes.size - 1
    hidden = np.empty(sizes.sum() * chunk, dtype=x.dtype)
    for first in range(start, stop, chunk):
        n = min(chunk, stop - first)
        _load(x[first * point :], point, column, used, sizes[0], hidden, n)
        _activate(weights, biases, sizes, hidden, layers, n)
        last = (sizes.sum() - sizes[layers]) * n
        for k in range(width):
            for p in range(n):
                out[(first + p) * width + k] = hidden[last + k * n + p]


@kernel(fastmath=SHADING_MATH)
def backward(
    x: Any,
    point: int,
    column: int,
    used: int,
    weights: Any,
    transposed: Any,
    biases: Any,
    sizes: Any,
    grad: Any,
    width: int,
    to_x: Any,
    to_weights: Any,
    to_biases: Any,
    count: int,
    chunk: int,
    start: int,
    stop: int,
) -> None:
    """Add the weights' and biases' gradients of points in [start, stop); write those to x.

    `to_x` is stored by columns, and empty where it is not needed. The hidden layers are
    computed again: that costs less than keeping them.
    """
    zero = weights.dtype.type(0)
    layers = sizes.size - 1
    hidden = np.empty(sizes.sum() * chunk, dtype=weights.dtype)
    slopes = np.empty(sizes.sum() * chunk, dtype=weights.dtype)  # of what hidden holds
    for begin in range(start, stop, chunk):
        n = min(chunk, stop - begin)
        _load(x[begin * point :], point, column, used, sizes[0], hidden, n)
        _activate(weights, biases, sizes, hidden, layers - 1, n)
        offset, shift, end = weights.size, biases.size, sizes.sum() * n
        after = end - sizes[layers] * n
        _load(grad[begin * width :], width, 1, width, sizes[layers], slopes[after:], n)
        for back in range(layers):
            layer = layers - 1 - back
            inner, rows = sizes[layer], sizes[layer + 1]
            offset, shift, first = offset - rows * inner, shift - rows, after - inner * n
            active, above, below = hidden[first:after], slopes[after:end], slopes[first:after]
            _outer(above, active, to_weights[offset:], rows, inner, n)
            _sums(above, to_biases[shift:], rows, n)
            if layer > 0 or to_x.size > 0:
                below[:] = zero
                _product(transposed[offset:], above, below, inner, rows, n)
            if layer > 0:
                _stop_inactive(below, active)
            after, end = first, after
        if to_x.size > 0:
            for i in range(used):
                for p in range(n):
                    to_x[i * count + begin + p] = slopes[i * n + p]
