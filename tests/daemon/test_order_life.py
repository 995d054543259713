"""Row 18 and 19: acks, fills and ends of one order in every order, each as often as it likes."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.order_life import OrderLife
from daemon.venue import VenueOrder, VenueState
from strategy.order import Fill, Order, OrderEvent, OrderReport, OrderState, OrderStatus, Side
from tests.fakes.trading import BTC

ORDER = Order(
    client_id="s-1",
    symbol=BTC,
    side=Side.BUY,
    quantity=1.0,
    reference_price=100.0,
    decided_ms=0,
    reason="voted",
    reduces=False,
)


def life(state: OrderState = OrderState.IN_FLIGHT) -> OrderLife:
    made = OrderLife(OrderStatus(order=ORDER, state=state), lot=0.001)
    made.asked = 1.0
    return made


def shown(filled: float, state: VenueState) -> VenueOrder:
    return VenueOrder(
        venue_id="v1",
        client_id="s-1",
        symbol=BTC,
        side=Side.BUY,
        quantity=1.0,
        filled=filled,
        state=state,
        at_ms=1,
        average=100.0 if filled else None,
    )


def fill(number: int, quantity: float) -> Fill:
    return Fill(
        fill_id=f"t{number}",
        client_id="s-1",
        symbol=BTC,
        side=Side.BUY,
        quantity=quantity,
        price=100.0,
        fee=0.1,
        at_ms=1,
        reference_price=100.0,
    )


def feed(made: OrderLife, piece: VenueOrder | Fill) -> list[OrderReport]:
    return made.show(piece) if isinstance(piece, VenueOrder) else made.take(piece)


PIECES = {
    "filled in two": (
        [shown(0.0, VenueState.OPEN), fill(1, 0.4), fill(2, 0.6), shown(1.0, VenueState.FILLED)],
        OrderState.FILLED,
    ),
    "partly, then cancelled": (
        [shown(0.0, VenueState.OPEN), fill(1, 0.4), shown(0.4, VenueState.OPEN), shown(0.4, VenueState.CANCELLED)],
        OrderState.CANCELLED,
    ),
    "expired with nothing": ([shown(0.0, VenueState.OPEN), shown(0.0, VenueState.EXPIRED)], OrderState.EXPIRED),
}


@pytest.mark.fault(18)
@pytest.mark.parametrize("name", PIECES)
def test_every_order_of_events_comes_to_the_same_end(name: str) -> None:
    pieces, end = PIECES[name]
    total = sum(piece.quantity for piece in pieces if isinstance(piece, Fill))
    for order in permutations(pieces):
        made = life()
        reports = [report for piece in order for report in feed(made, piece)]
        assert made.status.state is end
        assert made.status.filled == pytest.approx(total)
        taken = [report.fill.fill_id for report in reports if report.fill is not None]
        assert len(taken) == len(set(taken))
        assert made.is_ended


@pytest.mark.fault(19)
@given(st.data(), st.sampled_from(sorted(PIECES)))
def test_repeats_change_nothing(data: st.DataObject, name: str) -> None:
    pieces, end = PIECES[name]
    made = life()
    for piece in data.draw(st.permutations([*pieces, *pieces, *pieces])):
        feed(made, piece)
    assert made.status.state is end
    before = made.status
    assert [report for piece in pieces for report in feed(made, piece)] == []
    assert made.status == before


def test_an_end_is_not_told_before_all_its_trades_are_known() -> None:
    made = life()
    assert [report.event for report in made.show(shown(0.4, VenueState.CANCELLED))] == [OrderEvent.ACCEPTED]
    assert (made.is_ended, made.missing) == (False, 0.4)
    assert [r.event for r in made.take(fill(1, 0.4))] == [OrderEvent.PARTLY_FILLED, OrderEvent.CANCELLED]


def test_a_late_trade_still_counts_after_the_end() -> None:
    made = life()
    made.show(shown(0.0, VenueState.CANCELLED))
    (late,) = made.take(fill(1, 0.4))
    assert (late.event, made.status.state, made.status.filled) == (
        OrderEvent.PARTLY_FILLED,
        OrderState.CANCELLED,
        0.4,
    )


def test_what_the_books_knew_before_a_restart_is_not_counted_again() -> None:
    status = OrderStatus(order=ORDER, state=OrderState.PARTIALLY_FILLED, filled=0.4)
    made = OrderLife(status, lot=0.001, fills=frozenset({"t1"}))
    assert made.take(fill(1, 0.4)) == []
    made.show(shown(1.0, VenueState.FILLED))
    assert made.missing == pytest.approx(0.6)
    assert [report.event for report in made.take(fill(2, 0.6))] == [OrderEvent.FILLED]


def test_a_made_up_fill_stands_for_all_that_comes_later() -> None:
    status = OrderStatus(order=ORDER, state=OrderState.FILLED, filled=1.0)
    made = OrderLife(status, lot=0.001, fills=frozenset({"r-s-1-1"}))
    assert made.take(fill(1, 1.0)) == []


def test_what_the_venue_has_shown_cannot_be_denied() -> None:
    made = life()
    made.show(shown(0.0, VenueState.OPEN))
    assert made.deny(2, "never seen") == []
    assert made.status.state is OrderState.OPEN


def test_a_rejection_after_the_fact_ends_what_filled_as_expired() -> None:
    made = life()
    made.take(fill(1, 0.4))
    (ended,) = made.show(shown(0.4, VenueState.REJECTED))
    assert ended.event is OrderEvent.EXPIRED
    assert [report.event for report in life().show(shown(0.0, VenueState.REJECTED))] == [OrderEvent.REJECTED]


@pytest.mark.parametrize("state", [OrderState.INTENDED, OrderState.IN_FLIGHT, OrderState.UNKNOWN])
def test_denial_ends_an_order_from_any_state_before_the_venue(state: OrderState) -> None:
    made = life(state)
    assert made.deny(2, "never seen")[-1].event is OrderEvent.NOT_FOUND
    assert made.status.state is OrderState.NOT_PLACED
