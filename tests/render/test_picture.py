"""Pictures for people: right colours in the right place, for any size and any label."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from isolux.render.picture import (
    Panel,
    fit_size,
    grid,
    heat_map,
    jpeg_bytes,
    light_picture,
    normal_picture,
    plain_picture,
    png_bytes,
    reinhard,
    write_png,
)


def flat(height: int, width: int, colour: tuple[int, int, int]) -> Tensor:
    return torch.tensor(colour, dtype=torch.uint8).expand(height, width, 3)


def read(data: bytes) -> Tensor:
    return torch.from_numpy(np.array(Image.open(io.BytesIO(data))))


def test_a_png_is_what_was_written(tmp_path: Path) -> None:
    pixels = torch.randint(
        0, 256, (5, 7, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    write_png(tmp_path / "new" / "a.png", pixels)
    assert torch.equal(read((tmp_path / "new" / "a.png").read_bytes()), pixels)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


def test_a_png_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"a\.png: cannot be written"):
        write_png(tmp_path / "file" / "a.png", flat(2, 2, (0, 0, 0)))


def test_a_jpeg_is_nearly_it() -> None:
    pixels = flat(16, 16, (200, 40, 90))
    assert (read(jpeg_bytes(pixels)).int() - pixels.int()).abs().max() <= 3


def test_the_tone_curve() -> None:
    radiance = torch.tensor([0.0, 1.0, 3.0, 1e30, float("inf"), float("nan"), -2.0])
    assert reinhard(radiance).tolist() == pytest.approx([0, 0.5, 0.75, 1, 1, 0, 0])
    rising = light_picture(torch.linspace(0, 50, 40)[:, None, None].expand(40, 2, 3)).int()
    assert (rising.diff(dim=0) >= 0).all()


def test_heat_gets_brighter_with_error() -> None:
    ramp = heat_map(torch.linspace(0, 1, 64)[None], 1.0).double()
    luminance = ramp[0] @ torch.tensor([0.2126, 0.7152, 0.0722], dtype=torch.float64)
    assert (luminance.diff() >= 0).all()
    assert luminance[-1] - luminance[0] > 200


def test_heat_of_what_is_no_number() -> None:
    values = torch.tensor([[float("nan"), float("inf"), 9.0, 1.0]])
    assert len({tuple(pixel) for pixel in heat_map(values, 1.0)[0].tolist()}) == 1
    with pytest.raises(ValueError, match="above 0"):
        heat_map(values, 0.0)


def test_normals_are_colours() -> None:
    normals = torch.tensor([[[1.0, 0, 0], [0, 0, -1], [0, 0, 0]]])
    assert normal_picture(normals)[0].tolist() == [[255, 128, 128], [128, 128, 0], [255] * 3]


def test_numbers_are_not_curved() -> None:
    values = torch.tensor([[[0.0, 0.2, 2.0]]])
    assert plain_picture(values)[0, 0].tolist() == [0, 51, 255]


def test_fitting_keeps_proportions() -> None:
    fitted = fit_size(flat(10, 40, (255, 0, 0)), 30, 60)
    red = (fitted == torch.tensor([255, 0, 0], dtype=torch.uint8)).all(-1)
    assert red.sum() == 15 * 60
    assert red[7:22].all()


def test_every_panel_is_in_the_grid_with_a_label() -> None:
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    panels = [Panel(f"panel {i}", flat(100, 120, c)) for i, c in enumerate(colours)]
    sheet = grid([panels[:2], panels[2:]], title="a title")
    for colour in colours:
        inside = (sheet == torch.tensor(colour, dtype=torch.uint8)).all(-1)
        assert inside.sum() == 100 * 120
    without = grid([panels[:2], panels[2:]])
    assert sheet.shape[0] > without.shape[0]
    blank = grid([[Panel("", p.pixels) for p in panels[:2]], [Panel("", panels[2].pixels)]])
    assert (blank != without).any()


def test_small_panels_grow_by_whole_pixels() -> None:
    pixels = flat(8, 8, (0, 0, 0)).clone()
    pixels[::2] = torch.tensor([9, 8, 7], dtype=torch.uint8)
    sheet = grid([[Panel("x", pixels)]])
    count = (sheet == torch.tensor([9, 8, 7], dtype=torch.uint8)).all(-1).sum()
    assert count == 96 * 96 // 2


@pytest.mark.parametrize("label", ["", "x" * 5000, "<b>&\x00\n\u202e", "\U0001f600 \u6f22"])
def test_any_label_will_do(label: str) -> None:
    sheet = grid([[Panel(label, flat(20, 30, (0, 0, 0)))]], title=label)
    assert sheet.shape[2] == 3


def test_nothing_is_an_empty_picture() -> None:
    assert grid([]).shape == grid([[]]).shape == (0, 0, 3)
    empty = torch.zeros(0, 5, 3, dtype=torch.uint8)
    assert read(png_bytes(empty)).shape == (1, 1, 3)
    assert (grid([[Panel("none", empty)]]) == 255).float().mean() > 0.5
    assert fit_size(empty, 4, 6).shape == (4, 6, 3)
    assert heat_map(torch.zeros(0, 3), 1.0).shape == (0, 3, 3)
