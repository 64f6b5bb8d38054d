"""What the schema says, in words: for messages to people and for the reference page.

Both come from here, so that a message never asks for something the page does not say.
"""

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from isolux.confs.schema import RunConf

__all__ = ["Setting", "expected", "flat", "quoted", "settings", "shown"]


@dataclass(frozen=True)
class Setting:
    """One setting: its dotted name, what it takes, its default, its meaning and unit."""

    key: str
    takes: str
    default: str
    meaning: str
    unit: str  # empty where there is none
    annotation: Any


def settings(model: type[BaseModel] = RunConf, prefix: str = "") -> Iterator[Setting]:
    """Every setting in the order of the schema; sections themselves are left out."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings(field.annotation, f"{key}.")
            continue
        # pydantic moves the metadata of a bare Annotated[...] from the annotation to the field
        annotation: Any = field.annotation
        if field.metadata:
            annotation = Annotated[annotation, *field.metadata]
        meaning, _, unit = (field.description or "").rstrip("]").partition(" [")
        yield Setting(
            key, expected(annotation), shown(field.default), meaning, unit, annotation
        )


def expected(annotation: Any) -> str:
    """An annotation in words, e.g. `a whole number from 8 to 8192, or none`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return ", or ".join(_short(part, arguments) for part in arguments)
    if origin is Annotated:
        return _number(arguments[0], _bounds(arguments[1:]))
    if origin is Literal:
        return " or ".join(", ".join(map(str, arguments)).rsplit(", ", 1))
    if origin is tuple:
        count = {2: "two", 3: "three"}.get(len(arguments), str(len(arguments)))
        return f"{count} of: {expected(arguments[0])}"
    words = {bool: "true or false", Path: "a path", str: "a text", type(None): "none"}
    return words[annotation] if annotation in words else _number(annotation, {})


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested groups by dotted name."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def quoted(value: object) -> str:
    """What somebody wrote, short enough for a message."""
    if isinstance(value, Mapping):
        return "a group"
    text = f"'{value}'" if isinstance(value, str) else shown(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def shown(value: object) -> str:
    """A value as one would type it after `key=`; in full for paths, texts and numbers."""
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case tuple() | list():
            return ",".join(shown(part) for part in value)
        case float():
            return f"{value:g}"
    return str(value)


def _short(part: Any, siblings: tuple[Any, ...]) -> str:
    """A tuple of something that stands beside it in a union is `two of these`."""
    inner = get_args(part)
    if get_origin(part) is tuple and inner and inner[0] in siblings:
        return {2: "two", 3: "three"}.get(len(inner), str(len(inner))) + " of these"
    return expected(part)


def _bounds(metadata: tuple[Any, ...]) -> dict[str, float]:
    bounds: dict[str, float] = {}
    for item in metadata:
        for part in getattr(item, "metadata", [item]):  # Field(...) holds several
            for name in ("ge", "gt", "le", "lt"):
                if (limit := getattr(part, name, None)) is not None:
                    bounds[name] = limit
    return bounds


def _number(kind: type, bounds: dict[str, float]) -> str:
    noun = "a whole number" if kind is int else "a number"
    if bounds.keys() == {"ge", "le"}:
        return f"{noun} from {bounds['ge']:g} to {bounds['le']:g}"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    limits = [f"{words[name]} {_plain(limit)}" for name, limit in bounds.items()]
    return " ".join([noun, " and ".join(limits)]).strip()


def _plain(limit: float) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:g}"
