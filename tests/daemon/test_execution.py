"""Journals of a few entries, with every figure worked out by hand or by NumPy on the raw numbers."""

import io
import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from daemon import records
from daemon.errors import DataError, FatalError
from daemon.execution import Execution, Group, measure, rate_to_write
from daemon.execution_orders import KINDS
from daemon.execution_text import execution_report, suggestions
from daemon.ports import Entry
from strategy.order import Fill, Order, OrderEvent, OrderKind, Side
from tests.daemon.engines import BUY, SELL, filled, make_live_rig, make_rig, report
from tests.fakes.trading import BTC, ETH, HOUR_MS, setup

CLOSE = 400_000 * HOUR_MS  # 400,000 hours after 1970 is 16:00 UTC
SETUP = setup((BTC, ETH), fee_rate=0.001, slippage_rate=0.0005)


class Book:
    """Writes a journal as the live engine would; our clock is `ms` after the close of the candle."""

    def __init__(self, source: str = "exchange") -> None:
        self.entries: list[Entry] = []
        self.run(source)

    def run(self, source: str = "exchange", **changes: Any) -> None:
        self.add("run", 0, {"account": {"source": source}, "setup": setup((BTC, ETH), **changes).to_json()})

    def add(self, kind: str, ms: int, payload: dict[str, Any]) -> None:
        self.entries.append(Entry(seq=len(self.entries) + 1, at_ms=CLOSE + ms, kind=kind, payload=payload))

    def decide(self, order: Order | None, ms: int = 40) -> None:
        self.add("decision", ms, {"order": None if order is None else records.of_order(order)})

    def move(self, order: Order, event: str, state: str, ms: int, *, said_ms: int | None = None) -> None:
        at_ms = CLOSE + (ms if said_ms is None else said_ms)
        payload = {"client_id": order.client_id, "event": event, "state": state, "at_ms": at_ms}
        self.add("order", ms, payload)

    def fill(
        self, order: Order, quantity: float, price: float, ms: int, *, fee: float = 0.0, venue_ms: int | None = None
    ) -> None:
        fill = Fill(
            fill_id=f"{order.client_id}.{len(self.entries)}", client_id=order.client_id, symbol=order.symbol,
            side=order.side, quantity=quantity, price=price, fee=fee,
            at_ms=CLOSE + (ms if venue_ms is None else venue_ms), reference_price=order.reference_price,
        )  # fmt: skip
        self.add("fill", ms, asdict(fill))

    def done(self, order: Order, price: float, fee: float = 0.0) -> None:
        """An order that is decided and filled, with nothing in between."""
        self.decide(order)
        self.fill(order, order.quantity, price, 500, fee=fee)
        self.move(order, "filled", "filled", 500)

    def measured(self, **window: int) -> Execution:
        return measure(self.entries, **window)


def order(
    client_id: str = "s-1", side: Side = Side.BUY, quantity: float = 2.0, price: float = 100.0, **changes: Any
) -> Order:
    values = {"symbol": BTC, "decided_ms": CLOSE, "reason": "voted", "reduces": side is Side.SELL} | changes
    return Order(client_id=client_id, side=side, quantity=quantity, reference_price=price, **values)


def stop(client_id: str = "s-stop", price: float = 95.0) -> Order:
    return order(client_id, Side.SELL, price=price, kind=OrderKind.STOP, stop_price=price)


def group(found: Execution, name: str) -> Group:
    return next(group for group in found.slippage if group.name == name)


# ---- slippage ---------------------------------------------------------------------------------------------------
def test_a_fill_is_measured_against_the_price_decided_on_and_against_the_model() -> None:
    book = Book()
    book.done(order("s-1"), 100.2)  # 20 bp worse than 100; the model expects 100.05
    book.done(order("s-2", Side.SELL, quantity=1.0), 99.9)  # 10 bp worse; the model expects 99.95
    found = book.measured()
    buy, sell, both = (group(found, name) for name in ("buy", "sell", "all"))
    assert buy.against_reference_bp.mean == pytest.approx(20.0)
    assert buy.against_model_bp.mean == pytest.approx(15.0)
    assert sell.against_reference_bp.mean == pytest.approx(10.0)
    assert sell.against_model_bp.mean == pytest.approx(5.0)
    assert both.against_reference_bp.mean == pytest.approx((2 * 20.0 + 1 * 10.0) / 3)  # weighted by value
    assert both.against_reference_bp.median == pytest.approx(15.0)
    assert both.against_reference_bp.p90 == pytest.approx(19.0)  # linear between 10 and 20
    assert both.value == pytest.approx(2 * 100.2 + 99.9)


