"""config.toml and the environment, turned into one frozen Config; whatever is wrong is told at once.

Reads nothing but the configuration and whether the files it names exist; creates nothing. Secrets travel beside the
keys and never appear in what is shown, journalled or compared.
"""

import copy
import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field, PrivateAttr, ValidationError

from daemon.config_live import CONTRADICTIONS, refused_variables
from daemon.config_mistakes import KeyPath, Mistake, invalid_value, nearest, shown
from daemon.config_retrain import CONTRADICTIONS as RETRAIN_CONTRADICTIONS
from daemon.config_retrain import unreadable
from daemon.config_sections import (
    SYMBOL,
    ControlSection,
    DaemonSection,
    ExchangeSection,
    ExecutionSection,
    HttpSection,
    JournalSection,
    LiveSection,
    LogSection,
    MarketSection,
    RetrainSection,
    RiskSection,
    Section,
    StepsSection,
    StrategySection,
    no_keys,
)
from daemon.config_sources import Document, passwords_in, read_document
from daemon.errors import ConfigError
from daemon.live_settings import EntryStyle, ExternalRule, LiveSettings, OrderStyle
from daemon.redact import Json, Redactor
from strategy.candle import Timeframe
from strategy.errors import InvalidParameters
from strategy.instrument import Instrument
from strategy.parameters import CostModel, RiskLimits, StrategyParameters

_LONGEST_SOCKET = 107
"""Bytes the kernel has room for in the path of a Unix socket, less the closing zero (unix(7))."""


