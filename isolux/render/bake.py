"""Textures from a field: every texel asks for the material at the point that it covers.

Letters: n vertices, t texture coordinates, f faces, q texels that a chart covers.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from torch import Tensor

from isolux.backends import Backend
from isolux.backends.rasterize import interpolate, rasterize

__all__ = ["bake", "dilate", "texel_positions"]


def texel_positions(
    backend: Backend,
    vertices: Float[Tensor, "n 3"],
    faces: Int[Tensor, "f 3"],
    uvs: Float[Tensor, "t 2"],
    uv_faces: Int[Tensor, "f 3"],
    size: int,
) -> tuple[Int[Tensor, " q"], Float[Tensor, "q 3"]]:
    """The texels whose centres lie in a chart (flat indices) and their surface points."""
    flat = torch.stack([uvs[:, 0] * 2.0 - 1.0, 1.0 - uvs[:, 1] * 2.0], dim=-1)
    clip = torch.cat([flat, torch.zeros_like(flat[:, :1]), torch.ones_like(flat[:, :1])], -1)
    raster = rasterize(backend, clip[None], uv_faces, size, size)
    ids = raster.triangle.reshape(-1)
    texels = ids.nonzero().squeeze(-1)
    triangle = ids.index_select(0, texels) - 1
    uv = raster.uv.reshape(-1, 2).index_select(0, texels)
    return texels, interpolate(backend, vertices, faces, triangle, uv)


@torch.no_grad()
def bake(
    backend: Backend,
    field: Callable[[Float[Tensor, "q 3"]], Float[Tensor, "q c"]],
    vertices: Float[Tensor, "n 3"],
    faces: Int[Tensor, "f 3"],
    uvs: Float[Tensor, "t 2"],
    uv_faces: Int[Tensor, "f 3"],
    size: int,
) -> tuple[Float[Tensor, "s s c"], Bool[Tensor, "s s"]]:
    """A square texture of a field over a mesh with charts, and which texels are covered.

    Texels outside every chart take the value of the nearest one inside, so that filtering
    does not draw seams. No covered texel at all gives zeros.
    """
    texels, points = texel_positions(backend, vertices, faces, uvs, uv_faces, size)
    chunks = [field(part) for part in torch.split(points, 1 << 18)]
    values = torch.cat(chunks) if chunks else field(points)
    texture = values.new_zeros(size * size, values.shape[-1]).index_copy(0, texels, values)
    covered = torch.zeros(size * size, dtype=torch.bool, device=texels.device)
    covered[texels] = True
    covered = covered.reshape(size, size)
    return dilate(texture.reshape(size, size, -1), covered), covered


def dilate(
    texture: Float[Tensor, "h w c"], covered: Bool[Tensor, "h w"]
) -> Float[Tensor, "h w c"]:
    """Fill the texels outside the charts with the nearest covered one's value."""
    if not bool(covered.any()):
        return texture
    nearest = ndimage.distance_transform_edt(
        ~covered.cpu().numpy(), return_distances=False, return_indices=True
    )
    rows, columns = (torch.from_numpy(np.ascontiguousarray(i)).long() for i in nearest)
    return texture[rows.to(texture.device), columns.to(texture.device)]
