"""Stands for torch's CUDA graphs on the pretended device: notes what is done there, repeats it.

What a recording of a device refuses is refused: waiting for it, copies between both sides, new
random numbers. Numbers of this side are noted as they are, hence the same in every replay. What
was computed while recording is spoilt at its end, since a device only computes it in a replay.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import stand_in_device
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from isolux.backends.cuda import launch

__all__ = ["Graph", "graphs"]

_EMPTY = {"aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty"}


class Graph:
    """What was done between the beginning and the end of a recording."""

    def __init__(self) -> None:
        self.work: list[Callable[[], None]] = []
        self.kernels = self.replays = 0
        self._made: list[Tensor] = []  # by the work; kept, as kernels know their addresses

    def note(self, function: Any, args: Any, kwargs: Any, result: Any) -> None:
        """An operation of torch, in tensors of this side."""
        if torch.Tag.nondeterministic_seeded in function.tags:
            raise RuntimeError(f"{function} draws random numbers while a graph is recorded")
        made = _made(function, result)
        writes = any(a.alias_info and a.alias_info.is_write for a in function._schema.arguments)
        self._made += made
        if not made and not writes:
            return  # a view: its memory is that of others

        def again() -> None:
            if function._schema.name in _EMPTY:
                _spoil(made)
                return
            found = _made(function, function(*args, **kwargs))
            for place, value in zip(made, found, strict=True):
                place.copy_(value)

        self.work.append(again)

    def host(self, host: launch.Host) -> launch.Host:
        """Libraries whose kernels are noted as they are started."""

        def library(file: str, real: str, *constants: str) -> ctypes.CDLL:
            return _Library(host(file, real, *constants), self)  # type: ignore[return-value]

        return library

    def end(self) -> None:
        """Nothing that was computed counts."""
        _spoil(self._made)

    def replay(self) -> None:
        """Do it all again."""
        self.replays += 1
        for each in self.work:
            each()


class _Library:
    """Kernels that are noted."""

    def __init__(self, library: ctypes.CDLL, graph: Graph) -> None:
        self._library, self._graph = library, graph

    def __getattr__(self, kernel: str) -> Callable[..., None]:
        function = getattr(self._library, kernel)

        def call(*values: Any) -> None:
            self._graph.kernels += 1
            self._graph.work.append(lambda: function(*values))
            function(*values)

        return call


class _Stream:
    def __init__(self) -> None:
        self.waits: list[_Stream] = []

    def wait_stream(self, other: "_Stream") -> None:
        self.waits.append(other)


def _made(function: Any, result: Any) -> list[Tensor]:
    """The tensors of a result that are neither views nor written in place."""
    returns = function._schema.returns
    parts = result if len(returns) > 1 else (result,)
    own = [part for part, kind in zip(parts, returns, strict=True) if kind.alias_info is None]
    return [value for value in tree_flatten(own)[0] if isinstance(value, Tensor)]


def _spoil(tensors: list[Tensor]) -> None:
    for tensor in tensors:
        if tensor.dtype == torch.bool:
            tensor.logical_not_()
        else:
            tensor.fill_(float("nan") if tensor.is_floating_point() else -1)


@contextmanager
def graphs() -> Iterator[list[Graph]]:
    """Within it torch's names of CUDA graphs are these; gives those that were begun."""
    begun: list[Graph] = []

    def new() -> Graph:
        begun.append(Graph())
        return begun[-1]

    @contextmanager
    def record(graph: Graph) -> Iterator[None]:
        host = launch._host[0]
        launch.use_host(graph.host(host))
        stand_in_device.recorders.append(graph.note)
        try:
            yield
        except Exception:  # torch's own ends what it cannot end
            raise RuntimeError("the end of a recording that has failed") from None
        finally:
            stand_in_device.recorders.remove(graph.note)
            launch.use_host(host)
            graph.end()

    here = _Stream()
    with (
        patch.object(torch.cuda, "CUDAGraph", new),
        patch.object(torch.cuda, "graph", record),
        patch.object(torch.cuda, "Stream", _Stream),
        patch.object(torch.cuda, "current_stream", lambda: here),
        patch.object(torch.cuda, "stream", lambda _: nullcontext()),
    ):
        yield begun
