"""What tests of commands share: the type of their runner, and the candles they are given."""

from collections.abc import Callable
from pathlib import Path

from strategy.candle_table import CandleTable
from tests.training.markets import history, write_table

TABLE = history(300, seed=3)
Run = Callable[..., tuple[int, str, str]]
"""Runs a command line; gives exit code, standard output, standard error."""


def nameless(directory: Path, table: CandleTable = TABLE) -> Path:
    """Write candles into a file whose name does not tell their symbol."""
    return write_table(table, directory, "download.csv")
