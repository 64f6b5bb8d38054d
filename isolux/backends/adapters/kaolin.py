"""kaolin's FlexiCubes.

Corners, edges, weights and signs have the same order and meaning as ours, since both are the
paper's authors'. Vertices and faces come in another order, faces as int64. Values that are
infinite or not a number are not looked after as ours are.
"""

from typing import Any

import torch
from torch import Tensor

from isolux.backends.extract import CubeLattice
from isolux.backends.table import Backend, Operator

__all__ = ["operators"]

# The inputs that gradients go to, and the vertices and deviations of their graph.
Kept = tuple[list[Tensor | None], tuple[Tensor, Tensor]]


def operators(package: Any, base: Backend) -> dict[str, Operator]:
    """The package's operators, raw.

    Args:
        package: `kaolin.ops.conversions`.
        base: not needed here.
    """
    del base
    extractor = _FlexiCubes(package)
    return {"flexicubes": Operator(extractor.forward, extractor.backward)}


class _FlexiCubes:
    def __init__(self, package: Any) -> None:
        self._make = package.FlexiCubes
        self._made: dict[torch.device, Any] = {}

    def forward(
        self,
        lattice: CubeLattice,
        positions: Tensor,
        sdf: Tensor,
        alpha: Tensor | None,
        beta: Tensor | None,
        gamma: Tensor | None,
        training: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Kept]:
        """Raw `flexicubes`. The graph is kept for the backward pass: extracting costs more."""
        device = positions.device
        if device not in self._made:
            self._made[device] = self._make(device=device)
        leaves = [
            None if values is None else values.detach().requires_grad_()
            for values in (positions, sdf, alpha, beta, gamma)
        ]
        with torch.enable_grad():
            given = [None if leaf is None else leaf.float() for leaf in leaves]
            vertices, faces, deviation = self._made[device](
                given[0],
                given[1],
                lattice.cubes.to(device=device, dtype=torch.long),
                list(lattice.resolution),
                alpha=given[2],
                beta=given[3],
                gamma_f=given[4],
                training=training,
            )[:3]
            outputs = vertices.to(positions.dtype), deviation.to(positions.dtype)
        kept = leaves, outputs
        return outputs[0].detach(), faces.int(), outputs[1].detach(), kept

    def backward(
        self,
        lattice: CubeLattice,
        positions: Tensor,
        sdf: Tensor,
        alpha: Tensor | None,
        beta: Tensor | None,
        gamma: Tensor | None,
        training: bool,
        kept: Kept,
        grad: Tensor,
        deviation_grad: Tensor,
    ) -> tuple[Tensor | None, ...]:
        """Raw gradients of `flexicubes`, along the graph that was kept."""
        leaves, outputs = kept
        pairs = [
            (out, above)
            for out, above in zip(outputs, (grad, deviation_grad), strict=True)
            if out.requires_grad  # not so where there is no surface
        ]
        asked = [leaf for leaf in leaves if leaf is not None]
        found = iter(
            torch.autograd.grad(
                [out for out, _ in pairs],
                asked,
                [above for _, above in pairs],
                retain_graph=True,  # it lives and dies with the node that this belongs to
                allow_unused=True,
                materialize_grads=True,
            )
        )
        return tuple(None if leaf is None else next(found) for leaf in leaves)
