"""The fused network in half precision, its text compiled for the processor.

Bounds: rounding to half precision moves a number by 2^-11 of it at most. On its way to a result
a product of inputs, weights and gradients is rounded once for each factor and once for each
layer that it passes, so by (2 h + 2) 2^-11 of its magnitude for h hidden layers, and a sum by
that much of the sum of its terms' magnitudes. Sums in float32 add little to that.
"""

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from device_replay import _replay
from emulated import emulated
from on_device import on_device
from torch import Tensor

from isolux import backends
from isolux.backends import Operator
from isolux.backends.available import cuda_problem
from isolux.backends.cuda import half_mlp, launch, mlp, nvrtc
from isolux.backends.encode import mlp as network
from isolux.backends.reference import mlp as reference

UNIT = 2.0**-11
REFERENCE = Operator(reference.forward, reference.backward)
TORCH = Operator(mlp.forward, mlp.backward)
HALF = Operator(half_mlp.forward, half_mlp.backward)
Case = tuple[Tensor, list[Tensor], Tensor]  # inputs, weights, gradient above


@pytest.fixture(autouse=True)
def _on_the_processor() -> Iterator[None]:
    emulated()
    yield
    launch.use_host(None)


@pytest.fixture(params=["emulated", pytest.param("device", marks=pytest.mark.gpu)])
def half(request: pytest.FixtureRequest) -> Operator:
    """The network; on a device too, where there is one."""
    if request.param == "emulated":
        return HALF
    if problem := cuda_problem():
        pytest.skip(problem)
    there = on_device(replace(backends.cuda(), mlp=HALF), lambda t: t.cuda(), lambda t: t.cpu())
    return there.mlp


def random(sizes: Sequence[int], points: int) -> Case:
    generator = torch.Generator().manual_seed(sum(sizes) + points)
    x = torch.randn(sizes[0], points, generator=generator).T
    weights = [
        torch.randn(o, i, generator=generator) * (2.0 / i) ** 0.5 for i, o in pairwise(sizes)
    ]
    return x, weights, torch.randn(points, sizes[-1], generator=generator)


def far_from_kinks(sizes: Sequence[int], points: int) -> Case:
    """Every term of a hidden unit's sum has one sign, which differs from point to point."""
    x, weights, grad = random(sizes, points)
    x = (x.abs() + 0.5) * torch.where(torch.arange(points) % 3 == 0, -1.0, 1.0)[:, None]
    signed = [(weight.abs() + 0.02) * weight[:, :1].sign() for weight in weights]
    return x, signed, grad


def in_double(case: Case) -> Case:
    x, weights, grad = case
    return x.double(), [weight.double() for weight in weights], grad.double()


def results(network: Operator, case: Case) -> list[Tensor]:
    """Outputs, gradient to the inputs, gradients to the weights."""
    x, weights, grad = case
    to_x, to_weights, _ = network.backward(x, weights, [], grad, True)
    return [network.forward(x, weights, []), to_x, *to_weights]


def magnitudes(case: Case) -> list[Tensor]:
    """Of the terms of each of `results`, added up."""
    x, weights, grad = in_double(case)
    inputs, sizes = [x], [x.abs()]
    for weight in weights[:-1]:
        inputs.append((inputs[-1] @ weight.T).relu())
        sizes.append((sizes[-1] @ weight.abs().T) * (inputs[-1] > 0))
    above, to_weights = grad.abs(), []
    for layer in range(len(weights) - 1, -1, -1):
        to_weights.append(above.T @ sizes[layer])
        above = above @ weights[layer].abs()
        above = above * (inputs[layer] > 0) if layer else above
    return [sizes[-1] @ weights[-1].abs().T, above, *to_weights[::-1]]


def rounded(x: Tensor) -> Tensor:
    return x.half().double()


def in_half(case: Case) -> list[Tensor]:
    """`results` of a network whose inputs, weights and hidden values are rounded."""
    x, weights, grad = in_double(case)
    weights, inputs = [rounded(weight) for weight in weights], [rounded(x)]
    for weight in weights[:-1]:
        inputs.append(rounded((inputs[-1] @ weight.T).relu().float()))
    out, to_weights = inputs[-1] @ weights[-1].T, []
    for layer in range(len(weights) - 1, -1, -1):
        to_weights.append(grad.T @ inputs[layer])
        grad = grad @ weights[layer]
        grad = grad * (inputs[layer] > 0) if layer else grad
    return [out, grad, *to_weights[::-1]]


