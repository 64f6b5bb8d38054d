"""Radiance files: our own round trip, each coding, each orientation, each kind of damage."""

from pathlib import Path

import numpy as np
import pytest
import torch

from isolux.data.assets.exr import write_exr
from isolux.data.assets.hdr import load_probe, read_hdr, write_hdr


def noise(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    exponent = torch.randint(-20, 20, (height, width, 1), generator=generator)
    return torch.rand(height, width, 3, generator=generator) * 2.0**exponent


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (4, 8), (5, 129), (2, 300)])
def test_round_trip_keeps_a_byte_of_mantissa(tmp_path: Path, size: tuple[int, int]) -> None:
    image = noise(*size)
    write_hdr(tmp_path / "a.hdr", image)
    again = read_hdr(tmp_path / "a.hdr")
    assert again.shape == image.shape
    assert ((again - image).abs() <= image.amax(-1, keepdim=True) / 256 * 1.01).all()
    write_hdr(tmp_path / "b.hdr", again)  # what the format can hold it keeps exactly
    torch.testing.assert_close(read_hdr(tmp_path / "b.hdr"), again, atol=0, rtol=0)


def test_extremes(tmp_path: Path) -> None:
    image = torch.tensor(
        [[[0.0, 0, 0], [1e-42, 0, 0], [3e38, 1, 1], [1, -1, 0], [255.9, 1, 1]]]
    )
    write_hdr(tmp_path / "a.hdr", image)
    again = read_hdr(tmp_path / "a.hdr")
    assert torch.isfinite(again).all()
    assert (again >= 0).all()
    assert again[0, 0].sum() == 0
    assert again[0, 3].tolist() == [1, 0, 0]
    assert abs(again[0, 4, 0] - 255.9) <= 1.0


def coded(resolution: str, body: bytes, head: str = "FORMAT=32-bit_rle_rgbe\n") -> bytes:
    return f"#?RADIANCE\n{head}\n{resolution}\n".encode() + body


# Six pixels, (r, g, b, e); e = 136 makes a byte the value itself.
PIXELS = np.array([[10 * i + 20, 30, 40, 136] for i in range(6)], np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("resolution", "expected"),
    [
        ("-Y 2 +X 3", lambda p: p),
        ("+Y 2 +X 3", lambda p: p[::-1]),
        ("-Y 2 -X 3", lambda p: p[:, ::-1]),
        ("+Y 2 -X 3", lambda p: p[::-1, ::-1]),
        ("+X 2 -Y 3", lambda p: p.swapaxes(0, 1)),
        ("-X 2 +Y 3", lambda p: p.swapaxes(0, 1)[::-1, ::-1]),
    ],
)
def test_orientations(tmp_path: Path, resolution: str, expected) -> None:
    (tmp_path / "a.hdr").write_bytes(coded(resolution, PIXELS.tobytes()))
    image = read_hdr(tmp_path / "a.hdr").numpy()
    np.testing.assert_array_equal(image, expected(PIXELS[..., :3].astype(np.float32)))


def test_old_runs(tmp_path: Path) -> None:
    """(1, 1, 1, n) repeats n times; two in a row count in 256s."""
    a, b = bytes([20, 30, 40, 136]), bytes([50, 60, 70, 136])
    body = a + bytes([1, 1, 1, 4]) + bytes([1, 1, 1, 1]) + b
    (tmp_path / "a.hdr").write_bytes(coded("-Y 1 +X 262", body))
    row = read_hdr(tmp_path / "a.hdr")[0]
    assert (row[:261] == torch.tensor([20.0, 30, 40])).all()
    assert row[261].tolist() == [50, 60, 70]


def test_new_runs(tmp_path: Path) -> None:
    """A run above 128, a literal below, channel by channel."""
    channel = bytes([128 + 5, 7]) + bytes([4]) + bytes([1, 2, 3, 4])
    body = bytes([2, 2, 0, 9]) + channel * 3 + bytes([128 + 9, 136])
    (tmp_path / "a.hdr").write_bytes(coded("-Y 1 +X 9", body))
    assert read_hdr(tmp_path / "a.hdr")[0, :, 1].tolist() == [7, 7, 7, 7, 7, 1, 2, 3, 4]


