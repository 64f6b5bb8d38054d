"""Reads settings: a preset or a file, and `key=value` on top, as one checked RunConf.

All mistakes are reported at once, a line each, with the full name of the setting. Files are
HOCON (`.conf`) or JSON; neither may run code or reach the network.
"""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from isolux.confs import hocon
from isolux.confs.describe import Setting, expected, quoted, settings
from isolux.confs.errors import ConfError
from isolux.confs.points import PointsConf
from isolux.confs.points_learning import PointsLearningConf
from isolux.confs.schema import RunConf

__all__ = [
    "ConfError",
    "check_inputs",
    "presets",
    "read_conf",
    "read_points",
    "read_points_learning",
    "resolved",
]

Settings = TypeVar("Settings", RunConf, PointsConf, PointsLearningConf)
RUN = "run"  # the part of a conf.json that says what ran it; no setting
_OVERRIDE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_STARTS = ("hull", "sphere", "random", "points")  # values of geometry.init that are no files


def read_conf(name_or_path: str | Path, overrides: Sequence[str] = ()) -> RunConf:
    """The settings that a preset or a file gives, with `key=value` on top.

    Relative paths in a file are taken from the file's folder, those of overrides from the
    current one. Without `out` the run folder is `out/NAME`, NAME being the preset's or the
    file's.

    Args:
        name_or_path: the name of a preset, or a `.conf` or `.json` file.
        overrides: `key=value`, dotted names; the value is a number, `true`, `null`, a list
            or an object as in HOCON, or else a text. They take part in `${...}`.

    Raises:
        ConfError: all that is wrong with the settings, a line each.
        FileNotFoundError: no such file or preset; the message names the nearest preset.
    """
    path, name = _find(name_or_path)
    conf = _read(RunConf, path, [_split(override) for override in overrides])
    return conf if conf.out else conf.model_copy(update={"out": Path("out", name)})


def read_points(overrides: Sequence[str] = (), path: Path | None = None) -> PointsConf:
    """The settings of a surface from points: a file's if one is given, `key=value` on top.

    Raises:
        ConfError, FileNotFoundError: as `read_conf`.
    """
    _check_file(path)
    return _read(PointsConf, path, [_split(override) for override in overrides])


def read_points_learning(
    overrides: Sequence[str] = (), path: Path | None = None
) -> PointsLearningConf:
    """The settings of training the network of `hierarchy`, as `read_points`.

    Raises:
        ConfError, FileNotFoundError: as `read_conf`.
    """
    _check_file(path)
    return _read(PointsLearningConf, path, [_split(override) for override in overrides])


def _check_file(path: Path | None) -> None:
    if path is not None and not path.is_file():
        raise FileNotFoundError(f"no such settings file: {path}")
    if path is not None and path.suffix not in (".conf", ".json"):
        raise ConfError(f"{path}: settings are a .conf (HOCON) or a .json file")


def _read(model: type[Settings], path: Path | None, given: list[tuple[str, str]]) -> Settings:
    """A file, if there is one, with settings on top, checked."""
    as_json = path is not None and path.suffix == ".json"
    tree = hocon.read_json(path, given) if path and as_json else hocon.read(path, given)
    tree.pop(RUN, None)
    typed = [key for key, _ in given]

    def origin(key: str) -> str:
        return "" if path is None or _covers(typed, key) else f"{path}: "

    try:
        conf = model.model_validate(tree)
    except ValidationError as error:
        raise ConfError("\n".join(_mistakes(error, tree, origin, model))) from None
    if lines := list(_no_paths(conf, tree, origin)):
        raise ConfError("\n".join(lines))
    return conf if path is None else _from_folder(conf, path.absolute().parent, typed)


def presets() -> list[str]:
    """Names of the presets that ship with the package, sorted."""
    folder = resources.files("isolux.confs") / "presets"
    return sorted(
        file.name[: -len(".conf")] for file in folder.iterdir() if file.name.endswith(".conf")
    )


def resolved(conf: RunConf, extra: Mapping[str, object]) -> dict[str, object]:
    """What conf.json holds: every setting, paths made absolute, and what ran it.

    Args:
        extra: what is to be kept beside the settings: version, commit, backend ... It stands
            under `run`, which `read_conf` passes over, so that a conf.json can be
            trained again.
    """
    absolute = _map_paths(conf, lambda _, value: value.absolute())
    return {**absolute.model_dump(mode="json"), RUN: dict(extra)}


def check_inputs(conf: RunConf) -> None:
    """Look whether the files and folders that the settings name are there.

    Raises:
        ConfError: `data.path`, or the probe of a reference mesh, is needed and not given, or
            a file where a folder is needed.
        FileNotFoundError: naming each setting whose file is not there, a line each.
    """
    if conf.data.path is None and conf.data.kind != "procedural":
        what = {
            "mesh": "the mesh file (.obj, .glb, .gltf, .ply)",
            "nerf_synthetic": "the folder with transforms_train.json",
        }.get(conf.data.kind, "a scene folder or a mesh file")
        raise ConfError(f"data.path: not given; name {what}: data.path=PATH")
    if conf.geometry.init == "points" and conf.data.points is None:
        raise ConfError(
            "data.points: not given; geometry.init=points starts from a cloud: data.points=PATH"
        )
    if conf.data.kind == "mesh" and conf.data.envmap is None:
        raise ConfError(
            "data.envmap: not given; a mesh is drawn as reference under a probe "
            "(.hdr, .exr): data.envmap=PATH"
        )
    if conf.data.kind == "nerf_synthetic" and conf.data.path and conf.data.path.is_file():
        raise ConfError(f"data.path: {conf.data.path} is a file; give the folder that holds it")
    missing: list[str] = []

    def look(key: str, path: Path) -> Path:
        if key != "out" and not path.exists():
            missing.append(f"{key}: no such file or folder: {path}")
        return path

    _map_paths(conf, look)
    if missing:
        raise FileNotFoundError("\n".join(missing))


