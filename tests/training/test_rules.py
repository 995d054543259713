# ruff: noqa: PD011 - a candle table is no pandas frame
"""The rules against pandas, by hand and against the figures they were measured at; none sees the future."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from strategy.candle import Timeframe
from strategy.candle_table import CandleTable
from strategy.order import Side
from tests.fakes.trading import BTC, ETH, HOUR_MS, random_table, setup
from tests.training.markets import changed, other_future, with_gap
from training import rules
from training.candles import read_candles
from training.errors import TrainingError
from training.exposures import Grid, follow
from training.market import Conditions, setup_of
from training.rules import DAY_MS, Rule, baseline_tracks, bought_once, wishes
from training.track import Track

HOURS = 24
TABLE = random_table(4_500, seed=4)
GAPPED = with_gap(with_gap(random_table(4_465, seed=5, symbol=ETH), 2_421, 33), 2_600, 2)
RULES: dict[str, Rule] = {
    "trend rule": rules.trend,
    "volatility-targeted hold": partial(rules.volatility_targeted, target=0.2),
    "moving-average cross": partial(rules.moving_average_cross, size=0.5),
    "momentum": partial(rules.momentum, size=0.5),
}


def frame(table: CandleTable) -> pd.Series:
    """Return the closes by the time at which they were known."""
    index = pd.to_datetime(table.open_ms + table.timeframe.span_ms, unit="ms", utc=True)
    return pd.Series(table.values[:, 3], index=index)


def volatility(close: pd.Series) -> pd.Series:
    return close.pct_change().rolling(14 * HOURS).std() * np.sqrt(365 * HOURS)


def trend_by_pandas(close: pd.Series) -> pd.Series:
    means = [close.rolling(days * HOURS).mean() for days in (10, 25, 50, 100)]
    above = sum((close > mean).astype(float) for mean in means).where(means[-1].notna()) / 4.0
    return 0.5 * above * np.minimum(1.0, 0.5 / volatility(close))


SECOND_SOURCE: dict[str, Callable[[pd.Series], pd.Series]] = {
    "trend rule": trend_by_pandas,
    "volatility-targeted hold": lambda close: np.minimum(1.0, 0.2 / volatility(close)),
    "moving-average cross": lambda close: (
        (close.rolling(20 * HOURS).mean() > close.rolling(100 * HOURS).mean()).astype(float) * 0.5
    ),
    "momentum": lambda close: (close.pct_change(90 * HOURS) > 0.0).astype(float) * 0.5,
}
FIRST_ROW = {"trend rule": 2_400, "volatility-targeted hold": 336, "moving-average cross": 2_399, "momentum": 2_160}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_wants_what_pandas_says_at_every_midnight_with_a_full_window(name: str) -> None:
    wanted, close = RULES[name](TABLE), frame(TABLE)
    midnight = (close.index.hour == 0) & (np.arange(len(close)) >= FIRST_ROW[name])
    expected = SECOND_SOURCE[name](close).where(midnight)
    np.testing.assert_allclose(wanted, expected, rtol=1e-9, atol=0.0)
    assert len(np.unique(wanted[midnight])) > 1


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("table", [TABLE, GAPPED], ids=["whole", "gaps"])
def test_a_rule_sees_no_candle_of_the_future(name: str, table: CandleTable) -> None:
    rule, whole = RULES[name], RULES[name](table)
    for end in (1, 300, 2_401, 2_421, 2_425, 2_601, 2_750):
        cut = changed(table, open_ms=table.open_ms[:end], values=table.values[:end])
        assert rule(cut).tobytes() == whole[:end].tobytes()
        other = rule(other_future(table, end - 1, seed=99, factor=7.0))
        assert other[:end].tobytes() == whole[:end].tobytes()


def test_a_day_whose_last_candle_is_missing_is_decided_at_the_next_candle() -> None:
    """The halt of 33 hours begins in one day and ends in another: one decision stands for both midnights."""
    rows = np.flatnonzero(~np.isnan(RULES["volatility-targeted hold"](GAPPED)))
    close_ms = GAPPED.open_ms + HOUR_MS
    late = rows[close_ms[rows] % DAY_MS != 0]
    assert [int(row) for row in late] == [2_421]
    assert np.diff(close_ms[rows] // DAY_MS).tolist().count(2) == 1
    assert np.all(np.diff(close_ms[rows] // DAY_MS) >= 1)


def test_a_rule_wants_nothing_while_its_window_is_not_full() -> None:
    short = changed(TABLE, open_ms=TABLE.open_ms[:300], values=TABLE.values[:300])
    for rule in RULES.values():
        assert np.isnan(rule(short)).all()


def test_a_market_that_does_not_move_is_held_whole() -> None:
    still = changed(TABLE, values=np.full((len(TABLE), 5), 100.0))
    wanted = rules.volatility_targeted(still, 0.2)
    assert set(wanted[~np.isnan(wanted)].tolist()) == {1.0}


def test_daily_candles_are_counted_as_days() -> None:
    close = np.linspace(100.0, 200.0, 130)
    values = np.stack([close, close, close, close, close], axis=1)
    days = np.arange(130) * DAY_MS
    table = CandleTable(symbol=BTC, timeframe=Timeframe.parse("1d"), open_ms=days, values=values)
    wanted = rules.moving_average_cross(table, 0.5)
    assert np.isnan(wanted[:99]).all()
    assert wanted[99:].tolist() == [0.5] * 31


def test_candles_longer_than_a_day_are_refused() -> None:
    table = changed(TABLE.slice(0, 1), timeframe=Timeframe.parse("1w"))
    with pytest.raises(TrainingError, match=r"BTC/USDT: a rule that decides once a day cannot use 1w candles"):
        rules.trend(table)


# ---- accounts ---------------------------------------------------------------------------------------------------
START_MS = 2_500 * HOUR_MS
TABLES = [TABLE, GAPPED]
SETUP = setup([BTC, ETH])


def ensemble(end_ms: int | None = None, cash: float = 50_000.0) -> Track:
    """Return the account of something that trades now and then."""
    grid, rng = Grid.of(TABLES, SETUP, START_MS, end_ms), np.random.default_rng(1)
    wanted = rng.choice(
        [0.0, 0.3, 0.4, np.nan], (len(Grid.of(TABLES, SETUP, START_MS).close_ms), 2), p=[0.02, 0.02, 0.01, 0.95]
    )
    return follow(grid, wanted[: len(grid.close_ms)], cash=cash, dead_band=0.0, name="ensemble")


@pytest.fixture(scope="module")
def tracks() -> dict[str, Track]:
    return baseline_tracks(TABLES, SETUP, ensemble())


def test_every_baseline_lives_on_the_candles_and_the_cash_of_the_ensemble(tracks: dict[str, Track]) -> None:
    ours = ensemble()
    assert list(tracks) == [
        "cash",
        "buy and hold",
        *sorted(set(RULES) - {"trend rule", "momentum"}, reverse=True),
        "momentum",
        "trend rule",
    ]
    for name, track in tracks.items():
        assert track.name == name
        assert track.close_ms.tolist() == ours.close_ms.tolist()
        assert track.equity[0] == ours.equity[0] == 50_000.0
        assert [part.symbol for part in track.symbols] == [BTC, ETH]
        assert bool(track.fills) == (name != "cash")


def test_cash_stays_what_it_is(tracks: dict[str, Track]) -> None:
    assert set(tracks["cash"].equity.tolist()) == {50_000.0}


def test_buying_and_holding_spends_everything_in_equal_shares_once(tracks: dict[str, Track]) -> None:
    made = setup([BTC, ETH], participation=1.0)
    grid = Grid.of(TABLES, made, START_MS)
    track = follow(grid, bought_once(grid, 50_000.0), cash=50_000.0, dead_band=0.02, name="hold")
    assert [(fill.symbol, fill.side) for fill in track.fills] == [(BTC, Side.BUY), (ETH, Side.BUY)]
    for fill in track.fills:
        # The move from the close to the next open parts it from an equal share.
        assert fill.notional + fill.fee == pytest.approx(25_000.0, rel=0.003)
    assert {fill.at_ms for fill in track.fills} == {START_MS + HOUR_MS}
    assert track.exposure[1:].min() > 0.99


def test_buying_and_holding_goes_on_where_a_candle_has_too_little_volume() -> None:
    thin = changed(TABLE, values=TABLE.values * [1, 1, 1, 1, 0.1])
    grid = Grid.of([thin], SETUP, START_MS)
    track = follow(grid, bought_once(grid, 50_000.0), cash=50_000.0, dead_band=0.02, name="hold")
    volume = thin.slice(START_MS + HOUR_MS).values[:, 4] * 0.05
    orders = len(track.fills)
    assert 3 < orders < 300
    assert [fill.quantity for fill in track.fills[:3]] == pytest.approx(volume[:3].tolist(), abs=1e-4)
    assert all(fill.side is Side.BUY for fill in track.fills)
    assert track.exposure[orders] > 0.97


def test_the_volatility_targeted_hold_is_invested_as_much_as_the_ensemble(tracks: dict[str, Track]) -> None:
    ours = ensemble().exposure.mean()
    assert 0.1 < ours < 0.4
    assert tracks["volatility-targeted hold"].exposure.mean() == pytest.approx(ours, rel=0.02)


def test_the_cross_and_momentum_buy_and_sell_when_they_change_their_mind(tracks: dict[str, Track]) -> None:
    for name in ("moving-average cross", "momentum"):
        track = tracks[name]
        wanted = pd.Series(RULES[name](TABLE)[2_500:]).ffill().fillna(0.0).to_numpy()
        changes = np.flatnonzero(np.diff(wanted)) + 1
        # Decided at a close and filled from the next open on: for want of volume, over the next days.
        expected = {(int(track.close_ms[row]), Side.BUY if wanted[row] else Side.SELL) for row in changes}
        assert len(expected) >= 2
        assert expected <= {(fill.at_ms, fill.side) for fill in track.fills if fill.symbol == BTC}
        assert 0.2 < track.symbols[0].exposure.max() < 0.5 / 2.0 * 1.3


def test_accounts_that_end_earlier_did_the_same_until_then(tracks: dict[str, Track]) -> None:
    """No later candle reaches a rule; the ensemble's later exposure does so for the one that is matched to it."""
    end_ms = START_MS + 200 * HOUR_MS
    for name, track in baseline_tracks(TABLES, SETUP, ensemble(end_ms)).items():
        if name != "volatility-targeted hold":
            n = len(track.close_ms)
            assert n < len(tracks[name].close_ms)
            assert track.equity.tobytes() == tracks[name].equity[: n + 1].tobytes()


