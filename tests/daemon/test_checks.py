"""`sacd check` in live mode: all that real orders need, looked at in one go, and nothing sent but reads."""

from dataclasses import replace
from pathlib import Path

import pytest

from daemon import checks as module
from daemon import machine_checks
from daemon.check_result import CheckResult, exit_code_of, refuse_failed
from daemon.checks import run_checks
from daemon.config import Config
from daemon.errors import ConfigError, NotArmed, SacdError
from daemon.readiness import EVALUATION
from daemon.venue import Permissions, Venue
from tests.daemon.live_places import KEY, SECRET, WillingVenue, load_live, make_live_place
from tests.fakes.serving import BTC, Place


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A live place whose public market is not asked and whose clock is kept."""

    async def market(_: Config) -> str:
        return "exchange: as told"

    monkeypatch.setattr(module, "_market", market)
    monkeypatch.setattr(machine_checks, "time_sync", lambda: (True, "kept"))
    return make_live_place(tmp_path)


class _Made:
    """Makes one willing venue, and keeps the configuration it was made with."""

    def __init__(self) -> None:
        self.venue = WillingVenue()
        self.config: Config | None = None

    def __call__(self, config: Config) -> Venue:
        self.config = config
        return self.venue


def failed(results: list[CheckResult]) -> dict[str, int]:
    return {result.name: result.exit_code for result in results if not result.is_good}


async def test_a_place_that_may_trade_passes_and_the_venue_is_closed(place: Place) -> None:
    made = _Made()
    results = await run_checks(load_live(place), made)
    assert failed(results) == {}
    assert [result.name for result in results] == [
        "configuration", "ensemble", "state directory", "journal", "market", "conditions", "http", "money", "disk",
        "time sync", "rate budget", "credentials", "one instance", "readiness", "exchange", "stop orders",
        "user stream", "dead-man switch", "key", "balance", "withdrawal", "trading", "key addresses", "clock",
        f"market {BTC}", "fees", "open orders",
    ]  # fmt: skip
    assert made.config is not None
    assert made.config.credentials() == {"apiKey": KEY, "secret": SECRET}
    assert made.venue.calls[-1] == "close"
    assert KEY not in str(results)
    assert not (place.root / "var").exists()


async def test_on_paper_no_venue_is_made(place: Place) -> None:
    made = _Made()
    results = await run_checks(load_live(place, daemon={"mode": "paper"}), made)
    assert made.config is None
    assert [result.name for result in results][-1] == "http"


async def test_without_keys_the_exchange_is_not_asked(place: Place) -> None:
    (place.root / "keys.toml").chmod(0o644)
    made = _Made()
    assert failed(await run_checks(load_live(place), made)) == {"credentials": 78}
    assert made.config is None


async def test_everything_that_is_wrong_is_told_at_once(place: Place) -> None:
    made = _Made()
    made.venue.allowed = Permissions(may_trade=False, may_withdraw=True)
    made.venue.account = {}
    (place.model / EVALUATION).unlink()
    results = await run_checks(load_live(place), made)
    assert failed(results) == {"readiness": 3, "balance": 78, "withdrawal": 3, "trading": 3}
    assert exit_code_of(results) == 3


async def test_a_venue_that_cannot_be_made_is_told(place: Place) -> None:
    def refuse(_: Config) -> Venue:
        raise ConfigError("[exchange] urls.api: public overridden, but private would still go to the real binance")

    assert failed(await run_checks(load_live(place), refuse)) == {"exchange": 78}


async def test_the_journal_of_another_account_is_told(place: Place) -> None:
    (place.root / "var").mkdir()
    (place.root / "var" / "main-exchange.sqlite").write_bytes(b"nothing of ours " * 999)
    assert failed(await run_checks(load_live(place), _Made())) == {"journal": 1}


# ---- what follows from results ----------------------------------------------------------------------------------
GOOD = CheckResult(name="a", is_good=True, detail="well")


@pytest.mark.parametrize(("code", "kind"), [(1, SacdError), (3, NotArmed), (78, ConfigError)])
def test_the_first_that_is_not_good_decides_how_a_start_ends_and_all_are_told(code: int, kind: type[SacdError]) -> None:
    bad = replace(GOOD, name="b", is_good=False, detail="wrong", exit_code=code)
    results = [GOOD, bad, replace(bad, name="c", exit_code=1)]
    assert exit_code_of(results) == code
    with pytest.raises(SacdError) as caught:
        refuse_failed(results)
    assert type(caught.value) is kind
    assert str(caught.value) == "b: wrong\nc: wrong"
    refuse_failed([GOOD])
    assert exit_code_of([GOOD]) == 0


def test_a_good_result_ends_nothing() -> None:
    assert GOOD.to_json() == {"name": "a", "is_good": True, "detail": "well", "is_warning": False, "exit_code": 0}


async def test_conditions_that_the_ensemble_was_not_trained_under_are_a_warning_that_names_them(place: Place) -> None:
    results = await run_checks(load_live(place, strategy={"decide_every": 6}), _Made())
    (found,) = (result for result in results if result.name == "conditions")
    assert (found.is_good, found.is_warning, exit_code_of(results)) == (True, True, 0)
    assert found.detail == "not what the ensemble was trained under: strategy.decide_every = 6, trained under 1"


async def test_an_ensemble_that_cannot_be_read_says_so_once(place: Place) -> None:
    (place.model / "manifest.json").write_text("{}")
    results = await run_checks(load_live(place), _Made())
    assert "ensemble" in failed(results)
    assert "conditions" not in [result.name for result in results]
