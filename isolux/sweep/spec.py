"""What a sweep is: a base, scenes, settings that vary, and what a trial may take.

Read from HOCON or JSON as settings are, and checked in the same words. Nothing here imports
torch.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from isolux.confs import hocon
from isolux.confs.describe import Setting, expected, flat, quoted, settings
from isolux.confs.errors import ConfError
from isolux.confs.read import presets

__all__ = ["Resources", "SlurmConf", "SweepSpec", "flat", "read_spec"]

_FREE = ("settings", "scenes", "variants", "grid")  # groups whose keys are a person's own
_PATHS = ("conf", "out")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Resources(_Record):
    """What one trial takes."""

    cpus: Annotated[int, Field(ge=1, le=4096)] = Field(
        2, description="processors, and threads unless the settings say how many"
    )
    gpus: Annotated[float, Field(ge=0, le=64)] = Field(
        0, description="GPUs that it sees; below one is a share"
    )
    memory: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        None, description="memory that is set aside; none does not ask [GiB]"
    )
    parallel: Annotated[int, Field(ge=0)] = Field(
        0, description="trials at once at most; zero is as many as fit"
    )

    @model_validator(mode="after")
    def _whole_or_a_share(self) -> "Resources":
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus must be whole or below one, got {self.gpus:g}")
        return self


class SlurmConf(_Record):
    """How a job is asked for on SLURM; none leaves it to the cluster."""

    partition: str | None = Field(None, description="partition")
    account: str | None = Field(None, description="account")
    qos: str | None = Field(None, description="quality of service")
    constraint: str | None = Field(None, description="features of a node")
    hours: Annotated[float, Field(gt=0, le=1e5)] = Field(
        24, description="time limit of a job, unless `minutes` gives one [hours]"
    )


class _Common(_Record):
    """What is said once for all trials; the keys are the sweep's."""

    conf: str = Field("", description="preset, or settings file, that every trial starts from")
    out: Path | None = Field(None, description="folder of the sweep; none is out/NAME")
    retries: Annotated[int, Field(ge=0, le=100)] = Field(
        2, description="new starts of a trial that crashed or ran out of memory"
    )
    minutes: Annotated[float, Field(gt=0, le=1e7)] | None = Field(
        None, description="time limit of a trial, after which it keeps a checkpoint [minutes]"
    )
    resources: Resources = Resources()
    slurm: SlurmConf = SlurmConf()


class SweepSpec(_Common):
    """A sweep: scenes x variants x grid, each combination one trial."""

    settings: dict[str, Any] = Field({}, description="settings of every trial")
    scenes: dict[str, dict[str, Any]] = Field({}, description="settings by scene")
    variants: dict[str, dict[str, Any]] = Field({}, description="settings by variant")
    grid: dict[str, list[Any]] = Field({}, description="values by setting, all crossed")


def read_spec(path: Path, overrides: Sequence[str] = ()) -> SweepSpec:
    """The sweep that a `.conf` or `.json` file asks for, with `key=value` on top.

    Settings come out flat: `{"data.size": 64}`. Relative paths of the file are taken from
    its folder, a typed `out` from the current one; paths among the settings of trials are
    taken from the file's folder.

    Raises:
        ConfError: all that is wrong with it, a line each.
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        what = "is a folder; name the file" if path.is_dir() else "no such file"
        raise FileNotFoundError(f"{path}: {what} that says what to sweep (.conf or .json)")
    if path.suffix not in (".conf", ".json"):
        raise ConfError(f"{path}: a sweep is a .conf (HOCON) or a .json file")
    given = [_split(text) for text in overrides]
    read = hocon.read_json if path.suffix == ".json" else hocon.read
    tree = read(path, given)
    lines = [*_free_mistakes(tree)]
    for name in _FREE:
        if not any(line.startswith(name) for line in lines):
            tree[name] = _flattened(name, tree.get(name))
        else:
            tree.pop(name)
    try:
        spec = SweepSpec.model_validate(tree)
    except ValidationError as error:
        raise ConfError(_told(path, [*lines, *_mistakes(error, tree)])) from None
    lines += _missing(spec, tree, whole=not lines)
    if lines:
        raise ConfError(_told(path, lines))
    return _placed(spec, path, [key for key, _ in given])


def _split(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    return key, value


def _flattened(name: str, group: Any) -> Any:
    if name in ("scenes", "variants"):
        return {key: dict(flat(inner)) for key, inner in (group or {}).items()}
    return dict(flat(group or {}))


def _free_mistakes(tree: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the shape of the groups that a person names."""
    for name in _FREE:
        group = tree.get(name)
        if group is not None and not isinstance(group, Mapping):
            yield f"{name}: is a group, {_EXAMPLES[name]}; got {quoted(group)}"
            continue
        for key, value in (group or {}).items():
            if name in ("scenes", "variants") and not isinstance(value, Mapping):
                yield (
                    f"{name}.{key}: is a group of settings, {_EXAMPLES[name]};"
                    f" got {quoted(value)}"
                )
    if isinstance(grid := tree.get("grid"), Mapping):
        for key, value in flat(grid):
            if not isinstance(value, list):
                yield f"grid.{key}: needs a list of values; got {quoted(value)}"
            elif not value:
                yield f"grid.{key}: the list of values is empty"


