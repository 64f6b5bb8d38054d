"""Laws of the distances between images, for each backend."""

import math

import pytest
import torch
from orders import both_orders
from torch import Tensor
from torch.autograd import gradcheck

from isolux import backends
from isolux.backends import Backend
from isolux.backends.cpu import pool
from isolux.backends.shade import ImageLoss, image_loss

KINDS: list[ImageLoss] = ["logl1", "logl2", "mse", "smape", "relmse"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> ImageLoss:
    return request.param


def images(*shape: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """An image, a reference and a weight."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.rand(*shape, c, generator=generator, dtype=torch.float64).to(dtype)
        for c in (3, 3, 1)
    ]


def tone(x: float) -> float:
    x = math.log(x + 1)
    return 12.92 * x if x <= 0.0031308 else 1.055 * x ** (1 / 2.4) - 0.055


@pytest.mark.parametrize(
    ("x", "y", "w"), [(0.8, 0.3, 1.0), (0.002, 0.5, 0.7), (40.0, 2.0, 0.5)]
)
def test_a_pixel_has_the_value_of_the_formula(
    backend: Backend, kind: ImageLoss, x: float, y: float, w: float
) -> None:
    pixel = torch.ones(1, 1, 1, 3, dtype=torch.float64)
    found = image_loss(backend, kind, x * pixel, y * pixel, w * pixel[..., :1])
    x, y = x * w, y * w
    expected = {
        "logl1": abs(tone(x) - tone(y)),
        "logl2": (tone(x) - tone(y)) ** 2,
        "mse": (x - y) ** 2,
        "smape": abs(x - y) / (x + y + 0.01),
        "relmse": (x - y) ** 2 / (x * x + y * y + 0.1),
    }[kind]
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_equal_images_have_no_distance_and_no_gradient(
    backend: Backend, kind: ImageLoss
) -> None:
    rgb, _, weight = images(1, 5, 6)
    rgb.requires_grad_()
    loss = image_loss(backend, kind, rgb, rgb.detach(), weight)
    assert loss == 0
    assert (torch.autograd.grad(loss, rgb)[0] == 0).all()


def test_distances_are_symmetric_means_over_pixels(backend: Backend, kind: ImageLoss) -> None:
    rgb, reference, weight = images(2, 4, 6)
    whole = image_loss(backend, kind, rgb, reference, weight)
    parts = [
        image_loss(backend, kind, rgb[k, None], reference[k, None], weight[k, None])
        for k in range(2)
    ]
    torch.testing.assert_close(whole, (parts[0] + parts[1]) / 2)
    torch.testing.assert_close(whole, image_loss(backend, kind, reference, rgb, weight))


def test_pixels_without_weight_do_not_count(backend: Backend, kind: ImageLoss) -> None:
    rgb, reference, weight = images(1, 4, 6)
    weight[:, :2] = 0.0
    other = rgb.clone()
    other[:, :2] = 9.0
    other.requires_grad_()
    loss = image_loss(backend, kind, other, reference, weight)
    torch.testing.assert_close(loss.detach(), image_loss(backend, kind, rgb, reference, weight))
    assert (torch.autograd.grad(loss, other)[0][:, :2] == 0).all()


def test_values_out_of_range_are_held_without_a_gradient(
    backend: Backend, kind: ImageLoss
) -> None:
    rgb, reference, weight = images(1, 1, 2)
    rgb[0, 0, 0], rgb[0, 0, 1], weight[:] = -1.0, 1e6, 1.0
    rgb.requires_grad_()
    loss = image_loss(backend, kind, rgb, reference, weight)
    held = image_loss(backend, kind, rgb.detach().clamp(0, 65535), reference, weight)
    torch.testing.assert_close(loss.detach(), held)
    assert (torch.autograd.grad(loss, rgb)[0] == 0).all()


def test_gradients_match_finite_differences(backend: Backend, kind: ImageLoss) -> None:
    values = images(1, 2, 3)
    values[0][0, 0, 0] *= 0.004  # below the knee of the sRGB curve
    values = [t.requires_grad_() for t in values]
    assert gradcheck(lambda *values: image_loss(backend, kind, *values), values)


def test_an_empty_image_has_no_distance(backend: Backend, kind: ImageLoss) -> None:
    values = [t.requires_grad_() for t in images(0, 4, 4)]
    loss = image_loss(backend, kind, *values)
    assert loss == 0
    loss.backward()


def test_backends_agree_in_single_precision(backend: Backend, kind: ImageLoss) -> None:
    found = []
    for which in (backend, backends.reference()):
        values = [t.requires_grad_() for t in images(2, 20, 30, dtype=torch.float32)]
        loss = image_loss(which, kind, *values)
        found.append((loss.detach(), *torch.autograd.grad(loss, values)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def test_any_number_of_threads_gives_the_same_bits(
    kind: ImageLoss, monkeypatch: pytest.MonkeyPatch
) -> None:
    from isolux.backends.cpu import image_loss as kernels

    monkeypatch.setattr(kernels, "_CHUNK", 64)
    backend = backends.select("cpu")
    found = []
    for count in (1, 3):
        pool.set_threads(count)
        values = [t.requires_grad_() for t in images(2, 30, 40, dtype=torch.float32)]
        loss = image_loss(backend, kind, *values)
        found.append((loss.detach(), *torch.autograd.grad(loss, values)))
    pool.set_threads(None)
    for one, many in zip(*found, strict=True):
        assert torch.equal(one, many)


@pytest.mark.parametrize("threads", [1, 64, 10_000])
def test_each_thread_takes_its_share_of_pixels(
    kind: ImageLoss, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More pixels than threads or fewer, in both orders: one sum to the last bit."""
    from isolux.backends.cuda import image_loss as kernels

    monkeypatch.setattr(kernels, "_SUMS", threads)

    def run(backend: Backend) -> tuple[Tensor, ...]:
        values = images(1, 20, 35, dtype=torch.float32)
        values[0].requires_grad_()
        loss = image_loss(backend, kind, *values)
        return loss.detach(), *torch.autograd.grad(loss, values[0])

    one, other = both_orders(run, deterministic=False)
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    for found, expected in zip(one, run(backends.cpu()), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("backend", ["cpu", "cuda"], indirect=True)
@pytest.mark.parametrize("kind", ["logl1", "logl2"])
def test_tones_in_float32_are_as_exact_as_its_digits(backend: Backend, kind: ImageLoss) -> None:
    """The polynomials on bits against the C library in float64, over all magnitudes."""
    rgb = torch.logspace(-9.0, 4.8, 3 * 40_000, dtype=torch.float32).reshape(1, 200, 200, 3)
    black, weight = torch.zeros_like(rgb), torch.ones(1, 200, 200, 1)
    found, slopes = [], []
    for dtype in (torch.float32, torch.float64):
        x = rgb.to(dtype).requires_grad_()
        loss = image_loss(backend, kind, x, black.to(dtype), weight.to(dtype))
        found.append(loss.double())
        slopes.append(torch.autograd.grad(loss, x)[0].double())
    torch.testing.assert_close(*found, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(*slopes, rtol=3e-6, atol=0.0)
