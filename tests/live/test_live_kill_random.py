"""kill -9 of a live daemon at random moments, of its start as well as of its trading, again and again.

The seed of each test stands in its name: `pytest -k seed7` kills at the same moments, and the same crash points, again.
"""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.live.house import House
from tests.live.kills import Account, Report
from tests.live.nursery import KILLED, Nursery

PER_SEED = 10
STYLES: tuple[dict[str, Any], ...] = (
    {"live": {"order": "limit"}},
    {"live": {"order": "market"}, "symbols": ("BTC/USDT", "ETH/USDT")},
    {"live": {"order": "limit", "entry": "maker", "maker_wait_s": 10.0}, "symbols": ("BTC/USDT", "ETH/USDT")},
    {"live": {"order": "limit"}, "dialect": "kraken"},
)
SOAK = tuple(range(100, 130))


def kill_often(house: House, nursery: Nursery, seed: int, *, troubles_venue: bool, report: Report) -> None:
    """Kill lives at moments that `seed` names, then let one put everything right."""
    generator = random.Random(seed)
    account = Account(house, nursery)
    with account.tallied(report):
        for _ in range(PER_SEED):
            _live_and_die(account, generator, troubles_venue=troubles_venue)
        house.client.do("maintenance", is_down=False)
        life = account.start_reconciled()
        fills = len(house.fills())
        account.live_until(lambda: len(house.fills()) > fills, "it trades again", life, 120.0)
        account.finish(life)


def _live_and_die(account: Account, generator: random.Random, *, troubles_venue: bool) -> None:
    """One life: it ends a while after its start, or at a crash point that comes by, whichever is first."""
    # A third dies while it starts or recovers; a start takes about a second.
    longest_s = 1.0 if generator.random() < 1 / 3 else 4.0
    wait_s, count = generator.uniform(0.0, longest_s), generator.randrange(1, 12)
    if generator.random() < 0.5:
        account.doom("any", count=count)
    before = len(account.deaths())
    life = account.start()
    if troubles_venue and generator.random() < 0.5:
        wait_s -= _trouble(account, generator)
    time.sleep(max(0.0, wait_s))  # the moment of death is what is tested: there is no clock to fake
    account.spare()
    code = life.kill()
    if code != KILLED:  # whoever watches the daemon starts it again
        assert account.is_venues_doing(code), account.house.log[-3000:]
        return
    account.count_kill("random moment" if len(account.deaths()) == before else "random crash point")


def _trouble(account: Account, generator: random.Random) -> float:
    """Let the venue hang, cut all connections or go into maintenance for a moment; returns how long it took."""
    seconds = generator.uniform(0.0, 0.5)
    time.sleep(seconds)
    match generator.randrange(3):
        case 0:
            account.house.client.do("cut")
        case 1:
            account.house.client.do("maintenance", is_down=True)
            time.sleep(0.3)
            account.house.client.do("maintenance", is_down=False)
        case _:
            os.kill(account.house._venue.pid, signal.SIGSTOP)
            time.sleep(0.3)
            os.kill(account.house._venue.pid, signal.SIGCONT)
    return seconds + 0.3


@pytest.mark.fault(40)
@pytest.mark.parametrize("seed", range(4), ids="seed{}".format)
def test_random_kills_lose_and_double_nothing(seed: int, tmp_path: Path, record_property: Report) -> None:
    style = STYLES[seed % len(STYLES)]
    with House(tmp_path, seed=seed, **style) as house, Nursery(house.dialect) as nursery:
        kill_often(house, nursery, seed, troubles_venue=False, report=record_property)


@pytest.mark.soak
@pytest.mark.parametrize("seed", SOAK, ids="seed{}".format)
def test_300_random_kills_lose_and_double_nothing_while_the_venue_fails_too(
    seed: int, tmp_path: Path, record_property: Report
) -> None:
    style = STYLES[seed % len(STYLES)]
    with House(tmp_path, seed=seed, **style) as house, Nursery(house.dialect) as nursery:
        kill_often(house, nursery, seed, troubles_venue=True, report=record_property)
