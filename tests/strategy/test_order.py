"""Orders: the transition table against one written out by hand, client ids, and what an order and a fill refuse."""

import math
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.errors import IllegalTransition, InvalidOrder
from strategy.order import (
    TERMINAL,
    Fill,
    Order,
    OrderEvent,
    OrderKind,
    OrderState,
    OrderStatus,
    Side,
    client_order_id,
    transition,
)

# Every pair, by hand. Columns: what a venue, or our own look-up, can say. A dot is an event the state cannot see.
# Reasons: only INTENDED is sent; only what was sent can lose its answer; a venue reports in any order, so whatever may
# exist there can be accepted, filled or ended at once; only what is not proved to have been accepted can be rejected,
# and only what was never seen there can be found missing, or never to have left; an end stays, but late fills are never
# lost.
_COLUMNS = "sent lost accepted partly filled cancelled expired rejected missing"
_BY_HAND = """
intended          in_flight .       open             partially_filled filled cancelled expired rejected not_placed
in_flight         .         unknown open             partially_filled filled cancelled expired rejected not_placed
unknown           .         unknown open             partially_filled filled cancelled expired rejected not_placed
open              .         .       open             partially_filled filled cancelled expired rejected .
partially_filled  .         .       partially_filled partially_filled filled cancelled expired .        .
filled            .         .       filled           filled           filled filled    filled  .        .
cancelled         .         .       cancelled        cancelled        filled cancelled cancelled .      .
expired           .         .       expired          expired          filled expired   expired .        .
rejected          .         .       .                .                .      .         .       rejected .
not_placed        .         .       .                .                .      .         .       .        not_placed
"""
_EVENTS = dict(
    zip(
        _COLUMNS.split(),
        [
            OrderEvent.SENT,
            OrderEvent.ANSWER_LOST,
            OrderEvent.ACCEPTED,
            OrderEvent.PARTLY_FILLED,
            OrderEvent.FILLED,
            OrderEvent.CANCELLED,
            OrderEvent.EXPIRED,
            OrderEvent.REJECTED,
            OrderEvent.NOT_FOUND,
        ],
        strict=True,
    )
)


def _pairs() -> list[tuple[OrderState, OrderEvent, OrderState | None]]:
    pairs = []
    for line in _BY_HAND.strip().splitlines():
        state, *cells = line.split()
        for event, cell in zip(_EVENTS.values(), cells, strict=True):
            pairs.append((OrderState(state), event, None if cell == "." else OrderState(cell)))
    return pairs


PAIRS = _pairs()


def order(**changes: Any) -> Order:
    values: dict[str, Any] = {
        "client_id": "s-btcusdt-0-0",
        "symbol": "BTC/USDT",
        "side": Side.BUY,
        "quantity": 0.5,
        "reference_price": 100.0,
        "decided_ms": 3_600_000,
        "reason": "voted",
        "reduces": False,
    }
    return Order(**(values | changes))


def fill(**changes: Any) -> Fill:
    values: dict[str, Any] = {
        "fill_id": "f-1",
        "client_id": "s-btcusdt-0-0",
        "symbol": "BTC/USDT",
        "side": Side.BUY,
        "quantity": 0.5,
        "price": 101.0,
        "fee": 0.05,
        "at_ms": 3_600_000,
        "reference_price": 100.0,
    }
    return Fill(**(values | changes))


# ---- the life of an order ---------------------------------------------------------------------------------------
def test_the_hand_written_table_knows_every_pair() -> None:
    assert {(state, event) for state, event, _ in PAIRS} == {(s, e) for s in OrderState for e in OrderEvent}


@pytest.mark.parametrize(("state", "event", "after"), PAIRS, ids=str)
def test_every_event_moves_an_order_as_written_by_hand(
    state: OrderState, event: OrderEvent, after: OrderState | None
) -> None:
    status = OrderStatus(order=order(), state=state, filled=0.1)
    if after is None:
        with pytest.raises(IllegalTransition, match=f"{state}.*{event}"):
            status.after(event, 0.3)
        assert status == OrderStatus(order=order(), state=state, filled=0.1)
        with pytest.raises(IllegalTransition):
            transition(state, event)
    else:
        assert status.after(event, 0.3) == OrderStatus(order=order(), state=after, filled=0.3)
        assert transition(state, event) is after