def test_a_better_price_is_negative_slippage() -> None:
    book = Book()
    book.done(order("s-1"), 99.9)
    book.done(order("s-2", Side.SELL), 100.1)
    found = book.measured()
    assert group(found, "buy").against_reference_bp.mean == pytest.approx(-10.0)
    assert group(found, "sell").against_reference_bp.mean == pytest.approx(-10.0)


def test_the_model_rounds_to_the_tick_as_the_simulator_does() -> None:
    book = Book()
    book.done(order("s-1", price=10.0), 10.01)  # 10.005 rounds up to the tick of 0.01
    assert group(book.measured(), "all").against_model_bp.mean == pytest.approx(0.0, abs=1e-9)


def test_hours_are_of_the_day_in_utc_and_symbols_stand_apart() -> None:
    book = Book()
    first, second = order("s-1"), order("s-2", symbol=ETH)
    book.decide(first)
    book.fill(first, 2.0, 100.1, 500)
    book.decide(second)
    book.fill(second, 2.0, 100.3, 500, venue_ms=10 * HOUR_MS)
    found = book.measured()
    by_hour = {g.name: g.against_reference_bp.mean for g in found.slippage if g.by == "hour"}
    assert by_hour == pytest.approx({"16": 10.0, "02": 30.0})
    by_symbol = {g.name: g.against_reference_bp.mean for g in found.slippage if g.by == "symbol"}
    assert by_symbol == pytest.approx({BTC: 10.0, ETH: 30.0})


def test_each_fill_is_expected_under_the_run_it_belongs_to() -> None:
    book = Book()
    book.done(order("s-1"), 100.05, fee=0.2)
    book.run(slippage_rate=0.002, fee_rate=0.002)
    book.done(order("s-2"), 100.05, fee=0.2)
    found = book.measured()
    assert group(found, "all").against_model_bp.mean == pytest.approx((0.0 - 15.0) / 2)
    assert found.fees_expected == pytest.approx(0.001 * 2 * 100.05 + 0.002 * 2 * 100.2)
    assert found.fees_paid == pytest.approx(0.4)
    assert (found.fee_rate.used, found.slippage_rate.used) == (0.002, 0.002)


@pytest.mark.parametrize("votes", [BUY, SELL])
async def test_a_paper_journal_shows_the_slippage_of_its_own_model(votes: tuple[float, float, float]) -> None:
    # The next candle opens at the close that was decided on, so nothing but the model moves the price.
    rig = make_rig(slippage_rate=0.0005, fee_rate=0.001)
    rig.voice.say(BUY)
    await rig.candle(100.0)
    rig.voice.say(votes)
    for _ in range(3):
        await rig.candle(100.0)
    run = Entry(seq=0, at_ms=0, kind="run", payload={"account": {"source": "file"}, "setup": rig.setup.to_json()})
    found = measure([run, *(e for e in rig.journal.entries if e.kind != "candle")])
    everything = group(found, "all")
    assert everything.against_reference_bp.mean == pytest.approx(5.0)
    assert everything.against_model_bp.mean == pytest.approx(0.0, abs=1e-9)
    assert found.fees_paid == pytest.approx(found.fees_expected)
    assert found.fee_rate.value == pytest.approx(0.001)
    assert found.fills == len(rig.of_kind("fill")) > 0
    assert all(spread.n == 0 for spread in found.latency_s.values())  # no clock of ours is that of old candles


async def test_a_paper_stop_is_told_apart_though_it_was_never_an_order() -> None:
    rig = make_rig(stop_loss=0.05, slippage_rate=0.001)
    rig.voice.say((1.0, 0.5, 1.0))  # a quarter of the account: half of the limit
    await rig.candle(100.0)
    rig.voice.say((0.0, 0.0, 0.0))
    await rig.candle(100.0)
    await rig.candle(90.0, open=90.0)  # opens below the stop: fills at 90, less the slippage, at worst
    run = Entry(seq=0, at_ms=0, kind="run", payload={"account": {"source": "file"}, "setup": rig.setup.to_json()})
    found = measure([run, *(e for e in rig.journal.entries if e.kind != "candle")])
    # Bought at 100.10, so the stop is at 95.09 (5 % below, on the tick); sold at 90 less 0.1 %, on the tick.
    below = 1e4 * (95.09 - 89.91) / 95.09
    assert found.stops.against_reference_bp.n == 1
    assert found.stops.against_reference_bp.mean == pytest.approx(below)
    assert group(found, "all").against_reference_bp.n == 1
    assert found.orders.count == 1


