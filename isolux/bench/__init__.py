"""Benchmarks of the parts and of whole steps, against the figures that they are to reach."""

from isolux.bench.registry import NAMES, run
from isolux.bench.table import text_table

__all__ = ["NAMES", "run", "text_table"]
