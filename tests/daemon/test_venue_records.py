"""Raw values are ccxt's unified structures; those that are broken are what ccxt 4.5.90 makes of broken bodies."""

import math
from typing import Any

import pytest

from daemon.venue import Balance, Quote, Request, RequestKind, VenueOrder, VenueState, VenueTrade
from daemon.venue_errors import Unusable
from daemon.venue_ids import ClientIds, IdStyle
from daemon.venue_records import balances_of, fees_of, market_of, order_of, placed_of, quote_of, trade_of
from strategy.order import Side, client_order_id

OURS = client_order_id("desk", "BTC/USDT", 1_600_000_020_000, 0)
TICK_SIZE = 4


def ids() -> ClientIds:
    return ClientIds(instance="desk", symbols=("BTC/USDT",), style=IdStyle.PLAIN)


def order(**changes: Any) -> dict[str, Any]:
    return {
        "id": "4711", "clientOrderId": OURS, "symbol": "BTC/USDT", "side": "buy", "amount": 0.5, "filled": 0.2,
        "status": "open", "price": 100.0, "average": 99.5, "cost": 19.9, "timestamp": 1_000,
        "lastUpdateTimestamp": 2_000, "stopPrice": None, "triggerPrice": None, **changes,
    }  # fmt: skip


def trade(**changes: Any) -> dict[str, Any]:
    return {
        "id": "9", "order": "4711", "symbol": "BTC/USDT", "side": "sell", "amount": 0.1, "price": 99.0,
        "timestamp": 3_000, "fee": {"cost": 0.0001, "currency": "BNB"}, **changes,
    }  # fmt: skip


def request(**changes: Any) -> Request:
    values: dict[str, Any] = {
        "client_id": OURS, "symbol": "BTC/USDT", "side": Side.BUY, "quantity": 0.5, "kind": RequestKind.LIMIT_IOC,
        "limit_price": 100.0, **changes,
    }  # fmt: skip
    return Request(**values)


def test_an_order_is_read_field_by_field() -> None:
    assert order_of(order(), ids()) == VenueOrder(
        venue_id="4711", client_id=OURS, symbol="BTC/USDT", side=Side.BUY, quantity=0.5, filled=0.2,
        state=VenueState.OPEN, at_ms=2_000, is_stop=False, average=99.5, price=100.0, stop_price=None, foreign_id=OURS,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("status", "filled", "state"),
    [
        ("open", 0.0, VenueState.OPEN),
        ("canceling", 0.0, VenueState.OPEN),
        ("closed", 0.5, VenueState.FILLED),
        ("closed", 0.3, VenueState.CANCELLED),
        ("canceled", 0.1, VenueState.CANCELLED),
        ("expired", 0.1, VenueState.EXPIRED),
        ("rejected", 0.0, VenueState.REJECTED),
    ],
)
def test_every_status_of_ccxt_has_one_meaning(status: str, filled: float, state: VenueState) -> None:
    assert order_of(order(status=status, filled=filled), ids()).state is state


def test_a_stop_is_told_by_its_price() -> None:
    found = order_of(order(triggerPrice=95.0, side="sell"), ids())
    assert found.is_stop
    assert found.stop_price == 95.0
    assert not order_of(order(triggerPrice=0.0), ids()).is_stop


def test_somebody_elses_order_keeps_its_name_and_gets_none_of_ours() -> None:
    found = order_of(order(clientOrderId="web_1"), ids())
    assert (found.client_id, found.foreign_id) == ("", "web_1")


def test_an_average_is_worked_out_when_only_the_cost_is_told() -> None:
    assert order_of(order(average=None), ids()).average == pytest.approx(99.5)
    assert order_of(order(average=None, filled=0.0, cost=0.0), ids()).average is None