class Config(Section):
    """Everything an operator may set, checked; paths are absolute. Made by `load_config` only."""

    daemon: DaemonSection = Field(default_factory=no_keys)
    market: MarketSection = Field(default_factory=no_keys)
    exchange: ExchangeSection = Field(default_factory=no_keys)
    strategy: StrategySection = Field(default_factory=no_keys)
    risk: RiskSection = Field(default_factory=no_keys)
    execution: ExecutionSection = Field(default_factory=no_keys)
    live: LiveSection = Field(default_factory=no_keys)
    steps: dict[str, StepsSection] = Field({}, alias="instruments")
    journal: JournalSection = Field(default_factory=no_keys)
    retrain: RetrainSection = Field(default_factory=no_keys)
    http: HttpSection = Field(default_factory=no_keys)
    control: ControlSection = Field(default_factory=no_keys)
    log: LogSection = Field(default_factory=no_keys)
    _credentials: Mapping[str, str] = PrivateAttr(default_factory=dict)
    _systemd_credentials: Path | None = PrivateAttr(default=None)

    @property
    def timeframe(self) -> Timeframe:
        """Length of a candle."""
        return Timeframe.parse(self.market.timeframe)

    @property
    def control_socket(self) -> Path:
        """Where the running daemon listens for commands."""
        return self.control.socket or self.daemon.state_dir / "control.sock"

    @property
    def is_live(self) -> bool:
        """Whether orders are to reach the exchange."""
        return self.daemon.mode == "live"

    @property
    def credential_file(self) -> Path | None:
        """Where the secrets of the exchange lie; None when nothing says so. In live mode loading does not read it."""
        return self.exchange.credentials or self._systemd_credentials

    def strategy_parameters(self) -> StrategyParameters:
        """Return how votes become a target exposure."""
        return self.strategy.build()  # type: ignore[no-any-return]  # of the record the section was made from

    def risk_limits(self) -> RiskLimits:
        """Return what no decision may exceed."""
        return self.risk.build()  # type: ignore[no-any-return]  # of the record the section was made from

    def cost_model(self) -> CostModel:
        """Return what a simulated trade costs."""
        return self.execution.build()  # type: ignore[no-any-return]  # of the record the section was made from

    def live_settings(self) -> LiveSettings:
        """Return how real orders are sent and watched."""
        live = self.live
        return LiveSettings(
            symbols=self.market.symbols,
            instance=self.daemon.instance,
            order=OrderStyle(live.order),
            entry=EntryStyle(live.entry),
            collar=live.collar,
            maker_wait_s=live.maker_wait_s,
            external=ExternalRule(live.external),
            max_order_value=live.max_order_value,
            max_position_value=live.max_position_value,
            max_orders_per_minute=live.max_orders_per_minute,
            decision_age_s=live.decision_age_s,
        )

    def instruments(self) -> dict[str, Instrument]:
        """Return the steps of every configured symbol in its order; empty when the exchange is to say them."""
        if self.market.source == "exchange":
            return {}
        return {symbol: self.steps[symbol].instrument(symbol) for symbol in self.market.symbols}

    def credentials(self) -> dict[str, str]:
        """Return what the exchange asks for, by ccxt's names; for its constructor alone, never to be shown."""
        return dict(self._credentials)

    def with_credentials(self, credentials: Mapping[str, str]) -> "Config":
        """Return the same configuration with other credentials."""
        config = self.model_copy()
        config._credentials = MappingProxyType(dict(credentials))  # noqa: SLF001  # its own
        return config

    def secrets(self) -> tuple[str, ...]:
        """Return every literal value that must not be written anywhere, for `daemon.redact.Redactor`."""
        return (*self._credentials.values(), *passwords_in(self.exchange.ccxt))

    def public(self) -> dict[str, Json]:
        """Return the whole configuration as JSON types without secrets."""
        shown = Redactor(self.secrets()).value(self.model_dump(mode="json", by_alias=True))
        if not isinstance(shown, dict):
            raise TypeError("a configuration is a table")
        return shown

    def digest(self) -> str:
        """Return the sha256, in hex, of `public()`: equal for equal settings, whatever their order."""
        text = json.dumps(self.public(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


def load_config(path: Path, environ: Mapping[str, str]) -> Config:
    """Return the configuration in the file `path`, overridden by `environ`.

    Overrides are called SACD_SECTION__KEY and hold TOML values, text without quotes. Credentials come from
    SACD_CREDENTIALS__NAME or from exchange.toml in $CREDENTIALS_DIRECTORY; in live mode from a file only, which is not
    read here (see `daemon.credentials`). $STATE_DIRECTORY, as systemd sets it, is the state directory where none is
    written. Raises ConfigError with one line per mistake, all of them.
    """
    try:
        return _load(path, environ)
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply; no setting needs that") from None


def _load(path: Path, environ: Mapping[str, str]) -> Config:
    document = read_document(path, environ, Config)
    _default_state_dir(document, environ)
    directory = Path(os.path.abspath(path)).parent  # noqa: PTH100  # resolve() would follow a link to the file
    config, mistakes = _validate(document, directory)
    mistakes += _contradictions(config, {mistake.path for mistake in mistakes})
    if config.is_live:
        mistakes += refused_variables(document.variables)
    if mistakes:
        lines = dict.fromkeys(str(mistake.from_any(document.origins)) for mistake in mistakes)
        count = f"{len(lines)} mistake{'s' if len(lines) > 1 else ''}"
        raise ConfigError("\n".join((f"{path}: {count}", *(f"  {line}" for line in lines))))
    config._credentials = MappingProxyType(dict(document.credentials))  # noqa: SLF001  # made here, and only here
    config._systemd_credentials = document.credential_file  # noqa: SLF001  # as above
    return config


def _default_state_dir(document: Document, environ: Mapping[str, str]) -> None:
    # systemd may list several, separated by colons; the first is the one the unit names first.
    directory = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    section = document.values.setdefault("daemon", {})
    if directory and isinstance(section, dict):
        section.setdefault("state_dir", directory)


def _validate(document: Document, directory: Path) -> tuple[Config, list[Mistake]]:
    """Return the configuration with defaults in place of what is wrong, so that the rest can be checked too."""
    mistakes = list(document.mistakes)
    values = copy.deepcopy(document.values)
    is_first = True
    while True:
        try:
            return Config.model_validate(values, context=directory), mistakes
        except ValidationError as error:
            for fault in error.errors(include_url=False):
                # What is only wrong because its neighbour was taken out is not the operator's mistake.
                if is_first:
                    mistakes.append(invalid_value(Config, fault))
                _take_out(values, invalid_value(Config, fault).path)
            is_first = False


def _take_out(values: dict[str, Any], path: KeyPath) -> None:
    """Remove the entry at `path`, or the innermost one around it: each call removes something."""
    tables = [values]
    for key in path[:-1]:
        inner = tables[-1].get(key)
        if not isinstance(inner, dict):
            break
        tables.append(inner)
    for table, key in reversed(list(zip(tables, path, strict=False))):
        if key in table:
            del table[key]
            return


# ---- what takes several keys, or the file system, to see --------------------------------------------------------
def _contradictions(config: Config, faulty: set[KeyPath]) -> list[Mistake]:
    """Return what contradicts itself, leaving out whatever rests on a key that is already known to be wrong."""
    found: list[Mistake] = []
    for keys, check in _CHECKS:
        if not any(_touches(key, fault) for key in keys for fault in faulty):
            found += (
                mistake for mistake in check(config) if not any(_touches(mistake.path, fault) for fault in faulty)
            )
    return found


def _touches(key: KeyPath, fault: KeyPath) -> bool:
    length = min(len(key), len(fault))
    return key[:length] == fault[:length]


def _one_quote(config: Config) -> Iterator[Mistake]:
    symbols = config.market.symbols
    if len({symbol.partition("/")[2] for symbol in symbols}) > 1:
        yield Mistake(
            path=("market", "symbols"),
            shown=shown(symbols),
            wrong="mixes quote currencies, but the account holds one",
            right="name symbols that are all paid in the same currency",
        )


def _steps_are_named(config: Config) -> Iterator[Mistake]:
    for name in config.steps:
        if SYMBOL.fullmatch(name) is None:
            right = 'write a name such as [instruments."BTC/USDT"]'
            yield Mistake(path=("instruments", name), shown="{...}", wrong="is not named BASE/QUOTE", right=right)


def _every_symbol_has_steps(config: Config) -> Iterator[Mistake]:
    right = "write tick, lot and min_notional under this name"
    if config.market.source == "exchange":
        return
    for symbol in config.market.symbols:
        if symbol not in config.steps:
            wrong = f'is needed, as market.source is "{config.market.source}" and market.symbols names it'
            yield Mistake(path=("instruments", symbol), shown=shown(None), wrong=wrong, right=right)


def _every_symbol_has_a_file(config: Config) -> Iterator[Mistake]:
    if config.market.source != "file":
        return
    for symbol in config.market.symbols:
        file = config.market.file.paths.get(symbol)
        wrong = 'is needed, as market.source is "file" and market.symbols names it'
        if file is not None:
            wrong = unreadable(file)
        if wrong:
            right = "write the path of a CSV, CSV.gz or Parquet file of candles"
            yield Mistake(path=("market", "file", "paths", symbol), shown=shown(file), wrong=wrong, right=right)


def _start_before_end(config: Config) -> Iterator[Mistake]:
    file = config.market.file
    if file.start_ms is not None and file.end_ms is not None and file.start_ms >= file.end_ms:
        yield Mistake(
            path=("market", "file", "start"),
            shown=shown(file.start),
            wrong=f"is not before market.file.end = {shown(file.end)}",
            right="let it be the earlier of the two",
        )


def _model_is_there(config: Config) -> Iterator[Mistake]:
    model = config.strategy.model
    try:
        if model.is_dir():
            return
        wrong = "is a file, not a directory" if model.exists() else "does not exist"
        if model.is_symlink() and not model.exists():
            wrong = f"is a link to {shown(model.readlink())}, which does not exist"
    except OSError as error:
        wrong = f"cannot be opened ({error.strerror})"
    right = "write the directory of an ensemble, such as sacd train makes"
    yield Mistake(path=("strategy", "model"), shown=shown(model), wrong=wrong, right=right)


def _state_dir_can_be(config: Config) -> Iterator[Mistake]:
    state_dir = config.daemon.state_dir
    try:
        standing = next(path for path in (state_dir, *state_dir.parents) if path.exists())
        if standing.is_dir():
            return
        wrong = f"cannot be made: {shown(standing)} is a file"
    except OSError as error:
        wrong = f"cannot be opened ({error.strerror})"
    right = "write the path of a directory, which is made when it is missing"
    yield Mistake(path=("daemon", "state_dir"), shown=shown(state_dir), wrong=wrong, right=right)


def _socket_fits(config: Config) -> Iterator[Mistake]:
    length = len(os.fsencode(config.control_socket))
    if length > _LONGEST_SOCKET:
        yield Mistake(
            path=("control", "socket"),
            shown=shown(config.control.socket or ""),
            wrong=f"makes a path of {length} bytes, and the system takes {_LONGEST_SOCKET} for a socket",
            right='write a shorter path, such as "/run/sacd/control.sock"',
        )


def _something_can_trade(config: Config) -> Iterator[Mistake]:
    dead_band, max_position = config.strategy.dead_band, config.risk.max_position
    if dead_band > max_position:
        yield Mistake(
            path=("strategy", "dead_band"),
            shown=shown(dead_band),
            wrong=f"is above risk.max_position = {shown(max_position)}, so that nothing would ever be bought",
            right="write a number well below it, such as 0.02",
        )


def _every_symbol_can_trade(config: Config) -> Iterator[Mistake]:
    if config.market.source == "exchange":
        return
    symbols = config.market.symbols
    largest = config.daemon.initial_cash / len(symbols) * config.risk.max_position
    for symbol in symbols:
        least = config.steps[symbol].min_notional if symbol in config.steps else 0.0
        if least > largest:
            yield Mistake(
                path=("instruments", symbol, "min_notional"),
                shown=shown(least),
                wrong=f"is more than the {largest:.2f} that daemon.initial_cash, shared by {len(symbols)} symbols, "
                "and risk.max_position leave for one order",
                right="lower it, or raise daemon.initial_cash",
            )


def _grace_within_candle(config: Config) -> Iterator[Mistake]:
    span_s = config.timeframe.span_ms / 1_000
    if config.exchange.grace_s >= span_s:
        yield Mistake(
            path=("exchange", "grace_s"),
            shown=shown(config.exchange.grace_s),
            wrong=f"is not below the {span_s:.0f} seconds of one candle of market.timeframe",
            right="write a few seconds, such as 5.0",
        )


def _exchange_is_known(config: Config) -> Iterator[Mistake]:
    if config.market.source != "exchange":
        return
    # Found without importing ccxt, which takes seconds: each exchange with streams is a file of its own.
    spec = importlib.util.find_spec("ccxt")
    folders = (spec.submodule_search_locations if spec is not None else None) or []
    known = {file.stem for folder in folders for file in Path(folder, "pro").glob("[a-z]*.py")}
    if config.exchange.id not in known:
        near = nearest(config.exchange.id, known)
        yield Mistake(
            path=("exchange", "id"),
            shown=shown(config.exchange.id),
            wrong="is no exchange that ccxt can stream from",
            right=f"did you mean {shown(near)}?" if near else 'write its name in ccxt, such as "binance" or "kraken"',
        )


def _records_agree(config: Config) -> Iterator[Mistake]:
    for name, build in (
        ("strategy", config.strategy_parameters),
        ("risk", config.risk_limits),
        ("execution", config.cost_model),
    ):
        try:
            build()
        except InvalidParameters as error:
            yield Mistake(path=(name,), shown="{...}", wrong=str(error), right="change one of the two")


_CHECKS: tuple[tuple[tuple[KeyPath, ...], Callable[[Config], Iterator[Mistake]]], ...] = (
    ((("market", "symbols"),), _one_quote),
    ((), _steps_are_named),
    ((("market", "symbols"), ("market", "source")), _every_symbol_has_steps),
    ((("market", "symbols"), ("market", "source")), _every_symbol_has_a_file),
    ((("market", "file", "start"), ("market", "file", "end")), _start_before_end),
    ((("strategy", "model"),), _model_is_there),
    ((("daemon", "state_dir"),), _state_dir_can_be),
    ((("daemon", "state_dir"), ("control", "socket")), _socket_fits),
    ((("strategy", "dead_band"), ("risk", "max_position")), _something_can_trade),
    (
        (("daemon", "initial_cash"), ("market", "symbols"), ("market", "source"), ("risk", "max_position")),
        _every_symbol_can_trade,
    ),
    ((("exchange", "grace_s"), ("market", "timeframe")), _grace_within_candle),
    ((("exchange", "id"), ("market", "source")), _exchange_is_known),
    ((("strategy",), ("risk",), ("execution",)), _records_agree),
    *CONTRADICTIONS,
    *RETRAIN_CONTRADICTIONS,
)
"""Each check with the keys it rests on."""