async def test_the_journal_of_the_live_engine_is_read_as_it_is_written() -> None:
    rig = make_live_rig(slippage_rate=0.0005, fee_rate=0.001)
    await rig.start()
    rig.voice.say((1.0, 0.8, 1.0))
    await rig.candle(100.0, late_s=0.25)  # decided 250 ms after the close
    rig.voice.say((0.0, 0.0, 0.0))
    (bought,) = rig.orders
    sent_ms = rig.clock.now_ms() + 20
    rig.clock.step_wall(0.1)
    await rig.tell(report(bought, OrderEvent.SENT, at_ms=sent_ms), report(bought, OrderEvent.ACCEPTED))
    rig.clock.step_wall(0.5)
    trade_ms = bought.decided_ms + 400
    await rig.tell(filled(bought, price=100.1, fee=bought.quantity * 0.1, at_ms=trade_ms))
    stop = rig.stop()
    assert stop is not None
    rig.clock.step_wall(0.3)
    await rig.tell(report(stop, OrderEvent.SENT), report(stop, OrderEvent.ACCEPTED))
    run = rig.run_record(rig.setup).payload
    first = Entry(seq=0, at_ms=0, kind="run", payload={**run, "account": {"source": "exchange"}})
    found = measure([first, *(e for e in rig.journal.entries if e.kind in KINDS - {"run"})])
    assert group(found, "buy").against_reference_bp.mean == pytest.approx(10.0)
    assert (found.orders.count, found.fills, found.stops.against_reference_bp.n) == (1, 1, 0)
    assert found.orders.fill_ratio == pytest.approx(1.0)
    assert {name: spread.mean for name, spread in found.latency_s.items()} == pytest.approx(
        {
            "close_to_decision": 0.25,
            "decision_to_sent": 0.02,
            "sent_to_answer": 0.08,
            "sent_to_first_fill": 0.58,
            "sent_to_last_fill": 0.58,
            "last_fill_to_stop": 0.3,
            "close_to_trade": 0.4,
        }
    )


# ---- orders -----------------------------------------------------------------------------------------------------
def test_what_became_of_orders_and_how_much_of_them_filled() -> None:
    book = Book()
    book.done(order("s-full"), 100.0)
    part, none, refused, waiting = (order(f"s-{name}") for name in ("part", "none", "refused", "waiting"))
    book.decide(part)
    book.fill(part, 0.5, 100.0, 500)
    book.move(part, "partly_filled", "partially_filled", 500)
    book.move(part, "expired", "expired", 510)
    book.decide(none)
    book.move(none, "expired", "expired", 500)
    book.decide(refused)
    book.move(refused, "rejected", "rejected", 500)
    book.decide(waiting)
    book.move(waiting, "answer_lost", "unknown", 500)
    orders = book.measured().orders
    assert orders.states == {"expired": 2, "filled": 1, "rejected": 1, "unknown": 1}
    assert (orders.count, orders.partly) == (5, 1)
    assert orders.fill_ratio == pytest.approx((2.0 + 0.5 + 0.0) / 6.0)


@pytest.mark.parametrize("kind", ["exit", "risk", "command"])
def test_forced_orders_count_like_decided_ones(kind: str) -> None:
    book = Book()
    forced = order("s-1", Side.SELL)
    book.add(kind, 40, {"orders": [records.of_order(forced)]})
    book.fill(forced, 2.0, 99.0, 500)
    found = book.measured()
    assert found.orders.count == 1
    assert found.latency_s["close_to_decision"].n == 0  # it waited for no candle


def test_stops_count_once_they_trade() -> None:
    book = Book()
    for client_id in ("s-a", "s-b"):
        book.add("intent", 50, {"order": records.of_order(stop(client_id))})
        book.move(stop(client_id), "accepted", "open", 60)
    book.move(stop("s-a"), "cancelled", "cancelled", 70)
    book.fill(stop("s-b"), 1.0, 94.05, 80)
    book.fill(stop("s-b"), 1.0, 94.81, 80)
    found = book.measured()
    assert (found.orders.count, found.fills) == (0, 2)
    assert found.stops.against_reference_bp.mean == pytest.approx((100.0 + 20.0) / 2)  # 0.95 and 0.19 of 95
    assert found.slippage_rate.n == 0


