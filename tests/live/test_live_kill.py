"""kill -9 of a live daemon at every named crash point: nothing is lost at the venue, and nothing doubled.

Each point is met while it is about a market order, an immediate-or-cancel limit order, a post-only entry that is being
withdrawn, and a protective stop. A life dies there; the next one has to put everything right by itself.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon import crash_points
from daemon.testvenue.client import ControlRefused
from tests.live.house import House
from tests.live.kills import Account, Report
from tests.live.mortal import later_schema
from tests.live.nursery import Nursery

ORDERS = ("market", "limit", "cancel", "stop")
IN_TRADING = tuple(name for name in crash_points.NAMES if name not in {"migration", *crash_points.OF_ENSEMBLES})
CELLS = [(of, at) for of in ORDERS for at in IN_TRADING]
HOUSES: dict[str, dict[str, Any]] = {
    "market": {"live": {"order": "market"}},
    "limit": {"live": {"order": "limit"}},
    "cancel": {"live": {"entry": "maker", "maker_wait_s": 10.0}, "symbols": ("BTC/USDT", "ETH/USDT")},
    "stop": {"live": {"order": "limit"}},
}
OFTEN = {"checkpoint_every": 25, "backup_every_s": 1.0}
Open = Callable[[str], Account]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as one:
        yield one


class Accounts:
    """Accounts that live through several tests, by how they trade; one that has failed is not used again."""

    def __init__(self, nursery: Nursery, root: Callable[[str], Path]) -> None:
        self._nursery = nursery
        self._root = root
        self._kept: dict[str, Account] = {}

    def take(self, of: str) -> Account:
        if of in self._kept:
            return self._kept.pop(of)
        house = House(self._root(of), **HOUSES[of])
        return Account(house.__enter__(), self._nursery)

    def keep(self, of: str, account: Account) -> None:
        self._kept[of] = account

    def close(self) -> None:
        for account in self._kept.values():
            account.house.close_venue()


@pytest.fixture(scope="module")
def accounts(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Accounts]:
    kept = Accounts(nursery, tmp_path_factory.mktemp)
    yield kept
    kept.close()


# ---- how each moment is brought about -------------------------------------------------------------------------------
def die_in_trading(account: Account, at: str, of: str) -> None:
    """Trade until an order of that kind is there."""
    account.doom(at, of)
    account.must_die(account.start(), at, of)


def die_of_a_lost_stop(account: Account, at: str, of: str) -> None:
    """The venue ends a resting stop, which calls for another one."""
    life = account.start()
    ended = None
    while ended is None:
        account.live_until(account.resting_stop, "a stop rests", life)
        account.doom(at, of)
        ended = _end_stop(account)
    account.must_die(life, at, of)


def _end_stop(account: Account) -> str | None:
    stop = account.resting_stop()
    if stop is None:
        return None
    try:
        name = account.house.ready["accounts"][0]
        account.house.client.do("end", account=name, client_id=stop["client_id"], state="expired")
    except ControlRefused:
        return None  # it made way for a sale at this very moment
    return str(stop["client_id"])


def die_of_a_filled_stop(account: Account, at: str, of: str) -> None:
    """The price falls through a resting stop."""
    life = account.start()
    account.live_until(account.resting_stop, "a stop rests", life)
    account.doom(at, of)
    while not life.is_over:
        if stop := account.resting_stop():
            account.house.client.trade(stop["symbol"], f"{float(stop['stop_price']) * 0.999:.2f}")
    account.must_die(life, at, of)


def die_selling_what_a_stop_protects(account: Account, at: str, of: str) -> None:
    life = account.start()
    account.live_until(account.resting_stop, "a stop rests", life)
    account.doom(at, of)
    account.must_die(life, at, of)


def die_of_a_part_filled_while_withdrawn(account: Account, at: str, of: str) -> None:
    """Half of an entry fills right before its cancel is processed."""
    life, seen = account.start(), set()
    account.doom(at, of)
    name = account.house.ready["accounts"][0]
    while not life.is_over:
        entry = account.resting_entry()
        if entry is not None and entry["client_id"] not in seen:
            seen.add(client_id := entry["client_id"])
            half = {"account": name, "client_id": client_id, "quantity": f"{float(entry['quantity']) / 2:.5f}"}
            account.house.client.fault(
                "DELETE order", "act", command={"do": "fill", **half}, having={"origClientOrderId": client_id}
            )
    account.must_die(life, at, of)


def die_while_cancels_take_long(account: Account, at: str, of: str) -> None:
    """An order is being withdrawn for longer than a candle, so that the other market's decision falls into it."""
    account.house.client.fault("DELETE order", "delay", delay_s=70.0, times=None)
    die_in_trading(account, at, of)


def die_backing_up(account: Account, at: str, of: str) -> None:
    """Copies are made all the time, and requests take long enough for one to fall into their way."""
    account.house.configure(**{**_of(HOUSES[of]), "journal": OFTEN})
    where, having = ("DELETE order", {}) if of == "cancel" else ("POST order", {"type": of.upper()})
    if of != "stop":
        account.house.client.fault(where, "delay", delay_s=40.0, times=None, having=having)
    try:
        die_in_trading(account, at, of)
    finally:
        account.house.configure(**_of(HOUSES[of]))


def _of(house: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in house.items() if name != "symbols"}


Death = Callable[[Account, str, str], None]
DEATHS: dict[tuple[str, str], Death] = {
    ("cancel", "decided"): die_while_cancels_take_long,
    ("cancel", "intent_committed"): die_while_cancels_take_long,
    ("cancel", "fill_received"): die_of_a_part_filled_while_withdrawn,
    ("cancel", "filled_no_stop"): die_of_a_part_filled_while_withdrawn,
    ("cancel", "stop_placed"): die_of_a_part_filled_while_withdrawn,
    ("stop", "decided"): die_selling_what_a_stop_protects,
    ("stop", "fill_received"): die_of_a_filled_stop,
    **{("stop", at): die_of_a_lost_stop for at in ("intent_committed", "sent", "replied", "filled_no_stop")},
    ("stop", "stop_placed"): die_of_a_lost_stop,
    **{(of, "backup"): die_backing_up for of in ORDERS},
}


@pytest.mark.fault(36)
@pytest.mark.fault(37)
@pytest.mark.fault(38)
@pytest.mark.fault(39)
@pytest.mark.fault(40)
@pytest.mark.fault(41)
@pytest.mark.fault(43)
@pytest.mark.parametrize(("of", "at"), CELLS)
def test_a_daemon_killed_at_a_crash_point_loses_and_doubles_nothing(
    of: str, at: str, accounts: Accounts, record_property: Report
) -> None:
    account = accounts.take(of)
    with account.tallied(record_property):
        DEATHS.get((of, at), die_in_trading)(account, at, of)
        account.house.client.do("clear_faults")
        account.recover()
    accounts.keep(of, account)


@pytest.mark.parametrize("of", ORDERS)
def test_an_order_that_is_open_while_a_migration_is_killed_is_settled_after_it(
    of: str, tmp_path: Path, nursery: Nursery, monkeypatch: pytest.MonkeyPatch, record_property: Report
) -> None:
    with House(tmp_path, **HOUSES[of]) as house:
        account = Account(house, nursery)
        with account.tallied(record_property):
            account.doom("sent", of)
            account.must_die(account.start(), "sent", of)
            account.is_later = True
            later_schema(monkeypatch.setattr)
            account.doom("migration")
            account.must_die(account.start(), "migration", "")
            # The second life to die there has the copy that the first one made, or its own.
            account.doom("migration", count=2)
            account.must_die(account.start(), "migration", "")
            account.recover()
