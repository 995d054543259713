"""Faults of protective stops (row 34 of docs/faults.md), by the real daemon before the test venue."""

import pytest

from tests.fakes.serving import BTC
from tests.live.rehearsal import SLOW, STOP, Rehearsal, Rehearse


def renewed(house: Rehearsal) -> list[dict[str, object]]:
    return [dict(payload) for payload in house.entries("intent") if payload["renews"]]


@pytest.mark.fault(34)
@pytest.mark.parametrize("state", ["cancelled", "expired"])
@pytest.mark.parametrize("is_heard", [True, False], ids=["heard", "silent"])
def test_a_stop_that_the_venue_drops_is_replaced_by_a_new_one(rehearse: Rehearse, state: str, is_heard: bool) -> None:
    with rehearse(speed=SLOW) as house:
        house.begin()
        house.until_bought(1)
        house.rest()
        if not is_heard:
            house.client.fault("user *", "silence", times=None)
        (stop,) = house.stops()
        house.hand("end", client_id=stop["client_id"], state=state)
        house.so(lambda: renewed(house), "it is renewed")
        house.until_protected()
        (after,) = house.stops()
        assert after["client_id"] != stop["client_id"]
        naked = house.client.naked_seconds(BTC)
        # By the stream at once; by asking within `reconcile_every_s` and a look. Seconds of the scaled clock.
        assert naked < (30.0 if is_heard else 75.0)
        house.finish()


@pytest.mark.fault(34)
def test_a_stop_refused_twice_is_placed_the_third_time(rehearse: Rehearse) -> None:
    with rehearse() as house:
        refuse(house, times=2)
        house.begin()
        house.until_bought(1)
        house.until_protected()
        assert len(rejected_stops(house)) == 2
        assert house.traded(side="sell") == []
        house.finish()


@pytest.mark.fault(34)
def test_three_refused_stops_in_a_row_sell_the_position(rehearse: Rehearse) -> None:
    with rehearse() as house:
        refuse(house, times=3)
        house.begin()
        house.until_bought(1)
        house.so(lambda: house.traded(side="sell"), "it is sold")
        house.so(lambda: house.entries("exit"), "the journal says so")
        (first, *_) = house.entries("exit")
        assert first["unprotected"]
        assert len(rejected_stops(house)) == 3
        (sale, *_) = house.traded(side="sell")
        bought = house.traded()[0]
        assert float(sale["quantity"]) == pytest.approx(float(bought["quantity"]) - float(bought["fee"]), abs=1e-5)
        house.finish()


@pytest.mark.fault(34)
def test_a_stop_whose_answer_is_lost_is_found_and_not_placed_twice(rehearse: Rehearse) -> None:
    with rehearse() as house:
        house.client.fault("POST order", "drop_reply", having=STOP)
        house.client.fault("user *", "silence", times=None)
        house.begin()
        house.until_bought(1)
        house.until_protected()
        stops = [order for order in house.venue_orders() if order["is_stop"]]
        assert len({order["client_id"] for order in stops}) == len(stops)
        house.until_bought(2)
        house.until_protected()
        house.finish()


@pytest.mark.fault(34)
def test_a_stop_that_never_arrived_is_replaced_after_the_venue_has_denied_it(rehearse: Rehearse) -> None:
    with rehearse() as house:
        number = house.client.fault("POST order", "drop_request", having=STOP)
        house.begin()
        house.until_bought(1)
        house.until_protected()
        assert number
        first = house.entries("intent")[0]["order"]["client_id"]
        assert "not_found" in house.events(first)
        assert len(house.sent(first)) <= 2  # the dropped one is audited too; a second one only after a denial
        house.finish()


def refuse(house: Rehearsal, times: int) -> None:
    house.client.fault(
        "POST order",
        "reject",
        code="-2010",
        message="Stop price is not allowed now.",
        status=400,
        times=times,
        having=STOP,
    )


def rejected_stops(house: Rehearsal) -> list[str]:
    stops = {payload["order"]["client_id"] for payload in house.entries("intent")}
    return [p["client_id"] for p in house.entries("order") if p["event"] == "rejected" and p["client_id"] in stops]
