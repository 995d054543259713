"""What contradicts itself once `daemon.mode` is "live": found when the configuration is loaded, each with its remedy.

Most of it also holds while the exchange is only watched, but there it can cost nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from daemon.config_mistakes import KeyPath, Mistake, shown
from daemon.redact import MASK

if TYPE_CHECKING:
    from daemon.config import Config

_PAPER = "paper"
_RETRIES = "maxRetriesOnFailure"
_SANDBOX_KEYS = frozenset({"sandbox", "sandboxMode", "testnet"})


def refused_variables(variables: Iterable[str]) -> Iterator[Mistake]:
    """Yield a mistake for every credential in the environment, which others on this machine can read."""
    right = (
        "write it into the file that exchange.credentials names (or systemd's credential exchange.toml), and unset it"
    )
    wrong = (
        "is a secret in the environment, which shows in /proc, in children and in crash reports: not for live trading"
    )
    for variable in variables:
        yield Mistake(path=(variable,), shown=MASK, wrong=wrong, right=right)


def _source_is_exchange(config: "Config") -> Iterator[Mistake]:
    if config.is_live and config.market.source != "exchange":
        yield Mistake(
            path=("market", "source"),
            shown=shown(config.market.source),
            wrong='gives prices that nobody trades at, and daemon.mode = "live" sends real orders',
            right='write "exchange"',
        )


def _instance_is_its_own(config: "Config") -> Iterator[Mistake]:
    if config.is_live and config.daemon.instance == _PAPER:
        yield Mistake(
            path=("daemon", "instance"),
            shown=shown(config.daemon.instance),
            wrong="is the name of the paper account, and order ids at the exchange would bear it",
            right='write a name of its own, such as "main"',
        )


def _caps_are_set(config: "Config") -> Iterator[Mistake]:
    if not config.is_live:
        return
    for key, what, example in (
        ("max_order_value", "one order", "1000.0"),
        ("max_position_value", "the position in one symbol", "5000.0"),
    ):
        value = getattr(config.live, key)
        if value == 0.0:
            yield Mistake(
                path=("live", key),
                shown=shown(value),
                wrong=f"sets no cap on {what}, which live trading needs beside [risk]",
                right=f"write an amount of the quote currency, such as {example}",
            )


def _no_candle_files(config: "Config") -> Iterator[Mistake]:
    if config.is_live and config.market.file.paths:
        yield Mistake(
            path=("market", "file", "paths"),
            shown=shown(dict(config.market.file.paths)),
            wrong='names recorded candles, which daemon.mode = "live" does not trade on',
            right="remove it",
        )


def _no_retries(config: "Config") -> Iterator[Mistake]:
    if not config.is_live:
        return
    for path, value in _entries(config.exchange.ccxt, ("exchange", "ccxt")):
        if path[-1] == _RETRIES and value:
            wrong = "lets ccxt send an order again without looking whether the first one arrived"
            yield Mistake(path=path, shown=shown(value), wrong=wrong, right="remove it")


def _one_sandbox_switch(config: "Config") -> Iterator[Mistake]:
    for path, value in _entries(config.exchange.ccxt, ("exchange", "ccxt")):
        if path[-1] in _SANDBOX_KEYS and config.is_live:
            yield Mistake(
                path=path,
                shown=shown(value),
                wrong="would choose between play and real money beside exchange.sandbox",
                right="remove it, and write exchange.sandbox = true or false",
            )
    urls = config.exchange.ccxt.get("urls")
    if config.exchange.sandbox and isinstance(urls, Mapping) and urls.get("api"):
        yield Mistake(
            path=("exchange", "sandbox"),
            shown=shown(config.exchange.sandbox),
            wrong="makes ccxt use its own test addresses and drop those of exchange.ccxt.urls.api",
            right="write false to use yours, or remove urls.api",
        )


def _entries(values: object, path: KeyPath) -> Iterator[tuple[KeyPath, object]]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield (*path, key), value
            yield from _entries(value, (*path, key))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _entries(value, path)


_MODE = ("daemon", "mode")

CONTRADICTIONS: tuple[tuple[tuple[KeyPath, ...], Callable[["Config"], Iterator[Mistake]]], ...] = (
    ((_MODE, ("market", "source")), _source_is_exchange),
    ((_MODE, ("daemon", "instance")), _instance_is_its_own),
    ((_MODE, ("live", "max_order_value"), ("live", "max_position_value")), _caps_are_set),
    ((_MODE, ("market", "file")), _no_candle_files),
    ((_MODE, ("exchange", "ccxt")), _no_retries),
    ((_MODE, ("exchange", "sandbox"), ("exchange", "ccxt")), _one_sandbox_switch),
)
"""Each check with the keys it rests on, as in `daemon.config`."""
