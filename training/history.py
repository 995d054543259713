"""Recorded candles of one symbol with their feature rows: what environments are made of."""

import numpy as np

from strategy.candle import Candle
from strategy.candle_table import CandleTable
from strategy.features import WINDOW, ComputedFeatures, FeatureTable, compute
from training.errors import TrainingError


class History:
    """Recorded candles of one symbol with their feature rows, computed once."""

    def __init__(self, table: CandleTable, max_missing: int, from_ms: int | None = None) -> None:
        """Compute the rows. from_ms: earlier candles only fill the window; no episode starts on them.

        Raises TrainingError when there are not two candles with a full window: one to decide on, one to fill on.
        """
        self.symbol = table.symbol
        self.table = table
        self.candles: list[Candle] = list(table.candles())
        self.rows: FeatureTable = compute(table.open_ms, table.values, table.timeframe.span_ms, max_missing)
        first = 0 if from_ms is None else int(np.searchsorted(table.open_ms, from_ms))
        valid = np.flatnonzero(self.rows.is_valid)
        self.starts = valid[valid >= first]
        """Indices of the candles that an episode can start on, ascending."""
        if self.starts.size < 2:  # noqa: PLR2004 - see above
            which = (
                "candles" if from_ms is None else f"candles, of which {len(table) - first} open at {from_ms} or later,"
            )
            raise TrainingError(
                f"{table.symbol}: {len(table)} {which} are too few for a window of {WINDOW}, of which at most "
                f"{max_missing} are missing, and a step: give more candles"
            )

    def features(self) -> ComputedFeatures:
        """Return a source that hands out the rows from the first candle on."""
        return ComputedFeatures(self.rows)
