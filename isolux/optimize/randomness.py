"""Random numbers that depend on the seed and the place where they are used, nothing else.

So a resumed run draws what the uninterrupted one would have drawn.
"""

import torch

__all__ = ["generator_for", "order_of"]


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
