"""A live daemon against the test venue, from arming to a clean stop, in both dialects."""

import signal
from pathlib import Path

from tests.live.house import House
from tests.live.nursery import Nursery


def test_a_live_run_trades_protects_and_stops_cleanly(tmp_path: Path) -> None:
    with House(tmp_path) as house, Nursery() as nursery:
        life = house.live(nursery)
        house.until(lambda: len(house.fills()) >= 4 and len(sides(house)) > 1, "four fills, buys and sells", life=life)
        assert life.kill(signal.SIGTERM) == 0
        house.check()


def sides(house: House) -> set[str]:
    return {fill["side"] for fill in house.fills()}


def test_the_same_daemon_trades_at_a_venue_that_speaks_kraken(tmp_path: Path) -> None:
    with House(tmp_path, dialect="kraken") as house, Nursery("kraken") as nursery:
        life = house.live(nursery)
        house.until(lambda: len(house.fills()) >= 4, "four fills", life=life)
        assert life.kill(signal.SIGTERM) == 0
        house.check()
