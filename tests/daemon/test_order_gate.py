import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.order_gate import OrderGate
from daemon.venue import Quote, Request, RequestKind
from strategy.order import Side
from tests.fakes.live import make_desk, settings
from tests.fakes.trading import BTC

QUOTE = Quote(bid=99.0, ask=101.0, last=100.0)


def request(quantity: float = 1.0, side: Side = Side.BUY, **changes: object) -> Request:
    made = Request(client_id="s-1", symbol=BTC, side=side, quantity=quantity, kind=RequestKind.LIMIT_IOC)
    return replace(made, **{"limit_price": 100.0, **changes})  # type: ignore[arg-type]


def gate(**changes: object) -> OrderGate:
    return OrderGate(settings(**{"max_order_value": 500.0, "max_position_value": 800.0, **changes}))


@pytest.mark.parametrize(
    ("asked", "held", "why"),
    [
        (request(5.0), 0.0, None),
        (request(5.01), 0.0, "order value 501.00 is above live.max_order_value = 500.00"),
        (request(5.0), 3.0, None),
        (request(5.0), 3.1, "position value 810.00 with what is under way"),
        (request(symbol="DOGE/USDT"), 0.0, "DOGE/USDT is not among the symbols"),
        (request(0.0), 0.0, "quantity 0.0 is not a positive number"),
        (request(-1.0), 0.0, "quantity -1.0"),
        (request(math.nan), 0.0, "quantity nan"),
        (request(math.inf), 0.0, "quantity inf"),
        (request(0.1, limit_price=1_001.0), 0.0, "more than 10 times away"),
        (request(0.1, limit_price=9.9), 0.0, "more than 10 times away"),
        (request(0.1, limit_price=math.nan), 0.0, "price nan"),
        (request(1.0, Side.SELL), 1.0, None),
        (request(1.001, Side.SELL), 1.0, "sells 1.001, but only 1.0 is held"),
        (request(900.0, Side.SELL), 900.0, None),
        (request(1.0, Side.SELL, kind=RequestKind.STOP, stop_price=5.0), 1.0, "more than 10 times away"),
    ],
)
def test_each_cap_is_named_when_it_is_broken(asked: Request, held: float, why: str | None) -> None:
    refusal = gate().refusal(asked, quote=QUOTE, held=held, now_s=0.0)
    if why is None:
        assert refusal is None
    else:
        assert refusal is not None
        assert why in refusal


def test_a_market_order_is_valued_at_the_market() -> None:
    asked = request(5.01, kind=RequestKind.MARKET, limit_price=None)
    assert gate().refusal(asked, quote=QUOTE, held=0.0, now_s=0.0) is not None
    empty = Quote(bid=None, ask=None, last=None)
    assert "no price" in (gate().refusal(asked, quote=empty, held=0.0, now_s=0.0) or "")


def test_purchases_under_way_count_until_they_end() -> None:
    made = gate()
    assert made.refusal(request(5.0), quote=QUOTE, held=0.0, now_s=0.0) is None
    second = request(4.0, client_id="s-2")
    assert made.refusal(second, quote=QUOTE, held=0.0, now_s=0.0) is not None
    made.end("s-1")
    assert made.refusal(second, quote=QUOTE, held=0.0, now_s=0.0) is None
    assert made.refusals == 1


def test_the_rate_limits_purchases_but_never_exits() -> None:
    made = gate(max_orders_per_minute=2)
    for number in range(2):
        asked = request(0.1, client_id=f"s-{number}")
        assert made.refusal(asked, quote=QUOTE, held=0.0, now_s=float(number)) is None
        made.end(asked.client_id)
    third = request(0.1, client_id="s-3")
    assert "orders within a minute" in (made.refusal(third, quote=QUOTE, held=0.0, now_s=59.9) or "")
    assert made.refusal(request(0.1, Side.SELL), quote=QUOTE, held=1.0, now_s=59.9) is None
    assert made.refusal(third, quote=QUOTE, held=0.0, now_s=60.1) is None


@pytest.mark.fault(35)
@given(
    st.lists(st.tuples(st.floats(0.0, 50.0), st.floats(1.0, 1_000.0), st.booleans()), max_size=30),
)
def test_whatever_is_asked_the_position_stays_below_its_cap(asked: list[tuple[float, float, bool]]) -> None:
    made, held = gate(max_orders_per_minute=1_000), 0.0
    for number, (quantity, price, is_ended) in enumerate(asked):
        quote = Quote(bid=price, ask=price, last=price)
        name = f"s-{number}"
        if (
            made.refusal(request(quantity, client_id=name, limit_price=price), quote=quote, held=held, now_s=0.0)
            is None
        ):
            assert quantity * price <= 500.0 * 1.000001
            assert (held + quantity) * price <= 800.0 * 1.000001
            if is_ended:
                held += quantity
                made.end(name)


@pytest.mark.fault(35)
async def test_a_risk_manager_that_approves_everything_cannot_pass_it() -> None:
    """Row 35: the engine of this test has no risk manager at all, and asks for ever more."""
    desk = make_desk(max_order_value=300.0, max_position_value=800.0, max_orders_per_minute=1_000)
    desk.venue.holds["USDT"] = desk.books.money = 1e9
    await desk.up()
    for quantity in (2.9, 1_000.0, 2.9, 2.9, 3.1, 0.001, 2.1, 0.5):
        await desk.buy(quantity)
        await desk.clock.advance(10.0)
        assert desk.venue.holds["BTC"] * 100.01 <= 800.0
    bought = sum(r.order.filled for r in desk.venue.log if r.order.side is Side.BUY)
    assert bought == pytest.approx(2.9 + 2.9 + 2.1)
    assert desk.broker.refusals == 4  # 1,000 and 3.1 as orders; the third 2.9 and the last 0.5 as positions
    await desk.down()


def test_other_caps_hold_from_the_next_order_on_and_what_was_counted_stays_counted() -> None:
    caps = gate(max_orders_per_minute=2)
    assert caps.refusal(request(4.0), quote=QUOTE, held=0.0, now_s=0.0) is None
    caps.cap(settings(max_order_value=300.0, max_position_value=600.0, max_orders_per_minute=2))
    assert "above live.max_order_value = 300.00" in str(caps.refusal(request(4.0), quote=QUOTE, held=0.0, now_s=1.0))
    position = caps.refusal(request(2.5, client_id="s-2"), quote=QUOTE, held=0.0, now_s=1.0)
    assert "position value 650.00 with what is under way" in str(position)  # 4 are under way, at 100
    caps.cap(settings(max_order_value=1_000.0, max_position_value=2_000.0, max_orders_per_minute=1))
    assert "live.max_orders_per_minute is reached" in str(caps.refusal(request(1.0), quote=QUOTE, held=0.0, now_s=2.0))
    caps.cap(settings(max_order_value=1_000.0, max_position_value=2_000.0, max_orders_per_minute=2))
    assert caps.refusal(request(9.0, client_id="s-3"), quote=QUOTE, held=0.0, now_s=2.0) is None
