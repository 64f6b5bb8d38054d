"""Arguments and results of operators, tensor by tensor."""

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import Tensor

__all__ = ["mapped"]


def mapped(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The same with each tensor in it, in records and sequences too, replaced."""
    if isinstance(value, Tensor):
        return function(value)
    if type(value) in (tuple, list):
        return type(value)(mapped(function, each) for each in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.init]
        fields = {name: mapped(function, getattr(value, name)) for name in names}
        if all(fields[name] is getattr(value, name) for name in names):
            return value  # nothing in it to move: what is cached by it stays so
        return dataclasses.replace(value, **fields)
    return value