def test_only_five_states_are_the_end() -> None:
    ends = {OrderState(name) for name in ("filled", "cancelled", "expired", "rejected", "not_placed")}
    assert ends == TERMINAL
    assert {s for s in OrderState if OrderStatus(order=order(), state=s).is_terminal} == ends


@given(st.lists(st.sampled_from(OrderEvent), max_size=30))
def test_no_sequence_of_events_leaves_a_terminal_state_except_for_a_late_fill(events: list[OrderEvent]) -> None:
    status = OrderStatus(order=order())
    for event in events:
        before = status
        try:
            status = status.after(event)
        except IllegalTransition:
            continue
        if before.is_terminal:
            assert status.state is before.state or (event is OrderEvent.FILLED and status.state is OrderState.FILLED)


@given(st.lists(st.tuples(st.sampled_from(OrderEvent), st.none() | st.floats(0.0, 0.5)), max_size=30))
def test_what_is_filled_never_steps_back(steps: list[tuple[OrderEvent, float | None]]) -> None:
    status, most = OrderStatus(order=order()), 0.0
    for event, filled in steps:
        try:
            status = status.after(event, filled)
        except IllegalTransition:
            assert status.filled == most
            continue
        most = max(most, filled or 0.0)
        assert status.filled == most


@pytest.mark.parametrize("end", [OrderEvent.CANCELLED, OrderEvent.EXPIRED])
def test_a_fill_that_arrives_after_the_end_is_counted(end: OrderEvent) -> None:
    ended = OrderStatus(order=order(), state=OrderState.OPEN).after(end)
    late = ended.after(OrderEvent.PARTLY_FILLED, 0.2)
    assert (late.state, late.filled) == (ended.state, 0.2)
    assert late.after(OrderEvent.FILLED, 0.5).state is OrderState.FILLED


def test_all_orders_of_acceptance_fill_and_cancellation_end_with_the_same_fill() -> None:
    for events in (
        (OrderEvent.ACCEPTED, OrderEvent.PARTLY_FILLED, OrderEvent.CANCELLED),
        (OrderEvent.PARTLY_FILLED, OrderEvent.ACCEPTED, OrderEvent.CANCELLED),
        (OrderEvent.PARTLY_FILLED, OrderEvent.CANCELLED, OrderEvent.ACCEPTED),
        (OrderEvent.CANCELLED, OrderEvent.PARTLY_FILLED, OrderEvent.ACCEPTED),
        (OrderEvent.CANCELLED, OrderEvent.ACCEPTED, OrderEvent.PARTLY_FILLED),
        (OrderEvent.ACCEPTED, OrderEvent.CANCELLED, OrderEvent.PARTLY_FILLED),
    ):
        status = OrderStatus(order=order(), state=OrderState.IN_FLIGHT)
        for event in events:
            status = status.after(event, 0.3 if event is OrderEvent.PARTLY_FILLED else None)
        assert (status.state, status.filled) == (OrderState.CANCELLED, 0.3)


