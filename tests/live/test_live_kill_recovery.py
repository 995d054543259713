"""Deaths of the recovery itself, a second daemon, a copied journal, and where the keys never show."""

import contextlib
import shutil
import signal
import sqlite3
from pathlib import Path

import aiohttp
import pytest

from daemon.control import call
from tests.daemon.programs import sacd
from tests.live.canary import leaks
from tests.live.house import KEY, SECRET, House
from tests.live.kills import Account, Report
from tests.live.nursery import Nursery

CONFIGURATION = 78
RECOVERIES = ("fill_received", "filled_no_stop", "sent", "replied", "stop_placed")
"""Where a recovery passes by that finds an entry filled of which the journal knows only that it was sent."""


@pytest.mark.fault(41)
@pytest.mark.parametrize("order", ["market", "limit"])
def test_a_recovery_that_is_killed_at_each_of_its_steps_is_finished_by_the_next(
    order: str, tmp_path: Path, record_property: Report
) -> None:
    with House(tmp_path, live={"order": order}) as house, Nursery() as nursery:
        account = Account(house, nursery)
        with account.tallied(record_property):
            account.doom("sent", order)
            account.must_die(account.start(), "sent", order)
            # Each life gets as far as the last one and a step further.
            for at in RECOVERIES:
                account.doom(at)
                account.must_die(account.start(), at, "", what=f"recovery: {at}")
            account.recover()


def test_a_first_start_that_was_killed_while_it_made_its_journal_is_begun_again(
    tmp_path: Path, record_property: Report
) -> None:
    with House(tmp_path) as house, Nursery() as nursery:
        house.state.mkdir()
        with contextlib.closing(sqlite3.connect(house.journal)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")  # what a kill before the first table leaves
        assert house.journal.stat().st_size > 0
        account = Account(house, nursery)
        with account.tallied(record_property):
            account.recover()


def test_a_second_daemon_on_the_same_journal_is_refused_and_sends_nothing(
    tmp_path: Path, record_property: Report
) -> None:
    with House(tmp_path) as house, Nursery() as nursery:
        account = Account(house, nursery)
        with account.tallied(record_property):
            first = account.start_reconciled()
            assert account.start().end() == CONFIGURATION
            assert "is in use by process" in house.log
            fills = len(house.fills())
            account.live_until(lambda: len(house.fills()) > fills, "the first one trades on", first)
            account.finish(first)


def test_a_daemon_on_an_older_copy_of_the_journal_is_refused_before_it_touches_an_order(
    tmp_path: Path, record_property: Report
) -> None:
    with House(tmp_path) as house, Nursery() as nursery:
        account = Account(house, nursery)
        with account.tallied(record_property):
            life = account.start_reconciled()
            account.kill(life, "before its journal is copied")
            copy = tmp_path / "copy"
            shutil.copytree(house.state, copy)
            first = account.start_reconciled()
            account.live_until(account.resting_stop, "a stop rests", first)
            nursery.kill(first.pid, signal.SIGSTOP)  # so that whatever changes now is the second one's doing
            orders = house.venue_orders()
            cancelled = [end for end in house.client.audit(kind="order_end") if end["state"] == "cancelled"]
            requests = len(house.client.audit(kind="request"))
            config = _config_of_the_copy(house, copy)
            code = nursery.wait(nursery.start(config, clock=house.ready["clock"]), 120.0)
            log = config.with_suffix(".log").read_text(encoding="utf-8")
            assert code == CONFIGURATION, log
            assert "does not know" in log
            assert "--accept-recovery" in log
            # A stop that the price has passed meanwhile may have filled: nobody has cancelled or placed one.
            assert house.venue_orders() == orders
            assert [end for end in house.client.audit(kind="order_end") if end["state"] == "cancelled"] == cancelled
            assert len(house.client.audit(kind="request")) > requests
            nursery.kill(first.pid, signal.SIGCONT)
            account.finish(first)


def _config_of_the_copy(house: House, copy: Path) -> Path:
    """Return a configuration like that of the house, but for the journal."""
    before = house.config.read_bytes()
    house.configure(daemon={"state_dir": str(copy)}, control={"socket": str(copy / "copy.sock")})
    config = house.config.replace(house.root / "copy.toml")
    house.config.write_bytes(before)
    return config


async def test_the_keys_show_nowhere(tmp_path: Path, record_property: Report) -> None:
    """Killed, refused by the venue, asked in every way that answers: then every file and answer is searched."""
    with House(tmp_path) as house, Nursery() as nursery:
        account = Account(house, nursery)
        with account.tallied(record_property):
            account.doom("sent", "limit")
            account.must_die(account.start(), "sent", "limit")
            life = account.start_reconciled()
            house.client.fault("POST order", "reply", status=503, body="<html>busy</html>", times=2)
            house.client.fault("GET account", "reply", status=200, body="not json", times=2)
            house.client.do("cut")
            fills = len(house.fills())
            account.live_until(lambda: len(house.fills()) > fills, "it trades", life)
            said = tmp_path / "said"
            said.mkdir()
            await _ask_http(house, said)
            status = await call(tmp_path / "house.sock", "status", {})
            (said / "status").write_text(repr(status), encoding="utf-8")
            house.client.do("rights", account=house.ready["accounts"][0], is_revoked=True)
            account.live_until(lambda: "refuses our key" in house.log or "key is refused" in house.log, "said", life)
            assert life.kill(signal.SIGTERM) == 0
            refused = account.start()
            assert refused.end() == CONFIGURATION
            _ask_commands(house, said)
            assert len(list(said.iterdir())) >= 10
            assert leaks({"key": KEY, "secret": SECRET}, tmp_path, but=[house.keys]) == []


async def _ask_http(house: House, said: Path) -> None:
    url = house.log.rpartition('"metrics":"')[2].partition('"')[0]
    async with aiohttp.ClientSession() as session:
        for path in ("", "metrics", "healthz", "readyz", "api/v1/status"):
            async with session.get(f"{url}{path}") as answer:
                (said / f"http-{path.replace('/', '-')}").write_bytes(await answer.read())


def _ask_commands(house: House, said: Path) -> None:
    for words in (
        "journal show", "journal export", "journal verify", "report --execution", "report --execution --json",
        "check", "status", "models list", "run --yes-trade-real-money",
    ):  # fmt: skip
        done = sacd(*words.split(), "--config", house.config, cwd=house.root)
        (said / words.replace(" ", "-")).write_text(
            f"{done.returncode}\n{done.stdout}\n{done.stderr}", encoding="utf-8"
        )
