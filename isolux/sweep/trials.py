"""A sweep taken apart into trials: their names, their settings, all checked beforehand."""

import copy
import functools
import hashlib
import itertools
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from isolux.confs.describe import flat, settings, shown
from isolux.confs.errors import ConfError
from isolux.confs.read import RUN, check_inputs, read_conf, resolved
from isolux.confs.schema import RunConf
from isolux.optimize.files import RunFolder
from isolux.sweep.attempt import reached
from isolux.sweep.spec import SweepSpec

__all__ = ["OWN", "Trial", "changed_since", "trials_of"]

OWN = "sweep"  # name of the folder that the sweep keeps its own things in
_LONGEST = 100  # letters of a name
_MOST_LINES = 30  # of mistakes
_NOT_COMPARED = ("out", "threads", RUN)  # they change nothing of a result
_UNSAFE = re.compile(r"[^A-Za-z0-9.+]+")
_SAFE_NAME = re.compile(r"[\w.+-]+")


@dataclass(frozen=True)
class Trial:
    """One training of a sweep."""

    name: str  # of its run folder, the same whenever the sweep is read
    scene: str  # empty where the sweep names none
    varied: Mapping[str, Any]  # what sets it apart from others of its scene
    conf: Mapping[str, Any]  # all settings, as a conf.json holds them

    @property
    def folder(self) -> RunFolder:
        """Where it trains."""
        return RunFolder(Path(self.conf["out"]))

    @property
    def done(self) -> bool:
        """Whether it reached its end: what it reached is written last."""
        return bool(self.metrics)

    @property
    def metrics(self) -> dict[str, Any]:
        """What it reached; empty before its end, or where the file cannot be read."""
        return reached(self.folder)


@dataclass(frozen=True)
class _Layer:
    """Settings and where they stand in the specification."""

    name: str
    place: str
    values: Mapping[str, Any]


class _Base:
    """The settings that all trials start from, read once."""

    def __init__(self, conf: str) -> None:
        self._tree = resolved(read_conf(conf), {})

    def with_values(self, values: Mapping[str, Any]) -> RunConf:
        """Settings on top, checked and complained of as `read_conf` does, but for the file."""
        tree = copy.deepcopy(self._tree)
        for key, value in values.items():
            _put(tree, key.split("."), value)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "conf.json")
            path.write_text(json.dumps(tree), encoding="utf-8")
            try:
                return read_conf(path)
            except ConfError as error:
                raise ConfError(str(error).replace(f"{path}: ", "")) from None


def trials_of(spec: SweepSpec, path: Path) -> list[Trial]:
    """Every combination of scene, variant and grid, in this order, the last one fastest.

    Later groups win over earlier ones: the base, `settings`, the scene, the variant. What
    the grid varies may not stand in a scene or a variant.

    Args:
        path: of the specification: where relative paths start, and named in messages.

    Raises:
        ConfError: all that is wrong with the settings of any trial, a line each.
    """
    combinations = list(_combinations(spec))
    if lines := [*_bad_names(spec), *_clashes(spec)]:
        raise ConfError("\n".join(f"{path}: {line}" for line in lines))
    names = [_name(layers) for layers in combinations]
    if twice := _twice(names):
        raise ConfError(f"{path}: two trials are called '{twice}': the same values twice?")
    base = _Base(spec.conf)
    trials, mistakes = [], dict[str, None]()
    for name, layers in zip(names, combinations, strict=True):
        try:
            trials.append(_trial(spec, path, name, layers, base))
        except (ConfError, FileNotFoundError) as error:
            for line in str(error).splitlines():
                mistakes[_from(path, line, layers)] = None
    if mistakes:
        lines = list(mistakes)
        rest = len(lines) - _MOST_LINES
        more = [f"{path}: and {rest} more mistakes"] if rest > 0 else []
        raise ConfError("\n".join([*lines[:_MOST_LINES], *more]))
    return trials


def changed_since(trial: Trial) -> list[str]:
    """Settings in which a trial that was begun differs from what the sweep now asks for."""
    try:
        before = dict(flat(trial.folder.read_json(trial.folder.conf)))
    except (OSError, ValueError):
        return []
    now = dict(flat(trial.conf))
    return [
        f"{key} was {shown(before[key])}, is {shown(value)}"
        for key, value in now.items()
        if key.partition(".")[0] not in _NOT_COMPARED and key in before and before[key] != value
    ]


