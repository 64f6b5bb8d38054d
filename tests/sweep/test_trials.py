"""A sweep taken apart: names, what wins, paths."""

from pathlib import Path

import pytest

from isolux.sweep.spec import read_spec
from isolux.sweep.trials import Trial, changed_since, trials_of


def trials(folder: Path, text: str) -> list[Trial]:
    path = folder / "s.conf"
    path.write_text(f"out = {folder}/out\n{text}")
    return trials_of(read_spec(path), path)


def names(folder: Path, text: str) -> list[str]:
    return [trial.name for trial in trials(folder, text)]


def test_everything_is_crossed(tmp_path: Path) -> None:
    text = "conf = demo, scenes { a {}, b {} }, variants { x {}, y {} }\ngrid { seed = [1, 2] }"
    found = names(tmp_path, text)
    assert found[:3] == ["a_x_seed-1", "a_x_seed-2", "a_y_seed-1"]
    assert len(found) == len(set(found)) == 8
    assert found == names(tmp_path, text)


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        ("seed = [7]", "seed-7"),
        ("optimize.steps = [[3, 2]]", "steps-3-2"),
        ("data.size = [null]", "size-none"),
        ("light.learn = [true]", "learn-true"),
        ("losses.eikonal = [0.001, 1e-07]", "eikonal-0.001 eikonal-1e-07"),
        ("geometry.resolution = [8], light.resolution = [16]",
         "geometry.resolution-8_light.resolution-16"),
        ("geometry.centre = [[-1, 0, 0]]", "centre-minus1-0-0"),
    ],
)  # fmt: skip
def test_names_say_the_values(grid: str, expected: str, tmp_path: Path) -> None:
    found = names(tmp_path, f"conf = demo, grid {{ {grid} }}")
    assert found == expected.split()


def test_long_names_are_cut_and_stay_apart(tmp_path: Path) -> None:
    long = "x" * 95
    found = names(
        tmp_path, f"conf = demo, scenes {{ {long} {{}} }}, grid {{ seed = [111111, 111112] }}"
    )
    assert all(len(name) == 100 for name in found)
    assert len(set(found)) == 2


def test_what_wins(tmp_path: Path) -> None:
    text = (
        "conf = demo\nsettings { seed = 1, data.size = 64, optimize.batch = 1 }\n"
        "scenes { a { seed = 2, data.size = 32 } }\nvariants { v { data.size = 16 } }\n"
        "grid { optimize.batch = [3] }"
    )
    (trial,) = trials(tmp_path, text)
    assert trial.conf["seed"] == 2
    assert trial.conf["data"]["size"] == 16
    assert trial.conf["optimize"]["batch"] == 3
    assert trial.conf["geometry"]["resolution"] == 48  # the preset's
    assert trial.varied == {"variant": "v", "optimize.batch": 3}
    assert trial.conf["out"] == str(tmp_path / "out" / trial.name)


def test_paths_belong_to_the_specification(
    tmp_path: Path, scene_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").symlink_to(scene_folder)
    (tmp_path / "base.conf").write_text("data { kind = nerf_synthetic, path = nowhere }")
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    (trial,) = trials(tmp_path, "conf = base.conf, scenes { a { data.path = data } }")
    assert trial.conf["data"]["path"] == str(tmp_path / "data")
    assert trial.conf["geometry"]["init"] == "hull"


def test_a_trial_takes_the_threads_it_is_given(tmp_path: Path) -> None:
    text = "conf = demo, resources.cpus = 3, variants { a {}, b { threads = 1 } }"
    assert [trial.conf["threads"] for trial in trials(tmp_path, text)] == [3, 1]


def test_texts_are_texts(tmp_path: Path) -> None:
    """No sign in a value of a specification means anything a second time."""
    (tmp_path / "${seed}.hdr").touch()
    text = 'conf = demo, scenes { a { light.envmap = "${seed}.hdr" } }'
    (trial,) = trials(tmp_path, text)
    assert trial.conf["light"]["envmap"] == str(tmp_path / "${seed}.hdr")


def test_changes_are_seen(tmp_path: Path) -> None:
    (before,) = trials(tmp_path, "conf = demo, scenes { a { data.size = 32, threads = 1 } }")
    before.folder.path.mkdir(parents=True)
    from isolux.optimize.files import write_json

    write_json(before.folder.conf, {**before.conf, "run": {"version": "old"}})
    assert changed_since(before) == []
    (now,) = trials(tmp_path, "conf = demo, scenes { a { data.size = 64, threads = 2 } }")
    assert changed_since(now) == ["data.size was 32, is 64"]
