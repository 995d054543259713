"""Faults of what the venue, the market and we ourselves allow (rows 21-23, 25, 33 and 35 of docs/faults.md)."""

from decimal import Decimal

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from daemon import journal_reader
from daemon.live_settings import EntryStyle, LiveSettings, OrderStyle
from daemon.order_price import Unfit, request_for, stop_for
from daemon.testvenue.filters import Rules, check
from daemon.testvenue.orders import NewOrder, OrderType, Refusal, TimeInForce
from daemon.venue import Market, Quote, Request, RequestKind
from strategy.instrument import Instrument
from strategy.order import Order, OrderKind, Side
from tests.fakes.serving import BTC
from tests.live.rehearsal import EAGER, PURCHASE, Rehearsal, Rehearse

TYPES = {
    RequestKind.MARKET: OrderType.MARKET,
    RequestKind.LIMIT_IOC: OrderType.LIMIT,
    RequestKind.POST_ONLY: OrderType.POST_ONLY,
}
STEPS = ["0.00000001", "0.00001", "0.001", "0.01", "0.5", "1", "25"]


# ---- 21: what leaves fits ---------------------------------------------------------------------------------------
def market_of(rules: Rules) -> Market:
    instrument = Instrument(
        symbol=BTC, tick=float(rules.tick), lot=float(rules.lot), min_notional=float(rules.min_value)
    )
    low, high = max(float(rules.bid_down), float(rules.ask_down)), min(float(rules.bid_up), float(rules.ask_up))
    sizes = {"min_quantity": float(rules.min_quantity), "max_quantity": float(rules.max_quantity)}
    return Market(instrument=instrument, lowest_price=low, highest_price=high, **sizes)


def as_the_venue_reads(request: Request) -> NewOrder:
    """Return a request in the venue's own exact numbers: what ccxt writes is the shortest text of each."""
    type_ = OrderType.STOP if request.kind is RequestKind.STOP else TYPES[request.kind]
    return NewOrder(
        symbol=request.symbol,
        side=request.side,
        type=OrderType.STOP_LIMIT if type_ is OrderType.STOP and request.limit_price else type_,
        quantity=Decimal(repr(request.quantity)),
        price=Decimal(repr(request.limit_price or 0.0)),
        stop_price=Decimal(repr(request.stop_price or 0.0)),
        time_in_force=TimeInForce.IOC if request.kind is RequestKind.LIMIT_IOC else TimeInForce.GTC,
    )


@st.composite
def rules(draw: st.DrawFn) -> Rules:
    tick, lot = Decimal(draw(st.sampled_from(STEPS))), Decimal(draw(st.sampled_from(STEPS)))
    return Rules(
        tick=tick,
        lot=lot,
        min_price=tick,
        max_price=Decimal(0),
        min_quantity=lot * draw(st.sampled_from([1, 10])),
        max_quantity=lot * draw(st.integers(1_000, 10**9)),
        market_max_quantity=Decimal(0),
        min_value=Decimal(draw(st.sampled_from(["0", "1", "5", "10"]))),
        max_value=Decimal(0),
        bid_up=Decimal(draw(st.sampled_from(["1.01", "1.2", "5"]))),
        ask_down=Decimal(draw(st.sampled_from(["0.2", "0.8", "0.99"]))),
    )


