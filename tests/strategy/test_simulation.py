"""The simulated venue, by hand: tick 0.01, lot 0.0001, fee 0.1 %, slippage 0.05 %, at most 5 % of the volume."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.candle import Candle
from strategy.errors import BadState
from strategy.instrument import Instrument
from strategy.order import Order, OrderEvent, OrderKind, OrderReport, Side
from strategy.parameters import CostModel
from strategy.simulation import SimulatedExchange
from tests.fakes.trading import BTC, ETH, HOUR_MS, candle


class Venue:
    """An exchange with the account that trades on it: applies each report before it asks for the next."""

    def __init__(self, cash: float = 10_000.0, *, held: float = 0.0, tick: float = 0.01, **costs: float) -> None:
        self.cash = cash
        self.held = {BTC: held, ETH: 0.0}
        instruments = {s: Instrument(symbol=s, tick=tick, lot=0.0001, min_notional=5.0) for s in (BTC, ETH)}
        self.exchange = SimulatedExchange(
            instruments, CostModel(**costs), funds=lambda: self.cash, held=lambda symbol: self.held[symbol]
        )

    def candle(self, **values: Any) -> list[OrderReport]:
        return self._apply(self.exchange.on_candle(at(**values)))

    def trade(self, price: float, at_ms: int = 1) -> list[OrderReport]:
        return self._apply(self.exchange.on_trade(BTC, price, at_ms))

    def _apply(self, reports: Any) -> list[OrderReport]:
        seen = []
        for report in reports:
            seen.append(report)
            if report.fill is not None:
                self.cash -= report.fill.side.sign * report.fill.notional + report.fill.fee
                self.held[report.symbol] += report.fill.side.sign * report.fill.quantity
                if self.held[report.symbol] == 0.0:
                    self.exchange.protect(report.symbol, None)
        return seen


def at(number: int = 1, close: float = 100.0, symbol: str = BTC, **values: float) -> Candle:
    return candle(symbol, number, close, **values)


def order(side: Side, quantity: float, *, symbol: str = BTC, number: int = 0) -> Order:
    return Order(
        client_id=f"{side}-{number}",
        symbol=symbol,
        side=side,
        quantity=quantity,
        reference_price=100.0,
        decided_ms=HOUR_MS,
        reason="voted",
        reduces=side is Side.SELL,
    )


def stop(price: float, quantity: float = 1.0, symbol: str = BTC, number: int = 0) -> Order:
    return Order(
        client_id=f"stop-{number}",
        symbol=symbol,
        side=Side.SELL,
        quantity=quantity,
        reference_price=price,
        decided_ms=HOUR_MS,
        reason="stop_loss_triggered",
        reduces=True,
        kind=OrderKind.STOP,
        stop_price=price,
    )


def events(reports: list[OrderReport]) -> list[tuple[str, OrderEvent]]:
    return [(report.client_id, report.event) for report in reports]


def only_fill(reports: list[OrderReport]) -> tuple[float, float]:
    """Return quantity and price of the one fill there is."""
    (made,) = [report.fill for report in reports if report.fill is not None]
    return made.quantity, made.price


# ---- market orders ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("side", "opened", "price"),
    [
        (Side.BUY, 100.0, 100.05),
        (Side.SELL, 100.0, 99.95),
        (Side.BUY, 100.01, 100.07),  # 100.060005, up to the tick
        (Side.SELL, 100.01, 99.95),  # 99.959995, down to the tick
    ],
)
def test_a_market_order_fills_at_the_next_open_worse_by_the_slippage_on_the_tick(
    side: Side, opened: float, price: float
) -> None:
    venue = Venue(held=1.0)
    venue.exchange.submit(order(side, 0.5))
    (report,) = venue.candle(open=opened, low=90.0, high=120.0, close=110.0)
    made = report.fill
    assert made is not None
    assert (report.event, made.quantity, made.price) == (OrderEvent.FILLED, 0.5, price)
    assert made.fee == pytest.approx(0.5 * price * 0.001)
    assert (made.client_id, made.side, made.symbol, made.at_ms) == (f"{side}-0", side, BTC, HOUR_MS)
    assert made.reference_price == 100.0  # the close it was decided on


def test_an_order_does_not_fill_before_the_next_candle_and_fills_only_once() -> None:
    venue = Venue()
    venue.exchange.submit(order(Side.BUY, 0.5))
    assert [waiting.client_id for waiting in venue.exchange.waiting] == ["buy-0"]
    assert venue._apply(venue.exchange.on_candle(at(symbol=ETH))) == []
    assert len(venue.candle()) == 1
    assert list(venue.exchange.waiting) == []
    assert venue.candle(number=2) == []


def test_an_order_takes_no_more_than_its_share_of_the_volume_and_the_rest_expires() -> None:
    venue = Venue()
    venue.exchange.submit(order(Side.BUY, 0.8))
    reports = venue.candle(volume=10.0)  # 5 % of 10 is 0.5
    assert events(reports) == [("buy-0", OrderEvent.PARTLY_FILLED), ("buy-0", OrderEvent.EXPIRED)]
    assert only_fill(reports) == (0.5, 100.05)
    assert "volume" in reports[-1].detail
    assert venue.candle(number=2) == []


def test_the_share_of_the_volume_is_cut_to_the_lot() -> None:
    venue = Venue(held=1.0)
    venue.exchange.submit(order(Side.SELL, 0.8))
    assert only_fill(venue.candle(volume=7.7777)) == (0.3888, 99.95)  # 0.388885


def test_a_candle_without_volume_fills_nothing() -> None:
    venue = Venue(held=1.0)
    venue.exchange.submit(order(Side.SELL, 0.8))
    reports = venue.candle(volume=0.0)
    assert events(reports) == [("sell-0", OrderEvent.EXPIRED)]
    assert reports[0].fill is None


def test_a_price_that_jumps_buys_only_what_the_cash_pays_for() -> None:
    venue = Venue(cash=100.0)
    venue.exchange.submit(order(Side.BUY, 0.9))
    reports = venue.candle(close=150.0)
    # 150.075 is 150.08 on the tick; 100 / (150.08 x 1.001) = 0.66564...
    assert only_fill(reports) == (0.6656, 150.08)
    assert events(reports) == [("buy-0", OrderEvent.PARTLY_FILLED), ("buy-0", OrderEvent.EXPIRED)]
    assert venue.cash == pytest.approx(100.0 - 0.6656 * 150.08 * 1.001)
    assert venue.cash >= 0.0


def test_without_cash_nothing_is_bought() -> None:
    venue = Venue(cash=0.0)
    venue.exchange.submit(order(Side.BUY, 0.9))
    assert events(venue.candle()) == [("buy-0", OrderEvent.EXPIRED)]


def test_two_purchases_share_the_cash_in_the_order_they_came() -> None:
    venue = Venue(cash=100.0)
    venue.exchange.submit(order(Side.BUY, 0.7, number=1))
    venue.exchange.submit(order(Side.BUY, 0.7, number=2))
    reports = venue.candle()
    assert events(reports) == [
        ("buy-1", OrderEvent.FILLED),
        ("buy-2", OrderEvent.PARTLY_FILLED),
        ("buy-2", OrderEvent.EXPIRED),
    ]
    # 100 - 0.7 x 100.05 x 1.001 = 29.894965; / 100.15005 = 0.29850...
    assert reports[1].fill is not None
    assert reports[1].fill.quantity == 0.2985
    assert 0.0 <= venue.cash < 0.02


def test_a_price_below_one_tick_sells_at_one_tick() -> None:
    venue = Venue(held=1.0)
    venue.exchange.submit(order(Side.SELL, 0.5))
    assert only_fill(venue.candle(close=0.01)) == (0.5, 0.01)


# ---- what is not held cannot be sold ----------------------------------------------------------------------------
def test_two_sales_of_one_position_sell_it_once() -> None:
    venue = Venue(held=1.0)
    for number in (1, 2):
        venue.exchange.submit(order(Side.SELL, 1.0, number=number))
    reports = venue.candle()
    assert events(reports) == [("sell-1", OrderEvent.FILLED), ("sell-2", OrderEvent.EXPIRED)]
    assert "held" in reports[1].detail
    assert venue.held[BTC] == 0.0


def test_a_sale_of_more_than_is_held_sells_what_is_held() -> None:
    venue = Venue(held=0.25)
    venue.exchange.submit(order(Side.SELL, 1.0))
    reports = venue.candle()
    assert events(reports) == [("sell-0", OrderEvent.PARTLY_FILLED), ("sell-0", OrderEvent.EXPIRED)]
    assert only_fill(reports)[0] == 0.25


def test_a_stop_for_more_than_is_held_sells_what_is_held() -> None:
    venue = Venue(held=0.25)
    venue.exchange.protect(BTC, stop(95.0, 1.0))
    reports = venue.candle(low=94.0)
    assert events(reports) == [("stop-0", OrderEvent.PARTLY_FILLED), ("stop-0", OrderEvent.EXPIRED)]
    assert venue.held[BTC] == 0.0


def test_a_cancelled_order_does_not_fill() -> None:
    venue = Venue(held=1.0)
    for number in (1, 2):
        venue.exchange.submit(order(Side.SELL, 0.25, number=number))
    venue.exchange.cancel(order(Side.SELL, 0.25, number=1))
    assert events(venue.candle()) == [("sell-2", OrderEvent.FILLED)]


# ---- stops ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("opened", "low", "price"),
    [
        (100.0, 94.0, 94.95),  # touched from above: 95 less 0.0475, down to the tick
        (100.0, 95.0, 94.95),  # touched exactly
        (90.0, 80.0, 89.95),  # opened below: 90 less 0.045
        (95.0, 95.0, 94.95),
    ],
)
def test_a_stop_fills_at_the_worse_of_open_and_stop_less_slippage(opened: float, low: float, price: float) -> None:
    venue = Venue(held=1.0)
    venue.exchange.protect(BTC, stop(95.0))
    (report,) = venue.candle(open=opened, low=low, close=max(low, 97.0))
    assert report.event is OrderEvent.FILLED
    assert report.fill is not None
    assert (report.fill.quantity, report.fill.price) == (1.0, price)
    assert report.fill.fee == pytest.approx(price * 0.001)
    assert report.fill.reference_price == 95.0
    assert venue.candle(number=2, low=1.0) == []  # once


def test_a_stop_above_the_low_by_one_tick_stays() -> None:
    venue = Venue(held=1.0)
    venue.exchange.protect(BTC, stop(95.0))
    assert venue.candle(low=95.01) == []
    assert events(venue.candle(number=2, low=95.0)) == [("stop-0", OrderEvent.FILLED)]


def test_a_newer_stop_replaces_the_older_and_none_removes_it() -> None:
    venue = Venue(held=1.0)
    venue.exchange.protect(BTC, stop(95.0, number=1))
    venue.exchange.protect(BTC, stop(90.0, number=2))
    assert venue.candle(low=93.0) == []
    assert events(venue.candle(number=2, low=89.0)) == [("stop-2", OrderEvent.FILLED)]
    venue.exchange.protect(BTC, stop(90.0))
    venue.exchange.protect(BTC, None)
    venue.exchange.protect(BTC, None)
    assert venue.candle(number=3, low=1.0) == []


def test_a_stop_of_one_symbol_is_not_hit_by_another() -> None:
    venue = Venue(held=1.0)
    venue.exchange.protect(BTC, stop(95.0))
    assert venue._apply(venue.exchange.on_candle(at(symbol=ETH, close=1.0))) == []


def test_a_position_bought_at_the_open_is_protected_in_the_same_candle() -> None:
    venue = Venue()
    venue.exchange.submit(order(Side.BUY, 1.0))
    reports = venue.exchange.on_candle(at(low=90.0))
    bought = next(reports)
    assert bought.fill is not None
    venue.held[BTC] = bought.fill.quantity
    venue.exchange.protect(BTC, stop(95.0))
    (stopped,) = list(reports)
    assert stopped.fill is not None
    assert (stopped.client_id, stopped.fill.price) == ("stop-0", 94.95)


def test_market_orders_come_before_the_stop_and_leave_it_only_the_rest() -> None:
    venue = Venue(held=1.0)
    venue.exchange.protect(BTC, stop(95.0))
    venue.exchange.submit(order(Side.SELL, 0.4))
    reports = venue.exchange.on_candle(at(low=90.0))
    sold = next(reports)
    assert (sold.client_id, sold.event) == ("sell-0", OrderEvent.FILLED)
    venue.held[BTC] = 0.6
    venue.exchange.protect(BTC, stop(95.0, 0.6, number=1))
    (stopped,) = list(reports)
    assert stopped.client_id == "stop-1"
    assert stopped.fill is not None
    assert stopped.fill.quantity == 0.6


def test_an_order_that_found_no_volume_leaves_the_position_to_its_stop() -> None:
    venue = Venue(held=1.0)
    venue.exchange.protect(BTC, stop(95.0))
    venue.exchange.submit(order(Side.SELL, 1.0))
    assert events(venue.candle(volume=0.0, low=90.0)) == [("sell-0", OrderEvent.EXPIRED)]
    assert events(venue.candle(number=2, low=90.0)) == [("stop-0", OrderEvent.FILLED)]


@pytest.mark.parametrize(
    ("volume", "sold"),
    [
        (20.0, 1.0),  # 5 % of 20 is all of it
        (19.999, 0.9999),  # 0.99995, down to the lot
        (7.7777, 0.3888),  # 0.388885
    ],
)
def test_a_stop_sells_no_more_than_its_share_of_the_volume_and_its_order_ends(volume: float, sold: float) -> None:
    for is_live in (False, True):
        venue = Venue(held=1.0)
        venue.exchange.protect(BTC, stop(95.0))
        venue.exchange.see(at(volume=volume))
        reports = venue.trade(95.0) if is_live else venue.candle(low=94.0, volume=volume)
        assert only_fill(reports) == (sold, 94.95)
        partly = [("stop-0", OrderEvent.PARTLY_FILLED), ("stop-0", OrderEvent.EXPIRED)]
        assert events(reports) == ([("stop-0", OrderEvent.FILLED)] if sold == 1.0 else partly)


@pytest.mark.parametrize("volume", [0.0, 0.0019])  # 5 % of it is nothing, or below the lot
def test_a_stop_that_finds_nobody_to_trade_with_stays(volume: float) -> None:
    venue = Venue(held=1.0)
    venue.exchange.protect(BTC, stop(95.0))
    assert venue.candle(low=94.0, volume=volume) == []
    assert venue.trade(94.0) == []
    assert only_fill(venue.candle(number=2, close=93.0)) == (1.0, 92.95)  # 93 less 0.0465, down to the tick


# ---- a live feed: trades ----------------------------------------------------------------------------------------
def test_on_a_live_feed_an_order_fills_at_the_next_trade() -> None:
    venue = Venue()
    venue.exchange.submit(order(Side.BUY, 0.5))
    assert only_fill(venue.trade(200.0, at_ms=42)) == (0.5, 200.1)
    assert venue.trade(200.0) == []


def test_a_trade_of_another_symbol_fills_nothing() -> None:
    venue = Venue()
    venue.exchange.submit(order(Side.BUY, 0.5, symbol=ETH))
    assert venue.trade(200.0) == []


def test_the_volume_of_the_last_candle_bounds_what_fills_at_a_trade() -> None:
    venue = Venue()
    venue.exchange.see(at(volume=2.0))
    venue.exchange.submit(order(Side.BUY, 0.5))
    reports = venue.trade(100.0)
    assert only_fill(reports) == (0.1, 100.05)
    assert reports[-1].event is OrderEvent.EXPIRED


@pytest.mark.parametrize(("price", "filled"), [(95.01, None), (95.0, 94.95), (80.0, 79.96)])
def test_a_stop_fills_at_the_trade_that_reaches_it(price: float, filled: float | None) -> None:
    venue = Venue(held=1.0)
    venue.exchange.protect(BTC, stop(95.0))
    reports = venue.trade(price)
    assert [report.fill.price for report in reports if report.fill is not None] == ([] if filled is None else [filled])


def test_at_a_trade_too_orders_come_before_the_stop() -> None:
    venue = Venue(held=1.0)
    venue.exchange.protect(BTC, stop(95.0))
    venue.exchange.submit(order(Side.SELL, 1.0))
    assert events(venue.trade(90.0)) == [("sell-0", OrderEvent.FILLED)]  # which left the stop nothing
    assert venue.held[BTC] == 0.0


# ---- whatever happens -------------------------------------------------------------------------------------------
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("buy"), st.integers(1, 50_000)),
        st.tuples(st.just("sell"), st.integers(1, 50_000)),
        st.tuples(st.just("stop"), st.integers(1, 30_000)),
        st.tuples(st.just("candle"), st.integers(1, 30_000)),
        st.tuples(st.just("trade"), st.integers(1, 30_000)),
    ),
    max_size=40,
)


@given(_steps, st.floats(0.0, 1_000.0), st.sampled_from([0.0, 1.0, 100.0]))
def test_cash_and_holdings_never_fall_below_zero(steps: list[tuple[str, int]], cash: float, volume: float) -> None:
    venue = Venue(cash)
    for number, (what, amount) in enumerate(steps):
        if what in ("buy", "sell"):
            venue.exchange.submit(order(Side(what), amount / 10_000, number=number))
        elif what == "stop":
            venue.exchange.protect(BTC, stop(amount / 100, 5.0, number=number))
        elif what == "candle":
            venue.candle(number=number, close=amount / 100, open=amount / 90, volume=volume)
        else:
            venue.trade(amount / 100)
        assert venue.cash >= 0.0
        assert venue.held[BTC] >= -1e-12


@given(_steps)
def test_every_order_comes_to_exactly_one_end(steps: list[tuple[str, int]]) -> None:
    venue, sent = Venue(1_000.0), list[str]()
    reports: list[OrderReport] = []
    for number, (what, amount) in enumerate([*steps, ("candle", 10_000)]):
        if what in ("buy", "sell"):
            sent.append(f"{what}-{number}")
            venue.exchange.submit(order(Side(what), amount / 10_000, number=number))
        elif what == "candle":
            reports += venue.candle(number=number, close=amount / 100, volume=10.0)
        elif what == "trade":
            reports += venue.trade(amount / 100)
    ends = [r.client_id for r in reports if r.event in {OrderEvent.FILLED, OrderEvent.EXPIRED}]
    assert sorted(ends) == sorted(sent)
    fills = [r.fill.fill_id for r in reports if r.fill is not None]
    assert len(fills) == len(set(fills))


# ---- other steps and costs --------------------------------------------------------------------------------------
def test_other_steps_and_costs_hold_for_what_fills_from_then_on() -> None:
    venue = Venue(held=9.0)
    venue.exchange.submit(order(Side.SELL, 8.5))
    venue.exchange.protect(BTC, stop(80.0))
    coarse = {s: Instrument(symbol=s, tick=0.5, lot=2.0, min_notional=5.0) for s in (BTC, ETH)}
    venue.exchange.begin(coarse, CostModel(fee_rate=0.002, slippage_rate=0.01))
    (sold, rest) = venue.candle(volume=170.9)  # 5 % of it is 8.545: four lots
    assert sold.fill is not None
    assert (sold.fill.quantity, sold.fill.price) == (8.0, 99.0)
    assert sold.fill.fee == pytest.approx(1.584)
    assert rest.event is OrderEvent.EXPIRED
    assert only_fill(venue.candle(number=2, close=80.0)) == (1.0, 79.0)  # the stop still waits; 79.2, on the tick


# ---- memory -----------------------------------------------------------------------------------------------------
def stored(venue: Venue) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(venue.exchange.state(), sort_keys=True))
    return values


def busy() -> Venue:
    """Return a venue with two orders of one symbol that wait, one of another, a stop, and a volume seen."""
    venue = Venue(cash=100.0, held=2.0)
    venue.exchange.submit(order(Side.BUY, 0.5, symbol=ETH, number=3))
    for number in (2, 1):
        venue.exchange.submit(order(Side.BUY, 0.7, number=number))
    venue.exchange.protect(BTC, stop(95.0))
    venue.exchange.see(at(number=0, volume=12.5))
    return venue


def test_a_venue_continues_from_what_it_stored() -> None:
    venue, other = busy(), Venue(cash=100.0, held=2.0)
    other.exchange.restore(stored(venue))
    assert stored(other) == stored(venue)
    assert [waiting.client_id for waiting in other.exchange.waiting] == ["buy-2", "buy-1", "buy-3"]
    found = other.trade(100.0)  # 5 % of a volume of 12.5 is 0.625, and the cash lasts for 0.9985 in all
    assert events(found) == [
        ("buy-2", OrderEvent.PARTLY_FILLED),
        ("buy-2", OrderEvent.EXPIRED),
        ("buy-1", OrderEvent.PARTLY_FILLED),
        ("buy-1", OrderEvent.EXPIRED),
    ]
    assert found == venue.trade(100.0)
    assert other.candle(low=94.0) == venue.candle(low=94.0) != []
    assert stored(other) == stored(venue)


def test_a_venue_that_nothing_happened_to_stores_and_restores_nothing() -> None:
    venue = busy()
    venue.exchange.restore(stored(Venue()))
    assert list(venue.exchange.waiting) == []
    assert venue.candle(low=1.0) == []
    assert stored(venue) == {"orders": {}, "stops": {}, "volumes": {BTC: 1_000.0}}


SOL_STOP = stored(busy())["stops"][BTC] | {"symbol": "SOL/USDT"}


def _set(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(values: Any) -> None:
        for key in path[:-1]:
            values = values[int(key) if key.isdigit() else key]
        values[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values.pop("stops"), "'stops'"),
        (_set("orders", value=[]), "no attribute 'items'"),
        (_set("orders", BTC, value=[7]), "not a mapping"),
        (_set("orders", BTC, "0", "side", value="give"), "'give' is not a valid Side"),
        (_set("orders", BTC, "1", "quantity", value=-1.0), "quantity -1.0 is not a positive number"),
        (_set("stops", ETH, value=None), "not a mapping"),
        (_set("stops", "SOL/USDT", value=stored(busy())["stops"][BTC]), "an order in BTC/USDT stands under SOL/USDT"),
        (_set("stops", "SOL/USDT", value=SOL_STOP), "an order in SOL/USDT stands under SOL/USDT, not under"),
        (_set("stops", ETH, value=stored(busy())["stops"][BTC]), "an order in BTC/USDT stands under ETH/USDT"),
        (_set("volumes", "SOL/USDT", value=1.0), "a volume of 1.0 in SOL/USDT"),
        (_set("volumes", BTC, value=-1.0), "a volume of -1.0 in BTC/USDT"),
        (_set("volumes", BTC, value=math.nan), "a volume of nan in BTC/USDT"),
        (_set("volumes", BTC, value="much"), "not supported"),
    ],
)
def test_what_something_else_stored_is_refused_and_changes_nothing(
    change: Callable[[dict[str, Any]], None], message: str
) -> None:
    values, venue = stored(busy()), busy()
    change(values)
    venue.exchange.cancel(order(Side.BUY, 0.7, number=2))
    before = stored(venue)
    with pytest.raises(BadState, match="stored orders of a simulated venue cannot be read") as refused:
        venue.exchange.restore(values)
    assert message in str(refused.value)
    assert stored(venue) == before
