"""Several materials become one: their textures as tiles of one atlas.

Letters: f faces, m materials, h, w texels.
"""

import logging
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from isolux.data.assets.textures import TextureSet
from isolux.geometry.mesh import Mesh

__all__ = ["merge_materials", "with_corner_uvs"]

_PAD = 4  # texels of wrapped border around each tile: bilinear taps stay inside
_LARGEST = 8192
_log = logging.getLogger(__name__)


def merge_materials(
    materials: Sequence[TextureSet],
    corner_uvs: Float[Tensor, "f 3 2"],
    material: Int[Tensor, " f"],
) -> tuple[TextureSet, Float[Tensor, "f 3 2"]]:
    """One texture set, and texture coordinates into it.

    One material stays as it is. Otherwise every material gets a tile, all of the largest
    one's size, and coordinates that wrap are brought into the tile face by face; a face that
    spans more than one period is clipped, with a warning.

    Args:
        materials: at least one.
        corner_uvs: of each face's corners.
        material: of each face, an index.
    """
    if len(materials) == 1:
        return materials[0], corner_uvs
    height, width = _tile_size(materials)
    columns = math.ceil(math.sqrt(len(materials)))
    rows = math.ceil(len(materials) / columns)
    cell = (height + 2 * _PAD, width + 2 * _PAD)
    total = corner_uvs.new_tensor([columns * cell[1], rows * cell[0]])

    local = corner_uvs - corner_uvs.amin(dim=1, keepdim=True).floor()
    if count := int((local > 1.0 + 1e-4).flatten(1).any(dim=1).sum()):
        _log.warning("%d faces repeat their texture; in an atlas they show it once", count)
    tile = torch.stack([material % columns, material // columns], dim=-1)[:, None, :]
    texel = local.clamp(0.0, 1.0) * local.new_tensor([width, height])
    offset = tile * local.new_tensor([cell[1], cell[0]]) + _PAD
    uvs = (texel + offset) / total

    def assemble(pick: Callable[[TextureSet], Tensor]) -> Tensor:
        sheet = torch.zeros(rows * cell[0], columns * cell[1], 3)
        for number, textures in enumerate(materials):
            top, left = number // columns * cell[0], number % columns * cell[1]
            sheet[top : top + cell[0], left : left + cell[1]] = _tile(
                pick(textures), height, width
            )
        return sheet

    normal = None
    if any(textures.normal is not None for textures in materials):
        flat = torch.tensor([0.0, 0.0, 1.0]).expand(1, 1, 3)
        normal = assemble(lambda t: flat if t.normal is None else t.normal)
        normal = torch.nn.functional.normalize(normal, dim=-1)
        normal = torch.where(normal.abs().sum(-1, keepdim=True) > 0, normal, flat)
    merged = TextureSet(assemble(lambda t: t.albedo), assemble(lambda t: t.orm), normal)
    return merged, uvs


def _tile_size(materials: Sequence[TextureSet]) -> tuple[int, int]:
    maps = [map_ for t in materials for map_ in (t.albedo, t.orm, t.normal) if map_ is not None]
    most = _LARGEST // math.ceil(math.sqrt(len(materials))) - 2 * _PAD
    size = (max(map_.shape[0] for map_ in maps), max(map_.shape[1] for map_ in maps))
    return max(1, min(size[0], most)), max(1, min(size[1], most))


def _tile(texture: Float[Tensor, "h w 3"], height: int, width: int) -> Tensor:
    """The texture at the tile's size, with its wrapped border."""
    image = texture.permute(2, 0, 1)[None]
    if image.shape[2:] != (height, width):
        image = torch.nn.functional.interpolate(
            image, (height, width), mode="bilinear", align_corners=False
        )
    for axis in (0, 1):  # wrapping by hand: torch pads no further than the size itself
        count = (height, width)[axis]
        index = torch.arange(-_PAD, count + _PAD) % count
        image = image.index_select(2 + axis, index)
    return image[0].permute(1, 2, 0)


def with_corner_uvs(mesh: Mesh, corner_uvs: Float[Tensor, "f 3 2"]) -> Mesh:
    """The mesh with these texture coordinates, equal ones stored once."""
    uvs, index = torch.unique(corner_uvs.reshape(-1, 2), dim=0, return_inverse=True)
    uv_faces = index.reshape(-1, 3).to(mesh.faces.dtype)
    return Mesh(mesh.vertices, mesh.faces, uvs, uv_faces, mesh.normals, mesh.normal_faces)
