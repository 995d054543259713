"""Faults of the process itself (rows 44 and 48 of docs/faults.md), in the real daemon before the test venue."""

import json
import signal
from typing import Any

import pytest

from tests.live.rehearsal import EAGER, PURCHASE, Rehearsal, Rehearse

POINTS = ("decided", "intent_committed", "sent", "replied", "fill_received", "filled_no_stop", "stop_placed")


def plant(house: Rehearsal, *faults: dict[str, Any]) -> None:
    """Let the next life begin with faults of `tests.live.plants`."""
    house.config.with_suffix(".plant").write_text(json.dumps(faults), encoding="utf-8")


def unsettled(house: Rehearsal) -> list[str]:
    """Return the orders that the journal's last state holds open, protective stops aside."""
    orders = house.entries("checkpoint")[-1]["memory"]["orders"]
    return [status["order"]["client_id"] for status in orders if status["order"]["kind"] != "stop"]


# ---- row 44: SIGTERM in the middle of an order ----------------------------------------------------------------------
@pytest.mark.fault(44)
@pytest.mark.parametrize("point", POINTS)
def test_sigterm_in_the_middle_of_an_order_settles_it_keeps_its_stop_and_ends_with_0(
    rehearse: Rehearse, point: str
) -> None:
    with rehearse() as house:
        plant(house, {"what": "signal", "at": point, "number": int(signal.SIGTERM)})
        life = house.begin(is_ready=False)
        assert life.end() == 0, house.log[-3000:]
        stopped = [payload["reason"] for payload in house.entries("stop")]
        assert stopped == ["SIGTERM received"]
        assert unsettled(house) == []
        house.check()  # also that one stop rests exactly when something is held
        bought = {fill["client_id"] for fill in house.fills()}
        assert bought == {order["client_id"] for order in house.venue_orders() if order["side"] == "buy"}
        house.begin()
        house.until_bought(len(bought) + 1)
        house.finish()


@pytest.mark.fault(44)
def test_what_cannot_be_settled_in_time_stays_unknown_and_is_found_by_the_next_life(rehearse: Rehearse) -> None:
    with rehearse() as house:
        house.client.fault("POST order", "drop_reply", having=PURCHASE)
        house.client.fault("GET *", "reply", status=503, times=None, skip=0, having={"origClientOrderId": "*?"})
        house.client.fault("user *", "silence", times=None)
        life = house.begin(is_ready=False)
        house.so(lambda: [p for p in house.entries("order") if p["event"] == "answer_lost"], "an answer is lost")
        assert life.kill(signal.SIGTERM) == 0
        (lost,) = unsettled(house)
        house.client.do("clear_faults")
        house.begin()
        house.so(lambda: house.reports(lost, "filled"), "the next life has found it")
        assert len(house.sent(lost)) == 1
        house.finish()


@pytest.mark.fault(44)
def test_a_second_sigterm_ends_it_at_once_and_costs_nothing(rehearse: Rehearse) -> None:
    with rehearse() as house:
        plant(
            house,
            {"what": "signal", "at": "sent", "number": int(signal.SIGTERM)},
            {"what": "signal", "at": "replied", "number": int(signal.SIGTERM)},
        )
        house.client.fault("POST order", "delay", delay_s=6.0, is_processed=True, having=PURCHASE)
        life = house.begin(is_ready=False)
        assert life.end() == -signal.SIGTERM
        house.begin()
        house.until_protected()
        house.finish()


# ---- row 48: an error that nobody expected, in each task ------------------------------------------------------------
TASKS = (
    "daemon.engine:Engine._on_candles",
    "daemon.engine:Engine.watch",
    "daemon.engine:Engine._hear_broker",
    "daemon.app:App._measure_lag",
    "daemon.app:App._feed_watchdog",
    "daemon.app_reload:Reloads.run",
    "daemon.vitals:Echo.run",
    "daemon.disk_room:DiskWatch.run",
    "daemon.app_upkeep:Upkeep._pause_when_scarce",
    "daemon.app_upkeep:Upkeep._refill_when_roomy",
    "daemon.journal_backup:JournalBackups.run",
    "daemon.live_candles:LiveCandles._follow",
    "daemon.live_streams:LiveStreams._hear_trades",
    "daemon.broker_live:VenueBroker.run",
    "daemon.broker_live:VenueBroker._keep_clock",
    "daemon.broker_live:VenueBroker._keep_path",
    "daemon.broker_live:VenueBroker._keep_stops",
    "daemon.broker_live:VenueBroker._keep_account",
    "daemon.broker_live:VenueBroker._keep_markets",
    "daemon.broker_live:VenueBroker._keep_time",
    "daemon.broker_live:VenueBroker._hear",
    "daemon.order_desk:OrderDesk._carry",
    "daemon.protection:Protection.tend",
    "daemon.dead_man:DeadMan.run",
)


@pytest.mark.fault(48)
def test_an_error_nobody_expected_in_any_task_ends_the_daemon_with_1_and_the_next_life_goes_on(
    rehearse: Rehearse,
) -> None:
    with rehearse() as house:
        for target in TASKS:
            plant(house, {"what": "raise", "in": target})
            life = house.begin(is_ready=False)
            assert life.end() == 1, (target, house.log[-3000:])
            assert f"failed unexpectedly: PlantedError: {target}" in house.log, target
        house.begin()
        house.until_protected()
        house.finish()


@pytest.mark.fault(48)
def test_a_halt_outlives_a_crash(rehearse: Rehearse) -> None:
    limits = {"max_drawdown": 0.01, "stop_loss": 0.5, "halt_cooldown": 0}
    with rehearse(risk=limits, votes=EAGER) as house:
        house.begin()
        house.until_bought(3)
        price = float(house.client.state()["prices"]["BTC/USDT"])
        house.client.trade("BTC/USDT", f"{0.9 * price:.2f}")
        house.so(lambda: house.entries("checkpoint", "decision")[-1].get("state") == "halted", "halted")
        plant(house, {"what": "raise", "in": "daemon.engine:Engine._on_candles"})
        assert house.life is not None
        house.life.kill(signal.SIGKILL)
        assert house.begin(is_ready=False).end() == 1
        bought = len(house.decided("buy"))
        house.begin()
        seen = len(house.reasons())
        house.so(lambda: len(house.reasons()) >= seen + 3, "three more decisions")
        assert {payload["state"] for payload in house.entries("decision")[seen:]} == {"halted"}
        assert len(house.decided("buy")) == bought
        house.finish()
