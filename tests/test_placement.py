"""Whole runs with everything on another device, which is pretended.

What stays behind or comes over at the wrong moment fails, and each wait of the processor for
the device is counted.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from emulated import emulated
from stand_in_device import DEVICE, there, waits

from isolux import backends
from isolux.backends.cuda.launch import use_host
from isolux.cli import main
from isolux.optimize import fit

Train = Callable[..., int]
# What a step may wait for: how many pixels are covered, how large the surface is, whether all
# is finite. Sizes of results that depend on numbers, and the guard.
WAITS = {
    "isolux.render.gbuffer",
    "isolux.backends.cuda.tetrahedra",
    "isolux.backends.cuda.flexicubes",
    "isolux.optimize.fit",
}


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Makes all that is trained take the emulated kernels, on the device named."""
    base = emulated()
    mine: list[str] = []

    def select(*_: object, **__: object) -> backends.Backend:
        return dataclasses.replace(base, device=mine[-1])

    monkeypatch.setattr(backends, "select", select)
    yield mine.append
    use_host(None)


def losses(out: Path) -> list[float]:
    lines = (json.loads(line) for line in (out / "log.jsonl").read_text().splitlines())
    return [line["total"] for line in lines if line["kind"] == "step"]


KINDS = {
    "tets": ("optimize.steps=3,3",),
    "flexicubes and network": (
        "optimize.steps=3,2",
        "geometry.extractor=flexicubes",
        "geometry.sdf=network",
    ),
    "random start, coarse to fine": ("optimize.steps=4,2", "geometry.init=random"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_the_same_over_there(
    kind: str, tmp_path: Path, isolux_train: Train, on_device: Callable[[str], None]
) -> None:
    settings = (*KINDS[kind], "data.size=24", "observe.log_every=1", "losses.smooth_sdf=1")
    on_device("cpu")
    assert isolux_train("demo", tmp_path / "here", *settings) == 0
    on_device(DEVICE)
    with there():
        assert isolux_train("demo", tmp_path / "there", *settings) == 0
    here, over_there = losses(tmp_path / "here"), losses(tmp_path / "there")
    assert len(here) >= 5
    # The regularisers are summed in another order there, after which charts may differ.
    before = int(settings[0].partition("=")[2].partition(",")[0])
    assert over_there[:before] == pytest.approx(here[:before], rel=1e-4)
    assert over_there[before:] == pytest.approx(here[before:], rel=2e-2)
    assert (tmp_path / "there" / "mesh" / "mesh.glb").stat().st_size > 1000


def test_a_run_goes_on_and_is_measured_over_there(
    tmp_path: Path,
    scene_folder: Path,
    isolux_train: Train,
    on_device: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Stored views; a broken step ends it with its checkpoint kept; resume, eval, export."""
    on_device(DEVICE)
    data = (
        "data.kind=nerf_synthetic",
        f"data.path={scene_folder}",
        "observe.checkpoint_every=2",
    )
    arguments = ("demo", tmp_path / "run", *data, "optimize.steps=4,4")
    looked_at = fit._looked_at
    calls = iter(range(7))

    def broken(*given: object) -> object:
        if next(calls, None) is None:
            raise FloatingPointError("a step that fails")
        return looked_at(*given)  # type: ignore[arg-type]

    with there():
        monkeypatch.setattr(fit, "_looked_at", broken)
        assert isolux_train(*arguments) == 1
        monkeypatch.setattr(fit, "_looked_at", looked_at)
        assert main(["train", "--conf", str(tmp_path / "run" / "conf.json"), "--resume"]) == 0
        capsys.readouterr()
        assert main(["eval", "--run", str(tmp_path / "run"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["test"]["views"] == 2
        ply = tmp_path / "mesh.ply"
        assert main(["export", "--run", str(tmp_path / "run"), "-o", str(ply)]) == 0
    assert ply.stat().st_size > 1000


@pytest.mark.parametrize("extractor", ["tets", "flexicubes"])
def test_steps_wait_for_sizes_and_the_guard_only(
    extractor: str,
    tmp_path: Path,
    isolux_train: Train,
    on_device: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_device(DEVICE)
    of_steps: list[dict[str, int]] = []
    summed = fit.weighted_sum

    def step(*given: object) -> object:
        of_steps.append(dict(waits))
        return summed(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(fit, "weighted_sum", step)
    settings = (
        "optimize.steps=3,3",
        "data.size=24",
        "optimize.batch=2",
        "observe.log_every=99",
    )
    settings = (*settings, f"geometry.extractor={extractor}", "data.train_views=2")
    with there():
        assert isolux_train("demo", tmp_path / "run", *settings) == 0
    # Between the second and the third step of each stage: nothing is made for the first time.
    for early, late in ((1, 2), (4, 5)):
        before, after = of_steps[early], of_steps[late]
        new = {place: count - before.get(place, 0) for place, count in after.items()}
        places = {place.partition(":")[0] for place, count in new.items() if count}
        assert "isolux.optimize.fit" in places  # they are counted
        assert places <= WAITS, new
        assert sum(new.values()) <= 3
