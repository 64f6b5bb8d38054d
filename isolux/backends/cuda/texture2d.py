"""Lookups in mip-mapped textures, on the device. Letters as in `isolux.backends.sample`."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from isolux.backends.cuda import fixed_point
from isolux.backends.cuda.launch import launch
from isolux.backends.reference.texture2d import THINNEST

__all__ = ["backward", "forward"]


def forward(
    levels: Sequence[Tensor], uv: Tensor, uv_da: Tensor | None, boundary: str
) -> Tensor:
    """Values [p, c]."""
    channels = levels[0].shape[-1]
    out = uv.new_empty(len(uv), channels)
    launch(
        "texture2d", "texture2d_forward", out.numel(),
        *_arrays(levels, uv_da), _shapes_of(levels), uv, _level_of(levels, uv, uv_da), out,
        boundary == "wrap", channels, out.numel(),
    )  # fmt: skip
    return out


def backward(
    levels: Sequence[Tensor],
    uv: Tensor,
    uv_da: Tensor | None,
    boundary: str,
    grad: Tensor,
    need_levels: bool,
    need_uv: bool,
) -> tuple[list[Tensor] | None, Tensor | None]:
    """Gradients to the levels and to uv, None where not needed."""
    channels, above = levels[0].shape[-1], grad.contiguous()
    at, shapes, wrap = _level_of(levels, uv, uv_da), _shapes_of(levels), boundary == "wrap"
    to_levels = to_uv = None
    if need_levels:
        sizes = [level.numel() for level in levels]
        sums = fixed_point.start(
            uv.new_zeros(sum(sizes)), lambda: fixed_point.largest(above), len(uv)
        )
        launch(
            "texture2d", "texture2d_scatter", above.numel(),
            shapes, uv, at, above, *sums, wrap, channels, above.numel(),
        )  # fmt: skip
        parts = torch.split(fixed_point.finish(*sums), sizes)
        to_levels = [part.view(level.shape) for part, level in zip(parts, levels, strict=True)]
    if need_uv:
        to_uv = torch.empty_like(uv)
        launch(
            "texture2d", "texture2d_to_uv", len(uv),
            *_arrays(levels, uv_da), shapes, uv, at, above, to_uv, wrap, channels, len(uv),
        )  # fmt: skip
    return to_levels, to_uv


def _arrays(levels: Sequence[Tensor], uv_da: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The first level, and all others in one array: a third of its size where they are mips."""
    if uv_da is None or len(levels) == 1:
        return levels[0], None
    return levels[0], torch.cat([level.flatten() for level in levels[1:]])


def _level_of(levels: Sequence[Tensor], uv: Tensor, uv_da: Tensor | None) -> Tensor | None:
    """The level of each point; None if all look at the first one."""
    if uv_da is None:
        return None
    height, width, _ = levels[0].shape
    level = uv.new_empty(len(uv))
    launch(
        "texture2d", "texture2d_level", len(uv),
        uv_da, level, width, height, len(levels) - 1, THINNEST, len(uv),
    )  # fmt: skip
    return level


def _shapes_of(levels: Sequence[Tensor]) -> Tensor:
    return _shapes(tuple(tuple(level.shape[:2]) for level in levels), levels[0].device)


@cache
def _shapes(sizes: tuple[tuple[int, ...], ...], device: torch.device) -> Tensor:
    """Height, width and first texel of each level, the levels lying one after the other."""
    first, rows = 0, []
    for height, width in sizes:
        rows.append((height, width, first))
        first += height * width
    return torch.tensor(rows, dtype=torch.int64, device=device)  # sync: once a texture's sizes