# ---- client order ids -------------------------------------------------------------------------------------------
_VENUE_RULE = re.compile(r"[A-Za-z0-9\-_]{1,36}\Z")
_NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
# Candles open on whole minutes; 4,102,444,800 s is the year 2100.
_TIMES = st.integers(0, 4_102_444_800 // 60).map(lambda minutes: minutes * 60_000)
_ORDERS = st.tuples(_NAMES, _NAMES, _TIMES, st.integers(0, 1_000_000))


@given(_ORDERS)
def test_a_client_id_is_the_same_every_time_and_fit_for_every_venue(made_of: tuple[str, str, int, int]) -> None:
    assert client_order_id(*made_of) == client_order_id(*made_of)
    assert _VENUE_RULE.match(client_order_id(*made_of))
    assert order(client_id=client_order_id(*made_of)).client_id == client_order_id(*made_of)


@given(st.lists(_ORDERS, min_size=2, max_size=50, unique=True))
def test_different_orders_have_different_client_ids(orders: list[tuple[str, str, int, int]]) -> None:
    assert len({client_order_id(*made_of) for made_of in orders}) == len(orders)


def test_neighbours_in_every_part_of_an_id_differ() -> None:
    base = ("paper", "BTC/USDT", 1_640_995_200_000, 0)
    neighbours = [
        base,
        ("paper2", *base[1:]),
        ("paper", "BTC/USDC", *base[2:]),
        (*base[:2], base[2] + 60_000, 0),
        (*base[:3], 1),
        (*base[:3], 36),
        ("paperB", "TC/USDT", *base[2:]),
    ]
    assert len({client_order_id(*made_of) for made_of in neighbours}) == len(neighbours)


@pytest.mark.parametrize(
    "symbol",
    [
        "1000SHIB/USDT:USDT",
        "BTC/USDT",
        "A/B",
        "币安人生/USDT",
        "X" * 500 + "/" + "Y" * 500,
        "BTC/USDT:USDT-260327-100000-C",
    ],
)
def test_any_symbol_gives_an_id_within_36_plain_characters(symbol: str) -> None:
    # The latest candle of the year 9999 and a million orders on it.
    made = client_order_id("a-long-instance-name-" * 5, symbol, 253_402_297_200_000, 1_000_000)
    assert _VENUE_RULE.match(made), made


def test_the_readable_part_of_an_id_names_the_symbol() -> None:
    assert client_order_id("paper", "1000SHIB/USDT:USDT", 0, 0).startswith("s-1000shibu-")
    assert client_order_id("paper", "BTC/USDT", 0, 35).endswith("-0-z")  # 35 in base 36
    assert client_order_id("paper", "BTC/USDT", 36_000, 36).endswith("-10-10")  # 36 s, 36 in base 36


@pytest.mark.parametrize(("open_ms", "sequence"), [(-3_600_000, 0), (0, -1)])
def test_an_id_before_1970_or_of_a_negative_sequence_is_refused(open_ms: int, sequence: int) -> None:
    with pytest.raises(InvalidOrder, match=f"BTC/USDT at {open_ms} ms, sequence {sequence}"):
        client_order_id("paper", "BTC/USDT", open_ms, sequence)


# ---- what cannot be ---------------------------------------------------------------------------------------------
_NO_AMOUNT = [0.0, -1.0, math.inf, -math.inf, math.nan]


@pytest.mark.parametrize("quantity", _NO_AMOUNT)
def test_an_order_of_no_quantity_is_refused(quantity: float) -> None:
    with pytest.raises(InvalidOrder, match=f"s-btcusdt-0-0: quantity {quantity}"):
        order(quantity=quantity)


@pytest.mark.parametrize("price", _NO_AMOUNT)
def test_an_order_without_a_price_is_refused(price: float) -> None:
    with pytest.raises(InvalidOrder, match=f"price {price}"):
        order(reference_price=price)


@pytest.mark.parametrize("client_id", ["", "x" * 37, "a b", "a.b", "a:b", "ä", "a\n"])
def test_a_client_id_that_a_venue_would_refuse_is_refused_here(client_id: str) -> None:
    with pytest.raises(InvalidOrder, match="1-36 characters"):
        order(client_id=client_id)


@pytest.mark.parametrize("client_id", ["-", "_", "A-z_09", "x" * 36])
def test_a_client_id_may_hold_letters_digits_dash_and_underscore(client_id: str) -> None:
    assert order(client_id=client_id).client_id == client_id


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": OrderKind.STOP, "side": Side.SELL},
        {"stop_price": 90.0, "side": Side.SELL},
        {"kind": OrderKind.STOP, "stop_price": 90.0, "side": Side.BUY},
        *({"kind": OrderKind.STOP, "stop_price": price, "side": Side.SELL} for price in _NO_AMOUNT),
    ],
)
def test_a_stop_sells_at_a_positive_price_and_nothing_else_has_one(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidOrder, match="stop"):
        order(**changes)


@pytest.mark.parametrize(
    ("field", "value"),
    [(f, v) for f in ("quantity", "price", "reference_price") for v in _NO_AMOUNT]
    + [("fee", v) for v in (-0.01, math.inf, math.nan)],
)
def test_a_fill_of_impossible_amounts_is_refused(field: str, value: float) -> None:
    with pytest.raises(InvalidOrder, match="fill f-1"):
        fill(**{field: value})


def test_values_of_an_order_and_a_fill_are_what_they_say() -> None:
    assert order().notional == 50.0
    assert fill().notional == 50.5
    assert (Side.BUY.sign, Side.SELL.sign) == (1.0, -1.0)
    assert replace(order(), quantity=0.25) == order(quantity=0.25)
