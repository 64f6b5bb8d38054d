"""Reading what to sweep: what is accepted, and one line for each thing that is not."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from isolux.confs.errors import ConfError
from isolux.sweep.spec import SweepSpec, read_spec
from isolux.sweep.trials import trials_of


def read(folder: Path, text: str, *overrides: str) -> SweepSpec:
    path = folder / "s.conf"
    path.write_text(text)
    return read_spec(path, overrides)


def mistakes(folder: Path, text: str) -> list[str]:
    """What is said of a specification, without the file's name."""
    with pytest.raises((ConfError, FileNotFoundError)) as caught:
        trials_of(read(folder, text), folder / "s.conf")
    return [
        line.removeprefix(f"{folder / 's.conf'}: ") for line in str(caught.value).split("\n")
    ]


def test_hocon_and_json_say_the_same(tmp_path: Path) -> None:
    hocon = read(
        tmp_path,
        "conf = demo, out = o, retries = 1\n"
        "scenes { a { data { size = 32 } }, b {} }\n"
        "grid { geometry.resolution = [16, 32], optimize.steps = [[1, 2], [3, 4]] }\n",
    )
    tree = {
        "conf": "demo",
        "out": "o",
        "retries": 1,
        "scenes": {"a": {"data.size": 32}, "b": {}},
        "grid": {"geometry": {"resolution": [16, 32]}, "optimize.steps": [[1, 2], [3, 4]]},
    }
    path = tmp_path / "s.json"
    path.write_text(json.dumps(tree))
    assert read_spec(path) == hocon
    assert hocon.scenes == {"a": {"data.size": 32}, "b": {}}
    assert hocon.out == tmp_path / "o"


def test_typed_keys_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    text = "conf = demo, out = a, minutes = 3, scenes { a {} }"
    spec = read(tmp_path, text, "out=b", "minutes=7", "settings.data.size=16")
    assert spec.out == tmp_path / "here" / "b"  # typed: from where the person is
    assert spec.minutes == 7
    assert spec.settings == {"data.size": 16}
    assert read(tmp_path, "conf = demo, scenes { a {} }").out == tmp_path / "here" / "out" / "s"


BAD = [
    ("scenes { a {} }", "conf: not given; name a preset"),
    ("conf = demo", "nothing to sweep"),
    ("conf = demo, scenes {}", "nothing to sweep"),
    ("conf = dmeo, scenes { a {} }", "did you mean 'demo'"),
    ("conf = gone.conf, scenes { a {} }", "gone.conf"),
    ("conf = demo, scnes { a {} }", "scnes: no such key; did you mean scenes?"),
    ("conf = demo, scenes { a {} }, retrys = 1", "did you mean retries?"),
    ("conf = demo, scenes { a {} }, resources.cpu = 1", "did you mean resources.cpus?"),
    ("conf = demo, scenes { a {} }, cpus = 1", "did you mean resources.cpus?"),
    (
        "conf = demo, scenes { a {} }, data.size = 1",
        "data.size: no such key; a setting of every",
    ),
    (
        "conf = demo, scenes { a {} }, retries = -1",
        "retries: needs a whole number from 0 to 100",
    ),
    ("conf = demo, scenes { a {} }, retries = often", "got 'often'"),
    ("conf = demo, scenes { a {} }, minutes = 0", "minutes: needs a number above 0"),
    (
        "conf = demo, scenes { a {} }, resources.cpus = 0",
        "resources.cpus: needs a whole number",
    ),
    ("conf = demo, scenes { a {} }, resources.gpus = 1.5", "whole or below one, got 1.5"),
    (
        "conf = demo, scenes { a {} }, resources.memory = lots",
        "resources.memory: needs a number",
    ),
    ("conf = demo, scenes { a {} }, resources = 4", "resources: is a group; got 4"),
    ("conf = demo, scenes { a {} }, slurm.partion = x", "did you mean slurm.partition?"),
    ("conf = demo, scenes = [a, b]", "scenes: is a group, scenes { lego"),
    ("conf = demo, scenes { a = 3 }", "scenes.a: is a group of settings"),
    ("conf = demo, variants { a = data }", "variants.a: is a group of settings"),
    ("conf = demo, settings = 3, scenes { a {} }", "settings: is a group"),
    ("conf = demo, grid { data.size = 32 }", "grid.data.size: needs a list of values; got 32"),
    ("conf = demo, grid { data.size = [] }", "grid.data.size: the list of values is empty"),
    ("conf = demo, grid { data.szie = [32] }", "grid.data.szie: no such setting"),
    ("conf = demo, grid { data.szie = [32] }", "did you mean data.size?"),
    (
        "conf = demo, grid { data.size = [32, 1] }",
        "grid.data.size: needs a whole number from 8",
    ),
    ("conf = demo, grid { data.size = [32, 32] }", "'size-32': the same values twice?"),
    ("conf = demo, grid { out = [a] }", "grid.out: the sweep names the folders"),
    ("conf = demo, scenes { a { out = b } }", "scenes.a.out: the sweep names the folders"),
    ("conf = demo, settings.out = b, scenes { a {} }", "settings.out: the sweep names"),
    (
        "conf = demo, scenes { a { sede = 1 } }",
        "scenes.a.sede: no such setting; did you mean seed",
    ),
    ("conf = demo, settings { sede = 1 }, scenes { a {} }", "settings.sede: no such setting"),
    ('conf = demo, scenes { "a/b" {} }', "'a/b' names a folder"),
    ('conf = demo, scenes { "..": {} }', "'..' names a folder"),
    ("conf = demo, scenes { a {}, A {} }", "two trials are called 'A'"),
    ("conf = demo, scenes { sweep {} }", "'sweep' is what the sweep's own folder is called"),
    (
        "conf = demo, scenes { a { data.size = 32 } }, grid { data.size = [16] }",
        "scenes.a.data.size: stands in the grid as well",
    ),
    ("conf = nerf_synthetic, scenes { a {} }", "scenes.a.data.path: not given"),
    ("conf = nerf_synthetic, scenes { a { data.path = no } }", "no such file or folder"),
    ("conf = demo, scenes { a { light.envmap = no.hdr } }", "no.hdr"),
    ('conf = demo, out = "", scenes { a {} }', "out: is empty"),
    ("conf = demo, scenes { a {}", "cannot be read at line"),
    ("[1, 2]", "this is a list"),
]


