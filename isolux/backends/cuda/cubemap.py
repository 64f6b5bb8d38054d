"""Seamless cube map lookups on the device. Letters as in `isolux.backends.sample`.

Faces are first padded by one texel of their neighbours, as on the processor. Texels of all
levels lie one after the other.

A million points add to a map of some thousand texels, and threads that add to one address wait
for one another. So there are private copies of the padded sums, chosen by the point's number,
as many as stay cheaper than the points themselves. The copies of one number lie side by side:
neighbouring points mostly meet the same texel, and a warp then adds to one line of memory
instead of 32 times to one address. The copies are summed, and the padding is folded back by
gathering what shows each texel, so nothing but the copies is added to by atomics.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor

from isolux.backends import cubes
from isolux.backends.cuda import fixed_point
from isolux.backends.cuda.fixed_point import Sums
from isolux.backends.cuda.launch import launch

__all__ = ["backward", "forward"]

_MOST_COPIES = 256  # eight lines of a warp


@dataclass(frozen=True)
class _Layout:
    """Where texels lie, for levels of some sizes; int32 on one device."""

    sizes: Tensor  # texels along an edge of each level
    starts: Tensor  # each level's first padded texel
    shown: Tensor  # texel that a padded one shows, or -1 - k: the k-th of the corners
    corners: Tensor  # [k, 3]: the texels that meet at a corner of the cube
    first: Tensor  # for each texel and the end, its first place in `seen`
    seen: Tensor  # padded texels that show a texel, or -1 - n: the n-th shows a third of it


def forward(levels: Sequence[Tensor], direction: Tensor, level: Tensor | None) -> Tensor:
    """Values [p, c]."""
    layout, channels, count = _layout_of(levels), levels[0].shape[-1], len(direction)
    out = direction.new_empty(count, channels)
    launch(
        "cubemap", "cubemap_forward", count,
        _padded(levels, layout), layout.starts, layout.sizes, direction, level, out,
        len(levels), channels, count,
    )  # fmt: skip
    return out


def backward(
    levels: Sequence[Tensor],
    direction: Tensor,
    level: Tensor | None,
    grad: Tensor,
    need_levels: bool,
    need_place: bool,
) -> tuple[list[Tensor] | None, Tensor | None, Tensor | None]:
    """Gradients to the levels' texels, and to direction and level; None where not needed."""
    layout, channels, count = _layout_of(levels), levels[0].shape[-1], len(direction)
    texels = len(layout.shown)
    copies, above = _copies(count, texels), grad.contiguous()
    sums: Sums | tuple[None, None, None] = None, None, None
    if need_levels:
        private = direction.new_zeros(texels * channels, copies)
        # A point's texels are different ones, and their weights are at most one.
        sums = fixed_point.start(private, lambda: fixed_point.largest(above), count)
    to_direction = torch.empty_like(direction) if need_place else None
    to_level = torch.empty_like(level) if need_place and level is not None else None
    launch(
        "cubemap", "cubemap_backward", count,
        _padded(levels, layout) if need_place else None, layout.starts, layout.sizes,
        direction, level, above, *sums, to_direction, to_level,
        len(levels), channels, copies, count,
    )  # fmt: skip
    if sums[0] is None:
        return None, to_direction, to_level
    total = fixed_point.finish(*sums).sum(dim=1)
    return _folded(total, levels, layout), to_direction, to_level


def _copies(count: int, texels: int) -> int:
    """A power of two: private sums of `texels` that are no larger than twice the points."""
    most = 2 * count // texels if texels else 1
    return min(_MOST_COPIES, 1 << max(most.bit_length() - 1, 0))


def _padded(levels: Sequence[Tensor], layout: _Layout) -> Tensor:
    channels, count = levels[0].shape[-1], len(layout.shown)
    texels = torch.cat([level.reshape(-1) for level in levels])
    padded = texels.new_empty(count * channels)
    launch(
        "cubemap", "cubemap_pad", len(padded),
        texels, layout.shown, layout.corners, padded, channels, len(padded),
    )  # fmt: skip
    return padded


def _folded(padded: Tensor, levels: Sequence[Tensor], layout: _Layout) -> list[Tensor]:
    """The adjoint of `_padded`."""
    channels = levels[0].shape[-1]
    count = channels * (len(layout.first) - 1)
    out = padded.new_empty(count)
    launch(
        "cubemap", "cubemap_fold", count,
        padded, layout.first, layout.seen, out, channels, count,
    )  # fmt: skip
    ends = list(accumulate(level.numel() for level in levels))
    return [
        out[end - level.numel() : end].view(level.shape)
        for end, level in zip(ends, levels, strict=True)
    ]


def _layout_of(levels: Sequence[Tensor]) -> _Layout:
    return _layout(tuple(level.shape[1] for level in levels), levels[0].device)


@lru_cache(maxsize=32)
def _layout(sizes: tuple[int, ...], device: torch.device) -> _Layout:
    shown, corners, starts, texels = [], [], [0], 0
    for k, size in enumerate(sizes):
        own, three = _shown(size)
        three = three + texels
        own = torch.where(own < 0, own - 24 * k, own + texels)
        shown.append(own)
        corners.append(three)
        starts.append(starts[-1] + len(own))
        texels += 6 * size * size
    index, triple = torch.cat(shown), torch.cat(corners)
    first, seen = _seen(index, triple, texels)
    table = torch.tensor(sizes), torch.tensor(starts), index, triple, first, seen
    # sync: the tables go to the device, once for these sizes
    return _Layout(*(part.to(torch.int32).contiguous().to(device) for part in table))


def _shown(size: int) -> tuple[Tensor, Tensor]:
    """`cubes.padding` with its 24 corners numbered as -1 - k, and their texels [24, 3]."""
    own = cubes.padding(size).clone()
    row, column = torch.tensor([0, 0, -1, -1]), torch.tensor([0, -1, 0, -1])
    inner_row, inner_column = torch.tensor([1, 1, -2, -2]), torch.tensor([1, -2, 1, -2])
    three = [
        own[:, inner_row, inner_column],
        own[:, row, inner_column],
        own[:, inner_row, column],
    ]
    own[:, row, column] = -1 - torch.arange(24).reshape(6, 4)
    return own.reshape(-1), torch.stack(three, dim=-1).reshape(-1, 3)


def _seen(shown: Tensor, corners: Tensor, texels: int) -> tuple[Tensor, Tensor]:
    """The inverse of what padded texels show: rows of the transposed matrix."""
    padded = torch.arange(len(shown))
    whole, third = shown >= 0, shown < 0
    showing = torch.cat([padded[whole], (-1 - padded[third]).repeat_interleave(3)])
    texel = torch.cat([shown[whole], corners[-1 - shown[third]].reshape(-1)])
    first = torch.zeros(texels + 1, dtype=torch.int64)
    first[1:] = torch.bincount(texel, minlength=texels).cumsum(0)
    return first, showing[texel.argsort(stable=True)]
