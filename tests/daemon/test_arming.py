"""Real money is traded only when everything that can be known beforehand says so; the first that does not is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from daemon.arming import FLAG, Armed, arm
from daemon.clock import SystemClock
from daemon.config import Config, load_config
from daemon.errors import ArtifactError, ConfigError, DataError, NotArmed, SacdError
from daemon.journal import SqliteJournal
from daemon.journal_restored import Restored, write_marker
from daemon.paths import journal_path
from daemon.ports import Record
from daemon.readiness import EVALUATION
from daemon.run_record import account_of, money_of
from tests.daemon.live_places import KEY, SECRET, load_live, make_live_place, write_evaluation, write_keys
from tests.fakes.serving import Place

LOCAL = {
    "ccxt": {"urls": {"api": {"public": "http://127.0.0.1:8080/api/v3", "ws": {"spot": "ws://localhost:1/stream"}}}}
}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_live_place(tmp_path)


def refusal(config: Config, kind: type[SacdError], code: int, **said: bool) -> str:
    with pytest.raises(kind) as caught:
        arm(config, **{"confirmed": True, **said})
    assert type(caught.value) is kind
    assert caught.value.exit_code == code
    assert KEY not in str(caught.value)
    assert SECRET not in str(caught.value)
    return str(caught.value)


async def opened_as(config: Config, **account: Any) -> None:
    """Begin the journal of an account as the configuration says, except for `account`."""
    path = journal_path(config)
    path.parent.mkdir(exist_ok=True)
    journal = SqliteJournal.open(path, SystemClock())
    await journal.append([Record(kind="run", payload={"account": {**account_of(config), **account}})])
    await journal.close()


# ---- what may trade ---------------------------------------------------------------------------------------------
def test_a_confirmed_live_start_is_armed_with_the_keys_and_the_ensemble_that_was_judged(place: Place) -> None:
    armed = arm(load_live(place), confirmed=True)
    assert armed.config.credentials() == {"apiKey": KEY, "secret": SECRET}
    assert set(armed.config.secrets()) == {KEY, SECRET}
    assert armed.bundle is not None
    assert armed.bundle.manifest.short_id == place.model.name
    assert armed.readiness is not None
    assert armed.readiness.is_ready
    assert armed.overrides == {
        "unproven": "",
        "recovery": "",
        "confirmed": True,
        "evaluation": f"{place.model.name} was found ready at 2026-01-02T03:04:05+00:00: all gates passed",
    }


def test_what_is_armed_shows_no_secret(place: Place) -> None:
    armed = arm(load_live(place), confirmed=True)
    shown = f"{armed} {armed!r} {armed.config!r} {armed.config.public()} {json.dumps(dict(armed.overrides or {}))}"
    assert KEY not in shown
    assert SECRET not in shown
    assert armed.config.digest() == load_live(place).digest()


def test_on_paper_nothing_is_asked_for(place: Place) -> None:
    config = load_live(place, daemon={"mode": "paper"})
    (place.root / "keys.toml").unlink()
    assert arm(config, confirmed=False) == Armed(config=config)


def test_a_sandbox_needs_no_confirmation_but_everything_else(place: Place) -> None:
    config = load_live(place, exchange={"sandbox": True})
    assert money_of(config) == "sandbox"
    assert arm(config, confirmed=False).config.credentials() == {"apiKey": KEY, "secret": SECRET}
    (place.model / EVALUATION).unlink()
    refusal(config, NotArmed, 3, confirmed=False)


def test_an_override_is_armed_and_told_for_the_journal(place: Place) -> None:
    (place.model / EVALUATION).unlink()
    armed = arm(load_live(place, live={"allow_unproven": place.model.name}), confirmed=True)
    assert armed.overrides is not None
    assert armed.overrides["unproven"] == place.model.name
    assert "was never evaluated" in armed.overrides["evaluation"]


# ---- what may not -----------------------------------------------------------------------------------------------
def test_a_confirmation_on_paper_is_a_mistake(place: Place) -> None:
    told = refusal(load_live(place, daemon={"mode": "paper"}), ConfigError, 78)
    assert FLAG in told
    assert 'mode = "live"' in told


@pytest.mark.fault(65)
@pytest.mark.parametrize(
    ("exchange", "what"),
    [({}, "real money at binance"), (LOCAL, "at a venue on this machine as if it were real")],
    ids=["the exchange", "a venue of this machine"],
)
def test_without_a_confirmation_nothing_starts(place: Place, exchange: dict[str, Any], what: str) -> None:
    told = refusal(load_live(place, exchange=exchange), NotArmed, 3, confirmed=False)
    assert f"this would trade {what} (account" in told
    assert f"add {FLAG}" in told


def test_missing_or_loose_keys_are_refused(place: Place) -> None:
    keys = place.root / "keys.toml"
    config = load_live(place)
    keys.chmod(0o644)
    assert f"chmod 600 {keys}" in refusal(config, ConfigError, 78)
    keys.unlink()
    assert str(keys) in refusal(config, ConfigError, 78)
    assert "[exchange] credentials" in refusal(load_live(place, exchange={"credentials": ""}), ConfigError, 78)


def test_keys_come_from_systemd_where_no_file_is_named(place: Place) -> None:
    write_keys(place.root / "exchange.toml", f'apiKey = "{KEY}2"\nsecret = "{SECRET}"\n', mode=0o400)
    environ = {"CREDENTIALS_DIRECTORY": str(place.root)}
    config = load_live(place, environ, exchange={"credentials": ""})
    assert config.credentials() == {}  # loading alone reads none
    assert arm(config, confirmed=True).config.credentials()["apiKey"] == f"{KEY}2"
    named = load_live(place, environ)
    assert arm(named, confirmed=True).config.credentials()["apiKey"] == KEY


@pytest.mark.parametrize("changes", [{"ready": False}, {"bundle": "f" * 64}], ids=["not ready", "other bundle"])
def test_an_ensemble_nobody_found_ready_is_refused(place: Place, changes: dict[str, Any]) -> None:
    write_evaluation(place.model, **changes)
    assert f'allow_unproven = "{place.model.name}"' in refusal(load_live(place), NotArmed, 3)


def test_a_damaged_evaluation_is_an_error_and_no_permission(place: Place) -> None:
    (place.model / EVALUATION).write_text("{")
    config = load_live(place, live={"allow_unproven": place.model.name})
    assert str(place.model / EVALUATION) in refusal(config, ArtifactError, 1)


def test_a_broken_ensemble_is_named(place: Place) -> None:
    (place.model / "member-1.safetensors").unlink()
    assert "member-1.safetensors" in refusal(load_live(place), ArtifactError, 1)


@pytest.mark.parametrize(
    ("account", "told"),
    [
        ({"mode": "paper"}, "mode was 'paper', is 'live'"),
        ({"money": "sandbox"}, "money was 'sandbox', is 'real'"),
        ({"money": "local"}, "money was 'local', is 'real'"),
        ({"exchange": "kraken"}, "exchange was 'kraken', is 'binance'"),
        ({"cash": 5.0}, "cash was 5.0, is 1000.0"),
    ],
    ids=["paper", "sandbox", "local", "exchange", "cash"],
)
async def test_the_journal_of_another_account_is_refused(place: Place, account: dict[str, Any], told: str) -> None:
    config = load_live(place)
    await opened_as(config, **account)
    message = refusal(config, ConfigError, 78)
    assert told in message
    assert str(journal_path(config)) in message


async def test_its_own_journal_is_continued(place: Place) -> None:
    config = load_live(place)
    await opened_as(config)
    assert arm(config, confirmed=True).bundle is not None


@pytest.mark.fault(50)
async def test_a_restored_journal_is_continued_only_when_a_person_accepts_it(place: Place) -> None:
    config = load_live(place)
    await opened_as(config)
    write_marker(
        journal_path(config), Restored(at_ms=1, backup="monday.sqlite", quarantined="", is_done=True, entries=7)
    )
    told = refusal(config, ConfigError, 78)
    assert "monday.sqlite" in told
    assert "--accept-recovery" in told
    armed = arm(config, confirmed=True, accept_recovery=True)
    assert armed.overrides is not None
    assert "restored 7 entries from monday.sqlite" in armed.overrides["recovery"]


def test_a_journal_that_is_no_journal_stops_the_start_unless_it_is_to_be_restored(place: Place) -> None:
    config = load_live(place)
    path = journal_path(config)
    path.parent.mkdir()
    path.touch()
    assert arm(config, confirmed=True).bundle is not None  # what a start that was killed at once leaves behind
    path.write_bytes(b"no journal " * 1_000)
    assert str(path) in refusal(config, DataError, 1)
    assert arm(config, confirmed=True, accept_recovery=True).bundle is not None


MODES: dict[str, dict[str, Any]] = {
    "paper": {"daemon": {"mode": "paper"}},
    "sandbox": {"exchange": {"sandbox": True}},
    "real": {},
}


@pytest.mark.fault(65)
@pytest.mark.parametrize("now", MODES)
@pytest.mark.parametrize("then", MODES)
async def test_paper_sandbox_and_real_money_are_never_mixed_up(place: Place, then: str, now: str) -> None:
    await opened_as(load_live(place, **MODES[then]))
    config = load_live(place, **MODES[now])
    if now in {then, "paper"}:  # on paper the recovery itself refuses another account
        arm(config, confirmed=now != "paper")
    else:
        assert "holds another account" in refusal(config, ConfigError, 78)


def test_what_is_wrong_is_told_in_a_fixed_order(place: Place) -> None:
    (place.model / EVALUATION).unlink()
    (place.root / "keys.toml").chmod(0o644)
    config = load_live(place)
    assert "real money" in refusal(config, NotArmed, 3, confirmed=False)
    assert "chmod" in refusal(config, ConfigError, 78)
    (place.root / "keys.toml").chmod(0o600)
    assert "never evaluated" in refusal(config, NotArmed, 3)


# ---- whose money ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("urls", "money"),
    [
        ({}, "real"),
        (LOCAL["ccxt"]["urls"], "local"),
        ({"api": {"public": "http://[::1]:8080/", "private": "http://127.9.9.9"}}, "local"),
        ({"api": {"public": "http://127.0.0.1:8080", "private": "https://api.binance.com"}}, "real"),
        ({"api": {"public": "http://localhost.example.org"}}, "real"),
        ({"api": {"public": "http://10.0.0.5"}}, "real"),
        ({"api": {"public": "no address"}}, "real"),
    ],
)
def test_only_addresses_of_this_machine_are_no_real_money(place: Place, urls: dict[str, Any], money: str) -> None:
    assert money_of(load_live(place, exchange={"ccxt": {"urls": urls}})) == money


def test_a_paper_account_is_described_as_it_always_was(place: Place) -> None:
    paper = load_config(place.configure(), {})
    assert set(account_of(paper)) == {"instance", "mode", "source", "symbols", "timeframe", "cash"}
    assert account_of(load_live(place))["money"] == "real"
