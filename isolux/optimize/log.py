"""`log.jsonl`: what happened at which step, a line of JSON each, for scripts and the report.

Every line has `kind`, `stage`, `step` (steps of the stage that are done) and `seconds` (of the
run so far, over all its sessions). Lines of kind `step` carry `progress`, `steps_per_second`,
`total` and `terms`; lines of kind `validation` carry metrics.
"""

import json
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from isolux.render.files import write_bytes, write_error

__all__ = ["append_line", "cut_log", "read_log"]


def append_line(path: Path, line: dict[str, Any]) -> None:
    """Adds a line, or nothing, and hands it to the system. What is not finite becomes null.

    Raises:
        OSError: one line, e.g. when the disk is full.
    """
    text = json.dumps(_finite(line), ensure_ascii=False, allow_nan=False) + "\n"
    length = path.stat().st_size if path.exists() else 0
    try:
        with path.open("ab") as file:
            file.write(text.encode("utf-8"))
    except OSError as error:
        with suppress(OSError):  # half a line would spoil the next one
            os.truncate(path, length)
        raise write_error(path, error) from error


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_log(path: Path) -> list[dict[str, Any]]:
    """All whole lines in order; none if the file is missing.

    A line that is cut off or damaged, as a kill may leave the last one, is left out.
    """
    if not path.exists():
        return []
    lines = []
    for text in path.read_bytes().splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def cut_log(path: Path, seconds: float) -> None:
    """Takes out what was logged after a checkpoint, so that a resumed run logs it once.

    Args:
        path: the log; a missing one stays missing.
        seconds: how long the run had taken, over all its sessions, when the checkpoint was
            made. A step's line is older than the checkpoint after that step.
    """
    if not path.exists():
        return
    kept = [line for line in read_log(path) if line.get("seconds", 0.0) <= seconds]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept)
    write_bytes(path, text.encode("utf-8"))
