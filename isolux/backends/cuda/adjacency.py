"""Which corner lies across each edge, on the device: half-edges sorted by their edge."""

import torch
from torch import Tensor

from isolux.backends.cuda.arrays import check_indices, index
from isolux.backends.cuda.launch import launch

__all__ = ["edge_adjacency"]


def edge_adjacency(faces: Tensor) -> Tensor:
    """Raw `edge_adjacency`, see `isolux.backends.rasterize`."""
    check_indices("faces", faces, 2**31 - 1)
    corners = index(faces)
    count = corners.numel()
    opposite = torch.full_like(corners, -1)
    if not count:
        return opposite
    edges = torch.empty(count, dtype=torch.int64, device=faces.device)
    launch("adjacency", "adjacency_edges", count, corners, edges, count)
    edges, half = edges.sort(stable=True)
    launch("adjacency", "adjacency_pair", count, corners, edges, half, opposite, count)
    return opposite