def test_an_ensemble_that_never_traded_has_rivals_that_hold_next_to_nothing() -> None:
    grid = Grid.of(TABLES, SETUP, START_MS)
    idle = follow(grid, grid.no_wish(), cash=1_000.0, dead_band=0.0, name="idle")
    assert baseline_tracks(TABLES, SETUP, idle)["volatility-targeted hold"].fills == ()


def test_candles_that_the_ensemble_did_not_trade_are_refused() -> None:
    with pytest.raises(
        TrainingError, match=r"ensemble traded \d+ candles of BTC/USDT, ETH/USDT, but .* give the candl"
    ):
        baseline_tracks([TABLE], SETUP, ensemble())


# ---- the figures of the plain trend rule, on recorded candles -----------------------------------------------------
RECORDED = ("btc", "eth", "bnb", "xrp", "ada", "ltc")
FROM_MS, TO_MS = 1_514_764_800_000, 1_672_531_200_000
YEARS = ("2018", "2019", "2020", "2021", "2022")
TOLD = {"btc": 0.87, "eth": 1.16, "bnb": 1.24, "xrp": 0.53, "ada": 1.37, "ltc": 0.88}
TOLD_YEARS = (-1.0, 1.6, 2.6, 2.6, -1.7)
COST = 0.0015


