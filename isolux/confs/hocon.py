"""HOCON and JSON text to plain dictionaries, with overrides, and without pyhocon's traps.

Overrides are appended to the text, since later lines win in HOCON: so they take part in
`${...}`. Merging them into an unresolved tree would silently lose some.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from threading import Lock
from typing import Any

from pyhocon import ConfigFactory
from pyhocon.config_parser import ConfigParser
from pyhocon.exceptions import ConfigException
from pyparsing import ParseBaseException

from isolux.confs.errors import ConfError

__all__ = ["read", "read_json"]

Tree = dict[str, Any]
_PRESETS = "isolux.confs.presets"
_lock = Lock()


def read(path: Path | None, overrides: Sequence[tuple[str, str]]) -> Tree:
    """A HOCON file, or nothing, as plain dictionaries with overrides, `${...}` filled in.

    Raises:
        ConfError: the text cannot be read, a name in `${...}` is unknown, an included file
            is not there, or it asks for something from the network.
    """
    values = [(key, _hocon(value)) for key, value in overrides]
    folder = path.parent if path else Path()
    for key, value in values:
        if "${" not in value:
            _parse(f"x = {value}", folder, f"'{key}={value}'")
    lines = "".join(f"{key} = {value}\n" for key, value in values)
    text = _appended(_text(path), lines) if path else lines
    tree = _parse(text, folder, str(path or "settings"))
    for key, value in values:
        # a second time, since lists that append to themselves ignore the appended line
        if "${" not in value and not value.startswith("{"):
            tree.put(key, ConfigFactory.parse_string(f"x = {value}")["x"])
    plain: Tree = tree.as_plain_ordered_dict()
    return plain


def read_json(path: Path, overrides: Sequence[tuple[str, str]]) -> Tree:
    """A JSON file as plain dictionaries; overrides may not use `${...}` here.

    Raises:
        ConfError: with the line and column of what is no JSON.
    """
    try:
        tree = json.loads(_text(path))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ConfError(f"{path}: no valid JSON at {where}: {error.msg}") from None
    except RecursionError:
        raise ConfError(f"{path}: nested too deeply") from None
    if not isinstance(tree, dict):
        raise ConfError(f"{path}: settings are a JSON object, this is a {type(tree).__name__}")
    for key, value in overrides:
        text = _hocon(value)
        if text.startswith("${"):
            raise ConfError(f"'{key}={value}': ${{...}} needs a .conf file, {path} is JSON")
        parsed = _parse(f"x = {text}", path.parent, f"'{key}={value}'")
        _put(tree, key.split("."), parsed.as_plain_ordered_dict()["x"])
    return tree


def _hocon(value: str) -> str:
    """The text after `=`: numbers, true, null, quoted text, lists, objects and ${...} stand as
    they are; all else is a text, so that no sign in it means anything."""
    try:
        return json.dumps(json.loads(value), ensure_ascii=False)
    except ValueError:
        plain = value[:1] in ("[", "{", '"') or value.startswith("${")
        return value if plain and value else json.dumps(value, ensure_ascii=False)


def _appended(text: str, lines: str) -> str:
    """The text with lines at its end: inside the braces if the file has them around it."""
    meaning = (line for line in text.splitlines() if line.strip())
    first = next((line for line in meaning if not line.lstrip().startswith(("#", "//"))), "")
    if not first.lstrip().startswith("{") or "}" not in text:
        return f"{text}\n{lines}"
    end = text.rindex("}")
    return f"{text[:end]}\n{lines}{text[end:]}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfError(f"{path}: no text file in UTF-8") from None


def _parse(text: str, folder: Path, source: str) -> Any:
    try:
        with _guarded():
            tree = ConfigFactory.parse_string(text, basedir=str(folder))
    except ParseBaseException as error:
        line = error.line.strip()[:60]
        raise ConfError(
            f"{source}: cannot be read at line {error.lineno}, column {error.column}: '{line}'"
        ) from None
    except (ConfigException, FileNotFoundError, ImportError) as error:
        raise ConfError(f"{source}: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfError(f"{source}: nested too deeply") from None
    if not hasattr(tree, "as_plain_ordered_dict"):
        raise ConfError(f"{source}: settings are groups of key = value, this is a list")
    return tree


def _put(tree: Tree, parts: list[str], value: object) -> None:
    for part in parts[:-1]:
        if not isinstance(tree.get(part), dict):
            tree[part] = {}
        tree = tree[part]
    last = parts[-1]
    if isinstance(value, Mapping) and isinstance(tree.get(last), dict):
        for key, inner in value.items():
            _put(tree[last], [key], inner)
    else:
        tree[last] = value


@contextmanager
def _guarded() -> Iterator[None]:
    """While this holds, pyhocon refuses addresses, missing files and foreign packages.

    By itself it fetches `include url("http://...")`, only warns of an included file that is
    not there, and imports the package that `include package("...")` names.
    """
    parse_file = ConfigFactory.parse_file

    def refuse(url: str, *_: object, **__: object) -> object:
        raise ConfError(f"include of {url}: settings are not fetched from the network")

    def insist(filename: str, *args: object, **options: object) -> object:
        if not Path(filename).is_file():
            raise ConfError(f"include of {filename}: no such file")
        return parse_file(filename, *args, **{**options, "required": True})

    def ours(address: str) -> str:
        package, _, name = address.partition(":")
        if package != _PRESETS:
            raise ConfError(f'include of package "{address}": only {_PRESETS} is read')
        return str(resources.files("isolux.confs") / "presets" / name)

    with _lock:
        kept = {
            (owner, name): owner.__dict__[name]
            for owner, name in (
                (ConfigFactory, "parse_URL"),
                (ConfigFactory, "parse_file"),
                (ConfigParser, "resolve_package_path"),
            )
        }
        ConfigFactory.parse_URL = staticmethod(refuse)
        ConfigFactory.parse_file = staticmethod(insist)
        ConfigParser.resolve_package_path = staticmethod(ours)
        try:
            yield
        finally:
            for (owner, name), value in kept.items():
                setattr(owner, name, value)