@pytest.mark.parametrize(("text", "words"), BAD, ids=[f"{i}" for i in range(len(BAD))])
def test_a_mistake_is_one_line(text: str, words: str, tmp_path: Path) -> None:
    lines = mistakes(tmp_path, text)
    assert any(words in line for line in lines), lines
    assert len(lines) == 1


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    text = "retrys = 1, minutes = -1, grid { data.size = 3 }, scenes = 2"
    lines = mistakes(tmp_path, text)
    assert [line.partition(":")[0] for line in lines] == [
        "scenes", "grid.data.size", "minutes", "retrys",
    ]  # fmt: skip


def test_a_mistake_of_many_trials_is_told_once(tmp_path: Path) -> None:
    text = "conf = demo, settings.sede = 3, scenes { a {}, b {}, c { seed = x } }"
    assert len(mistakes(tmp_path, text)) == 2


def test_a_hundred_mistakes_are_cut(tmp_path: Path) -> None:
    scenes = ", ".join(f"s{i} {{ data.path = gone{i} }}" for i in range(100))
    lines = mistakes(tmp_path, f"conf = nerf_synthetic, scenes {{ {scenes} }}")
    assert len(lines) == 31
    assert lines[-1] == "and 70 more mistakes"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone.conf"], "gone.conf: no such file"),
        (["."], "is a folder"),
        (["a.txt"], ".conf (HOCON) or a .json"),
        (["s.conf", "--resume", "out=gone"], "holds no sweep to resume"),
        (["s.conf", "out=a.txt"], "is a file"),
        (["s.conf", "--slurm", "--local"], "not allowed with"),
        (["s.conf", "out=x", "--slurm"], "srun is not found"),
        (["s.conf", "out=x", "--local", "resources.memory=100000"], "this machine has"),
        (["s.conf", "out=x", "--local", "resources.gpus=64"], "resources.gpus: 64 asked"),
        ([], "SPEC"),
    ],
)
def test_the_command_answers_mistakes(
    arguments: list[str],
    words: str,
    spec_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    mistake: Callable[[Sequence[str]], str],
) -> None:
    if "--slurm" in arguments and "--local" not in arguments:
        pytest.importorskip("submitit", reason="submitit is not installed: isolux[cluster]")
    folder = spec_file.parent
    (folder / "a.txt").write_text("")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if not arguments or ("--slurm" in arguments and "--local" in arguments):
        with pytest.raises(SystemExit) as caught:
            mistake(["sweep", *arguments])
        assert caught.value.code == 2
        return
    assert words in mistake(["sweep", *arguments])
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "s.conf"]
