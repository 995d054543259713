"""Another configuration while real orders are sent: caps hold from the next order on, and nothing armed is loosened."""

import signal
from typing import Any

import pytest

from daemon import journal_reader
from tests.live.rehearsal import EAGER, Rehearsal, Rehearse

CAPS = {"max_position_value": 1e6, "max_orders_per_minute": 1_000, "decision_age_s": 300.0}


def reload(house: Rehearsal, count: int, outcome: str, **changes: Any) -> None:
    """Write the configuration with `changes`, send SIGHUP, and wait for what becomes of it."""
    house.configure(**changes)
    assert house.life is not None
    house.nursery.kill(house.life.pid, signal.SIGHUP)
    event = "config_reloaded" if outcome == "taken" else "config_kept"
    house.so(lambda: house.log.count(f'"event":"{event}"') >= count, f"{outcome} {count}")
    assert f'"outcome":"{outcome}"' in house.log


@pytest.mark.fault(45)
def test_a_lower_cap_refuses_the_next_purchase_a_higher_one_lets_it_pass_and_stops_and_exits_go_on(
    rehearse: Rehearse,
) -> None:
    with rehearse(votes=EAGER) as house:
        house.begin()
        house.until_bought(1)
        house.until_protected()
        reload(house, 1, "taken", live={**CAPS, "max_order_value": 1.0})
        bought = len(house.traded())
        house.so(lambda: "above live.max_order_value = 1.00" in house.log, "a purchase is refused by the cap")
        # Not the cap on one order, nor on how many, but who may trade at all: nothing of it is taken.
        reload(house, 1, "needs_restart", live={**CAPS, "max_order_value": 1e6, "allow_unproven": "0" * 16})
        refused = house.log.count("above live.max_order_value")
        house.so(lambda: house.log.count("above live.max_order_value") > refused, "the next one is refused as well")
        assert len({order["client_id"] for order in house.traded()}) <= bought + 1  # one may have been under way
        house.until_protected()
        reload(house, 2, "invalid", live={**CAPS, "max_order_value": 0.0})
        reload(house, 2, "taken", live={**CAPS, "max_order_value": 1e6})
        seen = len({order["client_id"] for order in house.traded()})
        house.so(lambda: len({order["client_id"] for order in house.traded()}) > seen, "bought again")
        house.finish()
        told = [
            [(change["key"], change["old"], change["new"]) for change in entry.payload["reload"]["changes"]]
            for entry in journal_reader.read(house.journal, kinds={"run"})
            if "reload" in entry.payload
        ]
        assert told == [[("live.max_order_value", 1e6, 1.0)], [("live.max_order_value", 1.0, 1e6)]]


def test_a_tighter_stop_of_a_new_configuration_replaces_the_one_at_the_venue_with_the_next_candle(
    rehearse: Rehearse,
) -> None:
    with rehearse(votes=EAGER) as house:
        house.begin()
        house.until_bought(1)
        house.until_protected()
        (stop,) = house.stops()
        reload(house, 1, "taken", risk={"stop_loss": 0.01})

        def is_tighter() -> bool:
            stops = house.stops()
            return len(stops) == 1 and float(stops[0]["stop_price"]) > 1.005 * float(stop["stop_price"])

        house.so(is_tighter, "one stop, closer to the price")
        house.until_protected()
        house.finish()
