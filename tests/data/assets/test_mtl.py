"""Material files in both dialects."""

from pathlib import Path

import numpy as np
import pytest
import torch

from isolux.data.assets.mtl import read_mtl
from isolux.data.assets.textures import TextureSet
from isolux.render.colour import linear_from_srgb


def read(tmp_path: Path, text: str) -> TextureSet:
    (tmp_path / "a.mtl").write_text("newmtl m\n" + text)
    return read_mtl(tmp_path / "a.mtl")["m"]


def test_nvdiffrec_says_orm_by_ks(tmp_path: Path) -> None:
    textures = read(tmp_path, "bsdf pbr\nKd 0.5 0.5 0.5\nKs 0.0 0.25 1.0\n")
    assert textures.orm.tolist() == [[[0.0, 0.25, 1.0]]]
    torch.testing.assert_close(textures.albedo, linear_from_srgb(torch.full((1, 1, 3), 0.5)))


def test_others_do_not(tmp_path: Path) -> None:
    textures = read(tmp_path, "Ks 1 1 1\nNs 0\n")
    assert textures.orm.tolist() == [[[0.0, 1.0, 0.0]]]
    assert read(tmp_path, "Ns 1000\n").orm[0, 0, 1] < 0.25
    torch.testing.assert_close(
        read(tmp_path, "Pr 0.3\nPm 1\n").orm, torch.tensor([[[0, 0.3, 1]]])
    )
    torch.testing.assert_close(
        read(tmp_path, "").albedo, torch.full((1, 1, 3), 0.5), atol=1e-4, rtol=0
    )


def test_maps_with_options_and_spaces(tmp_path: Path, write_png) -> None:
    colour = np.full((2, 4, 3), 188, np.uint8)
    write_png(tmp_path / "sub" / "my colour.png", colour)
    write_png(tmp_path / "rough.png", np.full((4, 4, 1), 51, np.uint8))
    bump = np.zeros((2, 2, 3), np.uint8) + np.array([128, 255, 128], np.uint8)
    write_png(tmp_path / "bump.png", bump)
    text = (
        "map_Kd -o 0.5 0 -mm 0 1 -blendu on sub\\my colour.png\nmap_Pr rough.png\n"
        "map_Bump -bm 1.0 bump.png\n"
    )
    textures = read(tmp_path, text)
    torch.testing.assert_close(textures.albedo, torch.full((2, 4, 3), 0.503), atol=1e-3, rtol=0)
    assert textures.orm.shape == (4, 4, 3)
    torch.testing.assert_close(textures.orm[..., 1], torch.full((4, 4), 0.2))
    assert textures.normal is not None
    assert textures.normal[0, 0, 1] > 0.99


def test_green_of_nvdiffrec_points_down(tmp_path: Path, write_png) -> None:
    write_png(
        tmp_path / "n.png", np.zeros((1, 1, 3), np.uint8) + np.array([128, 255, 128], np.uint8)
    )
    text = "bsdf pbr\nKd 1 1 1\nKs 0 1 0\nbump n.png\n"
    down = read(tmp_path, text).normal
    up = read(tmp_path, text.replace("bump", "norm")).normal
    assert down is not None
    assert up is not None
    assert down[0, 0, 1] < -0.99
    assert up[0, 0, 1] > 0.99


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("map_Kd gone.png\nKd 1 1 1\n", "gone.png"),
        ("map_Kd bad.png\nKd 1 1 1\n", "bad.png"),
        ("Kd 1 1 1\nPr rough\n", "line 3: 'Pr rough' is not understood"),
        ("Kd 1 1 1\nmap_bump grey.png\n", "grey bump maps are not read"),
    ],
)
def test_what_is_wrong_is_a_warning(
    tmp_path: Path, caplog, write_png, text: str, says: str
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no")
    write_png(tmp_path / "grey.png", np.full((2, 2, 1), 9, np.uint8))
    textures = read(tmp_path, text)
    assert says in caplog.text
    assert textures.albedo.tolist() == [[[1.0, 1.0, 1.0]]]
    assert textures.normal is None
