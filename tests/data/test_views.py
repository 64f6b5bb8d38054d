"""Views in memory: masks, sizes, mistakes; and cameras that look away."""

from pathlib import Path

import numpy as np
import pytest
import torch

from isolux.data.views import StoredViews, axes_meet, check_cameras, fit_size
from isolux.geometry.cameras import Cameras, look_at


def cameras(count: int, height: int = 8, width: int = 8, turn: float = 1.0) -> Cameras:
    generator = torch.Generator().manual_seed(1)
    place = (
        torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1) * 4
    )
    target, up = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.0, 1.0, 0.0])
    pose = look_at(place, target, up)
    pose[:, :3, 1:3] *= turn
    focal = torch.full((count, 2), 10.0)
    centre = torch.tensor([width / 2, height / 2]).repeat(count, 1)
    return Cameras(pose, focal, centre, height, width)


def disc(value: int = 255) -> np.ndarray:
    values = np.zeros((8, 8, 4), np.uint8)
    values[..., :3] = 77  # colour where nothing is: it must not matter
    values[2:6, 2:6] = (255, 0, 0, value)
    return values


def files(tmp_path: Path, write_png, pictures: list[np.ndarray]) -> list[Path]:
    return [write_png(tmp_path / "images" / f"v{i}.png", p) for i, p in enumerate(pictures)]


def test_batches(tmp_path: Path, write_png) -> None:
    views = StoredViews.from_files(files(tmp_path, write_png, [disc(), disc(128)]), cameras(2))
    assert (len(views), views.size, views.names) == (2, (8, 8), ("v0", "v1"))
    batch = views.batch([1, 0, 1])
    assert batch.names == ("v1", "v0", "v1")
    assert batch.rgb.shape == (3, 8, 8, 3)
    assert batch.rgb[0, 3, 3].tolist() == [1, 0, 0]
    assert (batch.rgb[:, 0, 0] == 0).all()
    torch.testing.assert_close(batch.alpha[0, 3, 3, 0], torch.tensor(128 / 255))
    assert (batch.cameras.world_from_camera[1] == views.cameras.world_from_camera[0]).all()
    assert views.batch([]).rgb.shape == (0, 8, 8, 3)


def test_cameras_are_resized_with_the_pictures(tmp_path: Path, write_png) -> None:
    given = files(tmp_path, write_png, [disc()])
    views = StoredViews.from_files(given, cameras(1), size=4)
    assert views.size == (4, 4)
    assert views.cameras.focal_px.tolist() == [[5, 5]]
    assert views.batch([0]).alpha[0, 1, 1] == 1
    wide = StoredViews.from_files(given, cameras(1), size=(4, 16))
    assert wide.cameras.focal_px.tolist() == [[20, 5]]


def test_sizes() -> None:
    assert fit_size((480, 640), None) == (480, 640)
    assert fit_size((480, 640), 320) == (240, 320)
    assert fit_size((640, 480), 320) == (320, 240)
    assert fit_size((1000, 1), 10) == (10, 1)
    assert fit_size((480, 640), (7, 9)) == (7, 9)
    for bad in (0, -3, (0, 4)):
        with pytest.raises(ValueError, match="at least one pixel"):
            fit_size((8, 8), bad)


@pytest.mark.parametrize("place", ["images/masks", "masks", "mask", "masks/images"])
@pytest.mark.parametrize("name", ["v0.png", "v0.png.png"])
def test_masks_beside_the_pictures(tmp_path: Path, write_png, place: str, name: str) -> None:
    given = files(tmp_path, write_png, [disc()[..., :3]])
    write_png(tmp_path / place / name, disc()[..., 3:])
    batch = StoredViews.from_files(given, cameras(1)).batch([0])
    assert batch.alpha.sum() == 16
    assert batch.rgb[0, 0, 0].sum() == 0


def test_masks_serve_where_alpha_says_nothing(tmp_path: Path, write_png) -> None:
    opaque = disc()
    opaque[..., 3] = 255
    given = files(tmp_path, write_png, [opaque])
    write_png(tmp_path / "masks" / "v0.png", disc()[..., 3:])
    assert StoredViews.from_files(given, cameras(1)).batch([0]).alpha.sum() == 16


