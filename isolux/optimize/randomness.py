"""Random numbers that depend on the seed and the place where they are used, nothing else.

So a resumed run draws what the uninterrupted one would have drawn.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["Buffered", "generator_for", "numbers", "order_of"]


def generator_for(
    seed: int, *place: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator for one place of a run, for example (phase, step), and for one device."""
    state = seed & 0xFFFFFFFF
    for number in place:
        # A step of splitmix64: neighbouring places get unrelated streams.
        state = (state + 0x9E3779B97F4A7C15 * (number + 1)) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return torch.Generator(device).manual_seed(state & 0x7FFFFFFFFFFFFFFF)


def order_of(seed: int, phase: int, step: int, batch: int, count: int) -> list[int]:
    """Which of `count` views step `step` takes: every one once before any is taken again."""
    first = step * batch
    views: list[int] = []
    for at in range(first, first + batch):
        epoch, place = divmod(at, count)
        order = torch.randperm(count, generator=generator_for(seed, phase, epoch, 7))
        views.append(int(order[place]))
    return views


class Buffered:
    """A step's random numbers in places that stay, for steps that ask for the same sizes.

    The first pass draws what it asks for; every other one, after `rewind`, gets the same
    tensors, until `renew` puts another step's numbers in them.

    Args:
        generator: of the first step.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator
        self._kept: list[tuple[Callable[..., Tensor], Tensor]] = []
        self._next = 0

    def rewind(self) -> None:
        """Begin a pass."""
        self._next = 0

    def renew(self, generator: torch.Generator) -> None:
        """Draw in the order in which it was asked for, as a step of its own would."""
        for draw, place in self._kept:
            place.copy_(draw(place.shape, generator=generator, device=place.device))

    def next(
        self, draw: Callable[..., Tensor], shape: Sequence[int], device: torch.device
    ) -> Tensor:
        """The numbers that are asked for next."""
        if self._next == len(self._kept):
            self._kept.append((draw, draw(shape, generator=self._generator, device=device)))
        self._next += 1
        return self._kept[self._next - 1][1]


def numbers(
    draw: Callable[..., Tensor],
    shape: Sequence[int],
    source: torch.Generator | Buffered,
    device: torch.device,
) -> Tensor:
    """What `draw` (torch.rand or torch.randn) draws from a source."""
    if isinstance(source, Buffered):
        return source.next(draw, shape, device)
    return draw(shape, generator=source, device=device)
