"""What every Broker promises. A test class inherits BrokerContract and provides the fixture `desk`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from daemon.ports import Broker
from strategy.order import Fill, Order, OrderEvent, OrderKind, OrderReport, Side
from tests.fakes.trading import BTC


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A broker under test for one symbol, BTC/USDT, tick 0.01, lot 0.0001.

    move: lets the market trade at a price and returns what that does.  held, cash: the account behind it, to be set.
    """

    broker: Broker
    move: Callable[[float], Sequence[OrderReport]]
    account: "Purse"


@dataclass(slots=True)
class Purse:
    """Cash (quote) and what is held (base)."""

    cash: float = 100_000.0
    held: float = 0.0

    def apply(self, fill: Fill) -> None:
        self.cash -= fill.notional * fill.side.sign + fill.fee
        self.held += fill.quantity * fill.side.sign


def order(number: int = 0, side: Side = Side.BUY, quantity: float = 1.0, stop: float | None = None) -> Order:
    return Order(
        client_id=f"s-test-{number}",
        symbol=BTC,
        side=side,
        quantity=quantity,
        reference_price=100.0,
        decided_ms=0,
        reason="voted",
        reduces=side is Side.SELL,
        kind=OrderKind.MARKET if stop is None else OrderKind.STOP,
        stop_price=stop,
    )


def events(reports: Sequence[OrderReport]) -> list[tuple[str, OrderEvent]]:
    return [(report.client_id, report.event) for report in reports]


class BrokerContract:
    async def test_an_order_is_accepted_and_fills_once_with_the_market(self, desk: Desk) -> None:
        assert events(await desk.broker.submit(order())) == [("s-test-0", OrderEvent.ACCEPTED)]
        (filled,) = desk.move(100.0)
        assert filled.event is OrderEvent.FILLED
        assert filled.fill is not None
        assert filled.fill.quantity == 1.0
        assert filled.fill.price >= 100.0
        assert desk.move(100.0) == []

    async def test_orders_fill_in_the_order_they_came(self, desk: Desk) -> None:
        for number in range(3):
            await desk.broker.submit(order(number))
        assert [report.client_id for report in desk.move(100.0)] == ["s-test-0", "s-test-1", "s-test-2"]

    async def test_a_cancelled_order_never_fills(self, desk: Desk) -> None:
        await desk.broker.submit(order(0))
        await desk.broker.submit(order(1))
        (ended,) = await desk.broker.cancel(order(0), "no more")
        assert (ended.client_id, ended.event, ended.fill, ended.detail) == (
            "s-test-0",
            OrderEvent.CANCELLED,
            None,
            "no more",
        )
        assert [report.client_id for report in desk.move(100.0)] == ["s-test-1"]

    async def test_no_more_is_bought_than_the_cash_pays_for(self, desk: Desk) -> None:
        desk.account.cash = 50.0
        await desk.broker.submit(order())
        part, rest = desk.move(100.0)
        assert part.event is OrderEvent.PARTLY_FILLED
        assert part.fill is not None
        assert part.fill.notional + part.fill.fee <= 50.0
        assert rest.event is OrderEvent.EXPIRED
        assert desk.account.cash >= 0.0

    async def test_no_more_is_sold_than_is_held(self, desk: Desk) -> None:
        desk.account.held = 0.25
        await desk.broker.submit(order(side=Side.SELL))
        part, rest = desk.move(100.0)
        assert part.fill is not None
        assert part.fill.quantity == 0.25
        assert rest.event is OrderEvent.EXPIRED
        assert desk.account.held == 0.0

    async def test_a_stop_sells_once_when_the_price_reaches_it(self, desk: Desk) -> None:
        desk.account.held = 1.0
        desk.broker.protect(BTC, order(7, Side.SELL, stop=95.0))
        assert desk.move(95.01) == []
        (filled,) = desk.move(95.0)
        assert (filled.client_id, filled.event) == ("s-test-7", OrderEvent.FILLED)
        assert filled.fill is not None
        assert filled.fill.price < 95.0
        assert desk.move(90.0) == []

    @pytest.mark.parametrize("is_replaced", [True, False])
    async def test_a_stop_that_was_replaced_or_removed_does_nothing(self, desk: Desk, is_replaced: bool) -> None:
        desk.account.held = 1.0
        desk.broker.protect(BTC, order(7, Side.SELL, stop=95.0))
        desk.broker.protect(BTC, order(8, Side.SELL, stop=90.0) if is_replaced else None)
        assert desk.move(94.0) == []
        assert [report.client_id for report in desk.move(89.0)] == (["s-test-8"] if is_replaced else [])

    async def test_a_release_repeats_nothing(self, desk: Desk) -> None:
        desk.broker.release()
        await desk.broker.submit(order())
        desk.broker.release()
        desk.broker.release()
        assert events(desk.move(100.0)) == [("s-test-0", OrderEvent.FILLED)]
        assert desk.move(100.0) == []

    async def test_closing_twice_is_harmless(self, desk: Desk) -> None:
        await desk.broker.close()
        await desk.broker.close()