@pytest.mark.fault(21)
@settings(max_examples=1_000, deadline=None)
@given(
    rules=rules(),
    ticks=st.integers(200, 10**7),
    size=st.floats(1e-9, 1e9),
    smallest=st.none() | st.floats(0.95, 1.05),
    side=st.sampled_from(Side),
    style=st.sampled_from(OrderStyle),
    reduces=st.booleans(),
    is_stop=st.booleans(),
    drift=st.floats(0.97, 1.03),
    entry=st.sampled_from(EntryStyle),
    funds=st.sampled_from([3.0, 100.0, 1e12]),
)
@example(
    rules=Rules(min_value=Decimal(10)),
    ticks=10_000,
    size=1.0,
    smallest=0.98,
    side=Side.BUY,
    style=OrderStyle.MARKET,
    reduces=False,
    is_stop=False,
    drift=1.03,
    entry=EntryStyle.TAKER,
    funds=1e12,
)
def test_what_leaves_is_never_refused_by_a_filter_of_the_venue(
    *,
    rules: Rules,
    ticks: int,
    size: float,
    smallest: float | None,
    side: Side,
    style: OrderStyle,
    reduces: bool,
    is_stop: bool,
    drift: float,
    entry: EntryStyle,
    funds: float,
) -> None:
    last = rules.tick * ticks
    price, market = float(last), market_of(rules)
    if smallest is not None:  # around the smallest order, where refusals are near
        size = max(smallest * float(rules.min_value) / price, 1e-9)
    live = LiveSettings(
        symbols=(BTC,), instance="t", order=style, entry=entry, max_order_value=1e30, max_position_value=1e30
    )
    order = Order(
        client_id="t-btcusdt-1",
        symbol=BTC,
        side=Side.SELL if is_stop else side,
        quantity=size,
        reference_price=price * drift,
        decided_ms=0,
        reason="voted",
        reduces=is_stop or (side is Side.SELL and reduces),
        kind=OrderKind.STOP if is_stop else OrderKind.MARKET,
        stop_price=market.instrument.floor_price(price * 0.95) if is_stop else None,
    )
    quote = Quote(bid=price, ask=price, last=price)
    if is_stop:
        assume(order.stop_price)
        # A limit below the stop lies outside so narrow a band: that venue refuses it, and the position is sold.
        assume(style is OrderStyle.MARKET or rules.ask_down <= Decimal("0.8"))
        made: Request | Unfit = stop_for(order, size, market, live, has_market_stop=style is OrderStyle.MARKET)
    else:
        made = request_for(order, size, quote, market, live, funds=funds)
    if isinstance(made, Unfit):
        return
    assert made.quantity <= size + 0.02 * float(rules.lot)  # a hair, which sums of float64 leave, and no lot
    try:
        check(as_the_venue_reads(made), rules, last, open_orders=0, open_stops=0)
    except Refusal as refusal:
        raise AssertionError(f"{made} was refused: {refusal}") from refusal


def first_rejected(house: Rehearsal) -> str:
    house.so(lambda: [p for p in house.entries("order") if p["event"] == "rejected"], "an order is rejected")
    return str(next(p["client_id"] for p in house.entries("order") if p["event"] == "rejected"))


@pytest.mark.fault(21)
def test_a_filter_refusal_has_the_markets_read_again_and_the_order_is_left(rehearse: Rehearse) -> None:
    with rehearse() as house:
        house.client.fault(
            "POST order", "reject", code="-1013", message="Filter failure: LOT_SIZE", status=400, having=PURCHASE
        )
        house.begin()
        client_id = first_rejected(house)
        house.until_bought(1)
        (refused,) = house.sent(client_id)
        bought = house.asked("POST", "/order")[1]
        read = [r["seq"] for r in house.asked("GET", "/exchangeInfo") if refused["seq"] < r["seq"] < bought["seq"]]
        assert len(read) == 1
        assert house.fills()[0]["client_id"] != client_id
        house.finish()


# ---- 22: filters change -----------------------------------------------------------------------------------------
@pytest.mark.fault(22)
def test_new_steps_between_two_orders_are_learned_from_a_refusal_and_kept_in_the_journal(rehearse: Rehearse) -> None:
    with rehearse() as house:
        house.begin()
        house.until_bought(1)
        house.client.do("rules", symbol=BTC, lot="0.01", min_quantity="0.01", tick="0.5")
        first_rejected(house)
        known = len(house.venue_orders())
        house.until_bought(2)
        house.ask("pause")
        house.so(lambda: is_covered(house, "0.01"), "a stop of everything, in the new steps")
        later = [order for order in house.venue_orders()[known:] if not order["is_stop"]]
        assert later
        for order in later:
            assert Decimal(order["quantity"]) % Decimal("0.01") == 0
            assert Decimal(order["price"]) % Decimal("0.5") == 0
            asked = next(o for o in orders_of(house) if o["client_id"] == order["client_id"])
            assert float(order["quantity"]) <= asked["quantity"] + 1e-12
        setups = [
            entry.payload["setup"]["instruments"][0] for entry in journal_reader.read(house.journal, kinds=("run",))
        ]
        assert [steps["lot"] for steps in setups] == [0.00001, 0.01]
        house.finish()


