"""The sections of config.toml: every key with its type, range, default and what to write when it is wrong.

What one key can tell by itself is checked here; what takes several keys or the file system, in `daemon.config`.
"""

import ipaddress
import re
from dataclasses import fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    create_model,
    field_validator,
)

from daemon.config_mistakes import Wrong
from strategy.candle import Timeframe
from strategy.errors import InvalidCandle, InvalidParameters
from strategy.instrument import Instrument
from strategy.parameters import SHIPPED_LIMITS, SHIPPED_STRATEGY, CostModel

_AN_AMOUNT = "write an amount of the quote currency"
SYMBOL = re.compile(r"[A-Za-z0-9.$-]{1,20}/[A-Za-z0-9.$-]{1,20}")
_HOST_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63}){0,20}")


def _absolute(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str | Path):
        return value
    text = str(value)
    if text == "" or "\0" in text or text.startswith("~"):
        raise Wrong("is no path that can be opened as it stands", "write it out, without ~")
    if info.context is None:
        raise Wrong("is a path without a directory to start from", "load it with load_config")
    return Path(info.context, text)


def _none_or_absolute(value: object, info: ValidationInfo) -> object:
    return None if value == "" else _absolute(value, info)


FilePath = Annotated[Path, BeforeValidator(_absolute)]
"""A path as written, made absolute from the directory of the configuration file, which is the validation context."""
NoFilePath = Annotated[Path | None, BeforeValidator(_none_or_absolute)]
"""The same, and None for ""."""