def test_a_window_takes_orders_by_their_candle_and_stops_by_their_trade() -> None:
    book = Book()
    for hour in range(4):
        book.done(order(f"s-{hour}", decided_ms=CLOSE + hour * HOUR_MS), 100.0)
    book.add("intent", 50, {"order": records.of_order(stop())})
    book.fill(stop(), 1.0, 94.0, 80, venue_ms=2 * HOUR_MS)
    found = book.measured(since_ms=CLOSE + HOUR_MS, until_ms=CLOSE + 3 * HOUR_MS)
    assert (found.orders.count, found.stops.against_reference_bp.n) == (2, 1)
    assert book.measured(until_ms=CLOSE).orders.count == 0


# ---- latency ----------------------------------------------------------------------------------------------------
def test_every_step_is_timed_by_the_clock_it_names() -> None:
    book = Book()
    bought = order()
    book.decide(bought, 40)
    book.move(bought, "sent", "in_flight", 120, said_ms=55)  # sent at 55, on disk with the next write
    book.move(bought, "accepted", "open", 120, said_ms=9_000_000)  # the venue's clock is hours off: not used
    book.fill(bought, 1.0, 100.0, 300, venue_ms=90)
    book.add("intent", 300, {"order": records.of_order(stop("s-a"))})
    book.fill(bought, 1.0, 100.0, 700, venue_ms=95)
    book.add("intent", 700, {"order": records.of_order(stop("s-b"))})
    book.move(bought, "filled", "filled", 700)
    book.move(stop("s-a"), "accepted", "open", 710)  # was for the first half
    book.move(stop("s-a"), "cancelled", "cancelled", 800)
    book.move(stop("s-b"), "accepted", "open", 950)
    latency = book.measured().latency_s
    assert {name: spread.median for name, spread in latency.items()} == pytest.approx(
        {
            "close_to_decision": 0.040,
            "decision_to_sent": 0.015,
            "sent_to_answer": 0.065,
            "sent_to_first_fill": 0.245,
            "sent_to_last_fill": 0.645,
            "last_fill_to_stop": 0.250,
            "close_to_trade": 0.090,
        }
    )
    assert {spread.n for spread in latency.values()} == {1}


def test_a_stop_for_less_than_was_bought_protects_nothing_yet() -> None:
    book = Book()
    bought = order()
    book.decide(bought)
    book.fill(bought, 1.0, 100.0, 300)
    book.add("intent", 300, {"order": records.of_order(stop("s-a"))})
    book.fill(bought, 1.0, 100.0, 700)
    book.add("intent", 700, {"order": records.of_order(stop("s-b"))})
    book.move(stop("s-a"), "accepted", "open", 710)
    assert book.measured().latency_s["last_fill_to_stop"].n == 0


def test_an_order_without_an_answer_has_no_latency() -> None:
    book = Book()
    book.decide(order())
    book.move(order(), "sent", "in_flight", 50)
    book.move(order(), "answer_lost", "unknown", 9_000)
    latency = book.measured().latency_s
    assert (latency["decision_to_sent"].n, latency["sent_to_answer"].n, latency["sent_to_first_fill"].n) == (1, 0, 0)
    assert latency["sent_to_answer"].median is None


# ---- what would have fitted -------------------------------------------------------------------------------------
def many(count: int, seed: int = 3) -> tuple[Book, np.ndarray, np.ndarray]:
    """Return a journal of purchases, their slippage as a share, and their sizes."""
    rng = np.random.default_rng(seed)
    worse, sizes = rng.normal(0.0008, 0.0004, count), np.round(rng.uniform(1.0, 50.0, count), 4)
    book = Book()
    for number, (share, size) in enumerate(zip(worse.tolist(), sizes.tolist(), strict=True)):
        price = 100.0 * (1.0 + share)
        book.done(order(f"s-{number}", quantity=size), price, fee=0.00075 * size * price)
    return book, worse, sizes


