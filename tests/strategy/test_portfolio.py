"""The account: conservation against exact fractions, and every figure by hand."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.errors import BadState, InvalidOrder
from strategy.instrument import Instrument
from strategy.order import Fill, Side
from strategy.portfolio import Portfolio, Position
from tests.fakes.trading import BTC, ETH, HOUR_MS, candle

DAY_MS = 24 * HOUR_MS
LOT = Fraction(1, 10_000)
INSTRUMENTS = {s: Instrument(symbol=s, tick=0.01, lot=0.0001, min_notional=5.0) for s in (BTC, ETH)}


def fill(side: Side, quantity: float, price: float, *, symbol: str = BTC, ref: float = 0.0, **more: Any) -> Fill:
    return Fill(
        fill_id="f",
        client_id="s",
        symbol=symbol,
        side=side,
        quantity=quantity,
        price=price,
        reference_price=ref or price,
        **({"fee": 0.0, "at_ms": 0} | more),
    )


def after(portfolio: Portfolio, *fills: Fill) -> Portfolio:
    for each in fills:
        portfolio = portfolio.apply(each, INSTRUMENTS[each.symbol])
    return portfolio


def buy(quantity: float, price: float, **more: Any) -> Fill:
    return fill(Side.BUY, quantity, price, **more)


def sell(quantity: float, price: float, **more: Any) -> Fill:
    return fill(Side.SELL, quantity, price, **more)


# ---- conservation, against exact fractions ----------------------------------------------------------------------
def exact(value: float) -> Fraction:
    """Return the decimal a person reads: 0.1 is one tenth."""
    return Fraction(repr(value))


@dataclass(slots=True)
class Model:
    """The account as design.md describes it, in exact fractions: money changes hands in fills and nowhere else."""

    cash: Fraction
    held: dict[str, Fraction] = field(default_factory=dict)
    paid: dict[str, Fraction] = field(default_factory=dict)
    result: dict[str, Fraction] = field(default_factory=dict)
    marks: dict[str, Fraction] = field(default_factory=dict)
    fees: Fraction = Fraction(0)
    slippage: Fraction = Fraction(0)
    wins: int = 0
    losses: int = 0

    def trade(self, done: Fill) -> None:
        quantity, price, fee = exact(done.quantity), exact(done.price), exact(done.fee)
        sign = 1 if done.side is Side.BUY else -1
        held = self.held.get(done.symbol, Fraction(0))
        self.cash -= sign * quantity * price + fee
        self.fees += fee
        self.slippage += sign * quantity * (price - exact(done.reference_price))
        self.marks.setdefault(done.symbol, price)
        # Average cost: a sale takes its share of what was paid.
        paid = self.paid.get(done.symbol, Fraction(0))
        self.paid[done.symbol] = paid + quantity * price if sign > 0 else paid * (1 - quantity / held)
        self.held[done.symbol] = held + sign * quantity
        # The result of a round trip is all that came in less all that went out.
        self.result[done.symbol] = self.result.get(done.symbol, Fraction(0)) - sign * quantity * price - fee
        if self.held[done.symbol] == 0:
            self.wins += self.result[done.symbol] > 0
            self.losses += self.result[done.symbol] <= 0
            self.result[done.symbol] = Fraction(0)

    @property
    def equity(self) -> Fraction:
        return self.cash + sum((q * self.marks[s] for s, q in self.held.items()), Fraction(0))


prices = st.integers(1, 10_000_000).map(lambda ticks: ticks / 100)
fees = st.integers(0, 100_000).map(lambda cents: cents / 10_000)


@st.composite
def histories(draw: st.DrawFn) -> list[Fill | tuple[str, float]]:
    """Return fills that a spot account can have, marks (symbol, price) between them; lots are whole numbers here."""
    held = {BTC: 0, ETH: 0}
    steps: list[Fill | tuple[str, float]] = []
    for _ in range(draw(st.integers(1, 30))):
        symbol = draw(st.sampled_from([BTC, ETH]))
        what = draw(st.sampled_from(["buy", "sell", "close", "mark"]))
        if what == "mark":
            steps.append((symbol, draw(prices)))
            continue
        side = Side.BUY if what == "buy" or held[symbol] == 0 else Side.SELL
        most = held[symbol] if side is Side.SELL else 10**9
        lots = most if what == "close" and side is Side.SELL else draw(st.integers(1, most))
        held[symbol] += lots if side is Side.BUY else -lots
        price, reference = draw(prices), draw(prices)
        quantity = float(lots * LOT)
        steps.append(fill(side, quantity, price, fee=draw(fees), symbol=symbol, ref=reference))
    return steps


def close_to(value: float, wanted: Fraction, scale: Fraction) -> bool:
    """Tell whether a sum is right to 1e-9 of the largest amounts that went into it."""
    return abs(Fraction(value) - wanted) <= Fraction(1, 10**9) * max(scale, Fraction(1))


@given(histories())
def test_cash_position_and_equity_are_conserved(steps: Sequence[Fill | tuple[str, float]]) -> None:
    portfolio, model = Portfolio.open(10_000.0, [BTC, ETH]), Model(Fraction(10_000))
    scale = Fraction(10_000)
    for number, step in enumerate(steps):
        if isinstance(step, Fill):
            portfolio = portfolio.apply(step, INSTRUMENTS[step.symbol])
            model.trade(step)
            scale += exact(step.quantity) * (exact(step.price) + exact(step.reference_price))
        else:
            symbol, price = step
            portfolio = portfolio.mark([candle(symbol, number, price)])
            model.marks[symbol] = exact(price)
        for symbol, quantity in model.held.items():
            position = portfolio.positions[symbol]
            assert position.quantity == float(quantity)  # to the last bit: lots never blur
            assert close_to(position.average_entry * position.quantity, model.paid[symbol], scale)
            scale = max(scale, quantity * model.marks[symbol])
        assert close_to(portfolio.cash, model.cash, scale)
        assert close_to(portfolio.equity, model.equity, scale)
        assert close_to(portfolio.fees, model.fees, scale)
        assert close_to(portfolio.slippage, model.slippage, scale)
        held = [portfolio.positions[symbol] for symbol in (BTC, ETH)]
        assert portfolio.equity == portfolio.cash + held[0].value + held[1].value  # to the last bit, in this order


@given(histories())
def test_a_round_trip_is_won_when_more_came_in_than_went_out(steps: Sequence[Fill | tuple[str, float]]) -> None:
    portfolio, model = Portfolio.open(10_000.0, [BTC, ETH]), Model(Fraction(10_000))
    volume = Fraction(0)
    for number, step in enumerate(steps):
        if isinstance(step, Fill):
            before = model.result.get(step.symbol, Fraction(0))
            volume += exact(step.quantity) * exact(step.price)
            came = (
                before
                - exact(step.fee)
                + exact(step.quantity) * exact(step.price) * (1 if step.side is Side.SELL else -1)
            )
            if abs(came) < volume / 10**9:
                return  # closer to nothing than float64 can tell
            portfolio = portfolio.apply(step, INSTRUMENTS[step.symbol])
            model.trade(step)
        else:
            portfolio = portfolio.mark([candle(step[0], number, step[1])])
        assert (portfolio.wins, portfolio.losses) == (model.wins, model.losses)


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_no_fill_can_sell_more_than_is_held(held: int, more: int) -> None:
    portfolio = after(Portfolio.open(1e9, [BTC]), buy(held / 10_000, 100.0))
    with pytest.raises(InvalidOrder, match=r"sells .* BTC/USDT, only"):
        portfolio.apply(sell((held + more) / 10_000, 100.0), INSTRUMENTS[BTC])
    with pytest.raises(InvalidOrder, match=r"only 0\.0 is held"):
        Portfolio.open(1e9, [BTC]).apply(sell(0.0001, 100.0), INSTRUMENTS[BTC])


def test_less_than_half_a_lot_too_much_is_too_much() -> None:
    portfolio = after(Portfolio.open(1_000.0, [BTC]), buy(0.1, 100.0))
    with pytest.raises(InvalidOrder, match=r"sells 0\.10004 BTC/USDT, only 0\.1 is held"):
        portfolio.apply(sell(0.10004, 100.0), INSTRUMENTS[BTC])


def test_a_position_off_the_lot_grid_is_neither_rounded_away_nor_up() -> None:
    # The venue may change its lot while something is held: 0.12345 stays what it is under a lot of 0.001.
    coarse = Instrument(symbol=BTC, tick=0.01, lot=0.001, min_notional=5.0)
    portfolio = after(Portfolio.open(1_000.0, [BTC]), buy(0.1234, 100.0))
    assert portfolio.apply(buy(0.001, 100.0), coarse).positions[BTC].quantity == pytest.approx(0.1244, abs=1e-15)
    assert portfolio.apply(sell(0.123, 100.0), coarse).positions[BTC].quantity == pytest.approx(0.0004, abs=1e-15)


def test_ten_tenths_are_exactly_one() -> None:
    portfolio = after(Portfolio.open(1_000.0, [BTC]), *[buy(0.1, 100.0)] * 10)
    assert portfolio.positions[BTC].quantity == 1.0  # the plain float sum is 0.9999999999999999
    assert after(portfolio, *[sell(0.1, 100.0)] * 10).positions[BTC].quantity == 0.0


# ---- figures by hand --------------------------------------------------------------------------------------------
def test_two_purchases_and_a_sale_by_hand() -> None:
    portfolio = after(
        Portfolio.open(1_000.0, [BTC]),
        buy(1.0, 101.0, fee=0.1, ref=100.0),  # cash 898.9
        buy(3.0, 109.0, fee=0.3, ref=108.0),  # cash 571.6, average (101 + 327) / 4 = 107
        sell(1.0, 120.0, fee=0.2, ref=121.0),  # cash 691.4, gained 13 less fees of 0.6
    )
    position = portfolio.positions[BTC]
    assert portfolio.cash == pytest.approx(691.4)
    assert (position.quantity, position.average_entry) == (3.0, 107.0)
    assert position.trade_profit == pytest.approx(13.0 - 0.6)
    assert portfolio.fees == pytest.approx(0.6)
    assert portfolio.slippage == pytest.approx(1.0 + 3.0 + 1.0)
    assert (portfolio.wins, portfolio.losses) == (0, 0)
    closed = after(portfolio, sell(3.0, 103.0, fee=0.3))  # 12.4 - 12 - 0.3 = 0.1
    assert closed.cash == pytest.approx(1_000.1)
    assert (closed.wins, closed.losses) == (1, 0)
    assert closed.positions[BTC] == Position(mark=101.0)  # never marked by a candle: the first fill is its price


@pytest.mark.parametrize(
    ("exit_price", "wins", "losses"), [(100.26, 1, 0), (100.25, 0, 1), (100.0, 0, 1), (90.0, 0, 1)]
)
def test_a_round_trip_that_only_earns_its_fees_is_lost(exit_price: float, wins: int, losses: int) -> None:
    # 100 in, fee 1/8; out with fee 1/8: 100.25 earns exactly nothing.
    portfolio = after(Portfolio.open(1_000.0, [BTC]), buy(1.0, 100.0, fee=0.125), sell(1.0, exit_price, fee=0.125))
    assert (portfolio.wins, portfolio.losses) == (wins, losses)


def test_round_trips_of_two_symbols_are_told_apart() -> None:
    portfolio = after(
        Portfolio.open(1_000.0, [BTC, ETH]),
        buy(1.0, 100.0),
        buy(1.0, 50.0, symbol=ETH),
        sell(1.0, 110.0),
        sell(1.0, 40.0, symbol=ETH),
    )
    assert (portfolio.wins, portfolio.losses, portfolio.cash) == (1, 1, 1_000.0)


def test_exposure_is_the_share_of_the_capital_of_the_symbol() -> None:
    portfolio = after(Portfolio.open(1_000.0, [BTC, ETH]), buy(2.0, 100.0)).mark([candle(BTC, 0, 100.0)])
    assert portfolio.capital() == 500.0
    assert (portfolio.exposure(BTC), portfolio.exposure(ETH)) == (0.4, 0.0)


def test_candles_since_the_last_trade_are_counted_and_start_again_with_every_fill() -> None:
    portfolio = Portfolio.open(1_000.0, [BTC])
    for at in range(3):
        portfolio = portfolio.mark([candle(BTC, at)])
    assert portfolio.positions[BTC].since_trade == 3
    for done in (buy(2.0, 100.0), sell(1.0, 100.0), sell(1.0, 100.0)):
        portfolio = after(portfolio, done)
        assert portfolio.positions[BTC].since_trade == 0
        portfolio = portfolio.mark([candle(BTC, 9)])
        assert portfolio.positions[BTC].since_trade == 1


def test_the_high_counts_from_entry_and_is_forgotten_when_flat() -> None:
    portfolio = Portfolio.open(1_000.0, [BTC]).mark([candle(BTC, 0, 150.0)])
    portfolio = after(portfolio, buy(2.0, 100.0)).mark([candle(BTC, 1, 90.0)])
    assert portfolio.positions[BTC].high == 100.0  # not the 150 from before the entry
    portfolio = after(portfolio.mark([candle(BTC, 2, 130.0)]), sell(1.0, 120.0)).mark([candle(BTC, 3, 110.0)])
    assert portfolio.positions[BTC].high == 130.0
    assert after(portfolio, sell(1.0, 110.0)).mark([candle(BTC, 4, 140.0)]).positions[BTC].high == 0.0


def test_unrealised_return_is_that_of_the_mark_over_the_average_entry() -> None:
    portfolio = after(Portfolio.open(1_000.0, [BTC]), buy(1.0, 100.0), buy(1.0, 120.0)).mark([candle(BTC, 0, 121.0)])
    assert portfolio.positions[BTC].unrealised_return == pytest.approx(0.1)
    assert Portfolio.open(1_000.0, [BTC]).positions[BTC].unrealised_return == 0.0


def test_a_symbol_without_a_candle_keeps_its_mark() -> None:
    portfolio = after(Portfolio.open(1_000.0, [BTC, ETH]), buy(1.0, 100.0), buy(1.0, 50.0, symbol=ETH))
    portfolio = portfolio.mark([candle(BTC, 0, 110.0)])
    assert portfolio.equity == 850.0 + 110.0 + 50.0
    assert portfolio.positions[ETH].since_trade == 0


# ---- fees in base, and what they leave --------------------------------------------------------------------------
def test_a_fee_in_base_leaves_the_position_and_not_the_cash() -> None:
    # A coin at 100 with a fee of a thousandth of it, worth 0.1: 900 are left, and 0.999.
    portfolio = after(Portfolio.open(1_000.0, [BTC]), buy(1.0, 100.0, fee=0.1, fee_base=0.001))
    position = portfolio.positions[BTC]
    assert (portfolio.cash, position.quantity, position.average_entry) == (900.0, 0.999, 100.0)
    assert (portfolio.fees, position.trade_profit, portfolio.equity) == (0.1, -0.1, pytest.approx(999.9))
    # All of it at 110: 9.99 gained, less both fees.
    closed = after(portfolio, sell(0.999, 110.0, fee=0.11))
    assert closed.cash == pytest.approx(900.0 + 109.89 - 0.11)
    assert (closed.wins, closed.losses, closed.positions[BTC].quantity) == (1, 0, 0.0)


def test_a_sale_may_pay_its_fee_in_base_too() -> None:
    portfolio = after(Portfolio.open(1_000.0, [BTC]), buy(2.0, 100.0), sell(1.0, 100.0, fee=0.1, fee_base=0.001))
    assert (portfolio.cash, portfolio.positions[BTC].quantity) == (900.0, 0.999)
    with pytest.raises(InvalidOrder, match=r"only 0\.999 is held"):
        after(portfolio, sell(0.999, 100.0, fee=0.1, fee_base=0.001))


@pytest.mark.parametrize(("price", "wins"), [(101.0, 1), (99.0, 0)])
def test_a_sale_that_leaves_less_than_a_lot_ends_the_round_trip(price: float, wins: int) -> None:
    portfolio = after(Portfolio.open(1_000.0, [BTC]), buy(1.0, 100.0, fee=0.1, fee_base=0.00005))
    assert portfolio.positions[BTC].quantity == 0.99995
    closed = after(portfolio, sell(0.9999, price))
    left = closed.positions[BTC]
    assert (closed.wins, closed.losses) == (wins, 1 - wins)
    assert left.quantity == pytest.approx(0.00005, abs=1e-15)
    assert (left.average_entry, left.trade_profit, left.mark) == (price, 0.0, 100.0)


def test_the_next_purchase_takes_what_was_left_with_it_and_not_its_high() -> None:
    portfolio = after(Portfolio.open(1_000.0, [BTC]), buy(1.0, 100.0, fee=0.1, fee_base=0.00005), sell(0.9999, 100.0))
    portfolio = portfolio.mark([candle(BTC, 1, 300.0)])
    portfolio = after(portfolio, buy(1.0, 50.0))
    position = portfolio.positions[BTC]
    assert position.quantity == pytest.approx(1.00005, abs=1e-15)
    assert position.high == 50.0
    assert position.average_entry == pytest.approx((1.0 * 50.0 + 0.00005 * 100.0) / 1.00005)


@given(st.lists(st.tuples(st.integers(1, 10**6), prices, st.integers(0, 1_000)), min_size=1, max_size=20))
def test_purchases_with_fees_in_base_are_conserved(bought: list[tuple[int, float, int]]) -> None:
    portfolio, held, cash = Portfolio.open(1e9, [BTC]), Fraction(0), Fraction(10**9)
    scale = cash
    for lots, price, fee in bought:
        quantity, taken = Fraction(lots, 10_000), Fraction(lots, 10_000) * Fraction(fee, 1_000_000)
        done = buy(float(quantity), price, fee=float(taken) * price, fee_base=float(taken))
        portfolio = after(portfolio, done)
        held += exact(done.quantity) - exact(done.fee_base)
        paid = exact(done.quantity) * exact(price) + (exact(done.fee) if done.fee_base == 0.0 else 0)
        cash, scale = cash - paid, scale + paid
    assert close_to(portfolio.positions[BTC].quantity, held, held)
    assert close_to(portfolio.cash, cash, scale)


# ---- what comes and goes without a trade ------------------------------------------------------------------------
def moved(portfolio: Portfolio, symbol: str | None, amount: float, price: float = 1.0) -> Portfolio:
    return portfolio.transfer(symbol, amount, price, INSTRUMENTS[symbol or BTC])


FALLEN = after(Portfolio.open(1_000.0, [BTC]), buy(5.0, 100.0)).mark([candle(BTC, 0, 80.0)])
"""5 at 80 and 500: 900, a tenth below the peak and the start of the day."""


@pytest.mark.parametrize(("symbol", "amount"), [(None, 900.0), (None, -450.0), (BTC, 2.0), (BTC, -2.5)])
def test_what_comes_or_goes_is_neither_gain_nor_loss(symbol: str | None, amount: float) -> None:
    after_it = moved(FALLEN, symbol, amount, 80.0)
    worth = amount if symbol is None else amount * 80.0
    assert after_it.equity == pytest.approx(900.0 + worth)
    assert after_it.drawdown == pytest.approx(0.1, abs=1e-15)
    assert after_it.day_loss == pytest.approx(0.1, abs=1e-15)
    assert after_it.peak == pytest.approx(1_000.0 * (900.0 + worth) / 900.0)
    assert (after_it.wins, after_it.losses, after_it.fees) == (0, 0, 0.0)


def test_base_that_comes_counts_as_paid_at_its_price() -> None:
    position = moved(FALLEN, BTC, 5.0, 90.0).positions[BTC]
    assert (position.quantity, position.average_entry, position.high, position.mark) == (10.0, 95.0, 100.0, 80.0)
    first = moved(Portfolio.open(1_000.0, [BTC]), BTC, 2.0, 90.0)  # never marked: that price is its mark
    assert first.positions[BTC] == Position(quantity=2.0, average_entry=90.0, mark=90.0, high=90.0)
    assert (first.equity, first.drawdown) == (1_180.0, 0.0)


def test_base_that_goes_ends_no_round_trip_as_won_or_lost() -> None:
    gone = moved(FALLEN, BTC, -5.0, 80.0)
    assert gone.positions[BTC] == Position(mark=80.0)
    assert (gone.wins, gone.losses, gone.cash) == (0, 0, 500.0)
    some = moved(FALLEN, BTC, -2.0, 80.0).positions[BTC]
    assert (some.quantity, some.average_entry) == (3.0, 100.0)


def test_an_account_that_is_emptied_stays_one_and_begins_afresh_when_money_comes() -> None:
    empty = moved(moved(FALLEN, BTC, -5.0, 80.0), None, -500.0)
    assert (empty.equity, empty.drawdown) == (0.0, 1.0)
    assert Portfolio.from_json(json.loads(json.dumps(empty.to_json())), [BTC]) == empty
    again = moved(empty, None, 300.0)
    assert (again.equity, again.peak, again.day_start, again.drawdown) == (300.0, 300.0, 300.0, 0.0)


@pytest.mark.parametrize("price", [0.0, -1.0, math.nan, math.inf])
def test_base_without_a_price_is_refused(price: float) -> None:
    with pytest.raises(InvalidOrder, match=r"BTC/USDT: 1\.0 came or went at a price of"):
        moved(FALLEN, BTC, 1.0, price)


def test_no_more_can_go_than_is_held() -> None:
    with pytest.raises(InvalidOrder, match=r"5\.1 BTC/USDT went, only 5\.0 was held"):
        moved(FALLEN, BTC, -5.1, 80.0)


# ---- drawdown and day -------------------------------------------------------------------------------------------
def test_drawdown_is_the_fall_from_the_highest_equity() -> None:
    portfolio = after(Portfolio.open(1_000.0, [BTC]), buy(5.0, 100.0))
    for at, (close, peak, drawdown) in enumerate(
        [(100.0, 1_000.0, 0.0), (140.0, 1_200.0, 0.0), (80.0, 1_200.0, 0.25), (120.0, 1_200.0, 1 - 1_100 / 1_200)]
    ):
        portfolio = portfolio.mark([candle(BTC, at, close)])
        assert (portfolio.peak, portfolio.drawdown) == (peak, pytest.approx(drawdown, abs=1e-15))
    assert portfolio.restart_peak().drawdown == 0.0
    assert portfolio.restart_peak().peak == 1_100.0


def test_a_purchase_below_the_last_mark_is_no_negative_drawdown() -> None:
    portfolio = Portfolio.open(1_000.0, [BTC]).mark([candle(BTC, 0, 100.0)])
    assert after(portfolio, buy(5.0, 90.0)).drawdown == 0.0


def test_the_day_starts_from_the_equity_before_its_first_candle() -> None:
    portfolio = after(Portfolio.open(1_000.0, [BTC]), buy(5.0, 100.0))
    portfolio = portfolio.mark([candle(BTC, 23, 120.0)])  # 23:00, closes at midnight: still the old day
    assert (portfolio.day, portfolio.day_start) == (0, 1_000.0)
    assert portfolio.day_loss == pytest.approx(-0.1)
    portfolio = portfolio.mark([candle(BTC, 24, 98.0)])
    assert (portfolio.day, portfolio.day_start) == (1, 1_100.0)
    assert portfolio.day_loss == pytest.approx(0.1)
    portfolio = portfolio.mark([candle(BTC, 25, 109.0)])
    assert portfolio.day_loss == pytest.approx(0.05)


def test_what_the_first_fills_of_a_day_lose_counts_against_that_day() -> None:
    portfolio = after(Portfolio.open(1_000.0, [BTC]), buy(5.0, 100.0)).mark([candle(BTC, 23, 120.0)])
    # Stopped out during the first hour of day 1, before that hour is marked: 1,100 become 500 + 399.
    portfolio = after(portfolio, sell(5.0, 80.0, fee=1.0, at_ms=DAY_MS)).mark([candle(BTC, 24, 80.0)])
    assert (portfolio.day, portfolio.day_start) == (1, 1_100.0)
    assert portfolio.day_loss == pytest.approx(201 / 1_100)


def test_a_candle_of_yesterday_that_comes_after_a_fill_of_today_does_not_turn_the_day_back() -> None:
    portfolio = after(Portfolio.open(1_000.0, [BTC]), buy(5.0, 100.0)).mark([candle(BTC, 22, 100.0)])
    portfolio = after(portfolio, sell(5.0, 80.0, at_ms=DAY_MS + 1)).mark([candle(BTC, 23, 80.0)])
    assert (portfolio.day, portfolio.day_start) == (1, 1_000.0)


def test_a_price_between_candles_moves_equity_but_not_the_peak() -> None:
    portfolio = after(Portfolio.open(1_000.0, [BTC, ETH]), buy(5.0, 100.0)).mark([candle(BTC, 0, 100.0)])
    risen, fallen = portfolio.at_price(BTC, 150.0), portfolio.at_price(BTC, 60.0)
    assert (risen.equity, risen.peak, risen.drawdown) == (1_250.0, 1_000.0, 0.0)
    assert (fallen.equity, fallen.drawdown) == (800.0, pytest.approx(0.2))
    assert fallen.at_price(BTC, 100.0) == portfolio


# ---- memory -----------------------------------------------------------------------------------------------------
@given(histories())
def test_an_account_read_back_from_json_is_the_same_to_the_last_bit(steps: Sequence[Fill | tuple[str, float]]) -> None:
    portfolio = Portfolio.open(10_000.1, [ETH, BTC])  # not in alphabetical order: a journal sorts its keys
    for number, step in enumerate(steps):
        if isinstance(step, Fill):
            portfolio = portfolio.apply(step, INSTRUMENTS[step.symbol])
        else:
            portfolio = portfolio.mark([candle(step[0], number, step[1])])
    stored = json.loads(json.dumps(portfolio.to_json(), sort_keys=True))
    again = Portfolio.from_json(stored, [ETH, BTC])
    assert again == portfolio
    assert list(again.positions) == [ETH, BTC]
    assert again.mark([candle(BTC, 99, 1.1)]) == portfolio.mark([candle(BTC, 99, 1.1)])


def _stored() -> dict[str, Any]:
    portfolio = after(Portfolio.open(1_000.0, [BTC]), buy(5.0, 100.0)).mark([candle(BTC, 0, 100.0)])
    stored: dict[str, Any] = json.loads(json.dumps(portfolio.to_json()))
    return stored


_FIELDS = sorted(_stored())
_POSITION_FIELDS = sorted(_stored()["positions"][BTC])


@pytest.mark.parametrize("key", _FIELDS)
@pytest.mark.parametrize("bad", [None, "1", [], math.nan, math.inf, True, "missing"], ids=repr)
def test_a_stored_account_with_a_broken_field_is_refused(key: str, bad: object) -> None:
    stored = _stored()
    if bad == "missing":
        del stored[key]
    else:
        stored[key] = bad
    with pytest.raises(BadState, match="stored"):
        Portfolio.from_json(stored, [BTC])


@pytest.mark.parametrize("key", _POSITION_FIELDS)
@pytest.mark.parametrize("bad", [None, "1", [], math.nan, -1, True, "missing"], ids=repr)
def test_a_stored_position_with_a_broken_field_is_refused(key: str, bad: object) -> None:
    if (key, bad) == ("trade_profit", -1):
        return  # a loss is no mistake
    stored = _stored()
    if bad == "missing":
        del stored["positions"][BTC][key]
    else:
        stored["positions"][BTC][key] = bad
    with pytest.raises(BadState, match="stored"):
        Portfolio.from_json(stored, [BTC])


@pytest.mark.parametrize(
    ("values", "symbols"),
    [
        (None, [BTC]),
        ([], [BTC]),
        ({}, [BTC]),
        ({**_stored(), "positions": {BTC: []}}, [BTC]),
        ({**_stored(), "more": 1.0}, [BTC]),
        ({**_stored(), "peak": 0.0}, [BTC]),
        (_stored(), [BTC, ETH]),
        (_stored(), [ETH]),
    ],
)
def test_an_account_stored_by_something_else_is_refused(values: Any, symbols: list[str]) -> None:
    with pytest.raises(BadState, match="stored"):
        Portfolio.from_json(values, symbols)
