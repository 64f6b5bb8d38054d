"""The network, in torch: two scales of sparse 3^3 convolutions, shared by all levels.

It looks one cell, two parents' cells and one cell more far, seven cells at most. Letters: c
cells, p parents, s samples, m rows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from isolux.geometry.points.learned.features import SCALARS, VECTORS, Features
from isolux.geometry.points.learned.lookup import neighbours_of, parents_of

__all__ = ["OUTPUTS", "Cells", "Network", "cells_of", "symmetries"]

OUTPUTS = 9
_INPUTS = SCALARS + 3 * VECTORS


@dataclass(frozen=True)
class Cells:
    """Who is next to whom."""

    near: Any  # int64 [c, 27], c where there is none
    parent: Any  # int64 [c]
    parents_near: Any  # int64 [p, 27], p where there is none


def cells_of(cells: Any) -> Cells:
    """The neighbourhoods of sorted cells."""
    parents, parent = parents_of(cells)

    def table(keys: Any) -> Any:
        near = neighbours_of(keys, keys).reshape(-1, 27).astype(np.int64)
        return np.where(near < 0, len(keys), near)

    return Cells(table(cells), parent, table(parents))


def symmetries() -> list[tuple[Any, Any]]:
    """The 48 motions of a cube: matrices [3, 3], and where each neighbour comes from [27]."""
    steps = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    found = []
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        for signs in range(8):
            matrix = np.zeros((3, 3), np.int64)
            for row, column in enumerate(order):
                matrix[row, column] = -1 if signs >> row & 1 else 1
            old = steps @ matrix  # the inverse of the matrix is its transpose
            found.append((matrix.astype(np.float32), ((old + 1) * (9, 3, 1)).sum(-1)))
    return found


class _Convolution(nn.Module):
    """A sparse 3^3 convolution; weight [27, outside, inside]."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(27, outside, inside) * (2 / (9 * inside)) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(outside))

    def forward(self, x: Tensor, near: Tensor) -> Tensor:
        """x [c, inside], near [c, 27]."""
        result: Tensor = _Gather.apply(x, self.weight, near)  # type: ignore[no-untyped-call]
        return result + self.bias


class _Gather(torch.autograd.Function):
    """Products of gathered neighbours. Who is near is near in turn, at the opposite step, so
    that the way back gathers too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, near: Tensor) -> Tensor:
        full = _gathered(x, near)
        ctx.save_for_backward(full, weight, near)
        return full @ weight.permute(0, 2, 1).reshape(-1, weight.shape[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        full, weight, near = ctx.saved_tensors
        taps, outside, inside = weight.shape
        of_weight = (full.T @ grad).reshape(taps, inside, outside).permute(0, 2, 1)
        back = _gathered(grad, near) @ weight.flip(0).reshape(taps * outside, inside)
        return back, of_weight, None


def _gathered(x: Tensor, near: Tensor) -> Tensor:
    padded = torch.cat([x, x.new_zeros(1, x.shape[1])])
    return padded.index_select(0, near.reshape(-1)).reshape(len(near), -1)


class Network(nn.Module):
    """From features of cells to `OUTPUTS` numbers a cell.

    Args:
        fine: channels of a cell.
        coarse: channels of a parent.
    """

    def __init__(self, fine: int = 16, coarse: int = 32) -> None:
        super().__init__()
        self.enter = nn.Linear(_INPUTS, fine)
        self.first = _Convolution(fine, fine)
        self.down = nn.Linear(fine, coarse)
        self.second = _Convolution(coarse, coarse)
        self.third = _Convolution(coarse, coarse)
        self.up = nn.Linear(coarse, fine)
        self.last = _Convolution(fine, fine)
        self.leave = nn.Linear(fine, OUTPUTS)
        with torch.no_grad():
            for part in (self.first, self.second, self.third, self.last):
                part.weight.mul_(0.3)
            self.leave.weight.zero_()  # before training it changes nothing
            self.leave.bias.zero_()

    def forward(
        self, features: Features, cells: Cells, motion: tuple[Any, Any] | None = None
    ) -> Tensor:
        """Outputs [c, OUTPUTS] as `correction` takes them.

        Args:
            features: of the cells.
            cells: their neighbourhoods.
            motion: of `symmetries`: seen as if space were moved.
        """
        vectors = torch.from_numpy(features.vectors)
        near, above = torch.from_numpy(cells.near), torch.from_numpy(cells.parents_near)
        if motion is not None:
            matrix, order = torch.from_numpy(motion[0]), torch.from_numpy(motion[1])
            vectors, near, above = vectors @ matrix.T, near[:, order], above[:, order]
        scalars = torch.from_numpy(features.scalars)
        x = functional.relu(self.enter(torch.cat([scalars, vectors.flatten(1)], 1)))
        x = x + functional.relu(self.first(x, near))
        parent = torch.from_numpy(cells.parent)
        count = torch.bincount(parent, minlength=len(above)).to(x.dtype)
        mean = x.new_zeros(len(above), x.shape[1]).index_add(0, parent, x) / count[:, None]
        y = functional.relu(self.down(mean))
        y = y + functional.relu(self.second(y, above))
        y = y + functional.relu(self.third(y, above))
        x = functional.relu(x + self.up(y)[parent])
        x = x + functional.relu(self.last(x, near))
        out: Tensor = self.leave(x)
        if motion is not None:
            out = torch.cat([out[:, :6], out[:, 6:] @ matrix], 1)
        return out
