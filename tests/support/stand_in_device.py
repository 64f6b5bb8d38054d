"""A second device that is only pretended, so that placement is tested where there is no GPU.

Its tensors say that they are on `meta`, and hold their numbers in a tensor on the processor.
What would fail on a GPU fails here: operations that mix tensors of both sides, numpy's view of
a tensor over there, kernels given tensors of this side. Each time that the processor waits for
a number of the device is noted, with the place in the code, and so is each copy from this side
to the other. `stand_in_graph` records what is done over there.
"""

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.optim import optimizer
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only

__all__ = ["DEVICE", "copies", "recorders", "there", "waits"]

DEVICE = "meta"  # of all that torch knows without a GPU, the one with nothing in it
_COPIES = {
    torch.ops.aten._to_copy.default,
    torch.ops.aten.copy_.default,
    torch.ops.aten._copy_from.default,
}
_WAITS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.equal.default,
    torch.ops.aten._unique2.default,
    torch.ops.aten.unique_dim.default,
    torch.ops.aten.repeat_interleave.Tensor,
}
waits: Counter[str] = Counter()  # by the place in the code
copies: Counter[str] = Counter()  # from here to there, likewise
# Are told of each operation over there: function, arguments and result in tensors of this side.
recorders: list[Callable[[Any, Any, Any, Any], None]] = []


class There(Tensor):
    """A tensor of the pretended device."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "There":
        made: There = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        made.inner = inner
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"There({self.inner!r})"

    def tolist(self) -> Any:
        """Its numbers; the processor waits."""
        _note(waits)
        return self.inner.tolist()

    def __getitem__(self, key: Any) -> Tensor:
        """Torch makes a tensor of a list where the indexed one is: nowhere, on `meta`."""
        keys = key if isinstance(key, tuple) else (key,)
        found: Tensor = super().__getitem__(
            tuple(torch.tensor(each) if isinstance(each, list) else each for each in keys)
        )
        return found

    def new_tensor(self, data: Any, **options: Any) -> Tensor:
        """Torch makes it at home, past any dispatch."""
        _note(copies)
        return There(self.inner.new_tensor(data, **options))

    def data_ptr(self) -> int:
        """Kernels that were compiled for the processor take it from here."""
        return self.inner.data_ptr()

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _call(function, args, kwargs or {})


def _place() -> str:
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith("isolux."):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


def _note(counter: Counter[str], what: str = "") -> None:
    """A wait or a copy, which no recording of a device allows."""
    counter[_place() + what] += 1
    if recorders:
        kind = "a wait" if counter is waits else "a copy"
        raise RuntimeError(f"{kind} at {_place()} while a graph is recorded")


def _call(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
    over_there = [isinstance(x, There) for x in tensors]
    goal = kwargs.get("device")
    if function in _COPIES:
        return _copied(function, args, kwargs, goal)
    index = function.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put_)
    for tensor, side in zip(tensors, over_there, strict=True):
        # Numbers may come along; torch brings indices of this side over, and waits.
        if any(over_there) and not side and tensor.dim():
            if not (index and tensor is not args[0]):
                raise RuntimeError(f"{function} mixes devices: {tuple(tensor.shape)} is here")
            _note(waits, " (index)")
    to_there = any(over_there) or (goal is not None and torch.device(goal).type == DEVICE)
    if any(over_there) and function in _WAITS:
        _note(waits)
    plain = tree_map_only(Tensor, _plain, (args, kwargs)) if to_there else (args, kwargs)
    if goal is not None:
        plain[1]["device"] = "cpu"
    result = function(*plain[0], **plain[1])
    if not to_there:
        return result
    for recorder in recorders:
        recorder(function, *plain, result)
    wrapped = tree_map_only(Tensor, There, result)
    return (
        return_and_correct_aliasing(function, args, kwargs, wrapped)
        if any(over_there)
        else wrapped
    )


def _plain(tensor: Tensor) -> Tensor:
    """What stands for a tensor on this side; a number that comes along goes by its value."""
    if isinstance(tensor, There):
        return tensor.inner
    return tensor.clone() if recorders else tensor


def _copied(function: Any, args: Any, kwargs: dict[str, Any], goal: Any) -> Any:
    plain = tree_map_only(There, lambda t: t.inner, args)
    if function == torch.ops.aten.copy_.default:
        from_there, to_there = isinstance(args[1], There), isinstance(args[0], There)
        if from_there != to_there:
            _note(waits if from_there else copies)
        result = function(*plain, **kwargs)
        if to_there:
            for recorder in recorders:
                recorder(function, plain, kwargs, result)
        return args[0]
    rest = {**kwargs, "device": "cpu"} if goal is not None else kwargs
    result = function(*plain, **rest)
    stays = goal is None or torch.device(goal).type == DEVICE
    was_there = isinstance(args[0], There)
    if not (stays and (was_there or goal is not None)):
        if was_there:
            _note(waits)
        return result
    if not was_there:
        _note(copies)
    for recorder in recorders:
        recorder(function, plain, rest, result)
    return There(result)


class _Mode(TorchDispatchMode):
    """Makes tensors over there when asked for that device."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _call(function, args, kwargs or {})


class _Generator(torch.Generator):
    """Draws here what is wanted over there."""

    def __new__(cls, device: Any = None) -> "_Generator":
        return super().__new__(cls, "cpu")


@contextmanager
def there() -> Iterator[None]:
    """Within it the pretended device is there."""
    tensor = torch.tensor

    def new(data: Any, *, device: Any = None, **options: Any) -> Tensor:
        made = tensor(data, **options)  # past any dispatch, as `new_tensor`
        return made if device is None else made.to(device)

    waits.clear()
    copies.clear()
    known = optimizer._get_fused_kernels_supported_devices
    with (
        patch.object(torch, "Generator", _Generator),
        patch.object(torch, "tensor", new),
        patch.object(
            optimizer, "_get_fused_kernels_supported_devices", lambda: [*known(), DEVICE]
        ),
        warnings.catch_warnings(),
        _Mode(),
    ):
        warnings.filterwarnings("ignore", ".*copying from a non-meta parameter", UserWarning)
        yield