def test_the_suggested_rates_are_weighted_means_with_their_interval() -> None:
    book, worse, sizes = many(200)
    found = book.measured()
    share = sizes / sizes.sum()
    mean = float(share @ worse)
    error = float(np.sqrt((share**2) @ ((worse - mean) ** 2) * 200 / 199))
    assert found.slippage_rate.value == pytest.approx(mean, rel=1e-9)
    assert found.slippage_rate.low == pytest.approx(mean - 1.96 * error, rel=1e-4)
    assert found.slippage_rate.high == pytest.approx(mean + 1.96 * error, rel=1e-4)
    assert found.fee_rate.value == pytest.approx(0.00075)
    assert found.slippage_rate.is_enough
    assert not found.slippage_rate.is_used_within  # 8 bp were paid, 5 are in use


def test_the_interval_holds_the_true_rate_in_about_95_of_100_samples() -> None:
    hits = sum(
        estimate.low <= 0.0008 <= estimate.high  # type: ignore[operator]  # 60 orders have an interval
        for seed in range(200)
        for estimate in [many(60, seed)[0].measured().slippage_rate]
    )
    assert 180 <= hits <= 198  # 200 x 0.95 = 190, three standard deviations are 9


def test_parts_of_one_order_are_one_observation() -> None:
    book = Book()
    parted = order(quantity=40.0)
    book.decide(parted)
    for _ in range(40):
        book.fill(parted, 1.0, 100.1, 500)
    found = book.measured()
    assert group(found, "all").against_reference_bp.n == 40
    assert (found.slippage_rate.n, found.slippage_rate.is_enough) == (1, False)
    assert found.slippage_rate.value == pytest.approx(0.001)


def test_lines_to_paste_are_printed_from_30_orders_on() -> None:
    few = suggestions(many(29)[0].measured())
    assert few[1] == "# fee_rate = 0.001: too few fills to suggest another (29 filled orders of 30)"
    enough = suggestions(many(30)[0].measured())
    assert enough[0].startswith("[execution]")
    assert enough[1].startswith("fee_rate = 0.00075  # ")
    assert enough[2].split(" = ")[0] == "slippage_rate"
    assert float(enough[2].split(" = ")[1].split()[0]) == pytest.approx(0.0008, rel=0.3)


def test_a_rate_in_use_that_fits_is_said_to_fit() -> None:
    book = Book()
    for number in range(40):
        book.done(order(f"s-{number}"), 100.05 + 0.01 * (-1) ** number, fee=0.2)
    assert suggestions(book.measured())[2].endswith("in use 0.0005: that in use fits")


def test_fills_that_were_better_suggest_no_slippage_and_never_a_gain() -> None:
    book = Book()
    for number in range(30):
        book.done(order(f"s-{number}"), 99.0)
    assert rate_to_write(book.measured().slippage_rate) == 0.0


# ---- whatever stands in the journal -----------------------------------------------------------------------------
def shown(found: Execution) -> str:
    out = io.StringIO()
    Console(width=160, file=out).print(execution_report(found), highlight=False)
    return "\n".join([out.getvalue(), *suggestions(found)])


def test_a_journal_without_a_fill_has_a_report_of_dashes() -> None:
    found = Book().measured()
    assert found.orders.fill_ratio is None
    text = shown(found)
    assert "too few fills" in text
    assert "nan" not in text.lower()
    json.dumps(found.to_json(), allow_nan=False)


def test_a_journal_without_a_run_is_refused() -> None:
    with pytest.raises(DataError, match="holds no run"):
        measure([])


def test_an_entry_that_cannot_be_read_is_named() -> None:
    book = Book()
    book.add("fill", 0, {"side": "buy"})
    with pytest.raises(FatalError, match="journal entry 2"):
        book.measured()


@given(
    st.lists(
        st.tuples(st.sampled_from(Side), st.floats(0.0001, 1e6), st.floats(0.01, 1e7), st.floats(0.01, 1e7)),
        max_size=40,
    )
)
def test_any_fills_add_up_and_can_be_shown(fills: Iterable[tuple[Side, float, float, float]]) -> None:
    book, fills = Book(), list(fills)
    for number, (side, quantity, price, paid) in enumerate(fills):
        book.done(order(f"s-{number}", side, quantity, price), paid, fee=0.5)
    found = book.measured()
    assert found.value == pytest.approx(sum(quantity * paid for _, quantity, _, paid in fills))
    assert found.fees_paid == pytest.approx(0.5 * len(fills))
    for by in ("side", "symbol", "hour"):
        assert sum(g.against_reference_bp.n for g in found.slippage if g.by == by) == len(fills)
        assert sum(g.value for g in found.slippage if g.by == by) == pytest.approx(found.value)
    json.dumps(found.to_json(), allow_nan=False)
    assert shown(found)
