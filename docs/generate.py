"""Writes configuration.md from the schema; `--check` only says whether it is current."""

import argparse
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from isolux.confs.describe import settings
from isolux.confs.schema import RunConf

PAGE = Path(__file__).with_name("configuration.md")
HEAD = """\
# Configuration

<!-- Made by docs/generate.py from isolux/confs/schema.py; do not edit by hand. -->

Every setting, with what it takes and its default. A preset or a file gives some of them,
`key=value` on the command line wins over both, and an unknown key is an error. How files and
the command line are read: [guide](guide.md#settings).
"""


def _record(section: str) -> type[BaseModel]:
    """The record of a dotted section; of none, the run's."""
    record: Any = RunConf
    for name in filter(None, section.split(".")):
        record = record.model_fields[name].annotation
    found: type[BaseModel] = record
    return found


def page() -> str:
    """The whole text of the page."""
    parts = [HEAD]
    for section, items in groupby(settings(), lambda item: item.key.rpartition(".")[0]):
        what = _record(section).__doc__
        parts.append(f"\n## {section or 'The run'}\n\n{what}\n")
        parts.append(
            "\n| setting | takes | default | unit | meaning |\n|---|---|---|---|---|\n"
        )
        for item in items:
            cells = (f"`{item.key}`", item.takes, f"`{item.default}`", item.unit, item.meaning)
            parts.append(f"| {' | '.join(cells)} |\n")
    return "".join(parts)


def main() -> int:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if it is old")
    if parser.parse_args().check:
        return PAGE.read_text(encoding="utf-8") != page()
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
