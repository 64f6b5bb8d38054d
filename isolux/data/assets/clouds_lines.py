"""Rows of numbers in lines of text, read in tables of bounded size."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from isolux.data.assets.clouds_source import CloudSource

__all__ = ["lines_of", "tables"]

_ROW = re.compile(r"at row (\d+)")


@contextmanager
def lines_of(
    source: CloudSource, start: int = 0, encoding: str = "latin-1"
) -> Iterator[io.TextIOWrapper]:
    """The lines that begin at a byte, whichever way they end."""
    with io.TextIOWrapper(source.open(start), encoding, errors="replace") as lines:
        yield lines


def tables(
    lines: Iterator[str],
    rows: int | None,
    count: int | None = None,
    comments: list[str] | None = None,
) -> Iterator[Any]:
    """Tables [at most `rows`, w] of the rows of numbers that lie between blanks.

    Args:
        lines: read as far as is needed.
        rows: of a table at most; none makes one table of all.
        count: of all rows; none takes all lines.
        comments: how lines begin that are passed over.

    Raises:
        ValueError: a row of another width, or something that is no number; numpy's words.
    """
    done, width = 0, None
    while count is None or done < count:
        left = None if count is None else count - done
        most = left if rows is None else rows if left is None else min(rows, left)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of lines without rows
                table = np.loadtxt(lines, ndmin=2, max_rows=most, comments=comments)
        except ValueError as error:
            raise ValueError(_renumbered(str(error), done)) from None
        if not table.size:
            return
        if width not in (None, table.shape[1]):
            raise ValueError(
                f"the number of columns changed from {width} to {table.shape[1]} at row"
                f" {done + 1}"
            )
        done, width = done + len(table), table.shape[1]
        yield table
        if rows is None:
            return


def _renumbered(reason: str, before: int) -> str:
    """What numpy says of a table that begins after so many rows."""
    return _ROW.sub(lambda found: f"at row {int(found[1]) + before}", reason, count=1)
