"""Raw backward passes for packages that only have differentiable functions."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["gradients"]


def gradients(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    needs: Sequence[bool],
    grad: Tensor,
) -> list[Tensor | None]:
    """Run a function again with a graph, and go back through it.

    Nothing is kept from the forward pass; the cost is one more of it.

    Args:
        function: of the inputs.
        inputs: where the gradients are wanted.
        needs: for which of them.
        grad: to the function's value, of its shape.

    Returns:
        For each input its gradient, zero if the value does not depend on it; None where not
        needed.
    """
    with torch.enable_grad():
        leaves = [
            given.detach().requires_grad_(need)
            for given, need in zip(inputs, needs, strict=True)
        ]
        asked = [leaf for leaf in leaves if leaf.requires_grad]
        out = function(*leaves) if asked else grad
        if out.requires_grad:
            found = iter(
                torch.autograd.grad(out, asked, grad.to(out.dtype), materialize_grads=True)
            )
        else:
            found = iter([torch.zeros_like(leaf) for leaf in asked])
    return [next(found) if leaf.requires_grad else None for leaf in leaves]
