"""Settings: what is written is what is read, overrides win, and no mistake passes."""

import json
import socket
from pathlib import Path

import pytest

from isolux.confs.describe import settings, shown
from isolux.confs.hocon import read, read_json
from isolux.confs.read import ConfError, check_inputs, dumps, presets, read_conf, resolved
from isolux.confs.schema import RunConf


def write(folder: Path, text: str, name: str = "a.conf") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path | str, *overrides: str) -> list[str]:
    """The lines of the error."""
    with pytest.raises(ConfError) as caught:
        read_conf(path, overrides)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("name", presets())
def test_presets_are_valid_and_round_trip(name: str, tmp_path: Path) -> None:
    conf = read_conf(name)
    assert conf.out == Path("out", name)
    tree = resolved(conf, {"version": "0", "commit": "none"})
    again = read_conf(write(tmp_path, json.dumps(tree), "conf.json"))
    assert resolved(again, {"version": "0", "commit": "none"}) == tree


def test_what_ships() -> None:
    assert presets() == ["bob", "demo", "nerf_synthetic", "points", "spot"]


@pytest.mark.parametrize(
    "value", ["007", "a = b", "a#b", "x,y", "é", 'say "hi"', "5 m", "", "{"]
)
def test_a_text_stays_as_typed(value: str, tmp_path: Path) -> None:
    if value == "{":
        refused("demo", "out={")
        return
    assert read(write(tmp_path, ""), [("out", value)])["out"] == value
    assert read_json(write(tmp_path, "{}", "a.json"), [("out", value)])["out"] == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1e-3", 1e-3), ("true", True), ("null", None), ("[1, [2]]", [1, [2]]), ('"7"', "7")],
)
def test_a_value_has_its_type(value: str, expected: object, tmp_path: Path) -> None:
    assert read(write(tmp_path, ""), [("a.b", value)])["a"]["b"] == expected
    assert read_json(write(tmp_path, "{}", "a.json"), [("a.b", value)])["a"]["b"] == expected


@pytest.mark.parametrize("suffix", ["conf", "json"])
def test_an_override_wins_and_keeps_its_neighbours(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path, '{"data": {"size": 64, "near": 0.5}, "seed": 3}', f"a.{suffix}")
    conf = read_conf(path, ["data.size=32", "data={far=7}", "seed=4"])
    assert (conf.data.size, conf.data.near, conf.data.far, conf.seed) == (32, 0.5, 7.0, 4)


def test_braces_around_a_file(tmp_path: Path) -> None:
    path = write(tmp_path, "# a {\n{\n  seed = 3 # }\n}\n")
    assert read_conf(path).seed == 3
    assert read_conf(path, ["seed=4", "data.size=32"]).data.size == 32


def test_overrides_take_part_in_substitution(tmp_path: Path) -> None:
    path = write(tmp_path, "seed = 3\nthreads = ${seed}\nobserve.log_every = ${seed}")
    conf = read_conf(path, ["seed=5", "observe.picture_every=${seed}"])
    assert (conf.threads, conf.observe.log_every, conf.observe.picture_every) == (5, 5, 5)


def test_a_list_that_appends_to_itself_is_overridden(tmp_path: Path) -> None:
    path = write(tmp_path, "a = [1]\na = ${a} [2]\nb = {c = 1}\nb = ${b} {d = 2}")
    assert read(path, [])["a"] == [1, 2]
    assert read(path, [("a", "[5]"), ("b.d", "3")]) == {"a": [5], "b": {"c": 1, "d": 3}}


@pytest.mark.parametrize(
    ("typed", "expected"), [("5", (5, 5)), ("5,6", (5, 6)), ("[5, 6]", (5, 6))]
)
def test_numbers_a_stage(typed: str, expected: tuple[int, int]) -> None:
    assert read_conf("demo", [f"optimize.steps={typed}"]).optimize.steps == expected


