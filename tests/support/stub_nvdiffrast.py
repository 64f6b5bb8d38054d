"""nvdiffrast.torch as its documentation describes it, on the processor, for the tests.

Its conventions are kept: row 0 at y/w = -1, one float32 picture (u, v, z/w, index + 1), later
triangles win at one depth. What it computes comes from the reference operators, and what a
kernel would take for granted is asserted. Its antialiasing is the reference's, which looks for
silhouettes farther than the package does.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from isolux import backends
from isolux.backends import rasterize as ours
from isolux.backends.reference import interpolate as plain_interpolate
from isolux.backends.reference import raster, texture2d
from isolux.backends.reference.adjacency import edge_adjacency

__version__ = "0.4.0"


class RasterizeCudaContext:
    def __init__(self, device: Any = None) -> None:
        self.device = device


def _asserted(tensor: Tensor, dtype: torch.dtype, axes: int) -> Tensor:
    assert tensor.dtype == dtype, tensor.dtype
    assert tensor.dim() == axes, tensor.shape
    assert tensor.is_contiguous()
    assert all(tensor.shape), tensor.shape  # no empty grids of threads
    return tensor


def _number(index: Tensor) -> Tensor:
    shifted = (index + 0x4A800000).view(torch.float32)
    return torch.where(index > 1 << 24, shifted, index.float())


def _index(number: Tensor) -> Tensor:
    bits = number.contiguous().view(torch.int32)
    return torch.where(bits > 0x4B800000, bits - 0x4A800000, number.int())


def rasterize(
    glctx: RasterizeCudaContext,
    pos: Tensor,
    tri: Tensor,
    resolution: Sequence[int],
    ranges: Tensor | None = None,
    grad_db: bool = True,
) -> tuple[Tensor, Tensor]:
    assert isinstance(glctx, RasterizeCudaContext)
    assert ranges is None
    _asserted(pos, torch.float32, 3)
    _asserted(tri, torch.int32, 2)
    proper = tri[(tri != tri.roll(1, dims=1)).all(dim=1)].long()
    assert pos[:, proper].isfinite().all(), "what becomes of such a triangle is not documented"
    height, width = resolution
    triangle, uv, depth = raster.forward(pos, tri.flip(0), height, width, None)
    drawn = triangle > 0
    index = torch.where(drawn, len(tri) + 1 - triangle, 0)
    out = torch.stack([uv[..., 0], uv[..., 1], depth * drawn, _number(index)], dim=-1)
    return out.flip(1), torch.zeros_like(out)


def interpolate(
    attr: Tensor, rast: Tensor, tri: Tensor, rast_db: Any = None, diff_attrs: Any = None
) -> tuple[Tensor, Tensor]:
    _asserted(attr, torch.float32, 3)
    _asserted(rast, torch.float32, 4)
    _asserted(tri, torch.int32, 2)
    rows = rast.reshape(-1, 4)
    index = _index(rows[:, 3].detach())
    seen = index.nonzero().squeeze(-1)
    found = plain_interpolate.forward(attr[0], tri, index[seen] - 1, rows[seen, :2])
    out = found.new_zeros(len(rows), attr.shape[-1]).index_add(0, seen, found)
    return out.reshape(*rast.shape[:3], -1), out.new_zeros(0)


class _Topology:
    def __init__(self, tri: Tensor) -> None:
        self.faces = tri.clone()
        self.opposite = edge_adjacency(tri)


topologies_made = 0


def antialias_construct_topology_hash(tri: Tensor) -> _Topology:
    global topologies_made
    topologies_made += 1
    return _Topology(_asserted(tri, torch.int32, 2))


def antialias(
    color: Tensor,
    rast: Tensor,
    pos: Tensor,
    tri: Tensor,
    topology_hash: _Topology | None = None,
    pos_gradient_boost: float = 1.0,
) -> Tensor:
    _asserted(color, torch.float32, 4)
    _asserted(rast, torch.float32, 4)
    _asserted(pos, torch.float32, 3)
    assert pos_gradient_boost == 1.0
    topology = topology_hash or _Topology(_asserted(tri, torch.int32, 2))
    assert torch.equal(topology.faces, tri), "a table of other triangles"
    drawn = ours.Raster(
        _index(rast[..., 3]).flip(1), rast[..., :2].flip(1), rast[..., 2].flip(1)
    )
    return ours.antialias(
        backends.reference(), color.flip(1), drawn, pos, tri, topology.opposite
    ).flip(1)


def texture(
    tex: Tensor,
    uv: Tensor,
    uv_da: Tensor | None = None,
    mip_level_bias: Tensor | None = None,
    mip: Sequence[Tensor] | None = None,
    filter_mode: str = "auto",
    boundary_mode: str = "wrap",
    max_mip_level: int | None = None,
) -> Tensor:
    assert uv_da is None, "its own level goes by length"
    assert max_mip_level is None
    assert boundary_mode in ("wrap", "clamp")
    levels = [_asserted(tex, torch.float32, 4)[0]]
    at = _asserted(uv, torch.float32, 4).reshape(-1, 2)
    assert at.isfinite().all()
    if filter_mode == "linear":
        found = texture2d.forward(levels, at, None, boundary_mode)
        return found.reshape(*uv.shape[:3], -1)
    assert filter_mode == "linear-mipmap-linear"
    assert mip is not None
    assert mip_level_bias is not None
    for smaller in mip:
        shape = [max(extent // 2, 1) for extent in levels[-1].shape[:2]]
        assert list(_asserted(smaller, torch.float32, 4).shape[1:3]) == shape
        levels.append(smaller[0])
    level = _asserted(mip_level_bias, torch.float32, 3).reshape(-1, 1)
    assert level.shape[0] == math.prod(uv.shape[:3])
    level = level.clamp(0.0, len(levels) - 1.0)
    out = sum(
        (1.0 - (level - k).abs()).clamp(min=0.0)
        * texture2d.forward([texels], at, None, boundary_mode)
        for k, texels in enumerate(levels)
    )
    assert isinstance(out, Tensor)
    return out.reshape(*uv.shape[:3], -1)
