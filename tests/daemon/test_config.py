"""Every mistake in the configuration is told at once, in one line each; what is right arrives as it was written."""

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from daemon.config import Config, load_config
from daemon.config_mistakes import every_key
from daemon.errors import ConfigError
from strategy.candle import Timeframe
from strategy.instrument import Instrument
from strategy.parameters import SHIPPED_LIMITS, SHIPPED_STRATEGY, CostModel

COMMITTED = Path(__file__).parents[2] / "config.toml"
TEXT = COMMITTED.read_text("utf-8")
CANARY = "cAnArY7f3e9b2a"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a directory as a checkout has it: an ensemble, and the committed config.toml."""
    (tmp_path / "models" / "current").mkdir(parents=True)
    (tmp_path / "config.toml").write_text(TEXT, "utf-8")
    return tmp_path


def load(home: Path, text: str = TEXT, environ: Mapping[str, str] | None = None) -> Config:
    (home / "config.toml").write_text(text, "utf-8")
    return load_config(home / "config.toml", environ or {})


def mistakes(home: Path, text: str = TEXT, environ: Mapping[str, str] | None = None) -> list[str]:
    """Return the lines of the report, without the heading."""
    with pytest.raises(ConfigError) as caught:
        load(home, text, environ)
    assert caught.value.exit_code == 78
    heading, *lines = str(caught.value).splitlines()
    assert heading == f"{home / 'config.toml'}: {len(lines)} mistake{'s' if len(lines) > 1 else ''}"
    assert all(re.fullmatch(r"  \S.* = .+: .+; .+", line) for line in lines), lines
    return [line.strip() for line in lines]


def changed(section: str, key: str, line: str, text: str = TEXT) -> str:
    """Return the configuration with the line of one key replaced."""
    before, header, after = text.partition(f"[{section}]")
    assert header, section
    replaced, count = re.subn(rf"^{re.escape(key)} = .*$", lambda _: line, after, count=1, flags=re.MULTILINE)
    assert count == 1, key
    return before + header + replaced


def written_keys() -> Iterator[tuple[str, str, Any]]:
    """Yield section, key and value of every line of the committed file."""
    section = ""
    for line in TEXT.splitlines():
        if match := re.match(r"\[(.+?)\]\s*(#|$)", line):
            section = match[1]
        elif match := re.match(r"([a-z_]+) = ", line):
            yield section, match[1], tomllib.loads(line)[match[1]]


KEYS = list(written_keys())
IDS = [f"{section}.{key}" for section, key, _ in KEYS]


# ---- the committed file ----------------------------------------------------------------------------------------
def test_the_committed_configuration_loads_as_it_stands() -> None:
    config = load_config(COMMITTED, {})
    assert config.market.source == "simulated"
    assert config.daemon.mode == "paper"


def test_the_committed_file_writes_out_every_key_with_its_default(home: Path) -> None:
    written = {(section, key) for section, key, _ in KEYS}
    missing = {(".".join(path[:-1]), path[-1]) for path in every_key(Config)} - written
    # The state directory is described but left to systemd; the other two are tables of free names.
    assert missing == {("daemon", "state_dir"), ("exchange", "ccxt"), ("", "instruments")}
    assert "# state_dir = " in TEXT
    assert "[exchange.ccxt]" in TEXT
    steps = TEXT[TEXT.index("[instruments") : TEXT.index("[journal]")]
    assert load(home, TEXT).public() == load(home, steps).public()


def test_the_committed_file_explains_every_key() -> None:
    for section, key, _ in KEYS:
        if section != 'instruments."ETH/USDT"':  # as that of BTC/USDT, which is explained
            lines = TEXT.partition(f"[{section}]")[2]
            line = re.search(rf"^{key} = .*$", lines, re.MULTILINE)
            assert line is not None
            assert re.search(r"#\s\S.{15}", line[0]), f"{section}.{key} has no comment"


def test_limits_and_costs_of_the_committed_file_are_what_the_shipped_ensemble_was_trained_under(home: Path) -> None:
    config = load(home)
    assert config.risk_limits() == SHIPPED_LIMITS
    assert config.cost_model() == CostModel()
    assert config.strategy_parameters() == SHIPPED_STRATEGY
    raw = tomllib.loads(TEXT)
    assert raw["risk"] == asdict(SHIPPED_LIMITS)
    assert raw["execution"] == asdict(CostModel())
    assert {key: value for key, value in raw["strategy"].items() if key != "model"} == asdict(SHIPPED_STRATEGY)


def test_one_key_turns_it_into_paper_trading_on_an_exchange(home: Path) -> None:
    assert '#     source = "exchange"' in TEXT
    config = load(home, changed("market", "source", 'source = "exchange"'))
    assert config.market.source == "exchange"
    assert config.instruments() == {}
    assert config.credentials() == {}


def test_what_was_written_arrives(home: Path) -> None:
    config = load(home)
    assert config.timeframe == Timeframe.parse("1h")
    assert config.market.symbols == ("BTC/USDT", "ETH/USDT")
    assert config.instruments() == {
        "BTC/USDT": Instrument(symbol="BTC/USDT", tick=0.01, lot=0.00001, min_notional=5.0),
        "ETH/USDT": Instrument(symbol="ETH/USDT", tick=0.01, lot=0.0001, min_notional=5.0),
    }
    assert list(config.instruments()) == ["BTC/USDT", "ETH/USDT"]
    assert config.daemon.initial_cash == 100_000.0
    assert (config.http.enabled, config.http.host, config.http.port) == (True, "127.0.0.1", 9464)


def test_an_empty_table_of_symbols_to_trade_needs_only_their_steps(home: Path) -> None:
    text = 'market.symbols = ["X/Y"]\n[instruments."X/Y"]\ntick = 1\nlot = 1\n'
    assert load(home, text).instruments() == {"X/Y": Instrument(symbol="X/Y", tick=1.0, lot=1.0, min_notional=0.0)}


def test_a_loaded_configuration_cannot_be_changed(home: Path) -> None:
    config = load(home)
    for section, key in ((config.risk, "max_drawdown"), (config.daemon, "mode"), (config, "risk")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, key, 0.5)


# ---- one mistake -----------------------------------------------------------------------------------------------
def wrong_types(value: Any) -> list[str]:
    match value:
        case bool():
            return ["1", '"yes"', "[true]", "{}", "2022-01-01"]
        case int():
            return ["1.5", '"5"', "true", "[5]", "{ a = 1 }", "12:30:00"]
        case float():
            return ['"0.5"', "true", "[0.5]", "{}", "2022-01-01T00:00:00Z"]
        case str():
            return ["5", "true", "[]", "{ a = 1 }"]
        case list():
            return ['"BTC/USDT"', "5", "[5]", "{}", '["BTC/USDT", ["ETH/USDT"]]']
        case _:
            return ['"a"', "5", "[]", "{ a = 5 }"]


TYPE_CASES = [(section, key, wrong) for section, key, value in KEYS for wrong in wrong_types(value)]


@pytest.mark.parametrize(("section", "key", "wrong"), TYPE_CASES)
def test_a_wrong_type_is_one_line_naming_the_key(home: Path, section: str, key: str, wrong: str) -> None:
    (line,) = mistakes(home, changed(section, key, f"{key} = {wrong}"))
    assert line.startswith(f"{section}.{key}")
    assert re.search(r": (is|holds) ", line)


FLOATS = [(section, key) for section, key, value in KEYS if isinstance(value, float)]


@pytest.mark.fault(63)
@pytest.mark.parametrize("wrong", ["nan", "inf", "-inf", "-nan"])
@pytest.mark.parametrize(("section", "key"), FLOATS)
def test_nan_and_infinity_are_refused_everywhere(home: Path, section: str, key: str, wrong: str) -> None:
    (line,) = mistakes(home, changed(section, key, f"{key} = {wrong}"))
    assert re.match(rf"{re.escape(section)}\.{key} = (-?inf|nan): is not a finite number; ", line)


NUMBERS = [(s, k, v) for s, k, v in KEYS if isinstance(v, int | float) and not isinstance(v, bool)]


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize(("section", "key", "value"), NUMBERS, ids=[f"{s}.{k}" for s, k, _ in NUMBERS])
def test_a_number_out_of_range_is_one_line_naming_the_range(
    home: Path, section: str, key: str, value: float, sign: str
) -> None:
    huge = f"{sign}1e300" if isinstance(value, float) else f"{sign}9{'0' * 30}"
    (line,) = mistakes(home, changed(section, key, f"{key} = {huge}"))
    assert line.startswith(f"{section}.{key} = {sign}")
    assert re.search(r": is (outside|below|above|not above|not below) \S+", line) or "integer" in line


@pytest.mark.parametrize("digits", ["9" * 5_000, "0x" + "f" * 5_000])
@pytest.mark.parametrize("key", ["seed", "port"])
def test_endless_integers_are_refused_without_a_traceback(home: Path, key: str, digits: str) -> None:
    section = {"seed": "market.simulated", "port": "http"}[key]
    with pytest.raises(ConfigError) as caught:
        load(home, changed(section, key, f"{key} = {digits}"))
    assert len(str(caught.value)) < 1_000


@pytest.mark.fault(63)
@pytest.mark.parametrize(("section", "key", "value"), KEYS, ids=IDS)
def test_a_misspelt_key_is_told_with_the_right_one(home: Path, section: str, key: str, value: Any) -> None:
    lines = mistakes(home, changed(section, key, f"{key}x = {json.dumps(value)}"))
    (unknown,) = [line for line in lines if line.startswith(f"{section}.{key}x = ")]
    assert unknown.endswith(f": there is no such key; did you mean {section}.{key}?")
    # Only what cannot be left out may be missed besides.
    assert [line for line in lines if line is not unknown and "(missing)" not in line] == []


def test_a_key_in_the_wrong_section_is_told_where_it_belongs(home: Path) -> None:
    text = changed("strategy", "dead_band", "max_drawdown = 0.3")
    assert mistakes(home, text) == [
        "strategy.max_drawdown = 0.3: there is no such key; did you mean risk.max_drawdown?"
    ]


def test_a_misspelt_section_is_told_with_the_right_one(home: Path) -> None:
    lines = mistakes(home, TEXT.replace("[journal]", "[jornal]"))
    assert lines == ["jornal = {...}: there is no such section; did you mean journal?"]


@pytest.mark.parametrize(
    ("section", "line", "told"),
    [
        ("daemon", 'mode = "real"', 'write "paper" or "live"'),
        ("daemon", 'instance = "Mine"', "1-16 characters of a-z, 0-9 and -"),
        ("daemon", 'instance = "abcdefghijklmnopq"', "1-16 characters"),
        ("daemon", 'instance = ""', "1-16 characters"),
        ("daemon", "initial_cash = 0", "is not above 0"),
        ("market", "symbols = []", "is empty"),
        ("market", 'symbols = ["BTC/USDT", "BTC/USDT"]', "BTC/USDT stands twice"),
        ("market", 'symbols = ["BTCUSDT"]', "'BTCUSDT' is not of the form BASE/QUOTE"),
        ("market", 'symbols = ["BTC/USDT:USDT"]', "is not of the form BASE/QUOTE"),
        ("market", 'timeframe = "90x"', "is no timeframe"),
        ("market", 'timeframe = "1M"', "is no timeframe"),
        ("market", 'source = "binance"', '"simulated", "file" or "exchange"'),
        ("market.file", 'start = "2022-13-01"', "is no date"),
        ("market.file", 'end = "tomorrow"', "is no date"),
        ("exchange", 'id = "Binance!"', "is no name of an exchange"),
        ("http", 'host = "example.org"', "is no address of this machine"),
        ("http", "port = 65536", "is above 65535"),
        ("http", 'allowed_hosts = ["sacd:9464"]', "is no name of a machine"),
        ("http", "port = -1", "is below 0"),
        ("journal", "checkpoint_every = 0", "is below 1"),
        ("retrain", "drift_limit = 0.5", "is not below 0.5"),
        ("retrain", "drift_trigger = 0.51", "is above 0.5"),
        ("log", 'level = "DEBUG"', '"debug", "info", "warning" or "error"'),
        ("log", 'format = "xml"', '"auto", "console" or "json"'),
        ("risk", "max_drawdown = 15", "is outside 0.001 .. 0.99; write a number, such as 0.15"),
        ("strategy", 'model = ""', "is no path"),
        ("strategy", 'model = "~/models"', "without ~"),
        ("strategy", 'model = "a\\u0000b"', "is no path"),
    ],
)
def test_a_value_that_cannot_be_is_told_with_what_could(home: Path, section: str, line: str, told: str) -> None:
    key = line.split(" = ", maxsplit=1)[0]
    (found,) = mistakes(home, changed(section, key, line))
    assert found.startswith(f"{section}.{key} = ")
    assert told in found


# ---- several mistakes, and contradictions between keys -----------------------------------------------------------
def test_all_mistakes_are_told_at_once(home: Path) -> None:
    text = """
        top = 3
        [daemon]
        instance = "Paper!"
        initial_cash = nan
        [market]
        source = "fil"
        symbols = ["BTC/USDT", 3]
        [market.file]
        start = "yesterday"
        [exchange]
        id = "binance"
        apiKey = "cAnArY7f3e9b2a"
        [strategy]
        model = "nowhere"
        edge_horizon = 1.5
        [risk]
        max_drawdwn = 0.3
        stop_loss = 5
        [instruments.BTC]
        tick = 0.1
        lot = 0.1
        [instruments."ETH/USDT"]
        tick = -1
        [jornal]
        [http]
        port = "9464"
    """
    lines = mistakes(home, text, {"SACD_LOG__LEVEL": "loud", "SACD_LOG__LEVLE": "info"})
    assert {line.split(" = ")[0] for line in lines} == {
        "top", "daemon.instance", "daemon.initial_cash", "market.source", "market.symbols", "market.file.start",
        "exchange.apiKey", "strategy.model", "strategy.edge_horizon", "risk.max_drawdwn", "risk.stop_loss",
        "instruments.BTC", 'instruments."ETH/USDT".tick', 'instruments."ETH/USDT".lot', "jornal", "http.port",
        "log.level", "SACD_LOG__LEVLE",
    }  # fmt: skip
    assert len(lines) == 18


def test_what_only_follows_from_a_mistake_is_not_told(home: Path) -> None:
    text = changed("risk", "max_position", "max_position = 7", changed("strategy", "dead_band", "dead_band = 0.4"))
    (line,) = mistakes(home, text)
    assert line.startswith("risk.max_position = 7")


def test_symbols_paid_in_two_currencies_are_a_contradiction(home: Path) -> None:
    text = changed("market", "symbols", 'symbols = ["BTC/USDT", "ETH/EUR"]').replace('"ETH/USDT"]', '"ETH/EUR"]')
    (line,) = mistakes(home, text)
    assert line.startswith('market.symbols = ["BTC/USDT", "ETH/EUR"]: mixes quote currencies')


def test_a_dead_band_wider_than_the_largest_position_is_a_contradiction(home: Path) -> None:
    text = changed("risk", "max_position", "max_position = 0.1", changed("strategy", "dead_band", "dead_band = 0.2"))
    (line,) = mistakes(home, text)
    assert line.startswith("strategy.dead_band = 0.2: is above risk.max_position = 0.1")


def test_money_too_little_for_the_smallest_order_is_a_contradiction(home: Path) -> None:
    # 19 / 2 symbols x 0.5 = 4.75, below the 5 USDT of both.
    lines = mistakes(home, changed("daemon", "initial_cash", "initial_cash = 19"))
    assert [line.split(" = ")[0] for line in lines] == [
        f'instruments."{symbol}".min_notional' for symbol in ("BTC/USDT", "ETH/USDT")
    ]
    assert "more than the 4.75" in lines[0]
    assert load(home, changed("daemon", "initial_cash", "initial_cash = 20")).daemon.initial_cash == 20.0


@pytest.mark.parametrize("source", ["simulated", "file"])
def test_a_symbol_without_steps_is_told(home: Path, source: str) -> None:
    text = changed("market", "symbols", 'symbols = ["SOL/USDT"]')
    text = changed("market", "source", f'source = "{source}"', text)
    lines = mistakes(home, text)
    assert lines[0].startswith(f'instruments."SOL/USDT" = (missing): is needed, as market.source is "{source}"')


def test_every_symbol_needs_its_file_of_candles(home: Path) -> None:
    (home / "folder").mkdir()
    text = changed("market", "source", 'source = "file"')
    assert [line.split(":")[0] for line in mistakes(home, text)] == [
        'market.file.paths."BTC/USDT" = (missing)',
        'market.file.paths."ETH/USDT" = (missing)',
    ]
    text = changed("market.file", "paths", 'paths = { "BTC/USDT" = "gone.csv", "ETH/USDT" = "folder" }', text)
    gone, folder = mistakes(home, text)
    assert gone.startswith(f'market.file.paths."BTC/USDT" = "{home}'[:50])
    assert "No such file" in gone
    assert "is a directory, not a file" in folder


def test_candle_files_and_their_span_are_read(home: Path) -> None:
    (home / "data").mkdir()
    (home / "data" / "btc.csv").touch()
    text = changed("market", "source", 'source = "file"')
    text = changed("market", "symbols", 'symbols = ["BTC/USDT"]', text)
    text = changed("market.file", "paths", 'paths = { "BTC/USDT" = "data/btc.csv" }', text)
    text = changed("market.file", "start", 'start = "2022-01-01"', text)
    text = changed("market.file", "end", "end = 2022-01-01T13:00:00+01:00", text)
    file = load(home, text).market.file
    assert file.paths == {"BTC/USDT": home / "data" / "btc.csv"}
    assert file.start_ms == 1_640_995_200_000
    assert file.end_ms == 1_640_995_200_000 + 12 * 3_600_000
    assert (load(home).market.file.start_ms, load(home).market.file.end_ms) == (None, None)


def test_a_span_that_ends_before_it_begins_is_a_contradiction(home: Path) -> None:
    text = changed("market.file", "start", "start = 2022-01-02", changed("market.file", "end", 'end = "2022-01-02"'))
    (line,) = mistakes(home, text)
    assert line.startswith('market.file.start = "2022-01-02": is not before market.file.end = "2022-01-02"')


def test_waiting_longer_than_a_candle_lasts_is_a_contradiction(home: Path) -> None:
    text = changed("exchange", "grace_s", "grace_s = 60", changed("market", "timeframe", 'timeframe = "1m"'))
    (line,) = mistakes(home, text)
    assert line.startswith("exchange.grace_s = 60.0: is not below the 60 seconds of one candle")


@pytest.mark.parametrize(("name", "told"), [("binnance", 'did you mean "binance"?'), ("qqqqqq", 'such as "binance"')])
def test_an_exchange_nobody_knows_is_told(home: Path, name: str, told: str) -> None:
    text = changed("market", "source", 'source = "exchange"', changed("exchange", "id", f'id = "{name}"'))
    (line,) = mistakes(home, text)
    assert line.startswith(f'exchange.id = "{name}": is no exchange that ccxt can stream from')
    assert line.endswith(told) or told in line


# ---- retraining ------------------------------------------------------------------------------------------------
def retrained(home: Path, *lines: str, text: str = TEXT) -> str:
    """Return the configuration with lines of [retrain] replaced, in a home with a registry."""
    current = home / "models" / "current"
    if not current.is_symlink():
        current.rmdir()
        (home / "models" / "0123456789abcdef").mkdir()
        current.symlink_to("0123456789abcdef")
    for line in lines:
        text = changed("retrain", line.partition(" = ")[0], line, text)
    return text


@pytest.mark.parametrize(
    "line", ['cron = "0 3 * * sun"', "every_hours = 168", "drift_trigger = 0.5", "automatic = false"]
)
def test_retraining_may_be_asked_for_in_each_way(home: Path, line: str) -> None:
    key = line.partition(" = ")[0]
    assert getattr(load(home, retrained(home, line)).retrain, key) == tomllib.loads(line)[key]


@pytest.mark.parametrize(
    ("cron", "told"),
    [
        ("0 3 * *", "is no schedule of five fields"),
        ("@weekly", "is no schedule of five fields"),
        ("61 3 * * sun", "the last value (61) is higher than the maximum value (59)"),
        ("0 3 * * sunday", 'Invalid weekday name "sunday"'),
        ("0 3 * * 0", "names weekdays by number, which is ambiguous: write them as sun, mon, tue-fri"),
        ("0 3 * * mon-5", "names weekdays by number"),
        ("*/0 3 * * *", "Increment must be higher than 0"),
        ("0 3 30 feb *", "names a day that never comes"),
        ("0 3 31 4,6,9,11 *", "names a day that never comes"),
        ("9" * 5_000 + " 3 * * *", "is no schedule ("),
    ],
)
def test_a_schedule_that_cannot_be_followed_is_told_with_the_reason(home: Path, cron: str, told: str) -> None:
    (line,) = mistakes(home, retrained(home, f'cron = "{cron}"'))
    assert line.startswith(f'retrain.cron = "{cron[:40]}')
    assert told in line
    assert line.endswith('write minute, hour, day, month and weekday, such as "0 3 * * sun", or ""')


def test_two_timetables_are_a_contradiction(home: Path) -> None:
    (line,) = mistakes(home, retrained(home, 'cron = "0 3 * * sun"', "every_hours = 24.0"))
    assert line == (
        'retrain.cron = "0 3 * * sun": stands beside retrain.every_hours = 24.0, and only one can say when; '
        'write "" here, or 0.0 there'
    )


def test_retraining_more_often_than_candles_come_is_a_contradiction(home: Path) -> None:
    (line,) = mistakes(home, retrained(home, "every_hours = 0.9"))
    assert line.startswith("retrain.every_hours = 0.9: is less than the 1 h that a candle of market.timeframe takes")
    assert load(home, retrained(home, "every_hours = 1.0")).retrain.every_hours == 1.0
    quick = changed("market", "timeframe", 'timeframe = "15m"', retrained(home, "every_hours = 0.25"))
    assert load(home, quick).retrain.every_hours == 0.25


def test_candles_to_train_on_are_of_traded_symbols_and_can_be_read(home: Path) -> None:
    (home / "btc.csv").touch()
    (home / "folder").mkdir()
    files = 'data = { "BTC/USDT" = "btc.csv", "ETH/USDT" = "folder", "SOL/USDT" = "btc.csv" }'
    folder, stranger = mistakes(home, retrained(home, files))
    assert folder.startswith('retrain.data."ETH/USDT" = ')
    assert "is a directory, not a file; write the path of a CSV, CSV.gz or Parquet file of candles" in folder
    assert stranger.startswith('retrain.data."SOL/USDT" = ')
    assert stranger.endswith("is of a symbol that market.symbols lacks; remove it, or write one of BTC/USDT, ETH/USDT")
    data = load(home, retrained(home, 'data = { "BTC/USDT" = "btc.csv" }')).retrain.data
    assert data == {"BTC/USDT": home / "btc.csv"}


def test_a_file_of_candles_may_be_missing_only_where_it_can_be_fetched(home: Path) -> None:
    text = retrained(home, 'data = { "BTC/USDT" = "none.csv" }')
    (line,) = mistakes(home, text)
    assert "cannot be opened (No such file or directory)" in line
    exchange = changed("market", "source", 'source = "exchange"', text)
    assert load(home, retrained(home, "fetch = true", text=exchange)).retrain.fetch is True


@pytest.mark.parametrize("source", ["simulated", "file"])
def test_fetching_without_an_exchange_is_a_contradiction(home: Path, source: str) -> None:
    lines = mistakes(home, retrained(home, "fetch = true", text=changed("market", "source", f'source = "{source}"')))
    assert f'retrain.fetch = true: has no exchange to ask, as market.source is "{source}"' in "\n".join(lines)


def test_a_shadow_that_ends_before_it_may_win_is_a_contradiction(home: Path) -> None:
    (line,) = mistakes(home, retrained(home, "shadow_least = 31", "shadow_decisions = 30"))
    assert line.startswith("retrain.shadow_least = 31: is above retrain.shadow_decisions = 30")
    assert load(home, retrained(home, "shadow_least = 30", "shadow_decisions = 30")).retrain.shadow_least == 30


@pytest.mark.parametrize("key", ["cron", "every_hours", "drift_trigger"])
@pytest.mark.parametrize("model", ["models/0123456789abcdef", "models/latest", "elsewhere/current", "folder/current"])
def test_retraining_needs_the_link_of_a_registry_to_replace(home: Path, key: str, model: str) -> None:
    lines = {
        "cron": 'cron = "0 3 * * sun"',
        "every_hours": "every_hours = 24.0",
        "drift_trigger": "drift_trigger = 0.1",
    }
    text = retrained(home, lines[key])
    (home / "models" / "latest").symlink_to("0123456789abcdef")
    (home / "elsewhere").mkdir()
    (home / "elsewhere" / "current").symlink_to("../models/0123456789abcdef")
    (home / "folder" / "current").mkdir(parents=True)
    (line,) = mistakes(home, changed("strategy", "model", f'model = "{model}"', text))
    assert line.startswith("strategy.model = ")
    assert f"is no link called current to an ensemble beside it, and retrain.{key} is to replace ensembles" in line
    assert load(home, changed("strategy", "model", f'model = "{model}"')).strategy.model == home / model


def test_retraining_of_an_ensemble_that_is_not_there_is_told_once(home: Path) -> None:
    text = retrained(home, "every_hours = 24.0")
    (line,) = mistakes(home, changed("strategy", "model", 'model = "models/none"', text))
    assert "does not exist" in line


def test_loading_imports_neither_ccxt_nor_numpy_nor_anything_of_training(home: Path) -> None:
    (home / "config.toml").write_text(changed("market", "source", 'source = "exchange"'), "utf-8")
    program = (
        "import sys; from pathlib import Path; from daemon.config import load_config;"
        "load_config(Path(sys.argv[1]), {});"
        "print(sorted({'ccxt', 'aiohttp', 'numpy', 'torch', 'pandas', 'training', 'apscheduler'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, str(home / "config.toml")]
    done = subprocess.run(command, cwd=COMMITTED.parent, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# ---- the file itself -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'[log]\nlevel = "info\n', "at line 2, column 14"),
        (b"[log]\nlevel : 3\n", "at line 2"),
        (b"[log]\n[log]\n", "at line 2"),
        (b"a = 1\na = 2\n", "at line 2"),
        (b"[log]\nx = '\xff'\n", "line 2: byte 11 is not UTF-8"),
        (b"x = " + b"[" * 100_000, "nested too deeply"),
        (b".".join([b"a"] * 2_000) + b" = 1", "nested too deeply"),
        (b"x = " + b"1" * 5_000, "is not TOML"),
    ],
    ids=["quote", "colon", "section twice", "key twice", "bytes", "brackets", "dots", "digits"],
)
def test_what_is_no_toml_is_told_with_its_place(home: Path, content: bytes, told: str) -> None:
    (home / "config.toml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(home / "config.toml", {})
    assert str(home / "config.toml") in str(caught.value)
    assert told in str(caught.value)


def test_a_byte_order_mark_does_no_harm(home: Path) -> None:
    (home / "config.toml").write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert load_config(home / "config.toml", {}).market.source == "simulated"


@pytest.mark.fault(63)
def test_a_missing_file_is_told_not_replaced_by_defaults(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: no such file; name the configuration with --config"):
        load_config(tmp_path / "gone.toml", {})


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        load_config(tmp_path, {})


# ---- paths -----------------------------------------------------------------------------------------------------
def test_relative_paths_begin_at_the_file_not_at_the_working_directory(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home.parent)
    config = load_config(Path(home.name, "config.toml"), {})
    assert config.daemon.state_dir == home / "var"
    assert config.strategy.model == home / "models" / "current"
    assert config.control_socket == home / "var" / "control.sock"


def test_loading_creates_nothing(home: Path) -> None:
    before = sorted(home.rglob("*"))
    load(home)
    assert sorted(home.rglob("*")) == before


def test_the_state_directory_of_systemd_holds_unless_one_is_written(home: Path) -> None:
    environ = {"STATE_DIRECTORY": "/var/lib/sacd:/var/lib/other"}
    assert load(home, TEXT, environ).daemon.state_dir == Path("/var/lib/sacd")
    written = TEXT.replace('# state_dir = "var"', 'state_dir = "mine"')
    assert load(home, written, environ).daemon.state_dir == home / "mine"
    overridden = {**environ, "SACD_DAEMON__STATE_DIR": "/srv/sacd"}
    assert load(home, written, overridden).daemon.state_dir == Path("/srv/sacd")


def test_a_state_directory_that_is_a_file_is_told(home: Path) -> None:
    (home / "var").touch()
    (line,) = mistakes(home)
    assert line.startswith("daemon.state_dir = ")
    assert "is a file" in line


def test_a_socket_path_longer_than_the_system_takes_is_told(home: Path) -> None:
    at_limit = "/" + "s" * 106
    assert load(home, changed("control", "socket", f'socket = "{at_limit}"')).control_socket == Path(at_limit)
    (line,) = mistakes(home, changed("control", "socket", f'socket = "{at_limit}s"'))
    assert line.startswith("control.socket = ")
    assert "108 bytes, and the system takes 107" in line
    (line,) = mistakes(home, TEXT, {"SACD_DAEMON__STATE_DIR": "/ü" * 50})  # 3 bytes each, and 13 of /control.sock
    assert "163 bytes" in line


def test_a_link_to_a_missing_ensemble_is_told_as_such(home: Path) -> None:
    (home / "models" / "current").rmdir()
    (home / "models" / "current").symlink_to("0123abc")
    (line,) = mistakes(home)
    assert 'is a link to "0123abc", which does not exist' in line


def test_an_ensemble_that_is_a_file_is_told(home: Path) -> None:
    (home / "models" / "model.zip").touch()
    (line,) = mistakes(home, changed("strategy", "model", 'model = "models/model.zip"'))
    assert "is a file, not a directory" in line


@pytest.mark.parametrize("key", ["strategy__model", "daemon__state_dir", "control__socket"])
def test_a_path_beyond_all_limits_is_told(home: Path, key: str) -> None:
    lines = mistakes(home, TEXT, {f"SACD_{key.upper()}": "x" * 5_000})
    assert lines[0].startswith((key.replace("__", "."), "control.socket"))


# ---- environment -----------------------------------------------------------------------------------------------
def test_the_environment_overrides_the_file(home: Path) -> None:
    environ = {
        "SACD_MARKET__CANDLES_PER_SECOND": "20",
        "SACD_MARKET__SYMBOLS": '["ETH/USDT"]',
        "SACD_MARKET__SIMULATED__SEED": "11",
        "SACD_LOG__LEVEL": "debug",
        "SACD_DAEMON__INSTANCE": "42",  # text stays text
        "SACD_HTTP__ENABLED": "false",
        "SACD_RISK__MAX_DRAWDOWN": "0.3",
        "SACD_EXCHANGE__CCXT__enableRateLimit": "false",
        "SACD_EXCHANGE__CCXT__options__defaultType": "spot",
        "SACD_INSTRUMENTS": '{ "ETH/USDT" = { tick = 0.1, lot = 0.1 } }',
        "SACD_TEST_DATA": "anything",
        "SACD_TRIALS": "anything",
        "PATH": "/bin",
    }
    config = load(home, TEXT, environ)
    assert config.market.candles_per_second == 20.0
    assert config.market.symbols == ("ETH/USDT",)
    assert config.market.simulated.seed == 11
    assert config.log.level == "debug"
    assert config.daemon.instance == "42"
    assert config.http.enabled is False
    assert config.risk_limits().max_drawdown == 0.3
    assert config.exchange.ccxt == {"enableRateLimit": False, "options": {"defaultType": "spot"}}
    assert config.instruments() == {"ETH/USDT": Instrument(symbol="ETH/USDT", tick=0.1, lot=0.1, min_notional=0.0)}


@pytest.mark.parametrize("path", list(every_key(Config)), ids=".".join)
def test_every_key_can_be_set_from_the_environment(home: Path, path: tuple[str, ...]) -> None:
    variable = "SACD_" + "__".join(path).upper()
    value: Any = load(home).model_dump(mode="json", by_alias=True)
    for key in path:
        value = value[key]
    written = value if isinstance(value, str) else "" if value is None else as_toml(value)
    assert load(home, TEXT, {variable: written}).public() == load(home).public()
    if not isinstance(value, str) and value is not None:
        (line, *_) = mistakes(home, TEXT, {variable: "no, thanks"})
        assert f'= "no, thanks" (from {variable}): is text, not ' in line


def as_toml(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{json.dumps(key)} = {as_toml(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(as_toml(item) for item in value) + "]"
        case _:
            return json.dumps(value)


@pytest.mark.fault(63)
@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("SACD_MARKET__SORUCE", "did you mean SACD_MARKET__SOURCE?"),
        ("SACD_MARKET_SOURCE", "did you mean SACD_MARKET__SOURCE?"),
        ("SACD_RISK", "SACD_"),
        ("SACD_API_KEY", "SACD_CREDENTIALS__ and one of: APIKEY, SECRET"),
        ("SACD_RISK__MAX_DRAWDOWN__X", "did you mean SACD_RISK__MAX_DRAWDOWN?"),
        ("SACD_", "SACD_SECTION__KEY"),
        ("SACD_CREDENTIALS__APIKEYS", "APIKEY, SECRET"),
    ],
)
def test_an_unknown_variable_is_told_without_its_value(home: Path, variable: str, told: str) -> None:
    (line,) = mistakes(home, TEXT, {variable: CANARY})
    assert line.startswith(f"{variable} = ***: ")
    assert told in line


def test_an_override_cannot_smuggle_in_other_keys(home: Path) -> None:
    (line,) = mistakes(home, TEXT, {"SACD_HTTP__PORT": "1\nhost = 2"})
    assert line.startswith('http.port = "1\\nhost = 2" (from SACD_HTTP__PORT): is text, not a whole number')


# ---- secrets ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        f'[exchange]\napiKey = "{CANARY}"',
        f'[exchange]\nsecret = "{CANARY}"',
        f'[exchange.ccxt]\nprivateKey = "{CANARY}"',
        f'[exchange.ccxt]\noptions = {{ deep = [{{ password = "{CANARY}" }}] }}',
        f'[exchange.ccxt.headers]\nAuthorization = "Bearer {CANARY}"',
        f'[exchange.ccxt]\nhttpsProxy = "http://me:{CANARY}@proxy:3128"',
        f'[credentials]\ntoken = "{CANARY}"',
        f'uid = "{CANARY}"',
        f'[daemon]\nAPI_SECRET = "{CANARY}"',
        f'[exchange]\nkye = "{CANARY}"',
        f'[exchange]\nccxt = "{CANARY} apiKey={CANARY}"'.replace(f"{CANARY} ", ""),
        f'[market]\nsource = "http://me:{CANARY}@host"',
        f'apikey = ["{CANARY}"]',
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(home: Path, text: str) -> None:
    lines = mistakes(home, f"{text}\n")
    assert CANARY not in "".join(lines)
    assert any("***" in line for line in lines)


def test_a_refused_secret_is_told_where_it_belongs(home: Path) -> None:
    (line,) = mistakes(home, TEXT.replace("[exchange.ccxt]", f'[exchange.ccxt]\napiKey = "{CANARY}"\n#'))
    assert line == (
        "exchange.ccxt.apiKey = ***: is a secret, which must not stand here; write it as apiKey into the file that "
        "exchange.credentials names, which only its owner may read"
    )


def shown_everywhere(config: Config) -> str:
    return "\n".join(
        (repr(config), str(config), config.model_dump_json(), json.dumps(config.public()), repr(config.__dict__))
    )


def test_credentials_come_from_the_environment_and_are_shown_nowhere(home: Path) -> None:
    environ = {"SACD_CREDENTIALS__APIKEY": CANARY, "SACD_CREDENTIALS__PRIVATE_KEY": f"{CANARY}2"}
    config = load(home, TEXT, environ)
    assert config.credentials() == {"apiKey": CANARY, "privateKey": f"{CANARY}2"}
    assert set(config.secrets()) == {CANARY, f"{CANARY}2"}
    assert CANARY not in shown_everywhere(config)
    assert config.digest() == load(home).digest()


def test_credentials_come_from_the_directory_of_systemd_and_the_environment_overrides(home: Path) -> None:
    (home / "exchange.toml").write_text(f'apiKey = "file"\nsecret = "{CANARY}"\n')
    environ = {"CREDENTIALS_DIRECTORY": str(home), "SACD_CREDENTIALS__APIKEY": "environment"}
    config = load(home, TEXT, environ)
    assert config.credentials() == {"apiKey": "environment", "secret": CANARY}
    assert CANARY not in shown_everywhere(config)


def test_a_credential_directory_without_ours_gives_none(home: Path) -> None:
    assert load(home, TEXT, {"CREDENTIALS_DIRECTORY": str(home / "none")}).credentials() == {}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (f'apiKye = "{CANARY}"', "is no credential"),
        ("apiKey = 314159265358", "is not text"),
        ('secret = ""', "is not text"),
        (f"apiKey = {CANARY}", "is not TOML"),
        (f'[binance]\napiKey = "{CANARY}"', "is no credential"),
    ],
)
def test_broken_credentials_are_told_without_their_value(home: Path, content: str, told: str) -> None:
    (home / "exchange.toml").write_text(content)
    with pytest.raises(ConfigError) as caught:
        load(home, TEXT, {"CREDENTIALS_DIRECTORY": str(home)})
    assert told in str(caught.value)
    assert str(home / "exchange.toml") in str(caught.value)
    assert CANARY not in str(caught.value)
    assert "314159265358" not in str(caught.value)


def test_a_password_in_a_proxy_may_come_from_the_environment_and_is_masked(home: Path) -> None:
    proxy = f"http://me:{CANARY}@proxy:3128"
    config = load(home, TEXT, {"SACD_EXCHANGE__CCXT__httpsProxy": proxy})
    assert config.exchange.ccxt == {"httpsProxy": proxy}
    assert config.secrets() == (CANARY,)
    assert CANARY not in json.dumps(config.public())


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("verbose = true", "makes ccxt print every request with its keys"),
        ("timeout = nan", "is not a finite number"),
        ("since = 2022-01-01", "is a date"),
        ("options = { a = [{ b = inf }] }", "is not a finite number"),
    ],
)
def test_what_ccxt_must_not_be_given_is_told(home: Path, line: str, told: str) -> None:
    (found,) = mistakes(home, TEXT.replace("[exchange.ccxt]", f"[exchange.ccxt]\n{line}\n#"))
    assert found.startswith("exchange.ccxt.")
    assert told in found


def test_what_is_meant_for_ccxt_arrives_untouched(home: Path) -> None:
    table = """[exchange.ccxt]
        timeout = 5000
        enableRateLimit = true
        urls = { api = { public = "http://127.0.0.1:1/api/v3", ws = { spot = "ws://127.0.0.1:1/stream/ws" } } }
        options = { defaultType = "spot", fetchMarkets = { types = ["spot"] }, fetchCurrencies = false }
    #"""
    config = load(home, TEXT.replace("[exchange.ccxt]", table))
    assert config.exchange.ccxt == tomllib.loads(table)["exchange"]["ccxt"]


