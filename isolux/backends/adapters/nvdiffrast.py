"""nvdiffrast's rasteriser, interpolation, antialiasing and texture lookups.

Letters as in `isolux.backends.rasterize`. Written to the documented interface of
`nvdiffrast.torch`, whose conventions differ from ours in these ways:

- Its row 0 is at y/w = -1, ours at +1: positions go in with y turned round, and then rows and
  screen derivatives are ours.
- A raster is one picture (u, v, z/w, index + 1) of float32, with zeros where empty. Indices
  past 2^24 stand there as shifted bits.
- Of two triangles at the same depth it keeps the later one, ours is the lower index: triangles
  go in last first.
- Everything is float32 and int32, and pixels come as pictures: flat lists are laid out in
  eight rows, as its blocks are eight rows high.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from isolux.backends.adapters.gradients import gradients
from isolux.backends.reference.texture2d import THINNEST
from isolux.backends.table import Backend, Operator

__all__ = ["operators"]

_ROWS = 8
_LAST_FLOAT = 1 << 24  # whole numbers up to here are exact in float32
_SHIFT = 0x4A800000  # what larger indices are moved by: they go on where the floats end


def operators(package: Any, base: Backend) -> dict[str, Operator]:
    """The package's operators, raw.

    Args:
        package: `nvdiffrast.torch`.
        base: peels layers, differentiates rasters, and looks up textures whose levels have
            sizes that the package does not take.
    """
    ours = _Nvdiffrast(package, base)
    # The weights' derivatives follow from triangles and positions alone: no second drawing,
    # and right for peeled layers as well.
    return {
        "rasterize": Operator(ours.rasterize, base.rasterize.backward),
        "interpolate": Operator(ours.interpolate, ours.interpolate_backward),
        "antialias": Operator(ours.antialias, ours.antialias_backward),
        "texture2d": Operator(ours.texture2d, ours.texture2d_backward),
    }


class _Nvdiffrast:
    def __init__(self, package: Any, base: Backend) -> None:
        self._rasterize = package.rasterize
        self._interpolate = package.interpolate
        self._antialias = package.antialias
        self._texture = package.texture
        self._make_context = package.RasterizeCudaContext
        self._make_topology = package.antialias_construct_topology_hash
        self._base = base
        self._contexts: dict[torch.device, Any] = {}
        self._topologies: Any = WeakIdKeyDictionary()  # faces: (their version, the package's)

    def rasterize(
        self, clip: Tensor, faces: Tensor, height: int, width: int, behind: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Raw `rasterize`. Its own peeling wants all layers drawn in one go, so ours peels."""
        if behind is not None:
            drawn: tuple[Tensor, Tensor, Tensor] = self._base.rasterize.forward(
                clip, faces, height, width, behind
            )
            return drawn
        _check_faces(faces, clip.shape[1])
        shape = len(clip), height, width
        if not len(clip) or not len(faces):
            empty = torch.zeros(shape, dtype=torch.int32, device=clip.device)
            return empty, clip.new_zeros(*shape, 2), clip.new_ones(shape)
        raster, _ = self._rasterize(
            self._context(clip.device),
            _upside_down(clip),
            _last_first(clip, faces),
            resolution=[height, width],
            grad_db=False,
        )
        index = _index_of(raster[..., 3])
        triangle = torch.where(index > 0, len(faces) + 1 - index, 0)
        depth = torch.where(index > 0, raster[..., 2], 1.0)
        return triangle.int(), raster[..., :2].to(clip.dtype, copy=True), depth.to(clip.dtype)

    def interpolate(
        self, attributes: Tensor, corners: Tensor, triangle: Tensor, uv: Tensor
    ) -> Tensor:
        """Raw `interpolate`."""
        if not len(triangle) or not attributes.shape[1]:
            return attributes.new_zeros(len(triangle), attributes.shape[1])
        zero = torch.zeros_like(uv[:, :1], dtype=torch.float32)
        index = _float_of(triangle + 1)[:, None]
        raster = _picture(torch.cat([uv.float(), zero, index], dim=-1))
        out, _ = self._interpolate(
            attributes.float().contiguous()[None], raster, corners.int().contiguous()
        )
        return _flat(out, len(triangle)).to(attributes.dtype)

    def interpolate_backward(
        self,
        attributes: Tensor,
        corners: Tensor,
        triangle: Tensor,
        uv: Tensor,
        grad: Tensor,
        need_attributes: bool,
        need_uv: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Raw gradients of `interpolate`."""
        to_attributes, to_uv = gradients(
            lambda a, w: self.interpolate(a, corners, triangle, w),
            (attributes, uv),
            (need_attributes, need_uv),
            grad,
        )
        return to_attributes, to_uv

    def antialias(
        self,
        color: Tensor,
        triangle: Tensor,
        depth: Tensor,
        clip: Tensor,
        faces: Tensor,
        opposite: Tensor,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Raw `antialias`. `opposite` is not read: the package finds neighbours by vertices."""
        context = triangle, depth, faces
        return self._soften(color, clip, *context), context

    def antialias_backward(
        self,
        color: Tensor,
        clip: Tensor,
        blends: tuple[Tensor, ...],
        grad: Tensor,
        need_color: bool,
        need_clip: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Raw gradients of `antialias`."""
        to_color, to_clip = gradients(
            lambda c, p: self._soften(c, p, *blends),
            (color, clip),
            (need_color, need_clip),
            grad,
        )
        return to_color, to_clip

    def texture2d(
        self, levels: Sequence[Tensor], uv: Tensor, uv_da: Tensor | None, boundary: str
    ) -> Tensor:
        """Raw `texture2d`. The level is worked out by our rule and handed over as a bias."""
        if not self._takes(levels, uv):
            out: Tensor = self._base.texture2d.forward(levels, uv, uv_da, boundary)
            return out
        chain = [texels.float().contiguous()[None] for texels in levels]
        at = _picture(torch.where(uv.isfinite(), uv, 0.0).float())
        if uv_da is None:
            found = self._texture(chain[0], at, filter_mode="linear", boundary_mode=boundary)
        else:
            level = _level(uv_da.float(), *levels[0].shape[:2])
            found = self._texture(
                chain[0],
                at,
                mip_level_bias=_picture(level[:, None])[..., 0],
                mip=chain[1:],
                filter_mode="linear-mipmap-linear",
                boundary_mode=boundary,
            )
        return _flat(found, len(uv)).to(uv.dtype)

    def texture2d_backward(
        self,
        levels: Sequence[Tensor],
        uv: Tensor,
        uv_da: Tensor | None,
        boundary: str,
        grad: Tensor,
        need_levels: bool,
        need_uv: bool,
    ) -> tuple[list[Tensor] | None, Tensor | None]:
        """Raw gradients of `texture2d`."""
        if not self._takes(levels, uv):
            back: tuple[list[Tensor] | None, Tensor | None] = self._base.texture2d.backward(
                levels, uv, uv_da, boundary, grad, need_levels, need_uv
            )
            return back
        to_uv, *to_levels = gradients(
            lambda at, *texels: self.texture2d(texels, at, uv_da, boundary),
            (uv, *levels),
            (need_uv, *[need_levels] * len(levels)),
            grad,
        )
        return [t for t in to_levels if t is not None] if need_levels else None, to_uv

    @staticmethod
    def _takes(levels: Sequence[Tensor], uv: Tensor) -> bool:
        """Mips have to halve, rounding down."""
        height, width, channels = levels[0].shape
        halved = all(
            texels.shape[:2] == (max(height >> k, 1), max(width >> k, 1))
            for k, texels in enumerate(levels)
        )
        return halved and bool(len(uv)) and bool(channels)

    def _soften(
        self, color: Tensor, clip: Tensor, triangle: Tensor, depth: Tensor, faces: Tensor
    ) -> Tensor:
        if not color.numel() or not len(faces):
            return color.clone()
        zero = torch.zeros_like(depth, dtype=torch.float32)
        raster = torch.stack([zero, zero, depth.float(), _float_of(triangle)], dim=-1)
        out: Tensor = self._antialias(
            color.float().contiguous(),
            raster,
            _upside_down(clip),
            faces.int().contiguous(),
            topology_hash=self._topology(faces),
        )
        return out.to(color.dtype)

    def _topology(self, faces: Tensor) -> Any:
        """The package's table of neighbours, kept as long as the faces are."""
        kept = self._topologies.get(faces)
        if kept is None or kept[0] != faces._version:
            kept = faces._version, self._make_topology(faces.int().contiguous())
            self._topologies[faces] = kept
        return kept[1]

    def _context(self, device: torch.device) -> Any:
        if device not in self._contexts:
            self._contexts[device] = self._make_context(device=device)
        return self._contexts[device]


def _check_faces(faces: Int[Tensor, "f 3"], count: int) -> None:
    if len(faces):
        low, high = (int(bound) for bound in faces.aminmax())  # sync: the package reads on
        if low < 0 or high >= count:
            raise IndexError(f"faces: indices must lie in [0, {count}), got {low} to {high}")


def _upside_down(clip: Float[Tensor, "v n 4"]) -> Float[Tensor, "v n 4"]:
    x, y, z, w = clip.float().unbind(-1)
    return torch.stack([x, -y, z, w], dim=-1)


def _last_first(
    clip: Float[Tensor, "v n 4"], faces: Int[Tensor, "f 3"]
) -> Int32[Tensor, "f 3"]:
    """Faces in reverse. One that is not finite in some view becomes a point and is dropped."""
    odd = ~clip.isfinite().all(dim=-1).all(dim=0)
    bad = odd[faces.long()].any(dim=-1, keepdim=True)
    return torch.where(bad, 0, faces).flip(0).int().contiguous()


def _index_of(stored: Float[Tensor, "*p"]) -> Int32[Tensor, "*p"]:
    bits = stored.view(torch.int32)
    return torch.where(bits > _LAST_FLOAT + _SHIFT, bits - _SHIFT, stored.int())


def _float_of(index: Int[Tensor, "*p"]) -> Float[Tensor, "*p"]:
    index = index.int()
    small = index.float().view(torch.int32)
    return torch.where(index > _LAST_FLOAT, index + _SHIFT, small).view(torch.float32)


def _picture(rows: Float[Tensor, "p c"]) -> Float[Tensor, "1 h w c"]:
    """A list as a picture of a few rows, filled up with zeros."""
    width = -(-len(rows) // _ROWS)
    fill = _ROWS * width - len(rows)
    padded = torch.nn.functional.pad(rows, (0, 0, 0, fill)) if fill else rows
    return padded.reshape(1, _ROWS, width, rows.shape[1])


def _flat(picture: Float[Tensor, "1 h w c"], count: int) -> Float[Tensor, "p c"]:
    return picture.reshape(-1, picture.shape[-1])[:count]


def _level(uv_da: Float[Tensor, "p 4"], height: int, width: int) -> Float[Tensor, " p"]:
    """The level of `isolux.backends.sample.texture2d`, by area; the package goes by length."""
    du_dx, du_dy, dv_dx, dv_dy = uv_da.unbind(-1)
    area = (du_dx * dv_dy - du_dy * dv_dx).abs() * (width * height)
    a = (width * du_dx).square() + (height * dv_dx).square()
    b = (width * du_dy).square() + (height * dv_dy).square()
    c = width**2 * du_dx * du_dy + height**2 * dv_dx * dv_dy
    longer = 0.5 * (a + b) + (0.25 * (a - b).square() + c.square()).sqrt()
    square = torch.maximum(area, longer / THINNEST)
    return torch.where(square > 1.0, 0.5 * square.log2(), 0.0)