@pytest.mark.parametrize(("typed", "expected"), [("64", 64), ("64,48", (64, 48))])
def test_sizes(typed: str, expected: object) -> None:
    assert read_conf("demo", [f"data.size={typed}"]).data.size == expected


@pytest.mark.parametrize("typed", ["no", "off", "False", "false"])
def test_the_words_for_false(typed: str) -> None:
    assert read_conf("demo", [f"light.learn={typed}"]).light.learn is False


def test_paths_of_a_file_are_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "confs").mkdir()
    path = write(tmp_path / "confs", 'data.path = "lego"\ngeometry.init = "start.obj"')
    monkeypatch.chdir(tmp_path)
    conf = read_conf("confs/a.conf")
    assert conf.data.path == tmp_path / "confs" / "lego"
    assert conf.geometry.init == str(tmp_path / "confs" / "start.obj")
    conf = read_conf(path, ["data.path=lego", "geometry.init=hull", "light={envmap=a.hdr}"])
    assert conf.data.path == Path("lego")
    assert conf.geometry.init == "hull"
    assert conf.light.envmap == Path("a.hdr")
    tree = resolved(conf, {})
    assert tree["data"]["path"] == str(tmp_path / "lego")  # type: ignore[index]


def test_includes(tmp_path: Path) -> None:
    write(tmp_path, "seed = 9\nthreads = 2", "base.conf")
    path = write(tmp_path, 'include "base.conf"\nseed = 10')
    assert (read_conf(path).seed, read_conf(path).threads) == (10, 2)
    package = 'include package("isolux.confs.presets:demo.conf")\nseed = 11'
    conf = read_conf(write(tmp_path, package, "b.conf"))
    assert (conf.seed, conf.data.kind) == (11, "procedural")


@pytest.mark.parametrize(
    "line",
    [
        'include "http://127.0.0.1:9/a.conf"',
        'include url("http://127.0.0.1:9/a.conf")',
        'include required(url("http://127.0.0.1:9/a.conf"))',
        'include "file:///etc/hostname"',
        'include "gone.conf"',
        'include required("gone.conf")',
        'include package("antigravity:a.conf")',
        "seed = ${nowhere}",
        "seed = [",
        "[1, 2]",
        "a { b",
    ],
)
def test_what_a_file_may_not_do(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("a settings file reached the network")

    monkeypatch.setattr(socket.socket, "connect", connect)
    path = write(tmp_path, line)
    (told,) = refused(path)
    assert str(path) in told or "include" in told


@pytest.mark.parametrize("text", ["{", "[1]", '{"seed": }', "[" * 100_000])
def test_json_that_is_none(text: str, tmp_path: Path) -> None:
    path = write(tmp_path, text, "a.json")
    (told,) = refused(path)
    assert str(path) in told


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_bytes(b"\xff\xfe\x00a")
    (told,) = refused(path)
    assert str(path) in told


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"seed": 3}')
    assert read_conf(path).seed == 3


def test_mistakes_say_where_they_stand(tmp_path: Path) -> None:
    path = write(tmp_path, "optimize { stpes = 5, batch = many }\nunknown { a = 1, b = 2 }")
    told = refused(path, "seed=-1")
    assert told == [
        "seed: needs a whole number at least 0 and below 2147483648; got -1",
        f"{path}: optimize.batch: needs a whole number from 1 to 64; got 'many'",
        f"{path}: optimize.stpes: no such setting; did you mean optimize.steps?",
        f"{path}: unknown.a: no such setting",
        f"{path}: unknown.b: no such setting",
    ]


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ("steps=4", "optimize.steps"),
        ("optimise.steps=4", "optimize.steps"),
        ("data.sise=4", "data.size"),
        ("data.size=4", "from 8 to 8192"),
        ("data.size=9,9,9", "two of these"),
        ("losses.mask=nan", "at least 0"),
        ("losses.mask=inf", "at least 0"),
        ("losses=5", "group"),
        ("data.near=2000", "smaller than far"),
        ("material.orm_min=[0, 1, 0, 0]", "three of"),
        ('{"material.albedo_min": 1}', "key=value"),
        ("material.coarsest=2000", "finest"),
        ("material.albedo_max=0,0,0", ""),
        ("material.albedo_min=[0.5, 0, 2]", "from 0 to 1"),
        ("a b=4", "no name"),
        ("seed", "key=value"),
        ("data.size=[", "data.size=["),
        ("out=", "out: is empty"),
        ("geometry.init=", "geometry.init: is empty"),
        ("light.envmap=\udcff.hdr", "no name in UTF-8"),
        ("seed=" + "1" * 5000, "1..."),
        ("geometry.extent=1e300", "at most 1e+09"),
        ("geometry.centre=1e300,0,0", "three of"),
    ],
)
def test_one_mistake_one_line(override: str, word: str) -> None:
    if override == "material.albedo_max=0,0,0":
        assert read_conf("demo", [override]).material.albedo_max == (0, 0, 0)
        return
    (told,) = refused("demo", override)
    assert word in told