@pytest.mark.parametrize(
    "broken",
    [
        None, "", "<html>", [],
        order(id=None), order(id=""), order(symbol=None), order(side=None), order(side="both"), order(amount=None),
        order(amount=0.0), order(amount=math.nan), order(amount="lots"), order(filled=-0.1), order(filled=math.inf),
        order(status=None), order(status="unheard of"), order(status="closed", filled=None),
        order(timestamp=None, lastUpdateTimestamp=None), order(symbol="ETH/USDT"),
    ],
)  # fmt: skip
def test_an_order_that_lacks_what_it_needs_is_refused(broken: Any) -> None:
    with pytest.raises(Unusable):
        order_of(broken, ids(), symbol="BTC/USDT")


def test_an_answer_with_nothing_but_an_id_confirms_an_order() -> None:
    found = placed_of({"id": "7", "status": None, "info": {}}, request(), ids(), now_ms=5)
    assert (found.venue_id, found.client_id, found.quantity, found.filled) == ("7", OURS, 0.5, 0.0)
    assert (found.state, found.at_ms) == (VenueState.OPEN, 5)


def test_an_answer_that_tells_of_fills_is_believed() -> None:
    found = placed_of(order(status="expired", filled=0.2), request(), ids(), now_ms=5)
    assert (found.state, found.filled, found.average) == (VenueState.EXPIRED, 0.2, 99.5)


@pytest.mark.parametrize(
    "broken",
    [
        None, "", {}, {"id": None, "status": None}, order(symbol="ETH/USDT"), order(side="sell"), order(amount=0.4),
        order(clientOrderId="web_1"), order(clientOrderId=client_order_id("desk", "BTC/USDT", 0, 0)),
    ],
)  # fmt: skip
def test_an_answer_without_an_id_or_about_another_order_confirms_nothing(broken: Any) -> None:
    with pytest.raises(Unusable):
        placed_of(broken, request(), ids(), now_ms=5)


def test_a_trade_is_named_by_the_order_that_was_seen_before() -> None:
    table = ids()
    assert trade_of(trade(), table).client_id == ""
    order_of(order(), table)
    assert trade_of(trade(), table) == VenueTrade(
        trade_id="9", venue_id="4711", client_id=OURS, symbol="BTC/USDT", side=Side.SELL, quantity=0.1, price=99.0,
        fee_cost=0.0001, fee_coin="BNB", at_ms=3_000,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fees", "cost", "coin"),
    [
        ({"fee": {"cost": 0.0, "currency": None}}, 0.0, "USDT"),
        ({"fee": {"cost": -0.01, "currency": "USDT"}}, 0.0, "USDT"),
        ({"fee": None}, 0.0, "USDT"),
        ({"fee": None, "fees": [{"cost": 0.25, "currency": "USDT"}, {"cost": 0.5, "currency": "USDT"}]}, 0.75, "USDT"),
        ({"fee": None, "fees": [{"cost": 0.0, "currency": "BNB"}, {"cost": 0.5, "currency": "BTC"}]}, 0.5, "BTC"),
    ],
    ids=["free", "rebate", "not told", "two parts", "one of two coins"],
)
def test_a_fee_has_one_coin_and_is_never_negative(fees: dict[str, Any], cost: float, coin: str) -> None:
    found = trade_of(trade(**fees), ids())
    assert (found.fee_cost, found.fee_coin) == (cost, coin)


@pytest.mark.parametrize(
    "broken",
    [
        None, trade(id=None), trade(order=None), trade(amount=0), trade(price=None), trade(price=math.nan),
        trade(timestamp=None), trade(side=None), trade(fee={"cost": 1.0, "currency": None}),
        trade(fee={"cost": math.nan, "currency": "USDT"}),
        trade(fees=[{"cost": 1.0, "currency": "BTC"}, {"cost": 1.0, "currency": "BNB"}]),
    ],
)  # fmt: skip
def test_a_trade_that_lacks_what_it_needs_is_refused(broken: Any) -> None:
    with pytest.raises(Unusable):
        trade_of(broken, ids())


def test_a_trade_whose_fee_will_be_told_later_can_be_refused() -> None:
    with pytest.raises(Unusable, match="fee"):
        trade_of(trade(fee=None), ids(), needs_fee=True)


