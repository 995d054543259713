"""Faults of fills and cancels (rows 17-20 and 24 of docs/faults.md), by the real daemon before the test venue."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from tests.fakes.serving import BTC
from tests.live.rehearsal import PURCHASE, SLOW, Rehearsal, Rehearse

MAKER = {"entry": "maker", "maker_wait_s": 240.0}
"""Entries that rest until the next candle ends them: a test that has its hand in that needs a slow clock."""


def resting(house: Rehearsal) -> dict[str, Any]:
    """Begin, and return the first purchase: it rests, for the price leaves it as soon as it does."""
    away = f"{1.02 * float(house.client.state()['prices'][BTC]):.2f}"
    leaves = {"do": "trade", "symbol": BTC, "price": away}
    house.client.fault("POST order", "act", is_processed=True, having=PURCHASE, command=leaves)
    house.begin()
    house.so(house.venue_orders, "a purchase rests")
    order = house.venue_orders()[0]
    assert order["client_id"] in {one["client_id"] for one in house.open_orders()}
    return order


def ended(house: Rehearsal, client_id: str) -> str:
    """Wait until an order has ended, and return how."""
    house.so(
        lambda: house.reports(client_id, "filled", "cancelled", "expired", "rejected", "not_found"), f"{client_id} ends"
    )
    (end,) = house.reports(client_id, "filled", "cancelled", "expired", "rejected", "not_found")
    return str(end["event"])


def filled(house: Rehearsal, client_id: str) -> float:
    """Return what the books took in of an order."""
    return sum(fill["quantity"] for fill in house.fills() if fill["client_id"] == client_id)


def at_venue(house: Rehearsal, client_id: str) -> float:
    """Return what the venue traded for an order."""
    return sum(float(r["quantity"]) for r in house.client.audit(kind="fill") if r["client_id"] == client_id)


@pytest.mark.fault(17)
def test_a_part_that_fills_in_silence_is_found_protected_and_the_rest_withdrawn(rehearse: Rehearse) -> None:
    with rehearse(live=MAKER, speed=SLOW) as house:
        order = resting(house)
        house.client.fault("user *", "silence", times=None)
        part = f"{0.3 * float(order['quantity']):.5f}"
        house.hand("fill", client_id=order["client_id"], quantity=part)
        house.so(lambda: house.reports(order["client_id"], "partly_filled"), "the part is found by asking")
        assert filled(house, order["client_id"]) == pytest.approx(float(part))
        house.until_protected()
        first_stop = next(one for one in house.venue_orders() if one["is_stop"])
        assert float(first_stop["quantity"]) == pytest.approx(float(part) * 0.999, abs=1e-5)  # less the fee
        assert ended(house, order["client_id"]) == "cancelled"
        assert filled(house, order["client_id"]) == pytest.approx(float(part))
        house.finish()


@pytest.mark.fault(18)
def test_a_fill_that_comes_before_the_answer_counts_once(rehearse: Rehearse) -> None:
    with rehearse() as house:
        house.client.fault("POST order", "delay", delay_s=30.0, is_processed=True, having=PURCHASE)
        house.begin()
        house.until_bought(1)
        client_id = house.fills()[0]["client_id"]
        fill = next(entry for entry in house.fills() if entry["client_id"] == client_id)
        house.until_bought(2)
        assert ended(house, client_id) == "filled"
        assert fill["quantity"] == pytest.approx(at_venue(house, client_id))
        assert filled(house, client_id) == pytest.approx(at_venue(house, client_id))
        house.finish()


@pytest.mark.fault(18)
@pytest.mark.parametrize("late", ["NEW", "TRADE", "CANCELED"])
def test_a_message_of_an_order_that_is_overtaken_by_the_next_changes_nothing(rehearse: Rehearse, late: str) -> None:
    with rehearse(live=MAKER, speed=SLOW) as house:
        house.client.fault("user executionReport", "reorder", times=None, having={"execution": late, "side": "BUY"})
        order = resting(house)
        house.hand("fill", client_id=order["client_id"], quantity=f"{0.5 * float(order['quantity']):.5f}")
        assert ended(house, order["client_id"]) == "cancelled"
        assert filled(house, order["client_id"]) == pytest.approx(at_venue(house, order["client_id"]))
        house.finish()


@pytest.mark.fault(18)
def test_trades_that_show_only_after_the_end_are_waited_for_and_counted(rehearse: Rehearse) -> None:
    with rehearse(speed=SLOW) as house:
        house.client.fault("user *", "silence", times=None)
        house.client.fault("GET myTrades", "reply", status=200, body="[]", skip=1, times=4)
        house.begin()
        house.until_bought(1)
        client_id = house.fills()[0]["client_id"]
        assert ended(house, client_id) == "filled"
        assert not house.fills()[0]["fill_id"].startswith("r-")  # the venue's own, none made up
        assert filled(house, client_id) == pytest.approx(at_venue(house, client_id))
        house.finish()


@pytest.mark.fault(19)
def test_the_same_fill_from_stream_and_rest_and_twice_is_one_fill(rehearse: Rehearse) -> None:
    with rehearse() as house:
        house.client.fault("user *", "duplicate", times=None)
        house.client.fault("POST order", "drop_reply", times=None, probability=0.5)
        house.begin()
        house.until_bought(3)
        house.ask("flatten")
        house.so(lambda: house.traded(side="sell"), "sold")
        house.end()
        counted = Counter((fill["symbol"], fill["side"], fill["fill_id"]) for fill in house.fills())
        assert set(counted.values()) == {1}
        venue = {(r["symbol"], r["side"], str(r["trade_id"])) for r in house.client.audit(kind="fill")}
        assert {(symbol, side, fill_id) for symbol, side, fill_id in counted} == venue
        house.finish()


@pytest.mark.fault(20)
@pytest.mark.parametrize(
    ("fault", "end"),
    [
        ({"what": "drop_reply"}, "cancelled"),
        ({"what": "drop_request"}, "cancelled"),
        ({"what": "drop_request", "times": 3}, "cancelled"),
        ({"what": "reply", "status": 200, "body": "", "is_processed": False}, "cancelled"),
    ],
)
def test_a_cancel_without_an_answer_stays_pending_until_it_is_proven(
    rehearse: Rehearse, fault: Mapping[str, Any], end: str
) -> None:
    with rehearse(live=MAKER, speed=SLOW) as house:
        house.client.fault("DELETE order", having={"symbol": "BTCUSDT"}, **fault)
        order = resting(house)
        assert ended(house, order["client_id"]) == end
        (gone,) = [r for r in house.client.audit(kind="order_end") if r["client_id"] == order["client_id"]]
        (told,) = house.reports(order["client_id"], end)
        assert told["at_ms"] >= gone["at_ms"] - 1_000  # when it was gone, not when that was asked for
        house.finish()


@pytest.mark.fault(20)
def test_an_order_that_fills_while_it_is_cancelled_is_filled(rehearse: Rehearse) -> None:
    with rehearse(live=MAKER, speed=SLOW) as house:
        house.client.fault("user *", "silence", times=None)
        order = resting(house)
        (account,) = house.ready["accounts"]
        fill = {"do": "fill", "account": account, "client_id": order["client_id"], "quantity": order["quantity"]}
        house.client.fault("DELETE order", "act", command=fill)
        assert ended(house, order["client_id"]) == "filled"
        assert filled(house, order["client_id"]) == pytest.approx(float(order["quantity"]))
        house.finish()


@pytest.mark.fault(20)
def test_a_part_that_fills_while_the_answer_to_the_cancel_is_lost_is_kept(rehearse: Rehearse) -> None:
    with rehearse(live=MAKER, speed=SLOW) as house:
        order = resting(house)
        (account,) = house.ready["accounts"]
        part = f"{0.4 * float(order['quantity']):.5f}"
        fill = {"do": "fill", "account": account, "client_id": order["client_id"], "quantity": part}
        house.client.fault("DELETE order", "act", command=fill)
        house.client.fault("DELETE order", "drop_reply")
        assert ended(house, order["client_id"]) == "cancelled"
        assert filled(house, order["client_id"]) == pytest.approx(float(part))
        house.finish()


@pytest.mark.fault(24)
@pytest.mark.parametrize(("mode", "coin"), [("received", "BTC"), ("quote", "USDT"), ("coin", "BNB")])
def test_whatever_coin_fees_are_paid_in_all_that_is_held_can_be_protected_and_sold(
    rehearse: Rehearse, mode: str, coin: str
) -> None:
    with rehearse() as house:
        house.client.do("list", symbol="BNB/USDT", price="600")
        house.hand("fees", mode=mode)
        house.begin()
        house.until_bought(2)
        house.rest()
        assert {fill["fee_coin"] for fill in house.fills()} == ({"BNB"} if coin == "BNB" else {""})
        assert {r["fee_asset"] for r in house.traded()} == {coin}
        worth = [fill["fee"] for fill in house.fills() if fill["side"] == "buy"]
        rate = 0.00075 if coin == "BNB" else 0.001  # with Binance's 25 % off for fees in BNB
        paid = [rate * float(r["quantity"]) * float(r["price"]) for r in house.traded()]
        assert sum(worth) == pytest.approx(sum(paid), rel=1e-3)
        house.ask("flatten")
        house.so(lambda: not house.stops() and house.total("BTC") < 0.00001, "all of it is sold")
        assert house.client.audit(kind="note") == []
        assert [p for p in house.entries("order") if p["event"] == "rejected"] == []
        house.finish()