# ---- what is journalled ----------------------------------------------------------------------------------------
def test_the_public_form_is_json_and_holds_every_key(home: Path) -> None:
    public = load(home).public()
    assert json.loads(json.dumps(public, allow_nan=False)) == public
    for path in every_key(Config):
        value: Any = public
        for key in path:
            value = value[key]


def test_the_digest_names_the_settings_not_their_order(home: Path) -> None:
    config = load(home)
    canonical = json.dumps(config.public(), sort_keys=True, separators=(",", ":"))
    assert config.digest() == hashlib.sha256(canonical.encode()).hexdigest()
    http, control = "[http]", "[control]"
    swapped = (
        TEXT[: TEXT.index(http)] + TEXT[TEXT.index(control) :] + "\n" + TEXT[TEXT.index(http) : TEXT.index(control)]
    )
    assert load(home, swapped).digest() == config.digest()
    assert load(home, changed("risk", "stop_loss", "stop_loss = 0.06")).digest() != config.digest()


# ---- whatever may be written -------------------------------------------------------------------------------------
toml_values = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def as_any_toml(value: Any) -> str:
    match value:
        case dict():
            return (
                "{" + ", ".join(f"{as_any_toml(str(key))} = {as_any_toml(item)}" for key, item in value.items()) + "}"
            )
        case list():
            return "[" + ", ".join(as_any_toml(item) for item in value) + "]"
        case float():
            return repr(value) if value == value and abs(value) != float("inf") else str(value)  # noqa: PLR0124
        case str():
            return '"' + "".join(f"\\U{ord(letter):08x}" for letter in value) + '"'
        case _:
            return json.dumps(value)