def account(free: dict[str, Any], used: dict[str, Any], total: dict[str, Any]) -> dict[str, Any]:
    return {"free": free, "used": used, "total": total, "info": {}}


def test_an_account_holds_what_two_of_three_numbers_say() -> None:
    found = balances_of(
        account({"BTC": 1.0, "USDT": None}, {"BTC": 0.5, "USDT": 2.0}, {"BTC": None, "USDT": 10.0, "ETH": 0.0}),
        ("BTC",),
    )
    assert found == {"BTC": Balance(free=1.0, used=0.5), "USDT": Balance(free=8.0, used=2.0)}


def test_a_coin_that_does_not_matter_may_be_unreadable() -> None:
    raw = account({"BTC": 1.0, "XYZ": "much"}, {"BTC": 0.0, "XYZ": 0}, {"BTC": 1.0, "XYZ": None})
    assert balances_of(raw, ("BTC", "USDT")) == {"BTC": Balance(free=1.0, used=0.0)}


@pytest.mark.parametrize(
    "broken",
    [
        None, "", {}, account({}, {}, {}),
        account({"BTC": math.nan}, {"BTC": 0.0}, {"BTC": 1.0}),
        account({"BTC": -1.0}, {"BTC": 0.0}, {"BTC": -1.0}),
        account({"BTC": None}, {"BTC": None}, {"BTC": 1.0}),
    ],
)  # fmt: skip
def test_an_account_out_of_a_broken_body_is_refused(broken: Any) -> None:
    with pytest.raises(Unusable):
        balances_of(broken, ("BTC",))


def test_a_ticker_may_lack_a_side_but_not_everything() -> None:
    assert quote_of({"bid": 99.0, "ask": None, "last": 100.0}) == Quote(bid=99.0, ask=None, last=100.0)
    with pytest.raises(Unusable):
        quote_of({"bid": None, "ask": 0.0, "last": math.nan})


def market(**changes: Any) -> dict[str, Any]:
    return {
        "active": True, "precision": {"price": 0.01, "amount": 0.00001},
        "limits": {"amount": {"min": 0.0001, "max": 9_000.0}, "cost": {"min": 5.0}}, "info": {}, **changes,
    }  # fmt: skip


def test_the_limits_of_a_market_are_the_narrowest_of_its_filters() -> None:
    # https://github.com/binance/binance-spot-api-docs/blob/master/filters.md
    filters = [
        {"filterType": "LOT_SIZE", "minQty": "0.0001", "maxQty": "9000.0", "stepSize": "0.00001"},
        {"filterType": "MARKET_LOT_SIZE", "minQty": "0.0", "maxQty": "120.5", "stepSize": "0.0"},
        {"filterType": "PERCENT_PRICE_BY_SIDE", "bidMultiplierUp": "5", "bidMultiplierDown": "0.2",
         "askMultiplierUp": "4", "askMultiplierDown": "0.3", "avgPriceMins": 5},
    ]  # fmt: skip
    found = market_of("BTC/USDT", market(info={"filters": filters}), TICK_SIZE, (0.001, 0.002))
    assert (found.instrument.tick, found.instrument.lot, found.instrument.min_notional) == (0.01, 0.00001, 5.0)
    assert (found.lowest_price, found.highest_price) == (0.3, 4.0)
    assert (found.min_quantity, found.max_quantity) == (0.0001, 120.5)
    assert (found.maker, found.taker) == (0.001, 0.002)
    assert found.is_active


def test_a_market_without_filters_has_no_band() -> None:
    found = market_of("BTC/USDT", market(active=False), TICK_SIZE)
    assert (found.lowest_price, found.highest_price, found.max_quantity) == (None, None, 9_000.0)
    assert not found.is_active


def test_fees_are_shares_or_unknown() -> None:
    assert fees_of({"maker": 0.001, "taker": "0.002"}) == (0.001, 0.002)
    assert fees_of("<html>") == (None, None)