def assert_rounded(half: Operator, case: Case) -> None:
    """That it differs from the reference by what rounding may do."""
    bound = 2 * len(case[1]) * UNIT * 1.01
    expected = results(REFERENCE, in_double(case))
    for ours, theirs, size in zip(results(half, case), expected, magnitudes(case), strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == torch.float32
        assert ((ours - theirs).abs() <= bound * size).all()


SIZES = [
    *[(32, *[width] * hidden, 9) for width in (32, 64) for hidden in (1, 2, 3, 4)],
    (16, 32, 32, 6),  # of a material
    (1, 32, 1),
    (64, 64, 16),
    (33, 64, 64, 15),
    (48, 32, 32, 32, 2),
    (17, 32, 3),
]


@pytest.mark.parametrize("points", [1, 15, 17, 1000])
@pytest.mark.parametrize("sizes", SIZES)
def test_it_is_the_reference_up_to_rounding(
    half: Operator, sizes: tuple[int, ...], points: int
) -> None:
    assert_rounded(half, far_from_kinks(sizes, points))


@pytest.mark.parametrize("sizes", SIZES)
def test_gradients_are_those_of_the_rounded_network(
    half: Operator, sizes: tuple[int, ...]
) -> None:
    """Near kinks too. Roundings are independent, so their squares add up."""
    case = random(sizes, 1000)
    for ours, theirs in zip(results(half, case), in_half(case), strict=True):
        assert (ours - theirs).norm() <= UNIT * len(sizes) ** 0.5 * theirs.norm()


@pytest.mark.parametrize("width", [32, 64])
def test_gradients_through_autograd(half: Operator, width: int) -> None:
    """As a step takes them, next to those of the same network in double precision."""
    backend = replace(backends.reference(), mlp=half)
    x, weights, above = far_from_kinks((20, width, width, 5), 300)
    found = []
    for chosen, inputs in (
        (backend, [x, *weights]),
        (backends.reference(), [x.double(), *[weight.double() for weight in weights]]),
    ):
        leaves = [t.clone().requires_grad_() for t in inputs]
        out = network(chosen, leaves[0], leaves[1:])
        found.append(torch.autograd.grad(out, leaves, above.to(out.dtype)))
    for ours, theirs, size in zip(*found, magnitudes((x, weights, above))[1:], strict=True):
        assert ((ours - theirs).abs() <= 6.1 * UNIT * size).all()


def test_rounding_is_that_of_half_precision(half: Operator) -> None:
    """To the nearest, of two to the even one; small numbers, and those that overflow, too."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    between = (halves[1:] + halves[:-1]) / 2
    near = np.concatenate([np.nextafter(between, np.float32(sign)) for sign in (0, np.inf)])
    edge = np.array([65519.99, 65520, 1e5, 1e38, 2**-25, 1e-44, np.inf], dtype=np.float32)
    numbers = np.concatenate([halves, between, near, edge])
    x = torch.from_numpy(np.concatenate([numbers, -numbers]))[:, None]
    # relu(x) - relu(-x), each sixteen times over: no unit is zero times infinity.
    sign = torch.tensor([1.0, -1.0]).repeat(16)
    out = half.forward(x, [sign[:, None], sign[None] / 16], [])
    with np.errstate(over="ignore"):
        expected = x.numpy().astype(np.float16).astype(np.float32)
    assert np.array_equal(out.numpy(), expected)


@pytest.mark.parametrize("scale", [1e-35, 1e-12, 1e12, 1e30])
def test_the_magnitude_of_gradients_does_not_matter(half: Operator, scale: float) -> None:
    x, weights, grad = random((32, 64, 64, 9), 200)
    power = 2.0 ** round(np.log2(scale))
    _, *expected = results(half, (x, weights, grad))
    _, *found = results(half, (x, weights, grad * power))
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs * power)


def test_nor_does_what_they_become_between_layers(half: Operator) -> None:
    """Unchecked they would be 2^24 times those above, as the hidden values are."""
    x, weights, grad = far_from_kinks((32, 32, 32, 32, 32, 9), 100)
    for layer, power in enumerate([-12, 8, 8, 8]):
        weights[layer] *= 2.0**power / weights[layer].abs().sum(1).mean()
    assert_rounded(half, (x, weights, grad))


def test_small_gradients_beside_large_ones(half: Operator) -> None:
    """Of one point and of another, six orders of magnitude apart."""
    x, weights, grad = random((32, 64, 64, 9), 40)
    grad[::2] *= 1e6
    to_x = results(half, (x, weights, grad))[1]
    expected = in_half((x, weights, grad))[1]
    for rows in (slice(0, None, 2), slice(1, None, 2)):
        error = (to_x - expected)[rows].norm() / expected[rows].norm()
        assert error <= 2 * UNIT


def test_gradients_of_zero(half: Operator) -> None:
    x, weights, grad = random((32, 64, 9), 40)
    assert all((found == 0).all() for found in results(half, (x, weights, 0 * grad))[1:])
    weights[1] *= 0
    out, to_x, to_first, to_second = results(half, (x, weights, grad))
    assert not any(found.any() for found in (out, to_x, to_first))
    assert to_second.any()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_stays_where_it_is(half: Operator, value: float) -> None:
    case = random((32, 64, 64, 9), 200)
    x, weights, grad = case
    expected, others = results(half, case), torch.arange(200) != 37
    spoilt = x.clone()
    spoilt[37, 5] = value
    out, to_x, *to_weights = results(half, (spoilt, weights, grad))
    assert torch.equal(out[others], expected[0][others])
    assert torch.equal(to_x[others], expected[1][others])
    assert not out[37].isfinite().any()
    assert not to_weights[0][:, 5].isfinite().all()

    above = grad.clone()
    above[37, 5] = value
    out, to_x, *to_weights = results(half, (x, weights, above))
    assert torch.equal(out, expected[0])
    assert torch.equal(to_x[others], expected[1][others])
    assert not to_x[37].isfinite().any()
    # The row of the output is spoilt where its input is not zero, the other rows are not.
    rows = torch.arange(9) != 5
    assert torch.equal(to_weights[-1][rows], expected[-1][rows])
    assert not to_weights[-1][5].isfinite().any()
    assert not to_weights[0].isfinite().all(1).all()


def test_weights_that_are_not_numbers(half: Operator) -> None:
    case = random((32, 32, 32, 9), 20)
    case[1][1][3, 4] = torch.nan
    expected = results(REFERENCE, in_double(case))
    for ours, theirs in zip(results(half, case), expected, strict=True):
        assert torch.equal(ours.isfinite(), theirs.isfinite())
    assert not expected[0].isfinite().any()


def test_no_points(half: Operator) -> None:
    out, to_x, *to_weights = results(half, random((5, 32, 32, 9), 0))
    assert out.shape == (0, 9)
    assert to_x.shape == (0, 5)
    assert [weight.shape for weight in to_weights] == [(32, 5), (32, 32), (9, 32)]
    assert not any(weight.any() for weight in to_weights)


def test_sums_of_many_blocks(half: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that take several pieces each; not all take the same number."""
    monkeypatch.setattr(half_mlp, "_MOST_BLOCKS", 3)
    assert_rounded(half, far_from_kinks((16, 32, 32, 6), 1300))


def test_the_order_of_threads_does_not_matter(half: Operator) -> None:
    case = random((32, 64, 64, 9), 1000)
    first = results(half, case)
    emulated(backwards=True)  # a device has another order anyhow
    for one, other in zip(first, results(half, case), strict=True):
        assert torch.equal(one, other)


def test_layouts(half: Operator) -> None:
    """Inputs by rows are the same inputs; their gradient is always by columns."""
    x, weights, grad = random((16, 32, 32, 6), 50)
    rows = results(half, (x.contiguous(), weights, grad.T.contiguous().T))
    for one, other in zip(results(half, (x, weights, grad)), rows, strict=True):
        assert torch.equal(one, other)
    assert rows[1].T.is_contiguous()
    assert all(found.is_contiguous() for found in rows[2:])


def test_a_gradient_to_inputs_that_nobody_asks_for(half: Operator) -> None:
    x, weights, grad = random((16, 32, 32, 6), 50)
    to_x, to_weights, to_biases = half.backward(x, weights, [], grad, False)
    assert to_x is None
    assert to_biases == []
    for one, other in zip(to_weights, results(half, (x, weights, grad))[2:], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "sizes",
    [
        *[(5, 3), (5, 16, 3), (5, 128, 3), (5, 32, 64, 3), (65, 32, 3), (5, 32, 17)],
        (5, 32, 32, 32, 32, 32, 3),
    ],
)
def test_other_sizes_are_left_to_torch(sizes: tuple[int, ...]) -> None:
    case = random(sizes, 20)
    for ours, theirs in zip(results(HALF, case), results(TORCH, case), strict=True):
        assert torch.equal(ours, theirs)


def test_double_precision_and_biases_are_left_to_torch() -> None:
    x, weights, grad = in_double(random((5, 32, 3), 20))
    for ours, theirs in zip(
        results(HALF, (x, weights, grad)), results(TORCH, (x, weights, grad)), strict=True
    ):
        assert torch.equal(ours, theirs)
    x, weights, grad = random((5, 32, 3), 20)
    biases = [torch.randn(32), torch.randn(3)]
    assert torch.equal(half_mlp.forward(x, weights, biases), mlp.forward(x, weights, biases))
    ours, theirs = (
        module.backward(x, weights, biases, grad, True) for module in (half_mlp, mlp)
    )
    for i in (1, 2):
        assert all(torch.equal(a, b) for a, b in zip(ours[i], theirs[i], strict=True))


def test_it_never_waits_for_the_device() -> None:
    x, weights, grad = random((5, 32, 32, 3), 20)
    _replay(half_mlp.forward, (x, weights, []), [])
    for need_x in (True, False):
        _replay(half_mlp.backward, (x, weights, [], grad, need_x), [])


@pytest.mark.parametrize(
    "architecture", ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
)
@pytest.mark.parametrize("sizes", [(16, 32, 1), (16, 32, 2), (32, 64, 2)])
def test_it_compiles_for_other_sizes(sizes: tuple[int, int, int], architecture: str) -> None:
    """Than the largest ones, which stand in the text."""
    if reason := nvrtc.available():
        pytest.skip(reason)
    inputs, width, hidden = sizes
    constants = half_mlp._Shape(inputs, width, hidden, 9).constants
    text = launch.source("half_mlp", "float", *constants)
    cubin, said = nvrtc.compile_text(text, "half_mlp.cu", architecture)
    assert said == ""
    assert cubin.startswith(b"\x7fELF")


def test_each_size_is_compiled_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []
    monkeypatch.setattr(launch, "_cubin", lambda text, *_: texts.append(text) or b"")
    monkeypatch.setattr(launch.nvrtc, "version", lambda: (12, 8))
    for name in ("load", "function_of"):
        monkeypatch.setattr(launch.driver, name, lambda *_: ctypes.c_void_p(1))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    shapes = [half_mlp._Shape(17, 32, hidden, 9) for hidden in (1, 2)]
    for shape in shapes * 2:
        for kernel in ("half_mlp_pack", "half_mlp_forward"):
            launch._function("half_mlp", kernel, "float", 0, *shape.constants)
    launch._function.cache_clear()
    launch._module.cache_clear()
    for text, shape in zip(texts, shapes, strict=True):
        assert f"#define HIDDEN {shape.hidden}\n#define INPUTS 32\n" in text


def test_it_is_taken_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "why_not_cuda", lambda: None)
    chosen = backends.select("cuda", {"mlp": "half"})
    backends._combined.cache_clear()
    assert chosen.mlp == HALF
    assert chosen.taken == {"mlp": "half"}
    assert replace(chosen, mlp=backends.cuda().mlp, taken={}) == backends.cuda()
    assert backends.select("cuda").mlp.forward is mlp.forward


@pytest.mark.parametrize(
    ("backend", "operator", "said"),
    [
        ("cpu", "mlp", "half runs on a CUDA device, this backend is cpu"),
        ("reference", "mlp", "this backend is reference"),
        ("cpu", "hash_grid", "half does not offer it; it offers mlp"),
    ],
)
def test_it_is_refused_elsewhere(backend: str, operator: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        backends.select(backend, {operator: "half"})