def test_exposure_divides(tmp_path: Path) -> None:
    head = "EXPOSURE=4\nFORMAT=32-bit_rle_rgbe\n"
    (tmp_path / "a.hdr").write_bytes(coded("-Y 2 +X 3", PIXELS.tobytes(), head))
    assert read_hdr(tmp_path / "a.hdr")[0, 0].tolist() == [5.0, 7.5, 10.0]


WHOLE = coded("-Y 2 +X 9", (bytes([2, 2, 0, 9]) + bytes([128 + 9, 99]) * 4) * 2)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"P6 not radiance", "not a Radiance picture"),
        (b"", "not a Radiance picture"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", "no end"),
        (coded("-Y 2 +Y 3", PIXELS.tobytes()), "absurd size"),
        (coded("-Y 99999999 +X 99999999", b"\2\2"), "absurd size"),
        (coded("-Y 20000 +X 10000", b"\2\2\47\20"), "truncated"),
        (coded("-Y 0 +X 3", b""), "absurd size"),
        (coded("-Y " + "9" * 5000 + " +X 3", b""), "resolution line"),
        (coded("2 by 3", PIXELS.tobytes()), "resolution line"),
        (coded("-Y 2 +X 3", PIXELS.tobytes()[:-3]), "truncated"),
        (coded("-Y 1 +X 9", bytes([2, 2, 0, 8]) + bytes(99)), "another width"),
        (coded("-Y 2 +X 3", PIXELS.tobytes(), "FORMAT=32-bit_rle_xyze\n"), "32-bit_rle_xyze"),
        (coded("-Y 2 +X 3", PIXELS.tobytes(), "EXPOSURE=0\n"), "EXPOSURE"),
        *[(WHOLE[:-n], "truncated") for n in (1, 2, 5, 9, 10, 13)],
    ],
)
def test_damage_is_one_clear_line(tmp_path: Path, data: bytes, says: str) -> None:
    file = tmp_path / "bad.hdr"
    file.write_bytes(data)
    with pytest.raises(ValueError, match=says) as caught:
        read_hdr(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_probe(tmp_path: Path) -> None:
    image = noise(4, 8)
    write_exr(tmp_path / "a.exr", image)
    torch.testing.assert_close(load_probe(tmp_path / "a.exr"), image, atol=0, rtol=0)
    with pytest.raises(FileNotFoundError, match="no such environment map"):
        load_probe(tmp_path / "b.hdr")
    (tmp_path / "c.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"must be \.hdr or \.exr, not '\.png'"):
        load_probe(tmp_path / "c.png")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (float("nan"), "2 pixels are not finite"),
        (-1.0, "2 pixels are negative"),
        (1e20, "is no light"),
    ],
)
def test_probe_with_bad_light_is_refused(tmp_path: Path, value: float, says: str) -> None:
    image = torch.ones(4, 8, 3)
    image[1, 2, 0] = image[2, 2] = value
    write_exr(tmp_path / "a.exr", image)
    with pytest.raises(ValueError, match=says):
        load_probe(tmp_path / "a.exr")


def test_ringing_just_below_zero_is_clipped(tmp_path: Path, caplog) -> None:
    image = torch.ones(4, 8, 3) * 50
    image[1, 2, 0] = -0.003
    write_exr(tmp_path / "a.exr", image)
    assert load_probe(tmp_path / "a.exr").min() == 0
    assert "1 pixels just below zero" in caplog.text


def test_nothing_is_written_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not finite"):
        write_hdr(tmp_path / "a.hdr", torch.full((2, 2, 3), float("inf")))
    with pytest.raises(ValueError, match="at least one pixel"):
        write_hdr(tmp_path / "a.hdr", torch.zeros(0, 4, 3))
    assert not list(tmp_path.iterdir())
