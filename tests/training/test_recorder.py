"""Tracks against the backtest's own record and against sums from the fills and candles alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from strategy.candle_table import CandleTable
from strategy.decision import Action
from strategy.errors import InvalidParameters
from strategy.trader import Setup
from tests.fakes.trading import BTC, ETH, HOUR_MS, Constant, Scripted, setup, trend_follower
from tests.training.markets import FIRST, changed, ensemble, history, with_gap
from training import backtest
from training.errors import TrainingError
from training.recorder import ACTIONS, NOBODY, alone, only, recorded, scaled
from training.reward import ActionKind
from training.track import Track

CASH = 100_000.0
TABLE = history(400, seed=3)
OTHER = history(400, seed=4, symbol=ETH)
FREE = {"max_drawdown": 0.99, "daily_loss": 0.99, "stop_loss": 0.9, "stop_atr_multiple": 0.0, "edge_multiple": 0.0}


def track(tables: Sequence[CandleTable], made: Setup, who: Any, **changes: Any) -> Track:
    words = {"start_ms": None, "reference": None, "cash": CASH, "name": "ensemble"} | changes
    return recorded(tables, made, who, **words)


def test_the_track_is_that_of_the_backtest() -> None:
    tables, made = [TABLE, OTHER], setup([BTC, ETH])
    record, trader = backtest.run(tables, made, trend_follower(), cash=CASH)
    found = track(tables, made, trend_follower())
    assert found.close_ms.tolist() == record.close_ms
    assert found.equity.tolist() == [CASH, *record.equity]
    assert list(found.fills) == record.fills
    assert (found.fees, found.slippage) == (trader.portfolio.fees, trader.portfolio.slippage)
    assert np.allclose(found.exposure, record.exposure)
    assert found.start_ms == record.start_ms
    voted = [symbol.action[symbol.action != NOBODY] for symbol in found.symbols]
    counts = {a.value: sum(int(np.sum(v == ACTIONS.index(a))) for v in voted) for a in Action}
    assert counts == {action.value: record.actions[action.value] for action in Action}


def test_actions_are_numbered_as_the_learner_numbers_them() -> None:
    assert {action.value: number for number, action in enumerate(ACTIONS)} == {
        kind.name.lower(): int(kind) for kind in ActionKind
    }


def test_equity_and_exposure_follow_from_fills_and_closes() -> None:
    found = track([TABLE, OTHER], setup([BTC, ETH]), trend_follower())
    assert len(found.fills) > 10
    for at in (50, 200, 399):
        done = [fill for fill in found.fills if fill.at_ms < found.close_ms[at]]
        cash = CASH - sum(f.side.sign * f.notional + f.fee for f in done)
        held = {s: sum(f.side.sign * f.quantity for f in done if f.symbol == s) for s in (BTC, ETH)}
        worth = {s.symbol: held[s.symbol] * s.close[at] for s in found.symbols}
        assert found.equity[at + 1] == pytest.approx(cash + sum(worth.values()))
        for symbol in found.symbols:
            assert symbol.exposure[at] == pytest.approx(worth[symbol.symbol] / found.equity[at + 1], abs=1e-9)
        assert found.exposure[at] == pytest.approx(sum(s.exposure[at] for s in found.symbols), abs=1e-9)
    assert found.fees == pytest.approx(sum(fill.fee for fill in found.fills))


def test_every_members_direction_is_kept() -> None:
    who = Constant((1.0, 1.0, 1.0), (-0.5, 0.2, 0.1))
    [symbol] = track([TABLE], setup(), who).symbols
    assert symbol.direction.shape == (400, 2)
    assert np.all(symbol.direction == np.array([1.0, -0.5], np.float32))
    assert np.all((symbol.disagreement > 0.0) & (symbol.disagreement <= 1.0))


def test_where_a_window_is_broken_nobody_votes() -> None:
    table = with_gap(changed(TABLE), FIRST + 100, missing=49)
    [symbol] = track([table], setup(), Constant((1.0, 1.0, 1.0))).symbols
    assert np.all(symbol.action[:100] != NOBODY)
    assert np.all(symbol.action[100:] == NOBODY)
    assert np.all(np.isnan(symbol.direction[100:]))
    assert np.all(np.isnan(symbol.disagreement[100:]))


def test_before_its_first_candle_a_symbol_shows_its_first_price() -> None:
    late = OTHER.slice(int(OTHER.open_ms[FIRST + 100]), None)
    found = track([TABLE, late], setup([BTC, ETH]), Constant((1.0, 1.0, 1.0)))
    _, eth = found.symbols
    assert np.all(eth.close[:100] == late.values[0, 3])
    assert np.all(eth.exposure[:100] == 0.0)
    assert np.all(eth.action == NOBODY)  # its window never fills


# ---- votes a candle late ----------------------------------------------------------------------------------------
class Diary(Scripted):
    """Votes by the number of the call, each symbol its own way, so that it shows on which candle a vote is heard."""

    def __init__(self) -> None:
        super().__init__(1, lambda row: row)
        self.calls = 0

    def act(self, observations: np.ndarray) -> np.ndarray:
        self.calls += 1
        direction = 0.9 if self.calls % 3 == 0 else -0.9
        votes = [[[direction * (-1.0) ** i, 1.0, 1.0]] for i in range(len(observations))]
        return np.array(votes, np.float32)


def test_late_votes_are_those_of_the_candle_before_of_the_same_symbol() -> None:
    made = setup([BTC, ETH], **FREE)
    prompt, late = (track([TABLE, OTHER], made, Diary(), is_late=is_late) for is_late in (False, True))
    assert np.array_equal(late.close_ms, prompt.close_ms)
    for on_time, delayed in zip(prompt.symbols, late.symbols, strict=True):
        assert np.array_equal(delayed.direction[1:], on_time.direction[:-1])
        assert delayed.action[0] == NOBODY  # nobody has voted before


def test_late_votes_fill_one_candle_later() -> None:
    class Once(Diary):
        def act(self, observations: np.ndarray) -> np.ndarray:
            self.calls += 1
            return np.full((len(observations), 1, 3), 1.0 if self.calls == 11 else 0.0, np.float32)

    made = setup(volatility_target=10.0, participation=1.0, **FREE)
    [on_time] = track([TABLE], made, Once()).fills
    [late] = track([TABLE], made, Once(), is_late=True).fills
    # Decided at the close of the eleventh candle with a window, filled with the next one, or the one after it.
    assert on_time.at_ms <= TABLE.open_ms[FIRST + 11] + HOUR_MS
    assert late.at_ms - on_time.at_ms == HOUR_MS


def test_a_late_vote_does_not_outlive_a_break_of_the_window() -> None:
    table = with_gap(changed(TABLE), FIRST + 100, missing=49)
    [symbol] = track([table], setup(), Constant((1.0, 1.0, 1.0)), is_late=True).symbols
    assert np.all(symbol.action[1:100] != NOBODY)
    assert np.all(symbol.action[100:] == NOBODY)


# ---- other terms ------------------------------------------------------------------------------------------------
def test_scaled_costs_multiply_fee_and_slippage_and_nothing_else() -> None:
    made = setup(fee_rate=0.001, slippage_rate=0.0005)
    dear = scaled(made, 4.0)
    assert (dear.costs.fee_rate, dear.costs.slippage_rate) == (0.004, 0.002)
    assert dear.costs.participation == made.costs.participation
    assert (dear.limits, dear.strategy, dear.instruments) == (made.limits, made.strategy, made.instruments)


def test_costs_beyond_the_model_are_refused() -> None:
    with pytest.raises(InvalidParameters, match=r"fee_rate 0\.2 is outside"):
        scaled(setup(fee_rate=0.02), 10.0)


def test_without_costs_nothing_is_paid_and_dearer_trading_leaves_less() -> None:
    made = setup(**FREE)
    worth = [track([TABLE], scaled(made, factor), trend_follower()) for factor in (0.0, 1.0, 4.0)]
    assert (worth[0].fees, worth[0].slippage) == (0.0, pytest.approx(0.0, abs=CASH * 1e-3))  # ticks remain
    finals = [found.equity[-1] for found in worth]
    assert finals == sorted(finals, reverse=True)


def test_a_member_alone_votes_as_it_does_among_the_others(tmp_path: Any) -> None:
    whole = ensemble(tmp_path).ensemble
    observations = np.random.default_rng(1).normal(size=(5, whole.observation_size)).astype(np.float32)
    for index in range(3):
        assert np.array_equal(alone(whole, index).act(observations)[:, 0], whole.act(observations)[:, index])
    assert alone(whole, 1).weights.tolist() == [1.0]


def test_an_account_of_one_symbol_has_all_the_cash() -> None:
    made = setup([BTC, ETH], volatility_target=10.0, participation=1.0, max_position=1.0, **FREE)
    found = track([OTHER], only(made, ETH), Constant((1.0, 1.0, 1.0)))
    assert [symbol.symbol for symbol in found.symbols] == [ETH]
    assert found.exposure[5] > 0.95


def test_nothing_decided_is_refused() -> None:
    with pytest.raises(TrainingError, match="nothing was decided; give more candles"):
        track([history(0)], setup(), Constant((1.0, 1.0, 1.0)))
