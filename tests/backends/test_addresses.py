"""Results do not depend on where memory lies: a run would not repeat otherwise."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from isolux import backends
from isolux.backends import Backend
from isolux.backends.encode import HashGridSpec, hash_grid, mlp
from isolux.backends.light import fg_lut, irradiance, prefilter
from isolux.backends.normals import vertex_normals
from isolux.backends.sample import cubemap, mip_chain, texture2d
from isolux.backends.shade import image_loss, split_sum

_SPEC = HashGridSpec(levels=4, features=2, log2_rows=10, coarsest=4, finest=32)
_FACES = torch.randint(0, 50, (90, 3), generator=torch.Generator().manual_seed(1)).int()
_POINTS = 777  # no multiple of a vector's width

Case = tuple[list[tuple[int, ...]], Callable[[Backend, list[Tensor]], Tensor]]
CASES: dict[str, Case] = {
    "hash_grid": (
        [(_POINTS, 3), (_SPEC.rows, 2)],
        lambda b, x: hash_grid(b, x[0], x[1], _SPEC),
    ),
    "mlp": (
        [(_POINTS, 8), (16, 8), (16, 16), (5, 16)],
        lambda b, x: mlp(b, x[0], x[1:], None),
    ),
    "texture2d": (
        [(33, 34, 5), (_POINTS, 2), (_POINTS, 4)],
        lambda b, x: texture2d(b, mip_chain(x[0]), x[1], 0.1 * x[2].detach(), "wrap"),
    ),
    "cubemap": (
        [(6, 9, 9, 3), (6, 4, 4, 3), (_POINTS, 3), (_POINTS,)],
        lambda b, x: cubemap(b, x[:2], x[2] - 0.5, x[3]),
    ),
    "prefilter": (
        [(6, 16, 16, 3)],
        lambda b, x: prefilter(b, x[0], 0.185) + irradiance(b, x[0]),
    ),
    "split_sum": (
        [(_POINTS, 3), (_POINTS, 3), (_POINTS,), (_POINTS, 3), (_POINTS, 3)],
        lambda b, x: split_sum(b, x[0], x[1], x[2], x[3], x[4], fg_lut()),
    ),
    "image_loss": (
        [(3, 17, 19, 3), (3, 17, 19, 3), (3, 17, 19, 1)],
        lambda b, x: image_loss(b, "logl1", x[0], x[1].detach(), x[2].detach()),
    ),
    "vertex_normals": ([(50, 3)], lambda b, x: vertex_normals(b, x[0], _FACES)),
}


def _placed(numbers: Tensor, shift: int) -> Tensor:
    """The same numbers, `shift` floats behind the start of a block of memory."""
    block = torch.zeros(numbers.numel() + shift + 64)
    there = block[shift : shift + numbers.numel()].reshape(numbers.shape)
    return there.copy_(numbers).requires_grad_()


def _run(name: str, shift: int) -> list[Tensor]:
    shapes, operator = CASES[name]
    generator = torch.Generator().manual_seed(0)
    ballast = [
        torch.zeros(97 * shift + k) for k in range(shift)
    ]  # moves what is allocated next
    inputs = [_placed(torch.rand(s, generator=generator), shift) for s in shapes]
    out = operator(backends.cpu(), inputs)
    pull = torch.rand(out.shape, generator=generator)
    grads = torch.autograd.grad(out, inputs, pull, allow_unused=True)
    del ballast
    return [out.detach(), *(g for g in grads if g is not None)]


@pytest.mark.parametrize("name", CASES)
def test_results_do_not_depend_on_addresses(name: str) -> None:
    first = _run(name, 0)
    for shift in (1, 3, 8, 13, 16):
        for got, wanted in zip(_run(name, shift), first, strict=True):
            assert torch.equal(got, wanted)
