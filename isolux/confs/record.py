"""What records of settings share: texts of a command line as values, and kinds of numbers.

Nothing here imports torch, so that a file is read and checked at once.
"""

import types
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "AtLeastOne",
    "Coordinate",
    "Count",
    "Edge",
    "Fraction",
    "Length",
    "NotNegative",
    "PerStage",
    "Positive",
    "Range3",
    "Record",
    "wants_tuple",
]

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Length = Annotated[float, Field(gt=0.0, le=1e9)]  # beyond, single precision has no digits left
Coordinate = Annotated[float, Field(ge=-1e9, le=1e9)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
Edge = Annotated[int, Field(ge=8, le=8192)]
Range3 = tuple[Fraction, Fraction, Fraction]
PerStage = tuple[Positive, Positive]


class Record(BaseModel):
    """Frozen settings; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _as_typed(cls, values: object) -> object:
        """Texts of a command line: `200,300` for a tuple, `none` where it is allowed."""
        if not isinstance(values, dict):
            return values
        fields = cls.model_fields
        return {
            key: _from_text(value, fields[key].annotation)
            if key in fields and isinstance(value, str)
            else value
            for key, value in values.items()
        }


def _from_text(value: str, annotation: Any) -> object:
    if value == "none" and type(None) in get_args(annotation):
        return None
    if "," in value and wants_tuple(annotation):
        return [part.strip() for part in value.split(",")]
    return value


def wants_tuple(annotation: Any) -> bool:
    """Whether a setting takes several values."""
    if get_origin(annotation) in (Union, types.UnionType):
        return any(wants_tuple(part) for part in get_args(annotation))
    return get_origin(annotation) is tuple
