"""Raw operators called once more with tensors that only say that they are on a CUDA device.

Such tensors have shapes and types but no numbers, so code that waits for the device fails, and
so does code that makes tensors on the processor. Kernels are checked up to their start. Where
an operator waits for the size of its result, it is told what the real call found.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from itertools import product
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from mapped import mapped
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from isolux.backends import Backend, Operator
from isolux.backends.cuda import driver, launch, nvrtc

__all__ = ["replayed"]

DEVICE = torch.device("cuda:0")
_LOADERS = (driver, launch, nvrtc)
_mode = FakeTensorMode()  # one: what operators keep between calls belongs to it
_seen: set[str] = set()


def replayed(backend: Backend) -> Backend:
    """The backend; the first call of each kind of each operator is made on a device too."""
    fields = {
        field.name: _watched(getattr(backend, field.name))
        for field in dataclasses.fields(backend)
        if field.name not in ("name", "taken", "device")
    }
    return dataclasses.replace(backend, **fields)


def _watched(operator: Any) -> Any:
    if isinstance(operator, Operator):
        return Operator(_watched(operator.forward), _watched(operator.backward))
    if not operator.__module__.startswith(launch.__package__):
        return operator

    def call(*arguments: Any) -> Any:
        kind = f"{operator.__module__}.{operator.__name__} {_kind(arguments)}"
        if kind in _seen:
            return operator(*arguments)
        _seen.add(kind)
        with _waits() as numbers:
            result = operator(*arguments)
        _replay(operator, arguments, numbers)
        return result

    return call


def _replay(operator: Callable[..., Any], arguments: Any, numbers: list[Any]) -> None:
    assert len(numbers) <= 1, f"{operator.__module__} waits for the device {len(numbers)} times"
    with ExitStack() as stack:
        for target, name, value in (
            (launch, "_host", []),
            (launch, "_function", lambda *_: None),
            (driver, "use", lambda _: None),
            (driver, "start", lambda *_: None),
            (torch.cuda, "device", lambda _: nullcontext()),
            (torch.cuda, "current_stream", lambda _: SimpleNamespace(cuda_stream=0)),
            (Tensor, "data_ptr", lambda _: 64),
            (Tensor, "contiguous", _contiguous),
            (Tensor, "copy_", lambda tensor, _: tensor),
            (Tensor, "__getitem__", _item),
            (Tensor, "__setitem__", _set_item),
            *_tables(),
        ):
            stack.enter_context(patch.object(target, name, value))
        stack.enter_context(_mode)
        with _waits(numbers), _OnlyThere():
            mapped(_check, operator(*mapped(_there, arguments)))


def _tables() -> Iterator[tuple[ModuleType, str, Callable[..., Any]]]:
    """Cached functions of the operators' modules: what they keep is made once, anyhow."""
    for module in list(sys.modules.values()):
        if module.__name__.startswith(f"{launch.__package__}.") and module not in _LOADERS:
            for name, value in list(vars(module).items()):
                if hasattr(value, "cache_info"):
                    yield module, name, partial(_kept, value)


def _kept(function: Callable[..., Any], *arguments: Any) -> Any:
    at_home = [torch.device("cpu") if each == DEVICE else each for each in arguments]
    with _disable_current_modes():
        made = function(*at_home)
    return mapped(_there, made)


@contextmanager
def _waits(known: list[Any] | None = None) -> Iterator[list[Any]]:
    """Numbers that the operators fetch from tensors: noted, or given if known."""
    numbers: list[Any] = [] if known is None else known
    left = iter(numbers)
    with ExitStack() as stack:
        for kind, name in product((Tensor, FakeTensor), ("tolist", "item")):
            original = getattr(kind, name)

            def fetch(tensor: Tensor, original: Callable[[Tensor], Any] = original) -> Any:
                caller: str = sys._getframe(1).f_globals["__name__"]
                if not caller.startswith(str(launch.__package__)):
                    return original(tensor)
                if known is not None:
                    return next(left)
                numbers.append(original(tensor))
                return numbers[-1]

            stack.enter_context(patch.object(kind, name, fetch))
        yield numbers


class _OnlyThere(TorchDispatchMode):
    """Nothing makes a tensor on the processor, not even to bring it to the device."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor):
                assert value.device == DEVICE, f"{function} makes a tensor on {value.device}"
        return result


# Torch's own of these, and of `copy_`, ask for the device's library, which may not be there.


def _contiguous(tensor: Tensor) -> Tensor:
    if tensor.is_contiguous():
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)


def _item(tensor: Tensor, key: Any) -> Tensor:
    keys = key if isinstance(key, tuple) else (key,)
    axis = 0
    for each in keys:
        if isinstance(each, slice):
            tensor = torch.ops.aten.slice(tensor, axis, each.start, each.stop, each.step or 1)
            axis += 1
        elif each is Ellipsis:
            axis = tensor.ndim - sum(k is not None for k in keys[keys.index(Ellipsis) + 1 :])
        elif each is None:
            tensor, axis = tensor.unsqueeze(axis), axis + 1
        elif isinstance(each, int):
            tensor = tensor.select(axis, each)
        else:
            tensor, axis = torch.ops.aten.index(tensor, [None] * axis + [each]), axis + 1
    return tensor


def _set_item(tensor: Tensor, key: Any, value: Any) -> None:
    if not isinstance(value, Tensor):
        _item(tensor, key).fill_(value)


def _there(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=DEVICE)


def _check(tensor: Tensor) -> Tensor:
    assert tensor.device == DEVICE, f"a result is on {tensor.device}"
    return tensor


def _kind(arguments: Any) -> str:
    """What may decide an operator's path: types, what is absent or empty, switches."""
    kinds = []
    for value in arguments:
        if isinstance(value, Tensor):
            kinds.append(f"{value.dtype}{'' if value.numel() else ' empty'}")
        else:
            kinds.append(str(value) if isinstance(value, bool | None) else type(value).__name__)
    return ", ".join(kinds)
