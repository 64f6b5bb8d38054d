"""Metrics by their definitions, and against an independent library."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from isolux.render.colour import linear_from_srgb
from isolux.render.metrics import composite, image_metrics, psnr, silhouette_iou, srgb8, ssim


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Linear values whose sRGB is a whole number of bytes."""
    generator = torch.Generator().manual_seed(seed)
    return linear_from_srgb(torch.randint(0, 256, shape, generator=generator) / 255.0)


def test_bytes_come_back() -> None:
    every = torch.arange(256)
    assert torch.equal(srgb8(linear_from_srgb(every / 255.0)), every.to(torch.uint8))


def test_bytes_of_what_is_no_colour() -> None:
    broken = torch.tensor([float("nan"), float("inf"), -1.0, 7.0])
    assert srgb8(broken).tolist() == [0, 255, 0, 255]


def test_psnr_of_a_known_error() -> None:
    """Every byte off by 16: -20 log10(16 / 255)."""
    first = linear_from_srgb(torch.full((2, 4, 5, 3), 100 / 255))
    second = linear_from_srgb(torch.full((2, 4, 5, 3), 116 / 255))
    wanted = torch.full((2,), -20 * np.log10(16 / 255), dtype=torch.float64)
    torch.testing.assert_close(psnr(first, second), wanted)


def test_psnr_is_of_each_view() -> None:
    first, second = noise(3, 8, 9, 3), noise(3, 8, 9, 3, seed=1)
    one_by_one = [psnr(first[i : i + 1], second[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(psnr(first, second), torch.cat(one_by_one))


def test_equal_pictures_have_a_finite_psnr() -> None:
    picture = noise(1, 8, 8, 3)
    assert psnr(picture, picture).item() == pytest.approx(150.0)
    changed = picture.clone()
    changed[0, 0, 0, 0] = (changed[0, 0, 0, 0] + 0.5) % 1.0
    assert psnr(changed, picture).item() < 80


def test_ssim_is_that_of_an_independent_library() -> None:
    first = noise(1, 33, 40, 3)
    second = (first * 0.7 + 0.3 * noise(1, 33, 40, 3, seed=1)).clamp(0, 1)
    wanted = structural_similarity(
        srgb8(first)[0].numpy(),
        srgb8(second)[0].numpy(),
        channel_axis=-1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    assert ssim(first, second).item() == pytest.approx(wanted, abs=2e-3)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (3, 4), (10, 30), (11, 11)])
def test_small_pictures_have_an_ssim(size: tuple[int, int]) -> None:
    picture = noise(2, *size, 3)
    torch.testing.assert_close(ssim(picture, picture), torch.ones(2, dtype=torch.float64))
    assert (ssim(picture, 1.0 - picture) < 0.999).all()


def test_silhouettes() -> None:
    first, second = torch.zeros(3, 2, 4, 1), torch.zeros(3, 2, 4, 1)
    first[0, :, :2], second[0, :, 1:3] = 1.0, 0.6  # 2 of 6 pixels
    second[1] = 0.5  # not more than half
    second[2] = 1.0
    assert silhouette_iou(first, second).tolist() == pytest.approx([1 / 3, 1.0, 0.0])


@pytest.mark.parametrize("shape", [(0, 4, 4), (2, 0, 4), (2, 4, 0)])
def test_nothing_is_finite(shape: tuple[int, int, int]) -> None:
    picture, alpha = torch.zeros(*shape, 3), torch.zeros(*shape, 1)
    values = image_metrics(picture, picture, alpha, alpha)
    assert set(values) == {"psnr", "ssim", "silhouette_iou"}
    for value in values.values():
        assert value.shape == (shape[0],)
        assert value.isfinite().all()


def test_composition() -> None:
    colour, alpha = noise(1, 16, 24, 3), torch.zeros(1, 16, 24, 1)
    alpha[..., 12:, :] = 1.0
    for background in ("white", "black", "checker"):
        torch.testing.assert_close(
            composite(colour, alpha, background)[..., 12:, :], colour[..., 12:, :]
        )
    assert (composite(colour, alpha, "white")[..., :12, :] == 1.0).all()
    checker = composite(colour, alpha, "checker")[0, :, :, 0]
    assert checker[0, 0] == checker[7, 7] == checker[8, 8] != checker[0, 8]
    with pytest.raises(ValueError, match="'pink'"):
        composite(colour, alpha, "pink")