def _combinations(spec: SweepSpec) -> Iterator[list[_Layer]]:
    scenes = [_Layer(n, f"scenes.{n}.", v) for n, v in spec.scenes.items()]
    variants = [_Layer(n, f"variants.{n}.", v) for n, v in spec.variants.items()]
    every = _Layer("", "settings.", spec.settings)
    labels = _labels(list(spec.grid))
    for scene in scenes or [_Layer("", "", {})]:
        for variant in variants or [_Layer("", "", {})]:
            for values in itertools.product(*spec.grid.values()):
                point = dict(zip(spec.grid, values, strict=True))
                name = "_".join(f"{labels[k]}-{_value_name(v)}" for k, v in point.items())
                yield [every, scene, variant, _Layer(name, "grid.", point)]


def _labels(keys: list[str]) -> dict[str, str]:
    """The last part of each setting, or all of it where two end alike."""
    last = [key.rpartition(".")[2] for key in keys]
    return {
        key: leaf if last.count(leaf) == 1 else key
        for key, leaf in zip(keys, last, strict=True)
    }


def _value_name(value: Any) -> str:
    text = shown(value)
    name = _UNSAFE.sub("-", text).strip("-.") or "none"
    signed = text.startswith("-") and not name.startswith("-")
    return f"minus{name}" if signed else name


def _name(layers: list[_Layer]) -> str:
    name = "_".join(layer.name for layer in layers[1:] if layer.name)
    if len(name) <= _LONGEST:
        return name
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST - 9]}_{mark}"


def _twice(names: list[str]) -> str:
    """The first name that comes again, on file systems that know no capitals too."""
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            return name
        seen.add(name.casefold())
    return ""


def _bad_names(spec: SweepSpec) -> Iterator[str]:
    for group in ("scenes", "variants"):
        for name in getattr(spec, group):
            if not _SAFE_NAME.fullmatch(name) or name.startswith("."):
                yield (
                    f"{group}: '{name}' names a folder: letters, digits and .+-_ only,"
                    " no dot first"
                )
            elif name.casefold() == OWN:
                yield f"{group}: '{name}' is what the sweep's own folder is called"


def _clashes(spec: SweepSpec) -> Iterator[str]:
    groups = {"settings": {"": spec.settings}, "scenes": spec.scenes}
    for group, members in {**groups, "variants": spec.variants}.items():
        for name, values in members.items():
            place = f"{group}.{name}".rstrip(".")
            if "out" in values:
                yield f"{place}.out: the sweep names the folders of its trials"
            for key in spec.grid:
                if group != "settings" and key in values:
                    yield f"{place}.{key}: stands in the grid as well; give it once"
    if "out" in spec.grid:
        yield "grid.out: the sweep names the folders of its trials"


def _trial(spec: SweepSpec, path: Path, name: str, layers: list[_Layer], base: _Base) -> Trial:
    assert spec.out is not None  # read_spec() sees to it
    values: dict[str, Any] = {}
    for layer in layers:
        values.update(layer.values)
    folder = path.absolute().parent
    placed = {key: _placed(key, value, folder) for key, value in values.items()}
    conf = base.with_values({**placed, "out": str(spec.out / name)})
    check_inputs(conf)
    if conf.threads == 0:
        conf = conf.model_copy(update={"threads": spec.resources.cpus})
    tree = resolved(conf, {})
    tree.pop(RUN)
    variant = {"variant": layers[2].name} if layers[2].name else {}
    return Trial(name, layers[1].name, {**variant, **layers[3].values}, tree)


def _put(tree: dict[str, Any], parts: list[str], value: Any) -> None:
    for part in parts[:-1]:
        if not isinstance(tree.get(part), dict):
            tree[part] = {}
        tree = tree[part]
    tree[parts[-1]] = value


def _placed(key: str, value: Any, folder: Path) -> Any:
    """A path of the specification, taken from its folder."""
    if not isinstance(value, str) or value in ("", "none") or key not in _path_settings():
        return value
    if key == "geometry.init" and not Path(value).suffix:
        return value  # hull, sphere, ...
    return str(folder / Path(value).expanduser())


@functools.cache
def _path_settings() -> set[str]:
    paths = {
        item.key for item in settings() if Path in (item.annotation, *get_args(item.annotation))
    }
    return paths | {"geometry.init"}


def _from(path: Path, line: str, layers: list[_Layer]) -> str:
    """A line about a setting, with the place in the specification that it stands in."""
    key = line.partition(":")[0]
    for layer in reversed(layers):
        if any(k == key or k.startswith(f"{key}.") for k in layer.values):
            return f"{path}: {layer.place}{line}"
    if line.startswith(("data.path: not given", "data.envmap: not given")) and layers[1].name:
        return f"{path}: {layers[1].place}{line}"
    return line