def _matching(pattern: str, wrong: str) -> AfterValidator:
    def check(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise Wrong(wrong)
        return value

    return AfterValidator(check)


def _moment(value: object) -> object:
    """Return a date or time of day of TOML as text, so that 2022-01-01 may stand with or without quotes."""
    return value.isoformat() if isinstance(value, date) else value


def _check_moment(value: str) -> str:
    if value:
        _moment_ms(value)
    return value


def _moment_ms(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Wrong("is no date") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1_000)


def _timeframe(value: str) -> str:
    try:
        Timeframe.parse(value)
    except InvalidCandle:
        raise Wrong("is no timeframe") from None
    return value


def _host(value: str) -> str:
    if value != "localhost":
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise Wrong("is no address of this machine") from None
    return value


def _names_of_hosts(value: tuple[str, ...]) -> tuple[str, ...]:
    for name in value:
        if _HOST_NAME.fullmatch(name) is None:
            raise Wrong(f"{name!r} is no name of a machine", 'write names alone, without a port, such as ["sacd"]')
    return value


def _symbols(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise Wrong("is empty")
    for number, symbol in enumerate(value):
        if SYMBOL.fullmatch(symbol) is None:
            raise Wrong(f"{symbol!r} is not of the form BASE/QUOTE")
        if symbol in value[:number]:
            raise Wrong(f"{symbol} stands twice", "name each symbol once")
    return value


class Section(BaseModel):
    """What all sections share: no unknown keys, no conversions, no NaN, no change after loading."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True, hide_input_in_errors=True
    )


def no_keys() -> Any:  # noqa: ANN401  # validation makes a section of it
    """Return the table of a section that is left out, from which validation makes one of defaults."""
    return {}


class _Record(Section):
    """A section whose keys are the fields of a record of `strategy.parameters`, which knows their ranges."""

    record: ClassVar[type[Any]]

    @field_validator("*")
    @classmethod
    def _in_range(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401  # whatever the record's field is
        name = info.field_name
        if name in {field.name for field in fields(cls.record)}:
            try:
                cls.record(**{name: value})
            except InvalidParameters as error:
                raise Wrong(str(error).removeprefix(f"{name} {value} ")) from error
        return value

    def build(self) -> Any:  # noqa: ANN401  # the caller names the record
        """Return the record. Raises InvalidParameters when its values contradict each other."""
        return self.record(**{field.name: getattr(self, field.name) for field in fields(self.record)})


def _keys_of(usual: Any) -> Any:  # noqa: ANN401  # of one record or another; a class made at run time
    """Return a section with the keys and types of a record and `usual`'s values as defaults.

    So they cannot drift apart from what the shipped ensemble was trained under.
    """
    keys: dict[str, Any] = {field.name: (field.type, getattr(usual, field.name)) for field in fields(usual)}
    made = create_model(f"{type(usual).__name__}Section", __base__=_Record, **keys)
    made.record = type(usual)
    return made


class DaemonSection(Section):
    """[daemon]: who runs, where it keeps its state, with how much money it begins."""

    instance: Annotated[str, _matching(r"[a-z0-9-]{1,16}", "is no name of an instance")] = Field(
        "paper", description="write 1-16 characters of a-z, 0-9 and -"
    )
    mode: Literal["paper", "live"] = Field("paper", description='write "paper" or "live"')
    state_dir: FilePath = Field(Path("var"), description="write the path of a directory")
    initial_cash: float = Field(100_000.0, gt=0.0, le=1e12, description="write an amount of the quote currency above 0")


class SimulatedSection(Section):
    """[market.simulated]: the market that needs no network."""

    seed: int = Field(7, ge=0, le=2**63 - 1, description="write a whole number >= 0, such as 7")


class FileSection(Section):
    """[market.file]: recorded candles. start and end: ISO date or time, UTC where no zone is given; "" is open."""

    paths: dict[str, FilePath] = Field({}, description='write a table such as { "BTC/USDT" = "btcusdt-1h.csv.gz" }')
    start: Annotated[str, BeforeValidator(_moment), AfterValidator(_check_moment)] = Field(
        "", description='write a date such as "2022-01-01", or "" for the first candle'
    )
    end: Annotated[str, BeforeValidator(_moment), AfterValidator(_check_moment)] = Field(
        "", description='write a date such as "2022-12-31", or "" for the last candle'
    )

    @property
    def start_ms(self) -> int | None:
        """First open time that is read, milliseconds UTC."""
        return _moment_ms(self.start) if self.start else None

    @property
    def end_ms(self) -> int | None:
        """First open time that is no longer read, milliseconds UTC."""
        return _moment_ms(self.end) if self.end else None


class MarketSection(Section):
    """[market]: what is traded and where its candles come from."""

    source: Literal["simulated", "file", "exchange"] = Field(
        "simulated", description='write "simulated", "file" or "exchange"'
    )
    symbols: Annotated[tuple[str, ...], Field(strict=False), AfterValidator(_symbols)] = Field(
        ("BTC/USDT", "ETH/USDT"), description='write a list such as ["BTC/USDT", "ETH/USDT"]'
    )
    timeframe: Annotated[str, AfterValidator(_timeframe)] = Field(
        "1h", description='write a number and m, h, d or w, such as "15m", "1h", "1d"'
    )
    candles_per_second: float = Field(
        24.0, ge=0.0, le=1e6, description="write a number from 0 (as fast as possible) to 1000000, such as 24.0"
    )
    simulated: SimulatedSection = Field(default_factory=no_keys)
    file: FileSection = Field(default_factory=no_keys)


class ExchangeSection(Section):
    """[exchange]: the venue. ccxt: handed to ccxt's constructor as it stands.

    credentials: None is exchange.toml in systemd's credential directory.  budget_file: None is shared with nobody.
    """

    id: Annotated[str, _matching(r"[a-z0-9]{1,40}", "is no name of an exchange")] = Field(
        "binance", description='write the name ccxt gives the exchange, such as "binance" or "kraken"'
    )
    stale_after_s: float = Field(60.0, ge=1.0, le=86_400.0, description="write seconds from 1 to 86400, such as 60.0")
    grace_s: float = Field(5.0, ge=0.0, le=3_600.0, description="write seconds from 0 to 3600, such as 5.0")
    sandbox: bool = False
    credentials: NoFilePath = Field(None, description='write the path of a file such as "/etc/sacd/exchange.toml"')
    budget_file: NoFilePath = Field(
        None,
        description='write the path of a file that every daemon here names, such as "/var/lib/sacd/binance.budget"',
    )
    request_share: float = Field(
        1.0, gt=0.0, le=1.0, description="write a share above 0 and at most 1, such as 0.5 for one of two daemons"
    )
    ccxt: dict[str, Any] = Field({}, description="write a table such as { timeout = 10000, options = { } }")


class StrategySection(_keys_of(SHIPPED_STRATEGY)):  # type: ignore[misc]  # made from the record at run time
    """[strategy]: the ensemble, and how its votes become a position."""

    model: FilePath = Field(Path("models/current"), description="write the path of a directory made by sacd train")


class RiskSection(_keys_of(SHIPPED_LIMITS)):  # type: ignore[misc]  # made from the record at run time
    """[risk]: what no decision may exceed."""


class ExecutionSection(_keys_of(CostModel())):  # type: ignore[misc]  # made from the record at run time
    """[execution]: what a simulated trade costs."""


class LiveSection(Section):
    """[live]: how real orders are sent, and what they may never exceed; used when daemon.mode is "live".

    max_order_value, max_position_value: quote; 0 is not set, which live trading refuses.
    """

    order: Literal["limit", "market"] = Field("limit", description='write "limit" or "market"')
    entry: Literal["taker", "maker"] = Field("taker", description='write "taker" or "maker"')
    collar: float = Field(0.005, gt=0.0, le=0.2, description="write a share above 0 and at most 0.2, such as 0.005")
    maker_wait_s: float = Field(30.0, ge=1.0, le=3_600.0, description="write seconds from 1 to 3600, such as 30.0")
    external: Literal["ignore", "adopt", "halt"] = Field("halt", description='write "ignore", "adopt" or "halt"')
    max_order_value: float = Field(0.0, ge=0.0, le=1e12, description=f"{_AN_AMOUNT}, such as 1000.0")
    max_position_value: float = Field(0.0, ge=0.0, le=1e12, description=f"{_AN_AMOUNT}, such as 5000.0")
    max_orders_per_minute: int = Field(30, ge=1, le=1_000, description="write a whole number from 1 to 1000")
    decision_age_s: float = Field(60.0, ge=1.0, le=86_400.0, description="write seconds from 1 to 86400, such as 60.0")
    allow_unproven: Annotated[str, _matching(r"([0-9a-f]{16})?", "is no id of an ensemble")] = Field(
        "", description='write the 16 digits that `sacd models list` shows for one ensemble, or ""'
    )


class StepsSection(Section):
    """[instruments."BASE/QUOTE"]: price step, quantity step, smallest order value."""

    tick: float = Field(gt=0.0, le=1e9, description="write the step of the price, in the quote currency, such as 0.01")
    lot: float = Field(
        gt=0.0, le=1e9, description="write the step of the quantity, in the base currency, such as 0.00001"
    )
    min_notional: float = Field(0.0, ge=0.0, le=1e9, description="write the smallest order value, >= 0, such as 5.0")

    def instrument(self, symbol: str) -> Instrument:
        """Return the steps of `symbol`. Raises InvalidInstrument when that is no BASE/QUOTE."""
        return Instrument(symbol=symbol, tick=self.tick, lot=self.lot, min_notional=self.min_notional)


class JournalSection(Section):
    """[journal]: how often the whole state is written beside the events, and how often all of it is copied."""

    checkpoint_every: int = Field(256, ge=1, le=1_000_000, description="write a whole number from 1 to 1000000")
    backup_every_s: float = Field(
        3_600.0, ge=0.0, le=604_800.0, description="write seconds from 0 (never) to 604800, such as 3600.0"
    )
    keep: int = Field(24, ge=1, le=10_000, description="write a whole number from 1 to 10000")


def _cron(value: str) -> str:
    if value:
        from daemon.schedule import check_cron  # noqa: PLC0415 - APScheduler loads only for those who use it

        try:
            check_cron(value)
        except ValueError as error:
            raise Wrong(str(error)) from None
    return value


class RetrainSection(Section):
    """[retrain]: when an ensemble is trained anew, what a candidate must show, and when its swap is taken back.

    cron, every_hours: at most one of them; neither retrains only by hand.  holdout_days: candles that neither has seen.
    Shares are fractions; probabilities too.  drift_trigger, drift_limit: 0 switches them off.
    """

    cron: Annotated[str, AfterValidator(_cron)] = Field(
        "", description='write minute, hour, day, month and weekday, such as "0 3 * * sun", or ""'
    )
    every_hours: float = Field(0.0, ge=0.0, le=8_784.0, description="write hours from 0 (never) to 8784, such as 168.0")
    runner: Literal["child", "unit"] = Field("child", description='write "child" or "unit"')
    data: dict[str, FilePath] = Field(
        {}, description='write a table such as { "BTC/USDT" = "data/btcusdt-1h.parquet" }'
    )
    fetch: bool = False
    workers: int = Field(0, ge=0, le=1_000, description="write a whole number from 0 (one per core) to 1000")
    steps: int = Field(0, ge=0, le=1_000_000_000, description="write a whole number, 0 for as many as last time")
    limit_hours: float = Field(6.0, gt=0.0, le=168.0, description="write hours above 0 and at most 168, such as 6.0")
    memory_mib: int = Field(4_096, ge=256, le=1_048_576, description="write mebibytes from 256 to 1048576")
    retry_hours: float = Field(6.0, ge=0.0, le=744.0, description="write hours from 0 (never) to 744, such as 6.0")
    holdout_days: float = Field(90.0, ge=5.0, le=3_660.0, description="write days from 5 to 3660, such as 90.0")
    gate_confidence: float = Field(0.8, ge=0.5, lt=1.0, description="write a probability from 0.5 to below 1")
    automatic: bool = True
    shadow_decisions: int = Field(200, ge=10, le=100_000, description="write a whole number from 10 to 100000")
    shadow_least: int = Field(20, ge=1, le=100_000, description="write a whole number from 1 to 100000")
    shadow_alpha: float = Field(0.05, gt=0.0, lt=0.5, description="write a probability above 0 and below 0.5")
    watch_decisions: int = Field(60, ge=1, le=100_000, description="write a whole number from 1 to 100000")
    regret_limit: float = Field(0.03, gt=0.0, lt=1.0, description="write a share above 0 and below 1, such as 0.03")
    regret_alpha: float = Field(0.05, gt=0.0, lt=0.5, description="write a probability above 0 and below 0.5")
    drift_candles: int = Field(720, ge=10, le=100_000, description="write a whole number from 10 to 100000")
    # The joint figure of `strategy.drift` never goes beyond a half.
    drift_limit: float = Field(0.15, ge=0.0, lt=0.5, description="write a distance below 0.5, 0 for no limit")
    drift_trigger: float = Field(0.0, ge=0.0, le=0.5, description="write a distance up to 0.5, 0 for no trigger")


class HttpSection(Section):
    """[http]: metrics and health. allowed_hosts: names it may be asked for, besides localhost and its addresses."""

    enabled: bool = True
    host: Annotated[str, AfterValidator(_host)] = Field(
        "127.0.0.1", description='write an IP address of this machine, such as "127.0.0.1", or "localhost"'
    )
    port: int = Field(9464, ge=0, le=65_535, description="write a port from 1 to 65535, or 0 for any free one")
    allowed_hosts: Annotated[tuple[str, ...], Field(strict=False), AfterValidator(_names_of_hosts)] = Field(
        (), description='write a list of names such as ["sacd"], or []'
    )


class ControlSection(Section):
    """[control]: the Unix socket of status, pause, resume and flatten; an empty path is state_dir/control.sock."""

    socket: NoFilePath = Field(
        None, description='write the path of a socket of at most 107 bytes, such as "/run/sacd/control.sock"'
    )


class LogSection(Section):
    """[log]: how much is logged, and in which form."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description='write "debug", "info", "warning" or "error"'
    )
    format: Literal["auto", "console", "json"] = Field("auto", description='write "auto", "console" or "json"')
