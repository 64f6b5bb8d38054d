import re
from pathlib import Path

import pytest
from pydantic import BaseModel

import isolux
from isolux.confs.schema import RunConf

SOURCES = "\n".join(
    path.read_text()
    for path in Path(isolux.__file__).parent.rglob("*.py")
    if path.parent.name != "confs"
)


def leaves(record: type[BaseModel]) -> list[str]:
    found = []
    for name, field in record.model_fields.items():
        inner = field.annotation
        nested = isinstance(inner, type) and issubclass(inner, BaseModel)
        found += leaves(inner) if nested else [name]
    return found


@pytest.mark.parametrize("name", leaves(RunConf))
def test_something_reads_the_setting(name: str) -> None:
    assert re.search(rf"\.{name}\b|[\"']{name}[\"']", SOURCES), f"nothing reads {name}"
