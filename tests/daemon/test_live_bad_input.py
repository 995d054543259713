"""Bad input in live mode, from outside: `sacd run` against a venue of its own, each with exit code and plain words.

Nothing but reads ever reaches the venue, whose audit is looked at after every case.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from daemon.arming import FLAG
from daemon.clock import SystemClock
from daemon.journal import SqliteJournal
from daemon.ports import Record
from daemon.readiness import EVALUATION
from daemon.run_record import account_of
from daemon.testvenue.client import VenueClient
from tests.daemon.live_places import KEY, SECRET, configure_live, load_live, make_live_place, write_keys
from tests.daemon.programs import environment, sacd
from tests.fakes.serving import BTC, Place

Changes = Mapping[str, Mapping[str, Any]]


class _Venue:
    """A test venue in a program of its own, with one account that opens with our keys."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "daemon.testvenue", "--symbol", f"{BTC}@50000", "--account",
                   f"{KEY}:{SECRET}:USDT=2000"]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(), text=True)
        assert self.process.stdout is not None
        told = json.loads(self.process.stdout.readline())
        self.ccxt: dict[str, Any] = told["ccxt"]["binance"]
        (self.account,) = told["accounts"]
        self.client = VenueClient(told["port"])

    def rights(self, **rights: bool) -> None:
        self.client.do("rights", account=self.account, **rights)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def venue() -> Iterator[_Venue]:
    venue = _Venue()
    yield venue
    venue.close()


@pytest.fixture
def place(tmp_path: Path, venue: _Venue) -> Iterator[Place]:
    """A place that would trade at the venue; afterwards the venue is as it was."""
    place = make_live_place(tmp_path)
    configured(place, venue)
    yield place
    venue.rights(may_read=True, may_trade=True, may_withdraw=False, is_bound_to_ip=True)
    venue.client.do("status", symbol=BTC, status="trading")
    venue.client.do("clock", shift_ms=0)


def configured(place: Place, venue: _Venue, **changes: Mapping[str, Any]) -> None:
    exchange = {"ccxt": venue.ccxt, **changes.pop("exchange", {})}
    configure_live(place, exchange={"credentials": str(place.root / "keys.toml"), **exchange}, **changes)


def refused(
    place: Place, venue: _Venue, code: int, *told: str, flags: tuple[str, ...] = (FLAG,), **environ: str
) -> None:
    """Run it; it must end with `code` and these words, and nothing but reads may have reached the venue."""
    seen = len(venue.client.audit())
    done = sacd("run", *flags, cwd=place.root, **environ)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("sacd: ")
    assert "Traceback" not in done.stderr + done.stdout
    for words in told:
        assert words in done.stderr
    records = venue.client.audit(after=seen)
    assert {record["method"] for record in records if record["kind"] == "request"} <= {"GET"}
    assert {record["kind"] for record in records} <= {"request", "refused", "control", "command", "connection"}, records
    everything = done.stderr + done.stdout + "".join(_texts(place.root / "var"))
    assert KEY not in everything
    assert SECRET not in everything


def _texts(directory: Path) -> Iterator[str]:
    for path in sorted(directory.rglob("*")) if directory.exists() else ():
        if path.is_file():
            yield path.read_bytes().decode("latin-1")


# ---- what is refused before anything is sent --------------------------------------------------------------------
def test_without_the_flag(place: Place, venue: _Venue) -> None:
    refused(place, venue, 3, "this would trade at a venue on this machine", FLAG, flags=())
    assert not (place.root / "var").exists()


def test_the_flag_on_paper(place: Place, venue: _Venue) -> None:
    configured(place, venue, daemon={"mode": "paper"})
    refused(place, venue, 78, "play money", FLAG)


def test_no_caps(place: Place, venue: _Venue) -> None:
    configured(place, venue, live={"max_order_value": 0.0, "max_position_value": 0.0})
    refused(place, venue, 78, "live.max_order_value = 0.0", "live.max_position_value = 0.0")


def test_keys_in_the_environment(place: Place, venue: _Venue) -> None:
    refused(place, venue, 78, "SACD_CREDENTIALS__SECRET = ***", SACD_CREDENTIALS__SECRET=SECRET)


def test_keys_that_others_can_read(place: Place, venue: _Venue) -> None:
    (place.root / "keys.toml").chmod(0o644)
    refused(place, venue, 78, "mode 0644", f"chmod 600 {place.root / 'keys.toml'}")


def test_an_ensemble_nobody_evaluated(place: Place, venue: _Venue) -> None:
    (place.model / EVALUATION).unlink()
    refused(place, venue, 3, "was never evaluated", f'allow_unproven = "{place.model.name}"')


async def test_a_paper_journal(place: Place, venue: _Venue) -> None:
    await _journal(place, venue, mode="paper")
    refused(place, venue, 78, "mode was 'paper', is 'live'")


async def _journal(place: Place, venue: _Venue, **account: Any) -> None:
    config = load_live(place, exchange={"ccxt": venue.ccxt})
    (place.root / "var").mkdir(mode=0o700)
    journal = SqliteJournal.open(place.root / "var" / "main-exchange.sqlite", SystemClock())
    await journal.append([Record(kind="run", payload={"account": {**account_of(config), **account}})])
    await journal.close()


