"""Pictures: bit depths, alpha, curves, sizes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from isolux.data.assets.exr import write_exr
from isolux.data.assets.hdr import write_hdr
from isolux.data.assets.image import load_data_image, load_image, read_image, resize, save_png
from isolux.render.colour import linear_from_srgb


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_png_depths_are_read_in_full(tmp_path: Path, write_png, channels: int, kind) -> None:
    top = np.iinfo(kind).max
    values = np.random.default_rng(0).integers(0, top + 1, (7, 5, channels)).astype(kind)
    file = write_png(tmp_path / "a.png", values)
    rgb, alpha = read_image(file)
    exact = torch.from_numpy(values.astype(np.float64) / top)
    expected = linear_from_srgb(exact[..., :3].expand(7, 5, 3)).float()
    torch.testing.assert_close(rgb, expected, atol=2e-7, rtol=1e-6)
    if channels == 4:
        torch.testing.assert_close(alpha, exact[..., 3:].float(), atol=1e-7, rtol=0)
    else:
        assert alpha is None
    plain = load_data_image(file)
    torch.testing.assert_close(plain, exact[..., :3].expand(7, 5, 3).float(), atol=1e-7, rtol=0)


def test_jpeg_and_palette(tmp_path: Path) -> None:
    grey = Image.fromarray(np.full((8, 8, 3), 188, np.uint8))
    grey.save(tmp_path / "a.jpg")
    rgba = load_image(tmp_path / "a.jpg")
    torch.testing.assert_close(rgba[..., :3], torch.full((8, 8, 3), 0.503), atol=0.01, rtol=0)
    assert (rgba[..., 3] == 1).all()
    grey.convert("P").save(tmp_path / "a.png", transparency=0)
    assert read_image(tmp_path / "a.png")[1] is not None


def test_alpha_of_palettes_and_of_grey(tmp_path: Path) -> None:
    rgba = np.zeros((4, 6, 4), np.uint8)
    rgba[:, 3:] = (188, 188, 188, 255)
    image = Image.fromarray(rgba)
    image.save(tmp_path / "rgba.png")
    image.convert("LA").save(tmp_path / "grey.png")
    palette = image.quantize(8)
    assert palette.mode == "P"
    palette.save(tmp_path / "palette.png")
    for name in ("grey.png", "palette.png"):
        torch.testing.assert_close(
            load_image(tmp_path / name), load_image(tmp_path / "rgba.png")
        )


def test_floats_are_linear_already(tmp_path: Path) -> None:
    image = torch.rand(4, 9, 3) * 8
    write_exr(tmp_path / "a.exr", image)
    torch.testing.assert_close(load_image(tmp_path / "a.exr")[..., :3], image, atol=0, rtol=0)
    write_hdr(tmp_path / "a.hdr", image)
    torch.testing.assert_close(
        load_image(tmp_path / "a.hdr")[..., :3], image, atol=0.04, rtol=0
    )


def test_exr_is_premultiplied_and_becomes_straight(tmp_path: Path) -> None:
    import OpenEXR

    alpha = np.array([[1.0, 0.5, 0.0]], np.float32)
    rgba = np.concatenate(
        [np.full((1, 3, 3), 0.8, np.float32) * alpha[..., None], alpha[..., None]], -1
    )
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with OpenEXR.File(header, {"RGBA": rgba}) as file:
        file.write(str(tmp_path / "a.exr"))
    read = load_image(tmp_path / "a.exr")
    torch.testing.assert_close(read[0, :2, :3], torch.full((2, 3), 0.8))
    assert read[0, 2].tolist() == [0, 0, 0, 0]


def test_damage_is_one_clear_line(tmp_path: Path, write_png) -> None:
    whole = write_png(
        tmp_path / "a.png",
        np.random.default_rng(0).integers(0, 255, (64, 64, 4)).astype(np.uint8),
    )
    (tmp_path / "b.png").write_bytes(whole.read_bytes()[:5000])
    (tmp_path / "c.png").write_bytes(b"this is text")
    (tmp_path / "d.exr").write_bytes(b"this is text")
    write_exr(tmp_path / "e.exr", torch.rand(64, 64, 3))
    data = (tmp_path / "e.exr").read_bytes()
    (tmp_path / "f.exr").write_bytes(data[: len(data) // 2])
    for name in ("b.png", "c.png", "d.exr", "f.exr"):
        with pytest.raises(ValueError, match="cannot be read") as caught:
            load_image(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="absent"):
        load_image(tmp_path / "absent.png")


def test_shrinking_is_the_area_mean_of_what_is_covered() -> None:
    image = torch.rand(12, 18, 4)
    image[:, :9, 3] = 0  # coloured, but not there
    small = resize(image, 4, 6)
    blocks = image.reshape(4, 3, 6, 3, 4)
    alpha = blocks[..., 3:].mean(dim=(1, 3))
    colour = (blocks[..., :3] * blocks[..., 3:]).mean(dim=(1, 3)) / alpha.clamp_min(1e-9)
    torch.testing.assert_close(small[..., 3:], alpha)
    torch.testing.assert_close(small[..., :3], colour)
    assert (small[:, :3] == 0).all()


@pytest.mark.parametrize("size", [(5, 7), (12, 18), (1, 1), (24, 9), (40, 60), (13, 17)])
def test_a_constant_stays_and_the_mean_stays(size: tuple[int, int]) -> None:
    constant = torch.tensor([0.2, 0.5, 0.9, 1.0]).expand(12, 18, 4)
    torch.testing.assert_close(resize(constant, *size), constant[:1, :1].expand(*size, 4))
    ramp = torch.rand(12, 18, 4)
    ramp[..., 3] = 1
    if size[0] <= 12 and size[1] <= 18:
        torch.testing.assert_close(resize(ramp, *size).mean((0, 1)), ramp.mean((0, 1)))


def test_growing_keeps_a_ramp() -> None:
    x = (torch.arange(8) + 0.5) / 8
    ramp = torch.cat([x[None, :, None].expand(4, 8, 3), torch.ones(4, 8, 1)], dim=-1)
    fine = resize(ramp, 4, 32)[0, :, 0]
    expected = (torch.arange(32) + 0.5) / 32
    torch.testing.assert_close(fine[2:-2], expected[2:-2])


def test_save_png(tmp_path: Path) -> None:
    values = torch.tensor([[[0.0, 0.5, 1.0], [-1.0, 2.0, 0.25]]])
    save_png(tmp_path / "deep" / "a.png", values)
    bytes_ = (load_data_image(tmp_path / "deep" / "a.png") * 255).round()
    assert bytes_.tolist() == [[[0, 128, 255], [0, 255, 64]]]
    save_png(tmp_path / "g.png", values[..., :1])
    with Image.open(tmp_path / "g.png") as image:
        assert image.mode == "L"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "g.png"]