def is_covered(house: Rehearsal, lot: str) -> bool:
    """Tell whether one stop rests, of all whole lots that are held."""
    quantities = [Decimal(stop["quantity"]) for stop in house.stops()]
    return (
        len(quantities) == 1
        and 0.0 <= house.total("BTC") - float(quantities[0]) < float(lot)
        and (quantities[0] % Decimal(lot) == 0)
    )


def orders_of(house: Rehearsal) -> list[dict[str, float]]:
    decided = [payload["order"] for payload in house.entries("decision") if payload["order"] is not None]
    return decided + [order for payload in house.entries("exit", "risk", "command") for order in payload["orders"]]


# ---- 23: dust ---------------------------------------------------------------------------------------------------
@pytest.mark.fault(23)
def test_dust_is_neither_protected_nor_sold_again_and_goes_with_the_next_sale(rehearse: Rehearse) -> None:
    with rehearse(move=0.0001) as house:
        house.begin()
        house.until_bought(1)
        house.ask("flatten")
        house.so(lambda: not house.stops() and 0.0 < house.total("BTC") < 0.00001, "all but dust is sold")
        house.so(lambda: house.traded(side="sell"), "it is sold")
        known, candles = len(house.asked("POST", "/order")), len(house.reasons())
        house.so(lambda: len(house.reasons()) >= candles + 5, "five more candles")
        assert len(house.asked("POST", "/order")) == known  # nothing is tried, nothing is protected
        dust, fills = house.total("BTC"), len(house.fills())
        house.ask("resume")
        house.until_bought(2)
        house.rest()
        bought = sum(fill["quantity"] - fill["fee_base"] for fill in house.fills()[fills:])
        assert house.total("BTC") == pytest.approx(dust + bought, abs=1e-9)
        house.finish()


@pytest.mark.fault(23)
def test_what_is_worth_less_than_the_smallest_order_is_dust_too(rehearse: Rehearse) -> None:
    with rehearse(move=0.0001) as house:
        house.begin()
        house.until_bought(1)
        house.rest()
        house.client.fault("POST order", "act", having={"side": "SELL", "type": "LIMIT"}, command=thin(house, "0.0002"))
        house.ask("flatten")
        house.so(lambda: 0.00001 < house.total("BTC") < 0.00045, "all but a little is sold")
        known, candles = len(house.venue_orders()), len(house.reasons())
        house.so(lambda: len(house.reasons()) >= candles + 4, "four more candles")
        assert len(house.venue_orders()) == known
        assert house.stops() == []
        house.finish()


def thin(house: Rehearsal, left: str) -> dict[str, object]:
    """Return the command that leaves so few bids that a sale of everything leaves `left`."""
    price = house.client.state()["prices"][BTC]
    bids = [[price, f"{Decimal(house.stops()[0]['quantity']) - Decimal(left)}"]]
    return {"do": "offer", "symbol": BTC, "bids": bids, "asks": [[f"{Decimal(price) * 2:.2f}", "1"]]}