def test_a_sandbox_beside_addresses(place: Place, venue: _Venue) -> None:
    configured(place, venue, exchange={"sandbox": True})
    refused(place, venue, 78, "exchange.sandbox = true", "urls.api")


def _without(venue: _Venue, *keys: str) -> dict[str, Any]:
    addresses: dict[str, Any] = json.loads(json.dumps(venue.ccxt))
    inner = addresses["urls"]["api"]
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    return addresses


@pytest.mark.parametrize("keys", [("private",), ("sapi",), ("ws", "ws-api")], ids=".".join)
def test_addresses_of_which_some_lead_to_the_real_exchange(place: Place, venue: _Venue, keys: tuple[str, ...]) -> None:
    configured(place, venue, exchange={"ccxt": _without(venue, *keys)})
    refused(place, venue, 78, keys[0], "would still go to the real binance")


def _read_only(place: Place) -> None:
    (place.root / "var").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(place.root / "var")], check=True)


def _full(place: Place) -> None:
    (place.root / "var").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place.root / "var")], check=True)


@pytest.mark.fault(52)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts disks")
@pytest.mark.parametrize(
    ("mount", "code", "told"), [(_read_only, 78, "cannot be written"), (_full, 1, "want 500 MiB: make room")]
)
def test_a_disk_that_takes_nothing(
    place: Place, venue: _Venue, mount: Callable[[Place], None], code: int, told: str
) -> None:
    try:
        mount(place)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"nothing can be mounted here: {error}")
    try:
        refused(place, venue, code, told)
    finally:
        subprocess.run(["umount", str(place.root / "var")], check=True)


# ---- what the venue has to be asked for -------------------------------------------------------------------------
def test_keys_the_venue_does_not_know(place: Place, venue: _Venue) -> None:
    write_keys(place.root / "keys.toml", f'apiKey = "{KEY}x"\nsecret = "{SECRET}"\n')
    refused(place, venue, 78, "binance refuses the key", str(place.root / "keys.toml"))


def test_a_secret_that_does_not_fit(place: Place, venue: _Venue) -> None:
    write_keys(place.root / "keys.toml", f'apiKey = "{KEY}"\nsecret = "{SECRET}x"\n')
    refused(place, venue, 78, "binance refuses the key")


def test_a_key_without_its_secret(place: Place, venue: _Venue) -> None:
    write_keys(place.root / "keys.toml", f'apiKey = "{KEY}"\n')
    refused(place, venue, 78, "secret")


def test_a_key_that_may_withdraw(place: Place, venue: _Venue) -> None:
    venue.rights(may_withdraw=True)
    refused(place, venue, 3, "the key may withdraw")


def test_a_key_that_may_only_read(place: Place, venue: _Venue) -> None:
    venue.rights(may_trade=False)
    refused(place, venue, 3, "the key may only read")


def test_a_symbol_the_venue_does_not_have(place: Place, venue: _Venue) -> None:
    configured(place, venue, market={"symbols": ["BTC/USDX"]})
    refused(place, venue, 78, "binance has no 'BTC/USDX'", "did you mean BTC/USDT?")


def test_a_market_that_is_closed(place: Place, venue: _Venue) -> None:
    venue.client.do("status", symbol=BTC, status="break")
    refused(place, venue, 78, BTC, "does not trade")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"daemon": {"initial_cash": 9.0}}, "the smallest order is"),
        ({"live": {"max_order_value": 1.0}}, "[live] max_order_value is 1.00"),
        ({"daemon": {"initial_cash": 2_001.0}}, "2000.00 USDT free"),
    ],
    ids=["capital", "cap", "balance"],
)
def test_money_that_does_not_do(place: Place, venue: _Venue, changes: dict[str, Any], told: str) -> None:
    configured(place, venue, **changes)
    refused(place, venue, 78, told)


@pytest.mark.fault(8)
def test_a_clock_that_is_half_a_minute_off(place: Place, venue: _Venue) -> None:
    venue.client.do("clock", shift_ms=30_000)
    refused(place, venue, 1, "ahead of us", "set this machine's clock")


async def test_a_second_instance_on_this_machine(place: Place, venue: _Venue) -> None:
    (place.root / "var").mkdir(mode=0o700)
    journal = SqliteJournal.open(place.root / "var" / "main-exchange.sqlite", SystemClock())
    refused(place, venue, 78, f"in use by process {os.getpid()}")
    await journal.close()


# ---- and what passes --------------------------------------------------------------------------------------------
def test_with_nothing_wrong_the_check_passes_and_tells_the_fee_tier(place: Place, venue: _Venue) -> None:
    seen = len(venue.client.audit())
    done = sacd("check", "--json", cwd=place.root)
    assert done.returncode == 0, done.stdout
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert "A VENUE ON THIS MACHINE" in checks["money"]["detail"]
    assert checks["fees"]["detail"] == "0.001 of the traded value"
    assert checks["balance"]["detail"] == "2000.00 USDT free, of which 1000.00 become sacd's"
    methods = {record["method"] for record in venue.client.audit(after=seen) if record["kind"] == "request"}
    assert methods == {"GET"}
    assert KEY not in done.stdout + done.stderr
