"""Environment light, filtered for rough reflection and diffuse light; the split-sum table.

Letters: s texels along a cube face's edge, n = 6 s^2 texels, e entries of a sparse map.
The filters are linear in the light and fixed by size and roughness, so each is computed once,
as a sparse map, and applied at every step.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from isolux.backends import cubes
from isolux.backends.cpu import lobes
from isolux.backends.table import Backend

__all__ = ["CubeMap", "SolidAngles", "fg_lut", "irradiance", "lobe_cutoff", "prefilter"]

SolidAngles = Literal["exact", "nvdiffrec"]


@dataclass(frozen=True)
class CubeMap:
    """A linear map between cube maps: out = diag(after) F diag(before), F sparse, symmetric.

    F depends on the angle between two texels only, hence its symmetry, and so one record
    serves the map and its transpose.
    """

    starts: Int[Tensor, " r"]  # n + 1: first entry of each row of F, and the end
    columns: Int[Tensor, " e"]
    weights: Float[Tensor, " e"]
    before: Float[Tensor, " n"]  # texel areas
    after: Float[Tensor, " n"]  # one over the weights' sum, or a constant
    dense: Float[Tensor, "n n"] | None = None  # F again, where it is far from sparse; cpu only


def prefilter(
    backend: Backend,
    cube: Float[Tensor, "6 s s 3"],
    roughness: float,
    solid_angles: SolidAngles = "exact",
) -> Float[Tensor, "6 s s 3"]:
    """Light seen in a rough mirror: the mean of the cube under a GGX lobe, for each texel.

    View, normal and mirror direction are taken as one (Karis 2013, "Real shading in Unreal
    Engine 4"), and the lobe ends where it has 99 % of its energy.

    Args:
        cube: linear radiance.
        roughness: in (0, 1]; GGX's alpha is its square.
        solid_angles: what a texel weighs; "nvdiffrec" for results comparable with that program.

    Returns:
        A cube of the same size; a constant cube returns itself.

    Raises:
        ValueError: for a roughness out of range, or for a lobe with so many texels that the
            map would not fit in memory: use a smaller cube.
    """
    if not 0.0 < roughness <= 1.0:
        raise ValueError(f"roughness must lie in (0, 1], got {roughness}")
    lobe = _lobe(cube.shape[1], float(roughness), solid_angles, cube.dtype, cube.device)
    return _apply(backend, cube, lobe)


def irradiance(
    backend: Backend,
    cube: Float[Tensor, "6 s s 3"],
    solid_angles: SolidAngles = "exact",
) -> Float[Tensor, "6 s s 3"]:
    """Light that falls on a diffuse surface, over pi, for each texel's direction as normal.

    With exact solid angles a constant cube returns itself. With nvdiffrec's it returns 1.05 to
    1.12 times that, depending on direction, as nvdiffrec does.

    Raises:
        ValueError: for a cube so large that the map would not fit in memory; 16 to 32 texels
            are enough for diffuse light.
    """
    lobe = _lobe(cube.shape[1], None, solid_angles, cube.dtype, cube.device)
    return _apply(backend, cube, lobe)


def _apply(backend: Backend, cube: Tensor, lobe: CubeMap) -> Tensor:
    out: Tensor = _CubeFilter.apply(cube.reshape(-1, 3).contiguous(), backend, lobe)  # type: ignore[no-untyped-call]
    return out.reshape(cube.shape)


class _CubeFilter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, texels: Tensor, backend: Backend, lobe: CubeMap) -> Tensor:
        ctx.rest = backend, lobe
        out: Tensor = backend.cube_filter.forward(lobe, texels)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        backend, lobe = ctx.rest
        return backend.cube_filter.backward(lobe, grad.contiguous()), None, None


@lru_cache(maxsize=64)
def lobe_cutoff(roughness: float) -> float:
    """Cosine of the angle within which a GGX lobe has 99 % of its energy.

    As nvdiffrec measures it: the density is summed over angles, without their sine.
    """
    cosine = np.cos(np.linspace(0.0, np.pi / 2, 1_000_000))
    square = roughness**4  # alpha squared
    density = square / (np.pi * (cosine * cosine * (square - 1.0) + 1.0) ** 2)
    total = np.cumsum(density)
    return float(cosine[np.searchsorted(total, 0.99 * total[-1])])


# Entries of a full matrix up to which F is kept dense, and the least share of them that must
# be there: a product with a matrix takes as long as a fifth of its entries one at a time.
_DENSE_ENTRIES, _DENSE_SHARE = 1536**2, 0.2


@lru_cache(maxsize=64)
def _lobe(
    size: int,
    roughness: float | None,
    solid_angles: SolidAngles,
    dtype: torch.dtype,
    device: torch.device,
) -> CubeMap:
    """The map of a GGX lobe, or of the cosine lobe where there is no roughness."""
    exact = solid_angles == "exact"
    area = cubes.solid_angles(size) if exact else cubes.nvdiffrec_areas(size)
    area = area.expand(6, size, size).reshape(-1)
    ceiling = 1.0 if exact or roughness is not None else 0.999
    cutoff = 0.0 if roughness is None else lobe_cutoff(roughness)
    starts, columns, weights = lobes.build(size, roughness, cutoff, ceiling)
    rows = torch.repeat_interleave(starts.diff())
    total = torch.zeros_like(area).index_add(0, rows, weights * area[columns.long()])
    if roughness is None and not exact:
        total = torch.full_like(area, np.pi)  # theirs is not made to sum to one
    dense = None
    small = len(area) ** 2 <= _DENSE_ENTRIES and device.type == "cpu"
    if small and len(columns) >= _DENSE_SHARE * len(area) ** 2:
        dense = torch.zeros(len(area), len(area), dtype=dtype)
        dense[rows, columns.long()] = weights.to(dtype)
    return CubeMap(
        dense=dense,
        starts=starts.to(device),
        columns=columns.to(device),
        weights=weights.to(device, dtype),
        before=area.to(device, dtype),
        after=(1.0 / total).to(device, dtype),
    )


@lru_cache(maxsize=8)
def fg_lut(size: int = 256, device: torch.device | str = "cpu") -> Float[Tensor, "s s 2"]:
    """The split-sum approximation's table: a surface reflects specular_colour * A + B.

    Row i is roughness (i + 0.5) / size, column j the cosine (j + 0.5) / size between normal and
    view, channels (A, B). GGX with alpha = roughness^2, height-correlated Smith shadowing,
    Schlick's Fresnel term (1 - v.h)^5 (Karis 2013). float32, exact to about 1e-3
    where alpha is tiny and 1e-4 elsewhere. The caller must not write into it.
    """
    return lobes.split_sum_table(size).to(device)
