"""Two accounts of play money beside a live one: their figures by hand, what they survive, and what they never touch."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from strategy.candle import Candle
from strategy.decision import Action, DecisionReason
from strategy.errors import BadState, InvalidInstrument, StrategyError
from strategy.features import N_FEATURES
from strategy.instrument import Instrument
from strategy.parameters import CostModel
from strategy.risk import TradingState
from strategy.session import Session
from strategy.shadow import Contender, Marked, Pair, on_same
from strategy.trader import Outcome, Reference, Sight, Trader, Voters
from tests.fakes.rows import Rows
from tests.fakes.trading import BTC, ETH, HOUR_MS, Constant, Scripted, candle, random_table, setup

HOLD = Constant((0.0, 0.0, 0.0))
BUY = Constant((1.0, 0.8, 1.0))
"""A step of 40 % of the capital."""
SELL = Constant((-1.0, 1.0, 1.0))
CASH = 10_000.0
FREE: dict[str, Any] = {"volatility_target": 10.0, "edge_multiple": 0.0}
"""Volatility caps nothing, and every trade is worth its costs."""


class Failing:
    """An ensemble that fails on the candles whose close lies beyond a price: it raises, or votes what is no number."""

    def __init__(self, voters: Voters, *, above: float, raises: bool = True) -> None:
        self.weights = voters.weights
        self._voters, self._above, self._raises = voters, above, raises

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        votes = self._voters.act(observations)
        is_beyond = observations[:, 0] > self._above / 1_000.0
        if self._raises and is_beyond.any():
            raise StrategyError("observation 0: input 7 is nan")
        votes[is_beyond] = np.nan
        return votes


def buys_at(price: float, step: tuple[float, float, float] = (1.0, 0.8, 1.0)) -> Scripted:
    """Return one member that votes `step` while the close is not above `price`, and holds above."""
    return Scripted(1, lambda row: np.array([step if row[0] <= np.float32(price / 1_000.0) else (0.0, 0.0, 0.0)]))


def moody(bias: float, above: float = 103.0) -> Failing:
    """Return voters that follow the last candle, and fail on closes above a price."""

    def vote(row: NDArray[np.float32]) -> NDArray[np.float32]:
        direction = np.tanh(40.0 * row[2] + bias)
        return np.array([[direction, 0.9, 0.9], [0.9 * direction, 0.8, 1.0]], np.float32)

    return Failing(Scripted(2, vote), above=above)


def pair(
    new: Voters,
    old: Voters = HOLD,
    symbols: Sequence[str] = (BTC,),
    *,
    reference: Reference | None = None,
    **changes: Any,
) -> Pair:
    """Return a pair on a new account; `reference` is that of the new ensemble."""
    made = setup(symbols, **(FREE | changes))
    contenders = Contender(id="old", voters=old, reference=None), Contender(id="new", voters=new, reference=reference)
    return Pair(made, CASH, *contenders)


def shown(*candles: Candle, has_row: bool = True) -> list[Sight]:
    """Return what a live trader shows of candles of one open time, as far as a pair looks at it."""
    rows = Rows()
    return [Sight(one, rows.update(one) if has_row else None, None, 0.0) for one in candles]


def sees(made: Pair, *candles: Candle, has_row: bool = True) -> Marked | None:
    return made.on_candles(shown(*candles, has_row=has_row))


def marks(made: Pair, *candles: Candle) -> Marked:
    marked = sees(made, *candles)
    assert marked is not None
    return marked


def text(made: Pair) -> str:
    return json.dumps(made.state(), sort_keys=True)


# ---- the figures by hand ----------------------------------------------------------------------------------------
def test_growth_after_costs_from_one_due_decision_to_the_next() -> None:
    made = pair(buys_at(100.0))
    first = marks(made, candle())
    assert (first.difference, first.old.equity, first.new.equity) == (None, 10_000.0, 10_000.0)
    # 40 % of 10,000 at a close of 100 are 40; they cost 100.05 each at the next open, and 0.1 % of that.
    marked = marks(made, candle(at=1, open=100.0, close=110.0))
    equity = Decimal(10_000) - 40 * Decimal("100.05") * Decimal("1.001") + 40 * 110
    assert marked.new.equity == pytest.approx(float(equity), rel=1e-13)
    assert marked.old.equity == 10_000.0
    assert marked.difference == pytest.approx(float((equity / 10_000).ln()), rel=1e-12)
    # And from there on: it falls to 104.5, no stop in reach.
    marked = marks(made, candle(at=2, open=110.0, close=104.5))
    after = equity - 40 * Decimal("5.5")
    assert marked.difference == pytest.approx(float((after / equity).ln()), rel=1e-12)
    assert marked.new.drawdown == pytest.approx(float(1 - after / equity), rel=1e-12)
    assert marked.old.drawdown == 0.0


def test_the_sign_is_that_of_the_new_one() -> None:
    held, flat = pair(buys_at(100.0)), pair(HOLD, buys_at(100.0))
    for at, close in enumerate((100.0, 110.0, 104.5)):
        one, other = marks(held, candle(at=at, close=close)), marks(flat, candle(at=at, close=close))
    assert one.difference is not None
    assert one.difference < 0.0
    assert other.difference == -one.difference


def test_decisions_and_votes_of_both_are_told_by_symbol() -> None:
    made = pair(BUY, SELL, [BTC, ETH])
    for at in range(2):
        marked = marks(made, candle(ETH, at), candle(BTC, at))
    assert list(marked.new.votes) == list(marked.old.decisions) == [BTC, ETH]  # in the order of the setup
    assert marked.new.votes[ETH].tolist() == BUY.act(np.zeros((1, 1), np.float32))[0].tolist()
    assert marked.old.votes[BTC].tolist() == [[-1.0, 1.0, 1.0]]
    old, new = marked.old.decisions[BTC], marked.new.decisions[BTC]
    assert (old.action, old.exposure, old.target) == (Action.SELL, 0.0, 0.0)
    assert new.action is Action.BUY
    # 20 of each at 100.05, a fee of 2.001 for each: 4,000 of 9,993.998 are held, half of that a symbol's capital.
    assert new.exposure == pytest.approx(2_000.0 / (9_993.998 / 2.0), rel=1e-12)
    assert new.target == 0.5


def test_a_mark_is_plain_json() -> None:
    made = pair(BUY, Failing(BUY, above=0.0))
    marks(made, candle())
    stored = json.loads(json.dumps(marks(made, candle(at=1)).to_json()))
    assert {key: stored[key] for key in ("open_ms", "close_ms")} == {"open_ms": HOUR_MS, "close_ms": 2 * HOUR_MS}
    assert stored["difference"] == pytest.approx(math.log(0.9993998))  # 6.002 of 10,000 for slippage and fee
    assert stored["new"]["votes"] == {BTC: [[1.0, 0.800000011920929, 1.0]]}
    assert stored["new"]["decisions"][BTC] == {
        "action": "buy",
        "reason": "voted",
        "exposure": 4_000.0 / 9_993.998,
        "target": 0.5,
    }
    assert stored["old"] == {
        "equity": 10_000.0,
        "drawdown": 0.0,
        "fault": "observation 0: input 7 is nan",
        "votes": {},
        "decisions": {BTC: {"action": "hold", "reason": "no_votes", "exposure": 0.0, "target": 0.0}},
    }


# ---- when there is a mark ---------------------------------------------------------------------------------------
def test_only_a_due_decision_is_marked_and_its_growth_is_that_since_the_last_one() -> None:
    made = pair(BUY, decide_every=24)
    found = {}
    for at in range(60):
        found[at] = sees(made, candle(at=at, close=100.0 + at))
    marked = {at: one for at, one in found.items() if one is not None}
    assert list(marked) == [23, 47]  # the candles that close at midnight
    assert marked[47].new.decisions[BTC].action is Action.BUY
    assert marked[47].new.equity > 10_000.0
    assert marked[47].difference == pytest.approx(math.log(marked[47].new.equity / 10_000.0), rel=1e-12)


def test_the_second_half_of_one_candle_time_is_decided_on_and_not_marked_again() -> None:
    made = pair(BUY, symbols=[BTC, ETH])
    marks(made, candle(BTC))
    marks(made, candle(BTC, 1))
    assert sees(made, candle(ETH)) is None  # of an older time still
    assert sees(made, candle(ETH, 1)) is None
    assert made.new.portfolio.positions[ETH].quantity == pytest.approx(20.0, abs=0.02)  # what its first half decided
    assert marks(made, candle(BTC, 2), candle(ETH, 2)).difference is not None


def test_without_a_row_both_are_settled_and_marked_to_market_and_nothing_is_compared() -> None:
    made = pair(buys_at(100.0))
    marks(made, candle())
    assert sees(made, candle(at=1), has_row=False) is None  # fills at the open
    assert made.new.portfolio.positions[BTC].quantity == 40.0
    assert sees(made, candle(at=2, close=90.0), has_row=False) is None  # below the stop at 95.04
    assert made.new.portfolio.positions[BTC].quantity == 0.0
    assert sees(made, candle(at=3, close=90.0), has_row=False) is None
    marked = marks(made, candle(at=4, close=300.0))
    # 40 bought at 100.05; the stop was passed by the open of 90: sold at 89.95 (89.955 on the tick).
    lost = 40 * (Decimal("100.05") * Decimal("1.001") - Decimal("89.95") * Decimal("0.999"))
    assert marked.difference == pytest.approx(float((1 - lost / 10_000).ln()), rel=1e-12)


def test_one_symbol_with_a_row_is_enough_for_a_mark() -> None:
    made = pair(BUY, symbols=[BTC, ETH])
    marked = made.on_candles([*shown(candle(BTC), has_row=False), *shown(candle(ETH))])
    assert marked is not None
    assert list(marked.new.votes) == [ETH]
    assert {s: d.reason for s, d in marked.new.decisions.items()} == {
        BTC: DecisionReason.WARMING_UP,
        ETH: DecisionReason.VOTED,
    }


def test_a_pair_that_begins_before_the_window_is_full_is_first_marked_when_it_is() -> None:
    made = pair(BUY)
    assert [sees(made, candle(at=at), has_row=False) for at in range(3)] == [None] * 3
    assert marks(made, candle(at=3)).difference is None


def test_past_candles_fill_what_waits_and_meet_stops_and_nothing_is_decided() -> None:
    made = pair(BUY)
    marks(made, candle())
    made.on_warm([candle(at=1, open=101.0, close=103.0)])
    assert made.new.portfolio.positions[BTC].quantity == 40.0
    cash = 10_000.0 - 40 * 101.06 * 1.001  # 101.0505, up to the tick
    assert made.new.portfolio.cash == pytest.approx(cash)
    assert made.new.portfolio.equity == pytest.approx(cash + 40 * 103.0)
    made.on_warm([candle(at=2)])
    assert made.new.portfolio.positions[BTC].quantity == 40.0  # a vote would have bought more
    made.on_warm([candle(at=3, close=99.0, low=90.0)])
    assert made.new.portfolio.positions[BTC].quantity == 0.0
    assert list(made.new.session.exchange.waiting) == []
    assert made.old.portfolio.cash == 10_000.0
    marked = marks(made, candle(at=4, close=99.0))
    assert marked.difference == pytest.approx(math.log(made.new.portfolio.equity / 10_000.0))


# ---- an ensemble that fails -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("raises", "fault"),
    [(True, "observation 0: input 7 is nan"), (False, "its votes are not finite numbers")],
    ids=["raises", "votes-nan"],
)
@pytest.mark.parametrize("failing", ["old", "new"])
def test_an_ensemble_that_fails_holds_and_the_other_trades_on(failing: str, fault: str, *, raises: bool) -> None:
    ensembles: dict[str, Voters] = {"old": BUY, "new": BUY} | {failing: Failing(BUY, above=100.0, raises=raises)}
    made = pair(ensembles["new"], ensembles["old"])
    marks(made, candle())
    marked = marks(made, candle(at=1, close=101.0))
    sides = {"old": marked.old, "new": marked.new}
    broken, sound = sides.pop(failing), sides.popitem()[1]
    assert (broken.fault, broken.votes) == (fault, {})
    assert broken.decisions[BTC].reason is DecisionReason.NO_VOTES
    assert (sound.fault, sound.decisions[BTC].action) == ("", Action.BUY)
    assert marked.difference == 0.0  # both hold what was bought before
    marks(made, candle(at=2, close=100.0))
    held = {"old": made.old, "new": made.new}
    assert held.pop(failing).portfolio.positions[BTC].quantity == 40.0
    assert held.popitem()[1].portfolio.positions[BTC].quantity > 40.0


def test_a_fault_between_two_due_decisions_is_told_at_the_next_one_and_then_forgotten() -> None:
    made = pair(Failing(BUY, above=100.0), decide_every=4)
    told = []
    for at in range(12):
        marked = sees(made, candle(at=at, close=101.0 if at == 5 else 100.0))
        told += [] if marked is None else [(marked.old.fault, marked.new.fault)]
    assert told == [("", ""), ("", "observation 0: input 7 is nan"), ("", "")]


# ---- what may happen to an account ------------------------------------------------------------------------------
def test_two_equal_ensembles_never_differ() -> None:
    made = pair(moody(0.1), moody(0.1), [BTC, ETH], max_orders_per_day=1_000)
    tables = [random_table(600, seed=seed, symbol=symbol) for seed, symbol in ((1, BTC), (2, ETH))]
    found = [marks(made, *(table.candle(at) for table in tables)) for at in range(600)]
    assert {marked.difference for marked in found[1:]} == {0.0}
    portfolio = made.new.portfolio
    assert portfolio == made.old.portfolio
    assert portfolio.wins + portfolio.losses > 15  # it was not for want of trades


def test_each_side_has_its_own_distance_from_what_it_was_trained_on() -> None:
    far = Reference.of([0.0] * N_FEATURES, [1.0] * N_FEATURES, 0.001)  # entry 0 of a row is 0.1
    made = pair(BUY, BUY, reference=far)
    marked = marks(made, candle())
    assert marked.new.decisions[BTC].action is Action.BUY
    marks(made, candle(at=1))
    assert made.new.portfolio.positions[BTC].quantity == 0.0
    assert made.old.portfolio.positions[BTC].quantity == 40.0


def test_an_account_that_is_halted_stays_comparable() -> None:
    made = pair(BUY, max_drawdown=0.02, halt_cooldown=0)
    differences = [marks(made, candle(at=at, close=100.0 - at)).difference for at in range(12)]
    assert made.new.session.trader.risk.state is TradingState.HALTED
    assert made.new.portfolio.positions[BTC].quantity == 0.0
    assert differences[0] is None
    assert min(d for d in differences if d is not None) < 0.0
    assert differences[-3:] == [0.0, 0.0, 0.0]  # nothing held, nothing lost


def test_a_market_that_falls_to_nothing_leaves_finite_figures() -> None:
    made = pair(Constant((1.0, 1.0, 1.0)), max_position=1.0, max_drawdown=0.99, daily_loss=0.99, stop_loss=0.99)
    for at in range(3):
        marks(made, candle(at=at, volume=1e9))
    held = made.new.portfolio.positions[BTC].quantity
    assert held > 99.0
    marked = marks(made, candle(at=3, close=1e-9, volume=1e9))
    # The stop sells at a tick: a cent each, less the fee, is all that is left, and some cents of cash.
    assert marked.new.equity == pytest.approx(held * 0.01 * 0.999, abs=0.05)
    assert marked.difference == pytest.approx(math.log(held * 0.01 * 0.999 / 9_985.0), abs=0.05)
    assert marks(made, candle(at=4, close=1e-9)).difference == 0.0


def test_an_account_without_anything_is_as_bad_as_a_number_can_say() -> None:
    made = pair(HOLD)
    marks(made, candle())
    trader = made.new.session.trader
    trader.portfolio = replace(trader.portfolio, cash=0.0, equity=0.0)
    lost = marks(made, candle(at=1)).difference
    assert lost == pytest.approx(-717.6, abs=0.1)  # ln of 10,000 over the smallest normal float64, 2.2e-308
    assert marks(made, candle(at=2)).difference == 0.0


# ---- beside a live account --------------------------------------------------------------------------------------
def test_no_order_id_is_like_one_of_the_live_account_or_of_the_other_side() -> None:
    live = Session(Trader(setup(**FREE), {BTC: Rows()}, CASH))
    made = pair(BUY, BUY)
    for at in range(2):
        _, outcomes = live.on_candles([candle(at=at)], BUY)
        made.on_candles([outcome.sight for outcome in outcomes])
    sessions = live, made.old.session, made.new.session
    waiting = [{order.client_id for order in session.exchange.waiting} for session in sessions]
    stops = [{stop.client_id for stop in session.trader.stops.values() if stop is not None} for session in sessions]
    assert [len(ids) for ids in waiting + stops] == [1] * 6
    assert len(set().union(*waiting, *stops)) == 6


def test_it_leaves_the_sights_and_the_live_trader_as_they_are() -> None:
    live = Session(Trader(setup(**FREE), {BTC: Rows()}, CASH))
    made = pair(SELL, BUY)
    for at in range(30):
        _, outcomes = live.on_candles([candle(at=at, close=100.0 + at % 3)], BUY)
        sight = outcomes[0].sight
        assert sight.row is not None
        assert sight.observation is not None
        before = json.dumps(live.trader.state()), sight.row.values.tobytes(), sight.observation.tobytes()
        made.on_candles([sight])
        assert (json.dumps(live.trader.state()), sight.row.values.tobytes(), sight.observation.tobytes()) == before


def test_new_steps_and_costs_of_the_venue_hold_for_both_from_then_on() -> None:
    made = pair(BUY, BUY)
    marks(made, candle())
    coarse = replace(
        setup(**FREE),
        instruments={BTC: Instrument(symbol=BTC, tick=0.5, lot=7.0, min_notional=5.0)},
        costs=CostModel(slippage_rate=0.01),
    )
    made.begin(coarse)
    marks(made, candle(at=1))
    for account in (made.old, made.new):
        # What waited, 40, fills by the new steps: what 10,000 pay for and the volume has is no bound here.
        assert account.portfolio.positions[BTC].quantity == 40.0
        assert account.portfolio.positions[BTC].average_entry == 101.0
        stop = account.session.trader.stops[BTC]
        assert stop is not None
        assert (stop.quantity, stop.stop_price) == (35.0, 95.5)  # whole lots; 5 % below 101 is 95.95, on the tick


def test_other_parameters_hold_from_then_on_and_references_stay() -> None:
    far = Reference.of([0.0] * N_FEATURES, [1.0] * N_FEATURES, 0.001)
    made = pair(BUY, BUY, reference=far)
    marks(made, candle())
    made.begin(setup(decide_every=4, **FREE))
    found = [sees(made, candle(at=at)) is not None for at in range(1, 8)]
    assert found == [False, False, True, False, False, False, True]
    assert made.old.portfolio.positions[BTC].quantity > 40.0
    assert made.new.portfolio.positions[BTC].quantity == 0.0  # still too far from what it was trained on


def test_a_setup_without_a_symbol_of_the_pair_is_refused_and_changes_nothing() -> None:
    made = pair(BUY, symbols=[BTC, ETH])
    marks(made, candle(BTC), candle(ETH))
    before = text(made)
    with pytest.raises(InvalidInstrument, match=f"no instrument for {ETH}"):
        made.begin(setup(**FREE))
    marked = marks(made, candle(BTC, 1), candle(ETH, 1))
    assert marked.new.decisions[ETH].exposure > 0.0
    other = pair(BUY, symbols=[BTC, ETH])
    other.restore(json.loads(before))
    assert marks(other, candle(BTC, 1), candle(ETH, 1)).to_json() == marked.to_json()


# ---- memory -----------------------------------------------------------------------------------------------------
def rebuilt(made: Pair, **changes: Any) -> Pair:
    """Return a pair that continues from what a checkpoint would hold."""
    fresh = pair(made.new.contender.voters, made.old.contender.voters, [BTC, ETH], **changes)
    fresh.restore(json.loads(json.dumps(made.state(), sort_keys=True)))
    return fresh


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, list[Candle]]]:
    """Draw candle times: what kind each is, and its candles, in any order of symbols, some of them missing."""
    steps, closes = [], {BTC: 100.0, ETH: 100.0}
    for at in range(draw(st.integers(2, 14))):
        group = []
        for symbol in draw(st.sampled_from([(BTC, ETH), (ETH, BTC), (BTC,), (ETH,)])):
            opened = closes[symbol]
            closes[symbol] = opened * draw(st.sampled_from([0.9, 0.97, 0.995, 1.0, 1.02, 1.04]))
            low = min(opened, closes[symbol]) * draw(st.sampled_from([1.0, 0.93]))
            volume = draw(st.sampled_from([0.0, 40.0, 5_000.0]))
            group.append(candle(symbol, at, closes[symbol], open=opened, low=low, volume=volume))
        steps.append((draw(st.sampled_from(["decided", "decided", "decided", "rowless", "past"])), group))
    return steps


def carried(made: Pair, kind: str, group: Sequence[Candle]) -> Any:
    if kind == "past":
        made.on_warm(group)
        return None
    marked = sees(made, *group, has_row=kind == "decided")
    return None if marked is None else marked.to_json()


@settings(max_examples=150, deadline=None)
@given(steps=histories(), data=st.data(), every=st.sampled_from([1, 3]))
def test_stopping_and_restoring_at_any_candle_changes_no_bit(
    steps: list[tuple[str, list[Candle]]], data: st.DataObject, every: int
) -> None:
    whole = pair(moody(0.3), moody(-0.3), [BTC, ETH], decide_every=every)
    halting = pair(moody(0.3), moody(-0.3), [BTC, ETH], decide_every=every)
    for kind, group in steps:
        assert carried(halting, kind, group) == carried(whole, kind, group)
        assert text(halting) == text(whole)
        if data.draw(st.booleans()):
            halting = rebuilt(halting, decide_every=every)


def test_restoring_after_every_candle_of_a_long_history_changes_no_bit() -> None:
    whole = halting = pair(moody(0.3, above=99.8), moody(0.1), [BTC, ETH])
    tables = [random_table(300, seed=seed, symbol=symbol) for seed, symbol in ((1, BTC), (2, ETH))]
    waiting = stops = faults = 0
    for at in range(300):
        group = [table.candle(at) for table in tables]
        halting = rebuilt(halting)
        marked = carried(halting, "decided", group)
        assert marked == carried(whole, "decided", group)
        if at % 10 == 0:
            assert text(halting) == text(whole)
        faults += marked["new"]["fault"] != ""
        waiting += len(list(halting.new.session.exchange.waiting))
        stops += sum(stop is not None for stop in halting.old.session.trader.stops.values())
    assert text(halting) == text(whole)
    assert faults > 0
    assert waiting > 20  # there was something to remember
    assert stops > 100


def without(stored: dict[str, Any], *path: str) -> dict[str, Any]:
    inner = stored
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return stored


def with_value(stored: dict[str, Any], value: Any, *path: str) -> dict[str, Any]:
    inner = stored
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return stored


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda s: without(s, "new"), "stored accounts in shadow cannot be read: 'new'"),
        (lambda s: without(s, "marked_ms"), "stored accounts in shadow cannot be read: 'marked_ms'"),
        (lambda s: without(s, "old", "fault"), "stored accounts in shadow cannot be read: 'fault'"),
        (lambda s: with_value(s, "other", "new", "id"), "is that of ensemble 'other', not of new"),
        (lambda s: with_value(s, None, "marked_ms"), "the last mark is at None, not at a time in ms"),
        (lambda s: with_value(s, "rich", "old", "marked"), "cannot be read"),
        (lambda s: with_value(s, -1.0, "old", "marked"), "-1.0 is no worth at the last mark"),
        (lambda s: with_value(s, math.nan, "new", "marked"), "nan is no worth at the last mark"),
        (lambda s: with_value(s, None, "new", "fault"), "None no fault in words"),
        (lambda s: with_value(s, {}, "new", "exchange"), "stored orders of a simulated venue cannot be read"),
        (lambda s: with_value(s, {}, "new", "trader"), "stored state cannot be read"),
        (lambda s: with_value(s, [], "new"), "stored accounts in shadow cannot be read"),
    ],
)
def test_a_state_that_something_else_stored_is_refused_and_changes_nothing(broken: Any, message: str) -> None:
    other = pair(BUY)
    for at in range(2):
        marks(other, candle(at=at))
    made = pair(BUY)
    marks(made, candle())
    before = text(made)
    with pytest.raises(BadState, match=message):
        made.restore(broken(json.loads(text(other))))
    assert text(made) == before


# ---- on the live account's own observations ---------------------------------------------------------------------
def live_session(symbols: Sequence[str] = (BTC,), **changes: Any) -> Session:
    return Session(Trader(setup(symbols, **(FREE | changes)), {symbol: Rows() for symbol in symbols}, CASH))


def live_outcomes(live: Session, voters: Voters, *candles: Candle) -> list[Outcome]:
    return live.on_candles(candles, voters)[1]


def test_the_same_ensemble_decides_on_the_live_observations_as_the_live_one_did() -> None:
    live = live_session([BTC, ETH], decide_every=2, volatility_target=0.04)  # which caps the exposure at 0.43
    tables = [random_table(200, seed=seed, symbol=symbol) for seed, symbol in ((1, BTC), (2, ETH))]
    actions = set()
    for at in range(200):
        outcomes = live_outcomes(live, moody(0.3), *(table.candle(at) for table in tables))
        before = json.dumps(live.trader.state())
        same = on_same(live.trader.setup, outcomes, moody(0.3))
        assert json.dumps(live.trader.state()) == before
        assert list(same) == [BTC, ETH]
        for outcome in outcomes:
            votes, decision = same[outcome.sight.candle.symbol]
            assert decision == outcome.verdict.decision
            assert (votes is None) == (outcome.votes is None)
            assert votes is None or outcome.votes is None or votes.tobytes() == outcome.votes.tobytes()
            actions.add((decision.action, decision.reason))
    assert {action for action, _ in actions} == set(Action)
    assert {DecisionReason.VOTED, DecisionReason.BETWEEN_DECISIONS} <= {reason for _, reason in actions}


def test_another_ensemble_decides_from_the_exposure_of_the_live_account() -> None:
    live = live_session()
    live_outcomes(live, BUY, candle())
    outcomes = live_outcomes(live, BUY, candle(at=1))
    votes, decision = on_same(live.trader.setup, outcomes, Constant((-1.0, 0.5, 1.0)))[BTC]
    assert votes is not None
    assert votes.tolist() == [[-1.0, 0.5, 1.0]]
    held = 4_000.0 / 9_993.998
    assert (decision.action, decision.reason) == (Action.SELL, DecisionReason.VOTED)
    assert decision.exposure == pytest.approx(held, rel=1e-12)
    assert decision.target == pytest.approx(held - 0.25, rel=1e-12)  # half of the largest position less


def test_the_answer_is_the_same_after_the_orders_of_the_decision_have_filled() -> None:
    live = live_session()
    live_outcomes(live, BUY, candle())
    outcomes = live_outcomes(live, BUY, candle(at=1))
    asked = on_same(live.trader.setup, outcomes, SELL)[BTC][1]
    live.settle([candle(at=2, close=120.0)])
    assert live.trader.portfolio.positions[BTC].quantity > 40.0
    assert on_same(live.trader.setup, outcomes, SELL)[BTC][1] == asked


@pytest.mark.parametrize("raises", [True, False])
def test_an_ensemble_that_fails_on_the_live_observations_holds(*, raises: bool) -> None:
    live = live_session()
    outcomes = live_outcomes(live, BUY, candle())
    votes, decision = on_same(live.trader.setup, outcomes, Failing(BUY, above=1.0, raises=raises))[BTC]
    assert votes is None
    assert (decision.action, decision.reason, decision.target) == (Action.HOLD, DecisionReason.NO_VOTES, 0.0)


def test_without_an_observation_nobody_is_asked() -> None:
    live = Session(Trader(setup([BTC, ETH], **FREE), {BTC: Rows(missing=9), ETH: Rows()}, CASH))
    same = on_same(live.trader.setup, live_outcomes(live, BUY, candle(BTC), candle(ETH)), BUY)
    assert (same[BTC][0], same[BTC][1].reason) == (None, DecisionReason.WARMING_UP)
    assert same[ETH][1].target == pytest.approx(0.4)
