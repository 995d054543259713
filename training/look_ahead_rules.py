"""Whether a baseline's rule reads later candles: what an ensemble has to beat must not know the future either."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategy.candle_table import CandleTable
from training import rules
from training.look_ahead import find_leaks
from training.look_ahead_report import RulesChecked
from training.look_ahead_target import FloatArray, Stretch, Target

_MOMENTS = 40
_WINDOWS = 2
"""The last candles that are looked at, in windows of the slowest rule."""

RULES: Mapping[str, rules.Rule] = {
    rules.VOLATILITY_TARGETED: partial(rules.volatility_targeted, target=0.5),
    rules.MOVING_AVERAGE_CROSS: partial(rules.moving_average_cross, size=1.0),
    rules.MOMENTUM: partial(rules.momentum, size=1.0),
    rules.TREND: rules.trend,
}
"""Those that look at prices at all, at any size."""


def check_rules(
    tables: Sequence[CandleTable], *, checked: Mapping[str, rules.Rule] = RULES, seed: int = 0
) -> RulesChecked | None:
    """Return which rules read later candles; None when no table holds the window of the slowest rule.

    Raises TrainingError for candles that do not fit into a day.
    """
    moments, leaks = 0, dict[str, None]()
    for table in tables:
        window = max(*rules.TREND_DAYS, rules.SLOW_DAYS, rules.MOMENTUM_DAYS) * rules.DAY_MS // table.timeframe.span_ms
        if len(table) < window + 2:
            continue
        last = Stretch.of(table).part(max(0, len(table) - _WINDOWS * window), len(table))
        target = Target(name="training.rules", function=partial(_wanted, table, checked), window=window)
        found = find_leaks(target, [last], moments=_MOMENTS, seed=seed)
        moments += found.moments
        leaks |= dict.fromkeys(leak.output for leak in found.leaks)
    return RulesChecked(moments=moments, leaks=tuple(leaks)) if moments else None


def _wanted(
    table: CandleTable,
    checked: Mapping[str, rules.Rule],
    open_ms: NDArray[np.int64],
    values: FloatArray,
    *_: Any,  # noqa: ANN401 - span and missing candles, which rules do not ask for
) -> dict[str, FloatArray]:
    other = CandleTable(symbol=table.symbol, timeframe=table.timeframe, open_ms=open_ms, values=values)
    return {name: rule(other) for name, rule in checked.items()}
