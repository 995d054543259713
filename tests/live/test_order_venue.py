"""Faults of the venue as a whole (rows 29-32 of docs/faults.md), by the real daemon before the test venue."""

import http.client
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest

from tests.fakes.serving import BTC
from tests.live.rehearsal import PURCHASE, SLOW, Rehearsal, Rehearse


def more_candles(house: Rehearsal, count: int = 3) -> list[str]:
    """Wait for so many more decisions, and return their reasons."""
    known = len(house.reasons())
    house.so(lambda: len(house.reasons()) >= known + count, f"{count} more candles")
    return house.reasons()[known:]


def changes_at_venue(house: Rehearsal) -> list[Mapping[str, Any]]:
    """Return the requests that would have changed something at the venue."""
    return [*house.asked("POST", "/order"), *house.asked("DELETE", "/order")]


# ---- 29: a market that is closed --------------------------------------------------------------------------------
@pytest.mark.fault(29)
def test_a_closed_market_is_not_bought_and_trades_again_when_it_opens(rehearse: Rehearse) -> None:
    with rehearse() as house:
        closes = {"do": "status", "symbol": BTC, "status": "break"}
        house.client.fault("POST order", "act", having=PURCHASE, command=closes)
        house.begin()
        house.so(lambda: "venue_closed" in house.reasons(), "it is known to be closed")
        tried = len(changes_at_venue(house))
        assert set(more_candles(house)) == {"venue_closed"}
        assert len(changes_at_venue(house)) == tried == 1
        house.client.do("status", symbol=BTC, status="trading")
        house.until_bought(1)
        house.until_protected()
        house.finish()


@pytest.mark.fault(29)
def test_a_position_in_a_market_that_closes_keeps_its_stop_and_leaves_once_it_can(rehearse: Rehearse) -> None:
    with rehearse() as house:
        house.begin()
        house.until_bought(1)
        house.until_protected()
        house.client.do("status", symbol=BTC, status="break")
        house.so(lambda: "venue_closed" in house.reasons(), "it is known to be closed")
        house.ask("flatten")
        more_candles(house, 2)
        assert house.traded(side="sell") == []
        house.client.do("status", symbol=BTC, status="trading")
        house.so(lambda: house.traded(side="sell") and not house.stops(), "it is sold as soon as it can be", 90.0)
        assert house.total("BTC") < 0.00001
        house.finish()


# ---- 30: maintenance --------------------------------------------------------------------------------------------
@pytest.mark.fault(30)
def test_two_hours_of_maintenance_are_survived_and_what_happened_meanwhile_is_found(rehearse: Rehearse) -> None:
    with rehearse(speed=200.0, risk={"stale_feed_s": 3_600.0}) as house:
        house.begin()
        house.until_bought(1)
        house.rest()
        (stop,) = house.stops()
        began_ms = house.client.state()["now_ms"]
        house.client.do("maintenance", is_down=True)
        house.client.do("cut")
        fall = 0.99 * float(stop["stop_price"])
        house.client.trade(BTC, f"{fall:.2f}")  # the stop sells while nobody hears of it
        house.so(lambda: [p for p in house.entries("venue") if p["is_cut_off"]], "the way to the venue is closed")
        held = len(changes_at_venue(house))
        house.so(lambda: house.client.state()["now_ms"] - began_ms >= 7_200_000, "two hours", 60.0)
        assert len(changes_at_venue(house)) == held
        asked = [r["at_ms"] for r in house.client.audit(kind="request") if r["at_ms"] > began_ms + 600_000]
        # It keeps asking whether the venue is back, every five minutes at least, and a second or two of this machine's.
        assert len(asked) >= 6_600 / 300
        assert max(b - a for a, b in pairwise(asked)) <= 600_000
        house.client.do("maintenance", is_down=False)
        back_ms = house.client.state()["now_ms"]
        house.so(lambda: house.reports(stop["client_id"], "filled"), "the sale is found")
        house.so(lambda: not house.entries("venue")[-1]["is_cut_off"], "the way is open again")
        assert house.client.state()["now_ms"] - back_ms < 900_000
        house.ask("resume")
        bought = len(house.traded())
        house.so(lambda: len(house.traded()) > bought, "it buys again")
        house.until_protected()
        house.finish()


# ---- 31: too many requests --------------------------------------------------------------------------------------
@pytest.mark.fault(31)
@pytest.mark.parametrize(("status", "seconds"), [(429, 40), (418, 120)])
def test_nothing_is_asked_before_the_time_the_venue_named_has_passed(
    rehearse: Rehearse, status: int, seconds: int
) -> None:
    with rehearse(speed=SLOW) as house:
        house.begin()
        house.until_bought(1)
        house.until_protected()
        body = '{"code":-1003,"msg":"Too much request weight used."}'
        house.client.fault("GET account", "reply", status=status, headers={"Retry-After": str(seconds)}, body=body)
        house.so(lambda: house.client.audit(kind="fault"), "it is refused")
        refused_ms = house.client.audit(kind="fault")[0]["at_ms"]
        house.so(lambda: house.client.state()["now_ms"] > refused_ms + (seconds + 30) * 1_000, "the time has passed")
        after = [r["at_ms"] for r in house.client.audit(kind="request") if r["at_ms"] > refused_ms]
        # Requests already on their way when the answer came are let pass: half a second of this machine's.
        early = [at_ms for at_ms in after if refused_ms + 10_000 < at_ms < refused_ms + seconds * 1_000]
        assert early == []
        assert after[-1] > refused_ms + seconds * 1_000
        house.ask("flatten")
        house.so(lambda: house.traded(side="sell"), "an exit still passes")
        house.finish()


@pytest.mark.fault(31)
def test_a_narrow_limit_is_kept_and_exits_still_pass(rehearse: Rehearse) -> None:
    with rehearse(exchange={"request_share": 0.02}) as house:
        house.client.do("weight", per_minute=400)
        house.begin()
        house.until_bought(2)
        house.ask("flatten")
        house.so(lambda: house.traded(side="sell") and not house.stops(), "an exit passes")
        assert "Too much request weight" not in house.log
        assert "banned" not in house.log
        house.client.do("weight", per_minute=6_000)
        house.finish()


# ---- 32: the key ------------------------------------------------------------------------------------------------
@pytest.mark.fault(32)
@pytest.mark.parametrize("right", [{"is_revoked": True}, {"may_trade": False}], ids=["revoked", "may not trade"])
def test_a_key_that_loses_its_right_pauses_trading_and_is_told_while_status_stays_up(
    rehearse: Rehearse, right: Mapping[str, bool]
) -> None:
    with rehearse() as house:
        house.begin()
        house.until_bought(1)
        house.until_protected()
        house.hand("rights", **right)
        house.so(lambda: [p for p in house.entries("venue") if p["pauses"]], "the key is refused")
        tried = len(changes_at_venue(house))
        assert set(more_candles(house)) <= {"paused", "venue_closed"}
        assert len(changes_at_venue(house)) == tried
        status = house.ask("status")
        assert status
        pages = http.client.HTTPConnection("127.0.0.1", house.web_port, timeout=5)
        pages.request("GET", "/healthz")
        assert pages.getresponse().status == 200
        pages.close()
        assert "the key is refused" in house.log
        house.hand("rights", **{name: not value for name, value in right.items()})
        house.so(lambda: not house.entries("venue")[-1]["is_cut_off"], "the way is open again")
        assert set(more_candles(house, 2)) == {"paused"}  # until a person says so
        house.ask("resume")
        house.until_bought(2)
        house.finish()
