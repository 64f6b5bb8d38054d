"""Which corner lies across each edge, in plain torch: sort the half-edges and compare."""

import torch
from torch import Tensor

__all__ = ["edge_adjacency"]


def edge_adjacency(faces: Tensor) -> Tensor:
    """Raw `edge_adjacency`, see `isolux.backends.rasterize`."""
    faces = faces.long()
    if faces.numel() and int(faces.min()) < 0:
        raise IndexError(f"faces: indices must not be negative, got {int(faces.min())}")
    ends = torch.stack([faces.roll(-1, dims=1), faces.roll(-2, dims=1)], dim=-1)  # [f, 3, 2]
    twice = (ends[..., 0] == ends[..., 1]).any(dim=-1)
    half = (~twice).nonzero().squeeze(-1)[:, None] * 3 + torch.arange(3, device=faces.device)
    half = half.reshape(-1)  # half-edge 3 * face + corner, of proper triangles
    ends = ends.reshape(-1, 2)[half].sort(dim=-1).values
    _, edge, uses = torch.unique(ends, dim=0, return_inverse=True, return_counts=True)
    order = edge.argsort(stable=True)
    order = order[uses[edge[order]] == 2]
    first, second = half[order[0::2]], half[order[1::2]]
    own = faces.reshape(-1)
    proper = own[first] != own[second]  # else it is one triangle, given twice
    first, second = first[proper], second[proper]
    opposite = torch.full_like(own, -1, dtype=torch.int32)
    opposite[first], opposite[second] = second.int(), first.int()
    return opposite.reshape(-1, 3)