def sharpe(daily: pd.Series) -> float:
    return float(daily.mean() / daily.std() * np.sqrt(365.0))


def daily_of(track: Track) -> pd.Series:
    days = pd.to_datetime(track.close_ms - 1, unit="ms", utc=True).floor("D")
    marks = pd.Series(track.equity[1:], index=days).groupby(level=0).last()
    return marks.pct_change(fill_method=None).fillna(marks.iloc[0] / track.equity[0] - 1.0)


def plain(table: CandleTable, *, by_clock: bool) -> tuple[pd.Series, float]:
    """Return daily returns and turnover by pandas: exposures held to the day's wish, costs by turnover, no fills.

    by_clock: decided at 00:00 UTC; else on every 24th candle, counted from the first that closes in 2018.
    """
    close = frame(table)
    first = int(np.searchsorted(table.open_ms + HOUR_MS, FROM_MS))
    every = (np.arange(len(close)) - first) % HOURS == 0
    wanted = trend_by_pandas(close)[close.index.hour == 0 if by_clock else every].fillna(0.0)
    held = wanted.reindex(close.index).ffill().fillna(0.0).shift(1).fillna(0.0)
    traded = held.diff().abs().fillna(0.0)
    returns = 1.0 + held * close.pct_change().fillna(0.0) - COST * traded
    days = (close.index - pd.Timedelta(1, "ms")).floor("D")
    kept = days >= pd.Timestamp("2018-01-01", tz="UTC")
    return returns[kept].groupby(days[kept]).prod() - 1.0, float(traded[kept].sum() / 5.0)


