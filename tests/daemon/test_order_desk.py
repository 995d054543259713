"""One order at a time per symbol, symbols side by side, and nothing sent that should not be any more."""

import pytest

from daemon.live_settings import EntryStyle, OrderStyle
from daemon.venue import RefusalKind, RequestKind
from strategy.order import Order, Side
from tests.fakes.live import Desk, make_desk
from tests.fakes.trading import BTC, ETH
from tests.fakes.venue import Fault


async def up(**changes: object) -> Desk:
    desk = make_desk(**changes)  # type: ignore[arg-type]
    await desk.up()
    return desk


async def test_a_symbol_whose_order_is_unknown_waits_while_others_trade() -> None:
    desk = await up()
    desk.venue.mute = True
    desk.venue.fail("create", Fault.DROP_REQUEST)
    await desk.buy(1.0, BTC)
    other = await desk.buy(1.0, ETH)
    await desk.clock.advance(5.0)
    assert other is not None
    assert desk.state(other) == "filled"
    assert await desk.buy(1.0, BTC) is None
    await desk.down()


async def test_orders_of_one_symbol_leave_one_after_the_other() -> None:
    desk = await up()
    desk.venue.fail("create", Fault.DROP_REQUEST)
    orders = [desk.order(BTC, Side.BUY, 0.1) for _ in range(2)]
    for order in orders:
        desk.books.intend(order)
        await desk.broker.submit(order)
    desk.broker.release()
    await desk.clock.advance(25.0)
    sent = [about for call, about in desk.venue.calls if call == "create"]
    assert sent == [orders[0].client_id]
    await desk.clock.advance(30.0)
    sent = [about for call, about in desk.venue.calls if call == "create"]
    assert sent[:2] == [order.client_id for order in orders]
    await desk.down()


async def test_an_order_submitted_twice_leaves_once() -> None:
    desk = await up()
    order = await desk.buy(1.0)
    assert order is not None
    await desk.broker.submit(order)
    desk.broker.release()
    await desk.clock.advance(5.0)
    assert len(desk.venue.orders_of(order.client_id)) == 1
    await desk.down()


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, RequestKind.LIMIT_IOC),
        ({"order": OrderStyle.MARKET}, RequestKind.MARKET),
        ({"entry": EntryStyle.MAKER}, RequestKind.POST_ONLY),
    ],
)
async def test_the_settings_say_how_a_purchase_reaches_the_book(changes: dict[str, object], kind: RequestKind) -> None:
    desk = await up(**changes)
    order = await desk.buy(1.0)
    await desk.clock.advance(1.0)
    assert order is not None
    assert next(r for r in desk.venue.log if r.order.client_id == order.client_id).request.kind is kind
    await desk.down()


@pytest.mark.parametrize("fault", [None, Fault.DROP_REPLY])
async def test_a_post_only_entry_has_its_time_and_no_more(fault: Fault | None) -> None:
    desk = await up(entry=EntryStyle.MAKER, maker_wait_s=20.0)
    if fault is not None:
        desk.venue.fail("create", fault)
    order = await desk.buy(1.0)
    await desk.clock.advance(19.0)
    assert order is not None
    assert desk.state(order) == "open"
    await desk.clock.advance(2.0)
    assert desk.state(order) == "cancelled"
    assert desk.reports(order.client_id)[-1].detail == "not filled within 20 s"
    await desk.down()


async def test_a_post_only_entry_that_would_take_is_dropped() -> None:
    desk = await up(entry=EntryStyle.MAKER)
    desk.venue.fail("create", RefusalKind.WOULD_TRADE)
    order = await desk.buy(1.0)
    await desk.clock.advance(1.0)
    assert order is not None
    assert desk.state(order) == "rejected"
    await desk.down()


async def test_a_thin_book_expires_the_rest_and_the_symbol_is_free() -> None:
    desk = await up()
    desk.venue.books[BTC].depth = 0.25
    order = await desk.buy(1.0)
    await desk.clock.advance(5.0)
    assert order is not None
    assert (desk.state(order), desk.books.holdings[BTC]) == ("expired", 0.25)
    assert not desk.books.busy(BTC)
    await desk.down()


async def test_a_purchase_without_a_price_is_left_but_an_exit_goes_by_the_mark() -> None:
    desk = await up()
    await desk.buy(1.0)
    await desk.clock.advance(1.0)
    desk.venue.fail("quote", Fault.UNREACHABLE)
    order = await desk.buy(0.5)
    await desk.clock.advance(1.0)
    assert order is not None
    assert desk.state(order) == "not_placed"
    desk.venue.fail("quote", Fault.UNREACHABLE, Fault.UNREACHABLE)
    sale = await desk.sell()
    await desk.clock.advance(5.0)
    assert sale is not None
    assert desk.state(sale) == "filled"
    await desk.down()


@pytest.mark.fault(24)
async def test_a_sale_is_bounded_by_what_fees_have_left() -> None:
    """Row 24: an exchange that took a fee in base which the books do not know of yet."""
    desk = await up()
    await desk.buy(1.0)
    await desk.clock.advance(1.0)
    desk.venue.holds["BTC"] -= 0.0012
    sale = await desk.sell()
    await desk.clock.advance(1.0)
    assert sale is not None
    assert desk.venue.orders_of(sale.client_id)[0].quantity == pytest.approx(0.998)
    assert desk.state(sale) == "filled"
    await desk.down()


@pytest.mark.fault(25)
async def test_a_real_shortfall_is_for_the_venue_to_state() -> None:
    """Row 25: half of it is gone; the venue refuses, and the account is compared with the books."""
    desk = await up()
    await desk.buy(1.0)
    await desk.clock.advance(60.0)
    asked = desk.reconcile.asked
    desk.venue.holds["BTC"] -= 0.5
    sale = await desk.sell()
    await desk.clock.advance(15.0)
    assert sale is not None
    assert desk.state(sale) == "rejected"
    assert desk.reconcile.asked > asked
    assert desk.books.holdings[BTC] == pytest.approx(0.5)
    assert desk.stops_at_venue() == [(0.5, 95.0)]
    await desk.down()


async def test_a_purchase_is_too_late_even_when_asking_the_price_took_the_time() -> None:
    desk = await up(decision_age_s=10.0)
    order = desk.order(BTC, Side.BUY, 1.0)
    slow = desk.venue.quote

    async def quote(symbol: str) -> object:
        await desk.clock.sleep_s(11.0)
        return await slow(symbol)

    desk.broker._desk._venue = type("Slow", (), {"quote": staticmethod(quote)})()
    desk.books.intend(order)
    await desk.broker.submit(order)
    desk.broker.release()
    await desk.clock.advance(12.0)
    assert desk.state(order) == "not_placed"
    assert desk.venue.log == []
    await desk.down()


async def test_a_stranger_trading_by_hand_is_not_taken_for_a_lost_order() -> None:
    desk = await up()
    desk.venue.fail("create", Fault.DROP_REQUEST)
    order = await desk.buy(1.0)
    desk.venue.stranger(BTC, Side.BUY, 1.0, 99.5)
    desk.venue.move(BTC, 99.4, 99.45)
    await desk.clock.advance(60.0)
    assert isinstance(order, Order)
    assert desk.state(order) == "not_placed"
    assert desk.books.holdings[BTC] == 0.0
    await desk.down()