@pytest.mark.parametrize("name", ["spto", "gone.conf", "folder/gone"])
def test_what_is_not_there(name: str) -> None:
    with pytest.raises(FileNotFoundError, match=name):
        read_conf(name)


def test_a_run_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "conf.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"did you mean .*conf\.json"):
        read_conf(tmp_path)
    assert read_conf(tmp_path / "conf.json").out == Path("out", tmp_path.name)


def test_inputs_are_looked_for() -> None:
    with pytest.raises(ConfError, match=r"data\.path"):
        check_inputs(read_conf("spot"))
    conf = read_conf("demo", ["light.envmap=gone.hdr", "geometry.init=gone.ply"])
    with pytest.raises(FileNotFoundError) as caught:
        check_inputs(conf)
    assert len(str(caught.value).splitlines()) == 2
    check_inputs(read_conf("demo"))


def test_every_setting_has_a_meaning() -> None:
    found = list(settings())
    assert len({item.key for item in found}) == len(found) > 60
    for item in found:
        assert item.meaning, item.key
        assert item.takes, item.key


def test_shown_defaults_can_be_typed(tmp_path: Path) -> None:
    """What the page gives as default, typed after `key=`, is the default."""
    typed = [f"{item.key}={item.default}" for item in settings()]
    conf = read_conf(write(tmp_path, ""), typed)
    assert conf == RunConf(out=Path("out", "a"))


def test_values_are_shown_as_typed() -> None:
    assert [shown(value) for value in (None, True, 2.0, (1, 2.5), "a", Path("b"))] == [
        "none",
        "true",
        "2",
        "1,2.5",
        "a",
        "b",
    ]


def test_the_geometrys_rate_follows_the_start(tmp_path: Path) -> None:
    def rate(*given: str) -> object:
        return read_conf("demo", given).optimize.learning_rate_geometry

    assert rate() == rate("geometry.init=hull") == (0.03, 0.003)
    assert rate("geometry.init=sphere") == (0.03, 0.003)
    near = ("geometry.init=points", "data.points=x.ply")
    assert rate(*near) == (0.005, 0.003)
    assert rate(*near, "optimize.learning_rate_geometry=0.02") == (0.02, 0.02)
    assert rate(*near, "optimize.learning_rate_geometry=none") == (0.005, 0.003)
    assert rate("geometry.init=scan.ply") == rate("geometry.init=a/COLMAP") == (0.005, 0.003)
    assert rate("geometry.init=scan.XYZ") == (0.005, 0.003)
    assert rate("geometry.init=a/mesh.OBJ") == rate("geometry.init=b.glb") == (0.03, 0.003)
    file = ("geometry.init=scan.ply", "optimize.learning_rate_geometry=0.02")
    assert rate(*file) == (0.02, 0.02)
    assert RunConf().optimize.learning_rate_geometry == (0.03, 0.003)
    kept = tmp_path / "conf.json"
    kept.write_text(dumps(read_conf("demo", near), {}))
    assert read_conf(kept).optimize.learning_rate_geometry == (0.005, 0.003)