def _find(name_or_path: str | Path) -> tuple[Path, str]:
    """The file that is meant, and the name of the run."""
    text = str(name_or_path)
    path = Path(name_or_path)
    if text in presets():
        return Path(str(resources.files("isolux.confs") / "presets" / f"{text}.conf")), text
    if path.is_dir():
        inside = path / "conf.json"
        hint = f"; did you mean {inside}?" if inside.is_file() else ""
        raise FileNotFoundError(f"{path} is a folder; settings are a .conf or .json file{hint}")
    if path.is_file():
        if path.suffix not in (".conf", ".json"):
            raise ConfError(f"{path}: settings are a .conf (HOCON) or a .json file")
        # the settings of a run folder are all called conf.json: the folder has the name
        return path, path.absolute().parent.name if path.name == "conf.json" else path.stem
    if path.suffix in (".conf", ".json") or len(path.parts) > 1:
        raise FileNotFoundError(f"no such settings file: {path}")
    close = difflib.get_close_matches(text, presets(), n=1)
    hint = f" did you mean '{close[0]}'?" if close else ""
    raise FileNotFoundError(
        f"no preset or file '{text}';{hint} presets: {', '.join(presets())}"
    )


def _split(override: str) -> tuple[str, str]:
    key, equals, value = override.partition("=")
    if not equals:
        raise ConfError(f"'{override}': settings are given as key=value")
    if not _OVERRIDE.fullmatch(key):
        raise ConfError(f"'{override}': '{key}' is no name of a setting")
    return key, value


def _covers(typed: Sequence[str], key: str) -> bool:
    """Whether an override gave this setting, or one above or below it."""
    return any(
        key == given or key.startswith(f"{given}.") or given.startswith(f"{key}.")
        for given in typed
    )


def _no_paths(conf: Settings, tree: object, origin: Any) -> Iterator[str]:
    """One line for each path that none can be, though it is a text."""
    found: dict[str, Path] = {}
    _map_paths(conf, lambda key, path: found.setdefault(key, path))
    for key, path in found.items():
        if _value(tree, key) == "":  # it would be the current folder
            yield f"{origin(key)}{key}: is empty; name a file or a folder, or give none"
        elif "\0" in str(path) or not _is_utf8(str(path)):
            yield f"{origin(key)}{key}: {str(path)!a} is no name in UTF-8; rename it"


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # bytes of a file's name that stand for no character
        return False
    return True


def _mistakes(
    error: ValidationError, tree: object, origin: Any, model: type[BaseModel]
) -> Iterator[str]:
    """One line a setting, in the order of the schema's checks."""
    known = {setting.key: setting for setting in settings(model)}
    told: set[str] = set()
    for item in error.errors(include_url=False):
        key = _key(item["loc"], known)
        if key in told:
            continue
        told.add(key)
        if item["type"] == "extra_forbidden":
            for leaf in _leaves(key, _value(tree, key)):
                yield f"{origin(leaf)}{leaf}: no such setting{_nearest(leaf, known)}"
            continue
        if item["type"] == "value_error":
            text = str(item["ctx"]["error"])
        elif key in known:
            need = expected(known[key].annotation)
            text = f"needs {need}; got {quoted(_value(tree, key))}"
        else:
            text = f"is a group of settings; got {quoted(_value(tree, key))}"
        yield f"{origin(key)}{key}: {text}" if key else f"{origin(key)}{text}"


def _key(location: tuple[int | str, ...], known: Mapping[str, Setting]) -> str:
    """The dotted setting, without what pydantic appends for unions and items."""
    parts: list[str] = []
    for part in location:
        parts.append(str(part))
        if ".".join(parts) in known:
            break
    return ".".join(parts)


def _value(tree: object, key: str) -> object:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def _leaves(key: str, value: object) -> Iterator[str]:
    """The settings of an unknown group, or the key itself."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    else:
        yield key


def _nearest(key: str, known: Mapping[str, Setting]) -> str:
    """`; did you mean X?`, by the whole name or, failing that, by its last part."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
    if not close:
        by_leaf: dict[str, str] = {}
        for name in known:
            by_leaf.setdefault(name.rpartition(".")[2], name)
        leaf = difflib.get_close_matches(key.rpartition(".")[2], by_leaf, n=1, cutoff=0.7)
        close = [by_leaf[leaf[0]]] if leaf else difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _from_folder(conf: Settings, folder: Path, typed: Sequence[str]) -> Settings:
    """Relative paths of the file, taken from its folder. `~` is the user's home."""

    def place(key: str, path: Path) -> Path:
        path = path.expanduser()
        return path if any(_covers([given], key) for given in typed) else folder / path

    return _map_paths(conf, place)


def _map_paths(conf: Settings, function: Any) -> Settings:
    """The settings with `function(key, path)` in the place of each path that is given."""

    def visit(record: BaseModel, prefix: str) -> dict[str, object]:
        new: dict[str, object] = {}
        for name in type(record).model_fields:
            value, key = getattr(record, name), f"{prefix}{name}"
            if isinstance(value, BaseModel):
                new[name] = value.model_copy(update=visit(value, f"{key}."))
            elif isinstance(value, Path):
                new[name] = function(key, value)
            elif key == "geometry.init" and value not in _STARTS:
                new[name] = str(function(key, Path(value)))
        return new

    return conf.model_copy(update=visit(conf, ""))


def dumps(conf: RunConf, extra: Mapping[str, object]) -> str:
    """The text of conf.json, with a final newline."""
    return json.dumps(resolved(conf, extra), indent=2, ensure_ascii=False) + "\n"