def expect(kind: type[Exception], says: str, *args, **kwargs) -> None:
    with pytest.raises(kind, match=says) as caught:
        StoredViews.from_files(*args, **kwargs)
    assert "\n" not in str(caught.value)


def test_absent_pictures(tmp_path: Path) -> None:
    absent = [tmp_path / f"{i}.png" for i in range(5)]
    expect(
        FileNotFoundError,
        r"names 5 absent pictures of 5: .*0\.png.*1\.png.*2\.png'\]",
        absent,
        cameras(5),
    )


def test_no_alpha(tmp_path: Path, write_png) -> None:
    given = files(tmp_path, write_png, [disc()[..., :3]])
    expect(
        ValueError,
        r"v0\.png: has no alpha channel; masks are needed: give RGBA",
        given,
        cameras(1),
    )


def test_other_sizes(tmp_path: Path, write_png) -> None:
    given = files(tmp_path, write_png, [disc(), disc()[:, :6]])
    expect(ValueError, r"v1\.png: is 6x8, others are 8x8", given, cameras(2))


def test_a_mask_of_another_size(tmp_path: Path, write_png) -> None:
    given = files(tmp_path, write_png, [disc()[..., :3]])
    write_png(tmp_path / "masks" / "v0.png", disc()[:4, :, 3:])
    expect(ValueError, r"masks/v0\.png: is 8x4, its picture 8x8", given, cameras(1))


def test_masks_that_say_nothing(tmp_path: Path, write_png, caplog) -> None:
    full, empty = disc(), disc(0)
    full[..., 3] = 255
    expect(
        ValueError,
        "alpha is zero in all 2 views",
        files(tmp_path, write_png, [empty] * 2),
        cameras(2),
    )
    expect(
        ValueError,
        "alpha is one everywhere in all views; masks are needed",
        files(tmp_path, write_png, [full] * 2),
        cameras(2),
    )
    views = StoredViews.from_files(
        files(tmp_path, write_png, [disc(), empty, full]), cameras(3)
    )
    assert views.empty_masks == 1
    assert "1 of 3 masks are empty: ['v1']" in caplog.text


def test_truncated(tmp_path: Path, write_png) -> None:
    noisy = np.random.default_rng(0).integers(0, 255, (64, 64, 4)).astype(np.uint8)
    given = files(tmp_path, write_png, [noisy])
    given[0].write_bytes(given[0].read_bytes()[:4000])
    expect(ValueError, r"v0\.png: cannot be read", given, cameras(1, 64, 64))


def test_names_are_unique(tmp_path: Path, write_png) -> None:
    given = [write_png(tmp_path / folder / "a.png", disc()) for folder in ("x", "y")]
    assert StoredViews.from_files(given, cameras(2)).names == ("x_a", "y_a")


def test_counts_must_agree() -> None:
    with pytest.raises(ValueError, match="1 pictures, 2 names, 2 cameras"):
        StoredViews(cameras(2), [torch.rand(8, 8, 4)], ["a", "b"])
    with pytest.raises(ValueError, match="at least one"):
        StoredViews(cameras(0), [], [])


def test_axes_meet_where_cameras_look() -> None:
    point, away = axes_meet(cameras(7))
    torch.testing.assert_close(point, torch.tensor([0.1, 0.2, 0.3]), atol=1e-5, rtol=0)
    assert not away.any()
    check_cameras(cameras(7))
    check_cameras(cameras(1))
    check_cameras(cameras(0))


def test_cameras_that_look_away(caplog) -> None:
    with pytest.raises(ValueError, match="7 of 7 cameras look away"):
        check_cameras(cameras(7, turn=-1.0))
    mixed = cameras(7)
    mixed.world_from_camera[3, :3, 1:3] *= -1
    check_cameras(mixed)
    assert "1 of 7 cameras look away from the others' object, views [3]" in caplog.text


def test_parallel_axes_are_fine() -> None:
    given = cameras(3)
    given.world_from_camera[:, :3, :3] = torch.eye(3)
    point, away = axes_meet(given)
    assert torch.isfinite(point).all()
    assert len(away) == 3
