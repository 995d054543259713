"""Faults of the answer to an order (rows 13-16 of docs/faults.md), by the real daemon before the test venue."""

import pytest

from tests.live.rehearsal import PURCHASE, SLOW, Rehearsal, Rehearse


def unanswered(house: Rehearsal) -> str:
    """Wait for a purchase whose outcome is unknown; returns its client id."""
    house.so(lambda: [p for p in house.entries("order") if p["event"] == "answer_lost"], "an answer is lost")
    return str(house.entries("order")[-1]["client_id"])


def first_lost(house: Rehearsal) -> str:
    lost = [payload for payload in house.entries("order") if payload["event"] == "answer_lost"]
    return str(lost[0]["client_id"])


def asked(house: Rehearsal) -> list[str]:
    """Return the client ids of the purchases that reached the venue, taken or not, oldest first."""
    requests = [request["params"] for request in house.asked("POST", "/order")]
    return [params["newClientOrderId"] for params in requests if params["side"] == "BUY"]


@pytest.mark.fault(13)
def test_a_purchase_whose_answer_is_lost_is_adopted_and_keeps_its_symbol_waiting(rehearse: Rehearse) -> None:
    with rehearse() as house:
        house.client.fault("POST order", "drop_reply", having=PURCHASE)
        house.client.fault("user *", "silence", times=None)
        questions = house.client.fault("GET order", "reply", status=503, times=None)
        house.begin()
        unanswered(house)
        client_id = first_lost(house)
        known = len(house.reasons())
        house.so(lambda: len(house.reasons()) >= known + 2, "two more candles")
        assert set(house.reasons()[known:]) <= {"order_in_flight", "venue_closed"}
        assert house.events(client_id) == ["sent", "answer_lost"]
        house.client.do("clear_faults", number=questions)
        house.until_bought(1)
        assert house.fills()[0]["client_id"] == client_id
        assert len(house.sent(client_id)) == 1
        house.until_bought(2)  # the symbol is free again
        house.finish()


@pytest.mark.fault(14)
def test_a_purchase_that_never_arrived_is_not_placed_and_never_sent_again(rehearse: Rehearse) -> None:
    with rehearse() as house:
        house.client.fault("POST order", "drop_request", having=PURCHASE)
        house.begin()
        unanswered(house)
        client_id = first_lost(house)
        house.so(lambda: house.reports(client_id, "not_found"), "the venue has denied it")
        lost, denied = house.reports(client_id, "answer_lost", "not_found")
        assert denied["at_ms"] - lost["at_ms"] >= 30_000
        assert len([r for r in house.asked("GET", "/order") if client_id in str(r["params"])]) >= 3
        house.until_bought(1)  # the next candle decides anew
        assert client_id not in {order["client_id"] for order in house.venue_orders()}
        assert len(house.sent(client_id)) == 1
        house.finish()


@pytest.mark.fault(15)
def test_a_200_with_a_body_that_is_no_answer_leaves_the_order_unknown_until_it_is_found(rehearse: Rehearse) -> None:
    with rehearse() as house:
        house.client.fault("POST order", "reply", status=200, body="", is_processed=True, having=PURCHASE)
        html = "<html><body>maintenance</body></html>"
        house.client.fault("POST order", "reply", status=200, body=html, is_processed=True, having=PURCHASE)
        house.client.fault("POST order", "truncated", having=PURCHASE)
        house.client.fault("POST order", "reply", status=200, body="{}", having=PURCHASE)  # and never taken
        house.begin()
        house.so(lambda: len(asked(house)) >= 4, "four purchases")
        unknown, never = asked(house)[:3], asked(house)[3]
        house.so(lambda: house.reports(never, "not_found"), "the last one is denied")
        house.until_bought(3)
        for client_id in unknown:
            assert "not_found" not in house.events(client_id)
            assert house.reports(client_id, "filled")
            assert len(house.sent(client_id)) == 1
        assert never not in {order["client_id"] for order in house.venue_orders()}
        house.finish()


@pytest.mark.fault(16)
def test_an_order_the_venue_does_not_show_yet_is_asked_for_until_it_does(rehearse: Rehearse) -> None:
    with rehearse(speed=SLOW) as house:
        house.client.do("lag", lag_ms=20_000)
        house.client.fault("POST order", "drop_reply", having=PURCHASE)
        house.client.fault("user *", "silence", times=None)
        house.begin()
        unanswered(house)
        client_id = first_lost(house)
        house.so(lambda: house.reports(client_id, "filled"), "it is found")
        questions = [r["at_ms"] for r in house.asked("GET", "/order") if client_id in str(r["params"])]
        (taken,) = [r for r in house.venue_orders() if r["client_id"] == client_id]
        hidden = [at_ms for at_ms in questions if at_ms < taken["at_ms"] + 20_000]
        assert len(hidden) >= 4, hidden
        assert {"not_found", "cancelled", "expired", "rejected"}.isdisjoint(house.events(client_id))
        house.client.do("lag", lag_ms=0)
        house.finish()