@pytest.fixture(scope="module")
def recorded(recorded_candles: Callable[[str], Path]) -> dict[str, CandleTable]:
    return {name: read_candles(recorded_candles(f"binance/{name}usdt-1h.csv.gz")) for name in RECORDED}


def by_year(daily: pd.Series) -> list[float]:
    return [sharpe(part) for _, part in daily.groupby(daily.index.year)]


def drawdown(daily: pd.Series) -> float:
    equity = (1.0 + daily).cumprod()
    return float((1.0 - equity / equity.cummax()).max())


def test_the_trend_rule_is_the_one_whose_figures_are_known(recorded: dict[str, CandleTable]) -> None:
    """By pandas, deciding on every 24th candle from 2018 on: the hour moves with every candle that is missing."""
    found = {name: plain(table, by_clock=False) for name, table in recorded.items()}
    whole = pd.DataFrame({name: daily for name, (daily, _) in found.items()}).fillna(0.0).mean(axis=1)
    assert sharpe(whole) == pytest.approx(1.28, abs=0.03)
    assert drawdown(whole) == pytest.approx(0.20, abs=0.005)
    assert by_year(whole) == pytest.approx(TOLD_YEARS, abs=0.1)
    assert np.mean([turnover for _, turnover in found.values()]) == pytest.approx(11.0, abs=0.5)
    for name, (daily, _) in found.items():
        assert sharpe(daily) == pytest.approx(TOLD[name], abs=0.1)


def test_the_trend_rule_earns_with_real_fills_what_it_earns_by_pandas(recorded: dict[str, CandleTable]) -> None:
    """Decided at 00:00 UTC: the hour alone moves the portfolio's Sharpe ratio between 1.15 and 1.38."""
    tables = list(recorded.values())
    made = setup_of(tables, Conditions(), "test")
    grid = Grid.of(tables, made, FROM_MS, TO_MS)
    track = follow(grid, wishes(grid, tables, rules.trend), cash=10_000.0, dead_band=0.0, name="trend rule")
    daily = daily_of(track)
    found = pd.DataFrame({name: plain(table, by_clock=True)[0] for name, table in recorded.items()}).fillna(0.0)
    assert sharpe(daily) == pytest.approx(sharpe(found.mean(axis=1)), abs=0.04)
    assert sharpe(daily) == pytest.approx(1.28, abs=0.1)
    assert by_year(daily) == pytest.approx(TOLD_YEARS, abs=0.25)
    assert drawdown(daily) == pytest.approx(0.20, abs=0.015)
    notional = sum(fill.notional for fill in track.fills)
    assert notional / track.equity.mean() / 5.0 == pytest.approx(11.0, abs=0.5)
    for name, table in recorded.items():
        alone = Grid.of([table], made, FROM_MS, TO_MS)
        wanted = wishes(alone, [table], rules.trend)
        ours = sharpe(daily_of(follow(alone, wanted, cash=2_000.0, dead_band=0.0, name=name)))
        assert ours == pytest.approx(sharpe(found[name][alone_days(table)]), abs=0.05)


def alone_days(table: CandleTable) -> slice:
    """Return the days on which the symbol had candles."""
    first = pd.Timestamp(max(int(table.open_ms[0]), FROM_MS), unit="ms", tz="UTC").floor("D")
    return slice(first, None)
