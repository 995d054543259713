"""Expected profits come from hand, from the account of the daemon, and the interval from statsmodels."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from strategy.candle import Candle
from strategy.instrument import Instrument
from strategy.order import Fill, Side
from strategy.portfolio import Portfolio
from training.errors import TrainingError
from training.round_trips import RoundTrip, round_trips, trade_figures, wilson_interval

DAY_MS = 86_400_000
BTC, ETH = "BTC/USDT", "ETH/USDT"


def fill(side: Side, quantity: float, price: float, *, day: float = 0.0, symbol: str = BTC, **changes: Any) -> Fill:
    """Return a fill without a fee unless given."""
    values = {
        "fill_id": f"{side}-{day}",
        "client_id": "order",
        "symbol": symbol,
        "side": side,
        "quantity": quantity,
        "price": price,
        "fee": 0.0,
        "at_ms": int(day * DAY_MS),
        "reference_price": price,
    }
    return Fill(**(values | changes))


def bought(quantity: float, price: float, **changes: Any) -> Fill:
    return fill(Side.BUY, quantity, price, **changes)


def sold(quantity: float, price: float, **changes: Any) -> Fill:
    return fill(Side.SELL, quantity, price, **changes)


# ---- by hand ----------------------------------------------------------------------------------------------------
def test_profit_is_net_of_the_fees_of_both_sides() -> None:
    closed, still_open = round_trips([bought(2.0, 100.0, fee=1.0), sold(2.0, 110.0, fee=3.0, day=1.5)])
    assert still_open == ()
    assert closed == (RoundTrip(symbol=BTC, opened_ms=0, closed_ms=int(1.5 * DAY_MS), paid=201.0, profit=16.0),)
    assert closed[0].days == 1.5
    assert closed[0].profit_share == pytest.approx(16 / 201)


def test_partial_fills_in_and_out_make_one_round_trip() -> None:
    fills = [bought(1.0, 100.0), bought(2.0, 130.0), sold(0.5, 140.0), bought(0.5, 90.0), sold(3.0, 120.0, day=2.0)]
    closed, _ = round_trips(fills)
    # By average cost: 120 a piece; +10 on the half, then (2.5 x 120 + 45) / 3 = 115 a piece and +15 on three.
    assert [trip.profit for trip in closed] == pytest.approx([10.0 + 15.0])
    assert [trip.paid for trip in closed] == pytest.approx([100.0 + 260.0 + 45.0])


def test_each_time_nothing_is_held_a_round_trip_ends() -> None:
    closed, _ = round_trips([bought(1.0, 10.0), sold(1.0, 12.0), bought(1.0, 20.0), sold(1.0, 17.0)])
    assert [trip.profit for trip in closed] == pytest.approx([2.0, -3.0])


def test_symbols_are_told_apart_and_closed_trips_stand_in_the_order_of_their_ends() -> None:
    fills = [
        bought(1.0, 10.0, day=0),
        bought(1.0, 5.0, day=1, symbol=ETH),
        sold(1.0, 6.0, day=2, symbol=ETH),
        sold(1.0, 8.0, day=3),
    ]
    closed, _ = round_trips(fills)
    assert [(trip.symbol, trip.profit, trip.days) for trip in closed] == [(ETH, 1.0, 1.0), (BTC, -2.0, 3.0)]


def test_an_open_position_is_no_round_trip_but_its_profit_can_be_marked() -> None:
    closed, still_open = round_trips([bought(3.0, 100.0, fee=3.0), sold(1.0, 150.0, fee=2.0, day=1)])
    assert closed == ()
    assert (still_open[0].symbol, still_open[0].quantity, still_open[0].opened_ms) == (BTC, 2.0, 0)
    assert still_open[0].profit(90.0) == pytest.approx(-303.0 + 148.0 + 180.0)


def test_what_rounding_leaves_of_a_quantity_does_not_keep_a_position_open() -> None:
    # 0.1 + 0.2 is more than 0.3 in float64, and 1.1 - 1.0 - 0.1 is not 0 either.
    closed, still_open = round_trips([bought(0.1, 10.0), bought(0.2, 10.0), sold(0.3, 11.0)])
    assert (len(closed), still_open) == (1, ())
    closed, still_open = round_trips([bought(1.1, 10.0), sold(1.0, 10.0), sold(0.1, 11.0), bought(1.0, 10.0)])
    assert (len(closed), len(still_open)) == (1, 1)
    assert still_open[0].paid == 10.0


def test_a_remainder_that_rounding_does_not_explain_keeps_the_position_open() -> None:
    closed, still_open = round_trips([bought(1.0, 10.0), sold(1.0 - 1e-9, 10.0)])
    assert closed == ()
    assert still_open[0].quantity == pytest.approx(1e-9)


def test_a_fee_in_base_leaves_the_position_and_takes_no_quote() -> None:
    fills = [bought(1.0, 100.0, fee=0.1, fee_base=0.001), sold(0.999, 120.0, fee=1.0)]
    closed, still_open = round_trips(fills)
    assert still_open == ()
    assert closed[0].profit == pytest.approx(0.999 * 120.0 - 1.0 - 100.0)
    assert closed[0].paid == 100.0


def test_no_fill_makes_no_round_trip() -> None:
    assert round_trips([]) == ((), ())


# ---- refused ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("fills", "held"),
    [([sold(1.0, 10.0)], "0.0"), ([bought(1.0, 10.0), sold(1.1, 10.0)], "1.0")],
    ids=["flat", "too-much"],
)
def test_selling_more_than_is_held_is_refused(fills: list[Fill], held: str) -> None:
    with pytest.raises(TrainingError, match=f"fill sell-0.0 sells 1..* BTC/USDT where {held} is held"):
        round_trips(fills)


def test_fills_out_of_order_are_refused() -> None:
    with pytest.raises(TrainingError, match="fill sell-1 of BTC/USDT at 86400000 ms comes after one at 172800000 ms"):
        round_trips([bought(1.0, 10.0, day=2), sold(1.0, 10.0, day=1)])


# ---- figures ----------------------------------------------------------------------------------------------------
def test_a_round_trip_without_profit_is_neither_won_nor_lost() -> None:
    closed, _ = round_trips([bought(1.0, 10.0), sold(1.0, 10.0), bought(1.0, 10.0), sold(1.0, 11.0)])
    found = trade_figures(closed)
    assert (found["round_trips"], found["wins"], found["losses"], found["win_rate"]) == (2, 1, 0, 0.5)
    assert found["expectancy"] == pytest.approx(0.05)


def test_without_a_win_the_profit_factor_is_0_and_the_payoff_undefined() -> None:
    closed, _ = round_trips([bought(1.0, 10.0), sold(1.0, 9.0)])
    found = trade_figures(closed)
    assert (found["profit_factor"], found["payoff"], found["win_rate"]) == (0.0, None, 0.0)


@pytest.mark.parametrize("count", [1, 2, 7, 40, 1_000])
def test_the_interval_of_a_share_agrees_with_statsmodels(count: int) -> None:
    for wins in {0, 1, count // 3, count - 1, count}:
        expected = proportion_confint(wins, count, alpha=0.05, method="wilson")
        assert wilson_interval(wins, count) == pytest.approx(expected, abs=1e-12)


def test_nothing_has_no_interval() -> None:
    assert wilson_interval(0, 0) == (None, None)


@given(st.integers(1, 100_000), st.data())
def test_a_share_lies_within_its_interval(count: int, data: st.DataObject) -> None:
    wins = data.draw(st.integers(0, count))
    low, high = wilson_interval(wins, count)
    assert low is not None
    assert high is not None
    assert 0.0 <= low <= wins / count <= high <= 1.0
    assert low < high


# ---- against the daemon's account -------------------------------------------------------------------------------
LOT = 0.001
trades = st.lists(
    st.tuples(
        st.sampled_from([BTC, ETH]), st.sampled_from(list(Side)), st.integers(1, 2_000), st.integers(1, 10_000_000)
    ),
    max_size=60,
)


def obeyed(wanted: list[tuple[str, Side, int, int]]) -> list[Fill]:
    """Return the fills of what was wanted; nobody sells more than is held."""
    held, fills = {BTC: 0, ETH: 0}, []
    for number, (symbol, side, asked, cents) in enumerate(wanted):
        lots = asked if side is Side.BUY else min(asked, held[symbol])
        if lots:
            held[symbol] += lots if side is Side.BUY else -lots
            quantity, price = lots * LOT, cents / 100.0
            fee = quantity * price * 0.00137
            fills.append(fill(side, quantity, price, day=number, symbol=symbol, fee=fee))
    return fills


@given(trades, st.floats(1.0, 1e5), st.floats(1.0, 1e5))
def test_profits_closed_and_open_add_up_to_what_the_daemons_account_gained(
    wanted: list[tuple[str, Side, int, int]], btc: float, eth: float
) -> None:
    fills, prices = obeyed(wanted), {BTC: btc, ETH: eth}
    account = Portfolio.open(1e9, prices)
    for each in fills:
        instrument = Instrument(symbol=each.symbol, tick=0.01, lot=LOT, min_notional=0.01)
        account = account.apply(each, instrument)
    account = account.mark(
        Candle(symbol=s, open_ms=0, span_ms=DAY_MS, open=p, high=p, low=p, close=p, volume=1.0)
        for s, p in prices.items()
    )
    closed, still_open = round_trips(fills)
    profit = sum(t.profit for t in closed) + sum(p.profit(prices[p.symbol]) for p in still_open)
    scale = sum(each.notional for each in fills) + 1.0
    assert profit == pytest.approx(account.equity - 1e9, abs=1e-9 * scale + 1e-5)
    assert len(closed) == account.wins + account.losses
    # A profit that is nothing but rounding has either sign.
    noise = 1e-9 * scale
    surely, perhaps = sum(t.profit > noise for t in closed), sum(t.profit > -noise for t in closed)
    assert surely <= account.wins <= perhaps
    held = {position.symbol: position.quantity for position in still_open}
    assert held == pytest.approx({s: p.quantity for s, p in account.positions.items() if p.quantity > 0.0})