def attempt(home: Path, text: str, environ: Mapping[str, str]) -> None:
    """Load, and accept nothing but a configuration or a ConfigError that can be printed."""
    try:
        config = load(home, text, environ)
    except ConfigError as error:
        str(error).encode("utf-8")  # whether there is an error is not the point
    else:
        json.dumps(config.public(), allow_nan=False)
        assert isinstance(config, BaseModel)


quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.fault(63)
@quick
@given(key=st.sampled_from(KEYS), value=toml_values)
def test_any_value_at_any_key_loads_or_is_told(home: Path, key: tuple[str, str, Any], value: Any) -> None:
    attempt(home, changed(key[0], key[1], f"{key[1]} = {as_any_toml(value)}"), {})


@quick
@given(value=st.dictionaries(st.text(max_size=12) | st.sampled_from(sorted(Config.model_fields)), toml_values))
def test_any_table_loads_or_is_told(home: Path, value: dict[str, Any]) -> None:
    attempt(home, "\n".join(f"{as_any_toml(key)} = {as_any_toml(item)}" for key, item in value.items()), {})


@quick
@given(
    name=st.sampled_from(["_".join(("SACD", "__".join(path).upper())) for path in every_key(Config)]) | st.text(),
    value=st.text(),
)
def test_any_variable_loads_or_is_told(home: Path, name: str, value: str) -> None:
    attempt(home, TEXT, {name: value, f"SACD_{name}": value})


@quick
@given(content=st.text(max_size=200))
def test_any_text_loads_or_is_told(home: Path, content: str) -> None:
    attempt(home, content, {})


@quick
@given(cron=st.text(alphabet="0123456789*/,- suntfebLW#?lat", max_size=30))
def test_any_schedule_loads_or_is_told(home: Path, cron: str) -> None:
    attempt(home, retrained(home, f"cron = {json.dumps(cron)}"), {})