_EXAMPLES = {
    "settings": "settings { optimize.minutes = 5 }",
    "scenes": "scenes { lego { data.path = data/lego } }",
    "variants": "variants { fine { geometry.resolution = 96 } }",
    "grid": "grid { geometry.resolution = [48, 64] }",
}


def _missing(spec: SweepSpec, tree: Mapping[str, Any], whole: bool) -> Iterator[str]:
    if not spec.conf:
        yield f"conf: not given; name a preset ({', '.join(presets())}) or a settings file"
    if whole and not (spec.scenes or spec.variants or spec.grid):
        yield "nothing to sweep: give scenes, variants or a grid"
    if tree.get("out") == "":
        yield "out: is empty; name a folder, or give none"


def _told(path: Path, lines: Sequence[str]) -> str:
    return "\n".join(f"{path}: {line}" for line in lines)


def _mistakes(error: ValidationError, tree: Mapping[str, Any]) -> Iterator[str]:
    """One line for each key, in the words of `confs.read`."""
    known = {item.key: item for item in settings(_Common)}
    told: set[str] = set()
    for item in error.errors(include_url=False):
        parts = [str(part) for part in item["loc"]]
        key = ".".join(parts[: 2 if parts[0] in ("resources", "slurm") else 1])
        if key in told:
            continue
        told.add(key)
        value = _value(tree, key)
        if item["type"] == "extra_forbidden":
            for leaf in dict(flat({key: value})) or [key]:
                yield f"{leaf}: no such key{_nearest(leaf, known)}"
        elif item["type"] == "value_error":
            yield f"{key}: {item['ctx']['error']}"
        elif key in known:
            need = expected(known[key].annotation)
            yield f"{key}: needs {need}; got {quoted(value)}"
        else:
            yield f"{key}: is a group; got {quoted(value)}"


def _nearest(key: str, known: Mapping[str, Setting]) -> str:
    if key in {item.key for item in settings()}:
        return f"; a setting of every trial is settings.{key}"
    names = [*known, *_FREE]
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    if not close:
        leaves = {name.rpartition(".")[2]: name for name in names}
        leaf = difflib.get_close_matches(key.rpartition(".")[2], leaves, n=1, cutoff=0.6)
        close = [leaves[leaf[0]]] if leaf else []
    return f"; did you mean {close[0]}?" if close else f"; keys are {', '.join(names)}"


def _value(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def _placed(spec: SweepSpec, path: Path, typed: Sequence[str]) -> SweepSpec:
    """Relative paths taken from where they belong, and the folder that is meant without one."""
    folder = path.absolute().parent
    places = {name: Path.cwd() if name in typed else folder for name in _PATHS}
    out = places["out"] / spec.out.expanduser() if spec.out else Path("out", path.stem)
    conf = spec.conf
    if conf not in presets() and (Path(conf).suffix or len(Path(conf).parts) > 1):
        conf = str(places["conf"] / Path(conf).expanduser())
    return spec.model_copy(update={"out": out.absolute(), "conf": conf})
