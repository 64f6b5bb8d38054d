"""Tiny scenes and runs, shared by the tests of the whole path."""

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from isolux import backends
from isolux.cli import main
from isolux.data.assets.image import save_png
from isolux.data.procedural import demo_asset, demo_sky
from isolux.data.rendered import RenderedViews
from isolux.render.colour import srgb_from_linear

# Settings under which a run takes a few seconds on one core.
TINY = (
    "threads=1",
    "data.size=32",
    "geometry.resolution=14",
    "optimize.steps=20,20",
    "optimize.batch=2",
    "material.texture_size=64",
    "material.levels=6",
    "material.log2_rows=10",
    "material.width=16",
    "light.resolution=16",
    "data.test_views=2",
    "observe.log_every=5",
    "observe.picture_every=0",
)


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Settings of a tiny run, as they are typed."""
    return TINY


@pytest.fixture(scope="session")
def isolux_train() -> Callable[..., int]:
    """`isolux train` with tiny settings in this process: gives the exit code."""

    def train(conf: str, out: Path, *more: str) -> int:
        # argparse takes key=value and options in any order; later settings win.
        return main(["train", "--conf", conf, *TINY, f"out={out}", *more])

    return train


def write_scene(folder: Path, views: dict[str, int], size: int = 32) -> Path:
    """A NeRF-synthetic folder: the demo's shape, drawn from all around."""
    asset, probe = demo_asset(64, 32, 64), demo_sky(32)
    backend = backends.select("cpu")
    for number, (split, count) in enumerate(views.items()):
        drawn = RenderedViews(
            asset, probe, backend, (size, size), count, 3.0, 45.0, 0.1, seed=number
        )
        batch = drawn.batch(range(count))
        frames = []
        for i in range(count):
            pixels = torch.cat([srgb_from_linear(batch.rgb[i].clamp(0, 1)), batch.alpha[i]], -1)
            save_png(folder / split / f"r_{i}.png", pixels)
            x, y, z, w = batch.cameras.world_from_camera[i].double().tolist()
            rows = [[a, -b, -c, d] for a, b, c, d in (x, [-v for v in z], y, w)]
            frames.append({"file_path": f"./{split}/r_{i}", "transform_matrix": rows})
        tree = {"camera_angle_x": math.radians(45.0), "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(tree))
    return folder


@pytest.fixture(scope="session")
def scene_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A NeRF-synthetic folder with 12 training and 3 test views. Read only."""
    return write_scene(tmp_path_factory.mktemp("scene"), {"train": 12, "test": 3})


@pytest.fixture
def own_scene(tmp_path: Path, scene_folder: Path) -> Path:
    """A copy of that folder that a test may spoil."""
    return Path(shutil.copytree(scene_folder, tmp_path / "scene"))


@pytest.fixture
def mistake(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Callable[[Sequence[str]], str]:
    """Runs a command that a person has got wrong: exit 2, one line, which it returns."""

    def run(arguments: Sequence[str]) -> str:
        capsys.readouterr()
        assert main(list(arguments)) == 2
        out, err = capsys.readouterr()
        assert out == ""
        told = [line for line in err.splitlines() if line.startswith("isolux: ")]
        assert len(told) == 1, err
        assert "Traceback" not in err
        return told[0]

    return run
