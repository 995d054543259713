"""Faults of the market and of what is seen of it (rows 1, 2, 11 and 12 of docs/faults.md), by the real daemon."""

import signal
import time

import pytest

from tests.fakes.serving import BTC, ETH
from tests.live.rehearsal import EAGER, SLOW, Rehearsal, Rehearse

EVERYTHING = ("GET *", "POST *", "DELETE *")


def price_of(house: Rehearsal, symbol: str = BTC) -> float:
    return float(house.client.state()["prices"][symbol])


def crash(house: Rehearsal) -> None:
    """Let the price fall by 40 % within about 20 s of the venue's time, in 20 steps."""
    began, speed = price_of(house), house.speed
    for step in range(1, 21):
        house.client.trade(BTC, f"{began * (1.0 - 0.02 * step):.2f}")
        time.sleep(1.0 / speed)


def feed_states(house: Rehearsal) -> list[bool]:
    """Return what the journal says of the feed: whether it was stale, from record to record."""
    return [payload["is_stale"] for payload in house.entries("feed")]


def may_buy(house: Rehearsal) -> bool:
    """Tell whether clocks and the way to the venue let anything be bought, as the journal has it last."""
    feed, venue = house.entries("feed"), house.entries("venue")
    return not (feed and feed[-1]["is_skewed"]) and not (venue and venue[-1]["is_cut_off"])


# ---- rows 1, 2 and 12: streams --------------------------------------------------------------------------------------
@pytest.mark.fault(1)
def test_while_the_stream_is_silent_nothing_is_bought_and_candles_come_by_rest(rehearse: Rehearse) -> None:
    with rehearse() as house:
        house.begin()
        house.until_bought(1)
        silence = house.client.fault("stream *", "silence", times=None)
        house.so(lambda: True in feed_states(house), "the silence is noticed")
        known = len(house.reasons())
        house.so(lambda: len(house.reasons()) >= known + 3, "candles go on, by REST")
        assert "stale_feed" in house.reasons()[known:], house.reasons()
        house.client.do("clear_faults", number=silence)
        house.so(lambda: feed_states(house)[-1] is False, "candles flow again")
        bought = len(house.decided("buy"))
        house.so(lambda: len(house.decided("buy")) > bought, "it buys again")
        house.finish()


@pytest.mark.fault(2)
@pytest.mark.parametrize("how", ["cut", "shutdown"])
def test_a_venue_that_closes_its_streams_costs_no_candle_and_doubles_no_order(rehearse: Rehearse, how: str) -> None:
    with rehearse() as house:
        house.begin()
        house.until_bought(1)
        for _ in range(3):  # in whatever phase a candle then is
            if how == "cut":
                house.client.do("cut")
            else:
                house.client.fault("stream *", "shutdown")
                house.client.fault("user *", "shutdown")
            known = len(house.entries("candle"))
            house.so(lambda known=known: len(house.entries("candle")) >= known + 2, "two more candles")
        opened = [c["open_ms"] for c in house.entries("candle") if not c["backfill"]]
        assert opened == sorted(set(opened))
        every = [c["open_ms"] for c in house.entries("candle")]
        assert every == list(range(every[0], every[0] + 60_000 * len(every), 60_000))
        house.finish()


@pytest.mark.fault(12)
def test_a_frozen_symbol_is_noticed_beside_one_that_flows_and_nothing_is_bought_blindly(rehearse: Rehearse) -> None:
    with rehearse(symbols=(BTC, ETH)) as house:
        house.begin()
        house.until_bought(1)
        house.client.fault("stream ethusdt@*", "silence", times=None)
        house.so(lambda: True in feed_states(house), "the frozen symbol is noticed")
        stale = [payload["detail"] for payload in house.entries("feed") if payload["is_stale"]]
        assert any(ETH in detail and BTC not in detail for detail in stale), stale
        house.client.do("clear_faults")
        house.so(lambda: feed_states(house)[-1] is False, "it flows again")
        house.finish()


