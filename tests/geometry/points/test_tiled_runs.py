"""Runs of the fit by tiles: stopped and gone on with, failing, on several workers."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiled_clouds import HALVED, halved, in_blocks, noted, ring

from isolux.geometry.points.hierarchy_options import HierarchyOptions
from isolux.geometry.points.tiled import fit, store
from isolux.geometry.points.tiled.fit import fit_tiles
from isolux.geometry.points.tiled.options import TileOptions
from isolux.geometry.points.tiled.runners import Lost, Runner, runner_for
from isolux.geometry.points.tiled.schedule import Schedule, Task

TILES = TileOptions(points=500)


@pytest.fixture
def solved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The tiles that were fitted."""
    numbers: list[int] = []

    def fit_tile(work: Any, plan: Any, tile: int) -> None:
        numbers.append(tile)
        real(work, plan, tile)

    real = fit.fit_tile
    monkeypatch.setattr(fit, "fit_tile", fit_tile)
    return numbers


def files(folder: Path) -> dict[str, bytes]:
    """What a fit has left: coefficients and samples."""
    found = sorted(folder.rglob("*.tile"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def interrupt_at(text: str) -> Callable[[str, float], None]:
    def tell(said: str, share: float) -> None:
        if said.startswith(text):
            raise KeyboardInterrupt

    return tell


def test_what_is_finished_is_not_done_again(tmp_path: Path, solved: list[int]) -> None:
    blocks = in_blocks(ring(2000))
    with pytest.raises(KeyboardInterrupt):
        fit_tiles(blocks, tmp_path, None, TILES, None, interrupt_at("fit: tile 3"))
    before = solved.copy()
    assert len(before) == 3
    fit_tiles(blocks, tmp_path, None, TILES)
    assert len(solved) == len(set(solved)) > 6
    made = files(tmp_path)
    fit_tiles(blocks, tmp_path, None, TILES)
    assert len(solved) == len(set(solved))
    assert files(tmp_path) == made


def test_cleaning_is_not_done_again(tmp_path: Path) -> None:
    blocks = in_blocks(ring(2000))
    with pytest.raises(KeyboardInterrupt):
        fit_tiles(blocks, tmp_path, None, TILES, halved, interrupt_at("points: tile 2"))
    HALVED.clear()
    fit_tiles(blocks, tmp_path, None, TILES, halved)
    count = len(HALVED)
    assert count > 2
    made = files(tmp_path)
    assert not list(tmp_path.glob("raw-*"))
    fit_tiles(blocks, tmp_path, HierarchyOptions(smoothness=0.1), TILES, halved)
    assert len(HALVED) == count
    other = tmp_path / "other"
    fit_tiles(blocks, other, None, TILES, halved)
    assert len(HALVED) == 2 * count + 2
    assert files(other) == made


@pytest.mark.parametrize("step", ["2000 of 2000 points sorted", "averages: tile 2", "level 1"])
def test_any_step_can_be_stopped(tmp_path: Path, step: str) -> None:
    """As if it had never been."""
    cloud = ring(2000)
    with pytest.raises(KeyboardInterrupt):
        fit_tiles(in_blocks(cloud), tmp_path / "a", None, TILES, None, interrupt_at(step))
    fit_tiles(in_blocks(cloud), tmp_path / "a", None, TILES)
    fit_tiles(in_blocks(cloud), tmp_path / "b", None, TILES)
    assert files(tmp_path / "a") == files(tmp_path / "b")


@pytest.mark.parametrize("damage", ["cut", "turned", "gone", "other"])
def test_a_damaged_file_is_made_again(tmp_path: Path, solved: list[int], damage: str) -> None:
    blocks = in_blocks(ring(2000))
    fit_tiles(blocks, tmp_path, None, TILES)
    made = files(tmp_path)
    path = next(tmp_path.rglob(f"levels/{solved[1]:06d}.tile"))
    data = bytearray(path.read_bytes())
    if damage == "turned":
        data[len(data) // 2] ^= 1
    path.write_bytes(data[:-9] if damage == "cut" else data)
    if damage == "gone":
        path.unlink()
    if damage == "other":
        store.write(path, "another run", {})
    count = len(solved)
    fit_tiles(blocks, tmp_path, None, TILES)
    assert solved[count:] == [solved[1]]
    assert files(tmp_path) == made


def test_another_cloud_or_option_starts_anew(tmp_path: Path, solved: list[int]) -> None:
    cloud = ring(2000)
    fit_tiles(in_blocks(cloud), tmp_path, None, TILES)
    count = len(solved)
    for changed, options in ((cloud, HierarchyOptions(smoothness=0.1)), (cloud[:-1], None)):
        solved.clear()
        fit_tiles(in_blocks(changed), tmp_path, options, TILES)
        assert len(solved) > count / 2
        assert len(list(tmp_path.glob("fit-*"))) == 1
    solved.clear()
    fit_tiles(in_blocks(cloud[:-1]), tmp_path, None, TileOptions(points=500, retries=0))
    assert not solved


def tasks_of(folder: Path, trouble: dict[int, tuple[str, int]]) -> list[Task]:
    """Five tasks, some of which have trouble for some times."""
    return [
        Task(
            f"tile {i}",
            noted,
            (folder / f"{i}.tile", "x", folder / "log", *trouble.get(i, ())),
            folder / f"{i}.tile",
            10,
        )
        for i in range(5)
    ]


def started(folder: Path) -> list[str]:
    return sorted((folder / "log").read_text().split())


def run(runner: Runner, tasks: list[Task], retries: int = 2) -> None:
    Schedule(runner, retries, "x", lambda text, share: None).run("fit", tasks, (0.0, 1.0))


def test_a_failed_task_is_tried_again(tmp_path: Path) -> None:
    tasks, runner = tasks_of(tmp_path, {1: ("raise", 2)}), runner_for(TileOptions())
    run(runner, tasks)
    assert all(store.is_made(task.result, "x") for task in tasks)
    assert started(tmp_path) == ["0.tile", *["1.tile"] * 3, "2.tile", "3.tile", "4.tile"]
    run(runner, tasks)
    assert len(started(tmp_path)) == 7


def test_a_task_that_goes_on_failing_is_named(tmp_path: Path) -> None:
    tasks, runner = tasks_of(tmp_path, {3: ("raise", 99)}), runner_for(TileOptions())
    with pytest.raises(RuntimeError, match=r"tile 3 failed 2 times: no luck") as error:
        run(runner, tasks, retries=1)
    assert "\n" not in str(error.value)
    kept = [task for task in tasks if task.result.exists()]
    assert len(kept) >= 3
    assert started(tmp_path).count("3.tile") == 2
    run(runner, tasks_of(tmp_path, {}))
    assert all(started(tmp_path).count(task.result.name) == 1 for task in kept)


def test_a_dead_process_is_replaced(tmp_path: Path) -> None:
    """Another task, lost with it, is not blamed."""
    runner = runner_for(TileOptions(runner="processes", workers=2))
    try:
        run(runner, tasks_of(tmp_path, {0: ("die", 1), 2: ("raise", 1)}), retries=1)
    finally:
        runner.close()
    assert started(tmp_path).count("0.tile") >= 2
    assert started(tmp_path).count("2.tile") >= 2


class Fragile(Runner):
    """Three tasks at a time, all of which are lost when one of them has a bad name."""

    slots = 3

    def __init__(self) -> None:
        self.running: list[tuple[int, Any, Any]] = []
        self.groups: list[list[str]] = []

    def submit(self, number: int, function: Any, arguments: tuple[Any, ...]) -> None:
        self.running.append((number, function, arguments))

    def finished(self) -> list[tuple[int, Any]]:
        names = [arguments[0].name for _, _, arguments in self.running]
        self.groups.append(names)
        running, self.running = self.running, []
        if "2.tile" in names:
            return [(number, Lost("its process died")) for number, _, _ in running]
        for _, function, arguments in running:
            function(*arguments)
        return [(number, None) for number, _, _ in running]

    def close(self) -> None:
        pass


def test_the_task_that_kills_is_found(tmp_path: Path) -> None:
    """Those that were running with it go alone, and are done; it is named."""
    runner = Fragile()
    with pytest.raises(RuntimeError, match=r"tile 2 failed 3 times: its process died"):
        run(runner, tasks_of(tmp_path, {}))
    assert runner.groups[0] == ["0.tile", "1.tile", "2.tile"]
    assert all(len(names) == 1 for names in runner.groups[1:])
    assert {"0.tile", "1.tile"} <= {path.name for path in tmp_path.iterdir()}


def test_workers_do_not_change_bits(tmp_path: Path) -> None:
    cloud, found = ring(1500), []
    for name, workers in (("here", 1), ("processes", 2)):
        tiles = TileOptions(points=500, runner=name, workers=workers)  # type: ignore[arg-type]
        field = fit_tiles(in_blocks(cloud), tmp_path / name, None, tiles)
        mesh = field.extract_mesh()
        found.append((files(tmp_path / name), mesh.vertices.tolist(), mesh.faces.tolist()))
    assert found[0] == found[1]


CODE = """
import sys
from pathlib import Path
from tiled_clouds import HALVED, halved, in_blocks, noted, ring
from isolux.geometry.points.tiled.fit import fit_tiles
from isolux.geometry.points.tiled.options import TileOptions
from isolux.geometry.points.tiled.runners import runner_for
from isolux.geometry.points.tiled.schedule import Schedule, Task

def main():
    folder, options = Path(sys.argv[1]), TileOptions(points=500, runner="ray", workers=2)
    fit_tiles(in_blocks(ring(2000)), folder / "work", None, options)
    runner, tasks = runner_for(options), []
    for i, trouble in enumerate([("die", 1), ("raise", 1), ()]):
        path = folder / f"{i}.tile"
        tasks.append(Task(f"tile {i}", noted, (path, "x", folder / "log", *trouble), path, 1))
    try:
        Schedule(runner, 1, "x", lambda text, share: None).run("fit", tasks, (0, 1))
    finally:
        runner.close()

if __name__ == "__main__":
    main()
"""


def test_ray_makes_the_same_and_replaces_workers(tmp_path: Path) -> None:
    """In a process of its own: Ray leaves threads and warnings behind."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'isolux[cluster]'")
    support = str(Path(__file__).parents[2] / "support")
    script = tmp_path / "on_ray.py"
    script.write_text(CODE)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": support, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert started(tmp_path) == ["0.tile", "0.tile", "1.tile", "1.tile", "2.tile"]
    fit_tiles(in_blocks(ring(2000)), tmp_path / "here", None, TILES)
    assert files(tmp_path / "work") == files(tmp_path / "here")


def test_what_is_missing_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'isolux\[cluster\]'"):
        runner_for(TileOptions(runner="ray"))


def test_no_cluster_at_an_address_is_said_in_one_line() -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'isolux[cluster]'")
    with pytest.raises(ValueError, match=r"tiles.address=nonsense: no cluster") as error:
        runner_for(TileOptions(runner="ray", address="nonsense"))
    assert "\n" not in str(error.value)
