import numpy as np

from strategy.candle_table import CandleTable
from tests.fakes.trading import ETH
from tests.training.markets import history
from training import rules
from training.look_ahead_rules import RULES, check_rules

TABLES = [history(300, seed=3), history(300, seed=4, symbol=ETH)]


def peeking(table: CandleTable) -> np.ndarray:
    """Be in the market on days that rise."""
    wanted = rules.trend(table)
    asked = np.flatnonzero(~np.isnan(wanted))
    wanted[asked[:-1]] = table.values[asked[1:], 3] > table.values[asked[:-1], 3]
    return wanted


def test_no_baseline_reads_later_candles() -> None:
    found = check_rules(TABLES)
    assert found is not None
    assert found.leaks == ()
    assert found.moments > 100


def test_a_rule_that_knows_tomorrow_is_named() -> None:
    found = check_rules(TABLES, checked={**RULES, "odd": peeking})
    assert found is not None
    assert found.leaks == ("odd",)


def test_candles_too_few_for_the_slowest_rule_are_not_judged() -> None:
    assert check_rules([TABLES[0].slice(None, int(TABLES[0].open_ms[2_000]))]) is None
