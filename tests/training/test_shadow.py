"""Each account in shadow against the backtest of the same ensemble over the same candles, bit for bit."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from strategy.bundle import Bundle
from strategy.candle_table import CandleTable
from strategy.order import Fill
from strategy.session import Session
from strategy.shadow import Account, Contender, Marked, Pair
from strategy.trader import Setup, Trader
from tests.fakes.trading import BTC, ETH, setup, trend_follower
from tests.training.markets import FIRST, ensemble, history, with_gap
from training import backtest
from training.bundles import reference_of

CASH = 70_000.0
FREE: dict[str, Any] = {"volatility_target": 10.0, "edge_multiple": 0.0, "max_orders_per_day": 1_000}
ONE = [history(500, seed=3)]
TWO = [history(300, seed=3), history(300, seed=4, symbol=ETH)]
BROKEN = [with_gap(ONE[0], FIRST + 250, missing=49)]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    directory = tmp_path_factory.mktemp("bundles")
    return [ensemble(directory, seed) for seed in (8, 10)]


def contender(bundle: Bundle) -> Contender:
    return Contender(id=bundle.manifest.short_id, voters=bundle.ensemble, reference=reference_of(bundle))


def state(trader: Trader) -> str:
    return json.dumps(trader.state())


def in_shadow(
    tables: Sequence[CandleTable], made: Setup, bundles: Sequence[Bundle], start_ms: int
) -> tuple[Pair, list[tuple[str, str]], list[Marked | None]]:
    """Run a pair beside a live account of other votes; returns it, the states at each candle, and the marks."""
    live = Session(Trader(made, backtest.computed_features(tables, made, start_ms), 5_000.0))
    pair = Pair(made, CASH, *map(contender, bundles))
    states, marks = [], []
    for candles in backtest.groups([table.slice(start_ms, None) for table in tables]):
        _, outcomes = live.on_candles(candles, trend_follower())
        marks.append(pair.on_candles([outcome.sight for outcome in outcomes]))
        states.append((state(pair.old.session.trader), state(pair.new.session.trader)))
    return pair, states, marks


def alone(
    tables: Sequence[CandleTable], account: Account, bundle: Bundle, start_ms: int
) -> tuple[list[str], list[Fill]]:
    """Return the states at each candle of the bundle's backtest, and its fills."""
    made = account.session.trader.setup  # so that orders have the same ids
    steps = backtest.steps(tables, made, bundle.ensemble, reference=reference_of(bundle), start_ms=start_ms, cash=CASH)
    states: list[str] = []
    fills: list[Fill] = []
    for step in steps:
        states.append(state(step.trader))
        fills += step.fills
    return states, fills


@pytest.mark.parametrize(
    ("tables", "symbols"), [(ONE, [BTC]), (TWO, [BTC, ETH]), (BROKEN, [BTC])], ids=["one", "two", "broken-window"]
)
def test_each_account_is_the_backtest_of_its_bundle(
    bundles: list[Bundle], tables: list[CandleTable], symbols: list[str]
) -> None:
    start_ms = int(tables[0].open_ms[FIRST - 20])
    pair, states, marks = in_shadow(tables, setup(symbols, **FREE), bundles, start_ms)
    for side, account, bundle in ((0, pair.old, bundles[0]), (1, pair.new, bundles[1])):
        expected, fills = alone(tables, account, bundle, start_ms)
        assert [both[side] for both in states] == expected
        assert len(fills) > 10
    marked = [mark for mark in marks if mark is not None]
    assert sum(mark.difference not in (None, 0.0) for mark in marked) > 50


def test_the_curve_of_marks_is_the_equity_of_the_backtest(bundles: list[Bundle]) -> None:
    made = setup(**FREE)
    _, _, marks = in_shadow(ONE, made, bundles, 0)
    for side, bundle in (("old", bundles[0]), ("new", bundles[1])):
        record, _ = backtest.run(ONE, made, bundle.ensemble, reference=reference_of(bundle), cash=CASH)
        seen = [mark for mark in marks if mark is not None]
        assert [getattr(mark, side).equity for mark in seen] == record.equity
        assert [mark.close_ms for mark in seen] == record.close_ms


def test_marks_once_a_day_are_those_days_of_the_backtest(bundles: list[Bundle]) -> None:
    made = setup(decide_every=24, **FREE)
    _, _, marks = in_shadow(ONE, made, bundles, 0)
    record, _ = backtest.run(ONE, made, bundles[1].ensemble, reference=reference_of(bundles[1]), cash=CASH)
    worth = dict(zip(record.close_ms, record.equity, strict=True))
    days = {mark.close_ms: mark.new.equity for mark in marks if mark is not None}
    assert list(days) == [ms for ms in worth if ms % 86_400_000 == 0]
    assert all(worth[ms] == equity for ms, equity in days.items())


def test_the_same_bundle_on_both_sides_never_differs(bundles: list[Bundle]) -> None:
    _, _, marks = in_shadow(TWO, setup([BTC, ETH], **FREE), [bundles[0], bundles[0]], 0)
    assert {mark.difference for mark in marks if mark is not None} == {None, 0.0}