# ---- 25: the money is gone --------------------------------------------------------------------------------------
@pytest.mark.fault(25)
def test_a_purchase_our_cash_no_longer_covers_is_refused_reconciled_and_halts_the_symbol(rehearse: Rehearse) -> None:
    with rehearse(balances="USDT=50000,BNB=10") as house:
        (account,) = house.ready["accounts"]
        takes = {"do": "transfer", "account": account, "asset": "USDT", "delta": "-49500"}
        house.client.fault("POST order", "act", having=PURCHASE, command=takes)
        house.begin()
        client_id = first_rejected(house)
        house.so(lambda: len(house.entries("external")) >= 3, "the loss is found")  # two of the opening
        lost = house.entries("external")[2]
        assert lost["asset"] == "USDT"
        assert lost["ours"] == pytest.approx(-49_500.0)
        assert lost["halts"]
        candles = len(house.reasons())
        house.so(lambda: len(house.reasons()) >= candles + 3, "three more candles")
        assert set(house.reasons()[candles + 1 :]) == {"symbol_halted"}
        assert house.venue_orders() == []
        assert len(house.sent(client_id)) == 1
        house.finish()


# ---- 33: the price has moved ------------------------------------------------------------------------------------
def jump(house: Rehearsal, share: float) -> dict[str, str]:
    price = float(house.client.state()["prices"][BTC])
    return {"do": "trade", "symbol": BTC, "price": f"{price * share:.2f}"}


@pytest.mark.fault(33)
def test_a_purchase_is_left_when_the_price_has_left_the_collar_before_it_is_sent(rehearse: Rehearse) -> None:
    with rehearse() as house:
        house.begin()
        house.until_bought(1)
        house.rest()
        decided = len(house.decided())
        house.client.fault("GET ticker/24hr", "act", command=jump(house, 1.02))
        house.ask("resume")
        house.so(lambda: len(house.decided()) > decided and house.reports(house.decided()[decided]), "one is left")
        left = house.decided()[decided]
        (told,) = house.reports(left)
        assert told["event"] == "not_found"
        assert "collar" in told["detail"]
        house.until_bought(2)
        assert house.sent(left) == []
        house.finish()


@pytest.mark.fault(33)
def test_a_purchase_that_the_price_leaves_on_its_way_fills_nothing_beyond_the_collar(rehearse: Rehearse) -> None:
    with rehearse() as house:
        house.client.fault("POST order", "act", having=PURCHASE, command=jump(house, 1.02))
        house.begin()
        first = house.venue_orders
        house.so(first, "it is sent")
        client_id = first()[0]["client_id"]
        house.so(lambda: house.reports(client_id, "expired"), "it ends unfilled")
        assert [r for r in house.traded() if r["client_id"] == client_id] == []
        house.until_bought(1)
        for trade in house.traded():
            order = next(o for o in house.venue_orders() if o["client_id"] == trade["client_id"])
            asked = next(o for o in orders_of(house) if o["client_id"] == trade["client_id"])
            assert float(trade["price"]) <= float(order["price"]) <= asked["reference_price"] * 1.005 + 0.01
        house.finish()


# ---- 35: the second cap -----------------------------------------------------------------------------------------
@pytest.mark.fault(35)
def test_orders_a_mistaken_risk_manager_approves_never_leave_above_the_gates_own_caps(rehearse: Rehearse) -> None:
    # The risk manager may put half of 50,000 into it, an eighth at a time; the gate was told 3,000 and 7,000.
    with rehearse(live={"max_order_value": 3_000.0}, votes=EAGER) as house:
        house.begin()
        client_id = first_rejected(house)
        assert "live.max_order_value" in house.reports(client_id, "rejected")[0]["detail"]
        candles = len(house.reasons())
        house.so(lambda: len(house.reasons()) >= candles + 3, "three more candles")
        assert house.asked("POST", "/order") == []
        house.finish()


@pytest.mark.fault(35)
def test_positions_a_mistaken_risk_manager_approves_stay_below_the_gates_own_cap(rehearse: Rehearse) -> None:
    with rehearse(live={"max_position_value": 14_000.0}, votes=EAGER) as house:
        house.begin()
        client_id = first_rejected(house)
        assert "live.max_position_value" in house.reports(client_id, "rejected")[0]["detail"]
        candles = len(house.reasons())
        house.so(lambda: len(house.reasons()) >= candles + 3, "three more candles")
        bought = sum(float(r["quantity"]) * float(r["price"]) for r in house.traded())
        assert 6_000.0 < bought <= 14_000.0
        house.finish()
