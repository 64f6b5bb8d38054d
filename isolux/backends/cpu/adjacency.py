"""Which corner lies across each edge, on the processor: one pass over a hash table of edges."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from isolux.backends.cpu.arrays import check_indices, flat
from isolux.backends.cpu.jit import kernel

__all__ = ["edge_adjacency"]


def edge_adjacency(faces: Tensor) -> Tensor:
    """Raw `edge_adjacency`, see `isolux.backends.rasterize`."""
    check_indices("faces", faces, 2**31 - 1)
    out = torch.full((len(faces), 3), -1, dtype=torch.int32)
    if len(faces):
        corners = flat(faces.to(torch.int32))
        slots = 1 << int(3 * len(faces) - 1).bit_length() + 1  # at most half of them get used
        keys = np.full(slots, -1, dtype=np.int64)
        _pair(corners, keys, np.empty(2 * slots, dtype=np.int32), flat(out))
    return out


@kernel
def _pair(corners: Any, keys: Any, halves: Any, opposite: Any) -> None:
    """Match the half-edges; `halves` holds the first two of each edge.

    Half-edge h = 3 * face + corner is the edge opposite to that corner. The third half-edge of
    an edge undoes the match of the first two: where more than two faces meet, none is *the*
    neighbour.
    """
    one, mask = np.uint64(1), np.uint64(keys.size - 1)
    for h in range(corners.size):
        i = h % 3
        base = h - i
        own, a, b = corners[h], corners[base + (i + 1) % 3], corners[base + (i + 2) % 3]
        if own == a or a == b or b == own:
            continue  # no triangle
        key = np.int64(min(a, b)) << 32 | np.int64(max(a, b))
        # Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4): high bits are best.
        mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
        slot = (mixed >> np.uint64(32)) & mask
        while keys[slot] != key and keys[slot] != -1:
            slot = (slot + one) & mask
        if keys[slot] == -1:
            keys[slot] = key
            halves[slot + slot] = h
            halves[slot + slot + one] = -1
            continue
        other, second = halves[slot + slot], halves[slot + slot + one]
        if second >= 0:  # this is the third, or one after it
            opposite[other] = opposite[second] = -1
            continue
        halves[slot + slot + one] = h
        if corners[other] != own:  # the same corner: one triangle, given twice
            opposite[h], opposite[other] = other, h
