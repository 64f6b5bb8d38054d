"""The row of pictures of one view."""

import torch

from isolux.optimize.comparison import ComparedView, comparison_row


def view(height: int, width: int) -> ComparedView:
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand(2, height, width, 3, generator=generator)
    alpha = torch.zeros(height, width, 1)
    alpha[: height // 2] = 1.0
    normal = torch.nn.functional.normalize(rgb[0] - 0.5, dim=-1) * alpha
    return ComparedView("r_0", rgb[0], rgb[1], alpha, rgb[0], rgb[1], normal)


def test_a_panel_for_everything() -> None:
    with_light = comparison_row(view(100, 120), torch.rand(32, 64, 3) * 10)
    without = comparison_row(view(100, 120))
    assert with_light.shape[0] == without.shape[0]
    assert without.shape[1] > 6 * 120
    assert with_light.shape[1] - without.shape[1] > 120


def test_equal_pictures_have_a_black_error() -> None:
    same = view(100, 120)
    same = ComparedView(
        "same", same.ours, same.ours, same.alpha, same.albedo, same.orm, same.normal
    )
    row = comparison_row(same)
    assert (row.int().sum(-1) <= 5).sum() >= 100 * 120
    assert (comparison_row(view(100, 120)).int().sum(-1) <= 5).sum() < 100 * 120 / 2


def test_nothing_and_nan_are_drawn() -> None:
    assert comparison_row(view(0, 0)).shape[2] == 3
    broken = view(8, 8)
    broken.ours[0] = float("nan")
    assert comparison_row(broken).dtype == torch.uint8