# ---- row 8: clocks --------------------------------------------------------------------------------------------------
@pytest.mark.fault(8)
@pytest.mark.parametrize("shift_ms", [30_000, -30_000])
def test_a_clock_that_runs_off_in_the_middle_of_a_run_buys_nothing_until_it_is_right(
    rehearse: Rehearse, shift_ms: int
) -> None:
    with rehearse() as house:
        house.begin()
        house.until_bought(1)
        house.until_protected()
        house.client.do("clock", shift_ms=shift_ms)
        house.so(lambda: may_buy(house) is False, "nothing may be bought")
        bought = house.decided()
        known = len(house.reasons())
        house.so(lambda: len(house.reasons()) >= known + 2, "two more candles")
        assert house.decided() == bought
        assert {trade["client_id"] for trade in house.traded()} <= set(bought)
        assert len(house.stops()) == 1, "what is held stays protected"
        house.client.do("clock", shift_ms=0)
        house.so(lambda: may_buy(house), "it may buy again")
        house.finish()


# ---- row 11: a crash between two candles ---------------------------------------------------------------------------
@pytest.mark.fault(11)
def test_a_crash_is_sold_by_the_venues_own_stop_while_the_daemon_lives(rehearse: Rehearse) -> None:
    with rehearse() as house:
        house.begin()
        house.until_bought(2)
        house.rest()
        crash(house)
        house.so(lambda: house.traded(side="sell", by_stop=True), "the stop sold")
        house.finish()


@pytest.mark.fault(11)
def test_a_crash_that_costs_too_much_sells_and_halts_between_candles_whatever_the_policy_wants(
    rehearse: Rehearse,
) -> None:
    limits = {"stop_loss": 0.5, "max_drawdown": 0.1, "halt_cooldown": 0}
    with rehearse(risk=limits, votes=EAGER, speed=SLOW) as house:
        house.begin()
        house.until_bought(4)
        candles = len(house.reasons())
        house.so(lambda: len(house.reasons()) > candles, "a candle has just begun")  # and lasts longer than the crash
        crash(house)
        house.so(lambda: house.total("BTC") * price_of(house) < 10.0, "everything is sold")
        house.so(lambda: house.entries("decision")[-1]["state"] == "halted", "halted")
        assert house.entries("risk"), "a price between two candles was enough"
        assert house.entries("risk")[0]["orders"]
        bought = len(house.decided("buy"))
        known = len(house.reasons())
        house.so(lambda: len(house.reasons()) >= known + 3, "three more candles")
        assert len(house.decided("buy")) == bought
        house.finish()


@pytest.mark.fault(11)
def test_a_crash_while_the_daemon_is_dead_is_sold_by_the_venue_and_taken_in_by_the_next_life(
    rehearse: Rehearse,
) -> None:
    with rehearse() as house:
        life = house.begin()
        house.until_bought(2)
        house.rest()
        assert life.kill(signal.SIGKILL) == -signal.SIGKILL
        crash(house)
        (sold,) = house.traded(side="sell", by_stop=True)
        house.begin()
        house.so(lambda: [f for f in house.fills() if f["client_id"] == sold["client_id"]], "the books know")
        house.finish()
        assert [e for e in house.entries("external") if e["ours"]] == []


@pytest.mark.fault(11)
def test_a_crash_while_the_daemon_is_cut_off_is_sold_by_the_venue_and_found_when_it_is_back(
    rehearse: Rehearse,
) -> None:
    with rehearse() as house:
        house.begin()
        house.until_bought(2)
        house.rest()
        for where in EVERYTHING:
            house.client.fault(where, "drop_request", times=None)
        house.client.fault("stream *", "cut", times=None)
        house.client.fault("user *", "cut", times=None)
        house.so(lambda: house.logged("order_path"), "the way to the venue is closed")
        crash(house)
        (sold,) = house.traded(side="sell", by_stop=True)
        assert [f for f in house.fills() if f["client_id"] == sold["client_id"]] == []
        house.client.do("clear_faults")
        house.so(lambda: [f for f in house.fills() if f["client_id"] == sold["client_id"]], "the books know")
        house.finish()
        assert [e for e in house.entries("external") if e["ours"]] == []
