"""A step's forward and backward pass as one CUDA graph: recorded once, then started as a whole.

A step of the mesh stage starts some hundred kernels, and for small pictures the processor takes
longer to start them than the device to run them. A graph repeats what was started, with the
same addresses and the same numbers of the host: so all that differs between steps (views,
random numbers, weights of the terms) is copied into tensors that stay, sizes are those of all
pixels (`all_pixels`), and nothing is waited for. The guard, the optimiser's step and all that
watches are outside. https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

import gc
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from isolux.data.views import Batch
from isolux.optimize.fit import Gradients
from isolux.optimize.randomness import Buffered
from isolux.optimize.weights import Ramp, summed

__all__ = ["Graphed", "check_graph"]

_WARM_UPS = 3  # passes before the recording, in which modules are loaded and tables are made
_log = logging.getLogger(__name__)


def check_graph(backend: str, processes: int) -> None:
    """Whether steps can be recorded at all.

    Raises:
        ValueError: in one line, why not.
    """
    if backend != "cuda":
        raise ValueError(
            f"optimize.graph=true: CUDA graphs need backend=cuda, and this run has "
            f"backend={backend}; leave optimize.graph out"
        )
    if processes > 1:
        raise ValueError(
            f"optimize.graph=true: works in one process, and these are {processes}; leave "
            f"optimize.graph out, or start without torchrun"
        )


@dataclass(frozen=True)
class _Recording:
    """A graph, what it reads, and what it writes."""

    replay: Callable[[], None]
    batch: Batch
    numbers: Buffered
    names: list[str]  # of the terms
    values: Tensor  # the terms, and their weighted sum
    gradients: list[Tensor | None]  # of the parameters

    def renew(self, batch: Batch, generator: torch.Generator) -> None:
        """Put another step's views and random numbers where the graph reads."""
        for place, value in zip(_tensors(self.batch), _tensors(batch), strict=True):
            place.copy_(value)
        self.numbers.renew(generator)


class Graphed:
    """Terms and gradients of steps that all have the same sizes.

    The first call records. Where that fails, it says so once, and all calls are plain.

    Args:
        given: a step's views and random numbers.
        terms: of those, without waiting for the device. What it keeps between calls stays.
        weights: of the terms.
        optimizer: of the parameters.
        plain: the same without a graph.
    """

    def __init__(
        self,
        given: Callable[[int], tuple[Batch, torch.Generator]],
        terms: Callable[[Batch, Buffered], dict[str, Tensor]],
        weights: Mapping[str, Ramp],
        optimizer: torch.optim.Optimizer,
        plain: Gradients,
    ) -> None:
        self._given, self._terms, self._plain = given, terms, plain
        self._weights, self._optimizer = weights, optimizer
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        device = self._parameters[0].device
        self._factors = {name: torch.zeros((), device=device) for name in weights}
        self._known: dict[str, float] = {}  # what stands in the factors
        self._recording: _Recording | None = None
        self._failed = False

    def __call__(self, step: int, progress: float) -> tuple[dict[str, Tensor], Tensor]:
        if not self._failed:
            batch, generator = self._given(step)
            batch = replace(batch, cameras=batch.cameras.inverted())
            self._weigh(progress)
            if self._recording is None:
                self._record(batch, generator)
            else:
                self._recording.renew(batch, generator)
        if self._recording is None:
            return self._plain(step, progress)
        return self._replayed(self._recording)

    def _weigh(self, progress: float) -> None:
        """Put the weights into the factors, those that have changed."""
        for name, weight in self._weights.items():
            value = weight(progress)
            if self._known.get(name) != value:
                self._factors[name].fill_(value)
                self._known[name] = value

    def _record(self, batch: Batch, generator: torch.Generator) -> None:
        try:
            self._recording = self._recorded(batch, generator)
        except Exception as error:  # one of the step itself will be met again without a graph
            self._failed = True
            _log.warning("no CUDA graph, kernels are started one by one: %s", _cause(error))

    def _recorded(self, batch: Batch, generator: torch.Generator) -> _Recording:
        held, numbers = _cloned(batch), Buffered(generator)

        def run() -> tuple[list[str], Tensor]:
            numbers.rewind()
            terms = self._terms(held, numbers)
            total = summed(terms, self._factors)
            total.backward()  # type: ignore[no-untyped-call]
            return list(terms), torch.stack([*terms.values(), total]).detach()

        self._optimizer.zero_grad(set_to_none=True)
        here, side = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(here)
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                run()
                # The recording is to make gradients of its own, in its own memory.
                self._optimizer.zero_grad(set_to_none=True)
        here.wait_stream(side)
        gc.collect()  # what is left of passes would tie parameters to the streams of those
        graph = torch.cuda.CUDAGraph()
        # A recording that fails does not go back to the stream before.
        with torch.cuda.stream(here), torch.cuda.graph(graph):
            names, values = run()
        return _Recording(
            graph.replay, held, numbers, names, values, [p.grad for p in self._parameters]
        )

    def _replayed(self, recording: _Recording) -> tuple[dict[str, Tensor], Tensor]:
        recording.replay()
        for parameter, gradient in zip(self._parameters, recording.gradients, strict=True):
            parameter.grad = gradient
        *terms, total = recording.values.clone().unbind()  # the next step writes there again
        return dict(zip(recording.names, terms, strict=True)), total


def _tensors(batch: Batch) -> list[Tensor]:
    cameras = batch.cameras
    assert cameras.camera_from_world is not None
    return [
        batch.rgb,
        batch.alpha,
        cameras.world_from_camera,
        cameras.camera_from_world,
        cameras.focal_px,
        cameras.centre_px,
    ]


def _cloned(batch: Batch) -> Batch:
    rgb, alpha, there, back, focal, centre = (tensor.clone() for tensor in _tensors(batch))
    cameras = replace(
        batch.cameras,
        world_from_camera=there,
        camera_from_world=back,
        focal_px=focal,
        centre_px=centre,
    )
    return replace(batch, cameras=cameras, rgb=rgb, alpha=alpha)


def _cause(error: BaseException) -> str:
    """The first line of the first error: what ends a recording raises errors of its own."""
    while error.__context__ is not None:
        error = error.__context__
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
