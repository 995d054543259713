"""What `mode = "live"` asks of a configuration, found when it is loaded."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from daemon.config import load_config
from daemon.errors import ConfigError
from daemon.live_settings import EntryStyle, ExternalRule, LiveSettings, OrderStyle
from tests.daemon.live_places import KEY, SECRET, load_live, make_live_place, write_keys
from tests.fakes.serving import BTC, Place


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_live_place(tmp_path_factory.mktemp("live"))


@pytest.fixture
def place(shared: Place) -> Place:
    write_keys(shared.root / "keys.toml")
    return shared


def mistakes(place: Place, environ: Mapping[str, str] | None = None, **changes: Mapping[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_live(place, environ, **changes)
    assert caught.value.exit_code == 78
    assert KEY not in str(caught.value)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_a_whole_live_configuration_loads(place: Place) -> None:
    config = load_live(place)
    assert config.is_live
    assert config.credential_file == place.root / "keys.toml"
    assert not load_live(place, daemon={"mode": "paper"}).is_live


def test_what_was_written_becomes_settings(place: Place) -> None:
    live = {
        "order": "market", "entry": "maker", "collar": 0.01, "maker_wait_s": 7.0, "external": "adopt",
        "max_order_value": 11.0, "max_position_value": 12.0, "max_orders_per_minute": 13, "decision_age_s": 14.0,
    }  # fmt: skip
    assert load_live(place, live=live).live_settings() == LiveSettings(
        symbols=(BTC,), instance="main", order=OrderStyle.MARKET, entry=EntryStyle.MAKER, collar=0.01, maker_wait_s=7.0,
        external=ExternalRule.ADOPT, max_order_value=11.0, max_position_value=12.0, max_orders_per_minute=13,
        decision_age_s=14.0,
    )  # fmt: skip


def test_what_is_not_written_is_as_the_program_has_it(place: Place) -> None:
    settings = load_live(place).live_settings()
    for field in fields(LiveSettings):
        if field.default is not MISSING:
            assert getattr(settings, field.name) == field.default, field.name


# ---- contradictions ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "begins", "told"),
    [
        ({"market": {"source": "simulated"}}, 'market.source = "simulated": gives prices', 'write "exchange"'),
        ({"market": {"source": "file"}}, 'market.source = "file": gives prices', 'write "exchange"'),
        ({"daemon": {"instance": "paper"}}, 'daemon.instance = "paper": is the name of the paper account', '"main"'),
        ({"live": {"max_order_value": 0.0}}, "live.max_order_value = 0.0: sets no cap on one order", "such as 1000.0"),
        ({"live": {"max_position_value": 0.0}}, "live.max_position_value = 0.0: sets no cap", "such as 5000.0"),
        ({"exchange": {"ccxt": {"options": {"maxRetriesOnFailure": 3}}}},
         "exchange.ccxt.options.maxRetriesOnFailure = 3: lets ccxt send an order again", "remove it"),
        ({"exchange": {"ccxt": {"options": {"createOrder": {"maxRetriesOnFailure": 1}}}}},
         "exchange.ccxt.options.createOrder.maxRetriesOnFailure = 1", "remove it"),
        ({"exchange": {"ccxt": {"sandbox": True}}}, "exchange.ccxt.sandbox = true: would choose", "exchange.sandbox"),
        ({"exchange": {"ccxt": {"options": {"sandboxMode": True}}}}, "exchange.ccxt.options.sandboxMode = ", "remove"),
        ({"exchange": {"sandbox": True, "ccxt": {"urls": {"api": {"public": "http://127.0.0.1:1"}}}}},
         "exchange.sandbox = true: makes ccxt use its own test addresses", "write false to use yours"),
        ({"exchange": {"ccxt": {"verbose": True}}}, "exchange.ccxt.verbose = true: makes ccxt print", "remove it"),
        ({"exchange": {"ccxt": {"apiKey": KEY}}}, "exchange.ccxt.apiKey = ***: is a secret", "exchange.credentials"),
        ({"live": {"collar": 0.0}}, "live.collar = 0.0: is not above 0", "such as 0.005"),
        ({"live": {"allow_unproven": "yes"}}, 'live.allow_unproven = "yes": is no id', "16 digits"),
        ({"exchange": {"request_share": 0.0}}, "exchange.request_share = 0.0: is not above 0", "0.5 for one of two"),
    ],
)  # fmt: skip
def test_what_contradicts_live_trading_is_one_line_with_its_remedy(
    place: Place, changes: dict[str, Any], begins: str, told: str
) -> None:
    lines = mistakes(place, **changes)
    (line,) = [line for line in lines if "instruments" not in line and "market.file" not in line]
    assert line.startswith(begins)
    assert told in line


def test_candle_files_are_a_contradiction(place: Place) -> None:
    (line,) = mistakes(place, {"SACD_MARKET__FILE__PATHS": '{ "BTC/USDT" = "x.csv" }'})
    assert line.startswith("market.file.paths = {...} (from SACD_MARKET__FILE__PATHS): names recorded candles")


def test_caps_that_were_never_written_are_both_told(place: Place) -> None:
    path = place.configure(
        daemon={"instance": "main", "mode": "live"},
        market={"source": "exchange"},
        exchange={"credentials": str(place.root / "keys.toml")},
    )
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(" = ")[0].strip() for line in lines] == ["live.max_order_value", "live.max_position_value"]


PAPER = {"daemon": {"mode": "paper"}}


@pytest.mark.parametrize(
    "changes",
    [
        {"daemon": {"mode": "paper", "instance": "paper"}},
        {**PAPER, "live": {"max_order_value": 0.0, "max_position_value": 0.0}},
        {**PAPER, "exchange": {"ccxt": {"options": {"maxRetriesOnFailure": 3}}}},
        {**PAPER, "market": {"source": "simulated"}},
    ],
)
def test_on_paper_none_of_it_matters(place: Place, changes: dict[str, Any]) -> None:
    assert not load_live(place, **changes).is_live


# ---- where keys come from ---------------------------------------------------------------------------------------
def test_keys_in_the_environment_are_refused_with_the_reason(place: Place) -> None:
    environ = {"SACD_CREDENTIALS__APIKEY": KEY, "SACD_CREDENTIALS__SECRET": SECRET}
    lines = mistakes(place, environ)
    assert [line.split(" = ")[0] for line in lines] == list(environ)
    assert all("shows in /proc" in line and "exchange.credentials" in line for line in lines)
    assert SECRET not in "".join(lines)
    config = load_live(place, environ, **PAPER)
    assert config.credentials() == {"apiKey": KEY, "secret": SECRET}


@pytest.mark.fault(65)
def test_mode_from_the_environment_is_as_live_as_one_from_the_file(place: Place) -> None:
    config = load_live(place, {"SACD_DAEMON__MODE": "live"}, **PAPER)
    assert config.is_live
    environ = {"SACD_DAEMON__MODE": "live", "SACD_CREDENTIALS__APIKEY": KEY}
    assert "SACD_CREDENTIALS__APIKEY" in mistakes(place, environ, **PAPER)[0]


def test_loading_a_live_configuration_reads_no_keys(place: Place) -> None:
    (place.root / "keys.toml").unlink()
    write_keys(place.root / "exchange.toml", "this is no TOML")
    config = load_live(place, {"CREDENTIALS_DIRECTORY": str(place.root)})
    assert config.credentials() == {}
    assert config.credential_file == place.root / "keys.toml"
    unnamed = load_live(place, {"CREDENTIALS_DIRECTORY": str(place.root)}, exchange={"credentials": ""})
    assert unnamed.credential_file == place.root / "exchange.toml"
    assert load_live(place, exchange={"credentials": ""}).credential_file is None


def test_credentials_are_handed_on_without_being_shown(place: Place) -> None:
    bare = load_live(place)
    config = bare.with_credentials({"apiKey": KEY, "secret": SECRET})
    assert bare.credentials() == {}
    assert config.credentials() == {"apiKey": KEY, "secret": SECRET}
    assert config.public() == bare.public()
    shown = f"{config!r} {config} {config.model_dump_json()} {json.dumps(config.public())} {config.__dict__!r}"
    assert KEY not in shown
    assert SECRET not in shown


# ---- the rest ---------------------------------------------------------------------------------------------------
def test_a_budget_file_is_a_path_from_the_configuration(place: Place) -> None:
    config = load_live(place, exchange={"budget_file": "shared/binance.budget", "request_share": 0.25})
    assert config.exchange.budget_file == Path(place.root, "shared/binance.budget")
    assert config.exchange.request_share == 0.25
    assert load_live(place).exchange.budget_file is None
