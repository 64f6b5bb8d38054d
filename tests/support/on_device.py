"""A backend that keeps its tensors elsewhere, for tests whose tensors are on the processor.

Each raw operator is given its arguments on the other side and its results are brought back, so
the laws that hold for every backend are asked of a device too, gradients included.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from mapped import mapped
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from isolux import backends
from isolux.backends import Backend, Operator

__all__ = ["allow_any_order", "on_device"]

Move = Callable[[Tensor], Tensor]


def allow_any_order(change: Callable[[Any, str, Any], None]) -> None:
    """Let gradients differ from call to call by the order of their sums, in float64.

    Args:
        change: sets an item, and puts it back after the test.
    """
    for check in (gradcheck, gradgradcheck):
        change(check.__kwdefaults__, "nondet_tol", 1e-9)


def on_device(backend: Backend, there: Move, here: Move) -> Backend:
    """The backend for the processor's tensors.

    On a device indices are not checked, and one that is out of range ends the process: so the
    processor's backend does a forward pass first, which says so.

    Args:
        backend: works on the other side.
        there: brings a tensor to it.
        here: brings one back.
    """
    plain = backends.cpu()

    def moved(operator: Callable[..., Any], check: Callable[..., Any] | None) -> Any:
        def call(*arguments: Any) -> Any:
            if check is not None:
                check(*arguments)
            given = mapped(there, arguments)
            result = operator(*given)
            if result is None:  # it wrote into what it was given
                for ours, theirs in zip(arguments, given, strict=True):
                    if isinstance(ours, Tensor):
                        ours.copy_(here(theirs))
            return mapped(here, result)

        return call

    fields: dict[str, Any] = {}
    for field in dataclasses.fields(backend):
        operator, check = getattr(backend, field.name), getattr(plain, field.name)
        if isinstance(operator, Operator):
            # What a forward pass keeps for its way back is each backend's own.
            fields[field.name] = Operator(
                moved(operator.forward, check.forward), moved(operator.backward, None)
            )
        elif callable(operator):
            fields[field.name] = moved(operator, check)
    fields["device"] = plain.device
    return dataclasses.replace(backend, **fields)
