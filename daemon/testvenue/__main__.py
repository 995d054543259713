"""`python -m daemon.testvenue`: a venue to rehearse against, in a program of its own, until SIGTERM.

Prints one line of JSON when it is ready: `port`, `control` (where commands go), `accounts`, `clock` (of a venue whose
time runs faster: what a `daemon.clock.ScaledClock` that agrees with it is made of), and per dialect the
options that `[exchange.ccxt]` needs; `--toml` prints these as text to paste as well.
"""

import argparse
import asyncio
import json
import random
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from daemon.clock import ScaledClock, SystemClock
from daemon.errors import ConfigError, SacdError
from daemon.ports import Clock
from daemon.testvenue.market import Market
from daemon.testvenue.players import POINTS, CandlePlayer, WalkPlayer, read_candles
from daemon.testvenue.script import exact
from daemon.testvenue.server import DIALECTS, TestVenue
from strategy.candle import Timeframe
from strategy.errors import InvalidCandle


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; return the exit code. Mistakes are one line on stderr."""
    try:
        asyncio.run(_serve(_parser().parse_args(arguments)))
    except SacdError as error:
        print(f"testvenue: {error}", file=sys.stderr)  # noqa: T201  # a command's own words
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m daemon.testvenue", description=__doc__)
    parser.add_argument("--dialect", default="binance", choices=sorted(DIALECTS), help="the exchange to speak like")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--symbol", action="append", help="BASE/QUOTE or BASE/QUOTE@PRICE; may be repeated")
    parser.add_argument("--candles", action="append", type=Path, default=[], help="CSV file per symbol, in their order")
    parser.add_argument("--present", action="store_true", help="play in real time; without --candles a random walk")
    parser.add_argument("--timeframe", default="1m", help="of the candles")
    parser.add_argument("--history", type=int, default=1_000, help="candles that lie in the past at the start")
    parser.add_argument("--every", type=float, default=2.0, help="seconds per recorded candle, without --present")
    parser.add_argument("--account", action="append", default=[], help="KEY:SECRET:USDT=10000,BNB=1; made-up keys only")
    parser.add_argument("--speed", type=float, default=1.0, help="how many times as fast time runs")
    parser.add_argument("--move", type=float, default=0.01, help="how far the walk goes within a candle, a share")
    parser.add_argument("--audit", type=Path, help="file that the audit is appended to")
    parser.add_argument("--seed", type=int, default=0, help="of the walk, and of faults with a probability")
    parser.add_argument("--every-candle", action="store_true", help="show all history, where the exchange does not too")
    parser.add_argument("--toml", action="store_true", help="print the options as TOML too")
    return parser


async def _serve(options: argparse.Namespace) -> None:
    clock = _clock(options.speed)
    venue = _venue(options, clock)
    for account in options.account:
        _add_account(venue, account)
    play = _players(venue, options)
    try:
        await venue.start(options.port)
    except OSError as error:
        raise ConfigError(f"port {options.port} cannot be used: {error.strerror}; choose another one, or 0") from None
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    _announce(venue, clock, as_toml=options.toml)
    player = asyncio.create_task(play())
    stopping = asyncio.create_task(stopped.wait())
    try:
        done, _ = await asyncio.wait({player, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if player in done:
            await player  # a mistake in it ends the program with its own words
            await stopped.wait()
    finally:
        player.cancel()
        stopping.cancel()
        await venue.close()


def _clock(speed: float) -> ScaledClock | SystemClock:
    try:
        return SystemClock() if speed == 1.0 else ScaledClock.from_now(speed)
    except ValueError as error:
        raise ConfigError(f"--speed: {error}; write a number above 0") from None


def _venue(options: argparse.Namespace, clock: Clock) -> TestVenue:
    try:
        span_ms = Timeframe.parse(options.timeframe).span_ms
    except InvalidCandle as error:
        raise ConfigError(f"--timeframe: {error}") from None
    markets = [_market(text, span_ms) for text in options.symbol or ["BTC/USDT"]]
    if len(options.candles) > len(markets):
        raise ConfigError(f"--candles: {len(options.candles)} files for {len(markets)} symbols; give one --symbol each")
    if options.audit is not None and not options.audit.parent.is_dir():
        raise ConfigError(f"--audit: {options.audit.parent} is not a directory; create it")
    is_pinned = bool(options.candles) and not options.present
    return TestVenue(
        markets, clock=clock, dialect=options.dialect, seed=options.seed, audit_path=options.audit,
        checks_time=not is_pinned, shows_every_candle=options.every_candle,
    )  # fmt: skip


def _market(text: str, span_ms: int) -> Market:
    symbol, _, price = text.partition("@")
    base, _, quote = symbol.partition("/")
    if not base or not quote:
        raise ConfigError(f"--symbol {text!r}: write BASE/QUOTE or BASE/QUOTE@PRICE, such as BTC/USDT@27000")
    try:
        last = exact(price or "100")
    except ValueError as error:
        raise ConfigError(f"--symbol {text!r}: price {error}") from None
    return Market(base=base, quote=quote, last=last, span_ms=span_ms)


def _add_account(venue: TestVenue, text: str) -> None:
    key, _, rest = text.partition(":")
    secret, _, coins = rest.partition(":")
    pairs = [one.partition("=") for one in coins.split(",") if one]
    # No message holds the text itself: the secret is part of it.
    if not key or not secret or any(not asset or not amount for asset, _, amount in pairs):
        raise ConfigError("--account: a part is missing; write KEY:SECRET:USDT=10000,BNB=1")
    try:
        venue.add_account(key, secret, {asset: exact(amount) for asset, _, amount in pairs})
    except ValueError as error:
        raise ConfigError(f"--account: {error}; write KEY:SECRET:USDT=10000,BNB=1") from None


async def _nothing_moves(venue: TestVenue) -> None:
    """Close candles as time goes on; prices move by control commands alone."""
    while True:
        for symbol in venue.book.markets:
            venue.book.roll(symbol)
        await venue.clock.sleep_s(1.0)


def _players(venue: TestVenue, options: argparse.Namespace) -> Callable[[], Coroutine[None, None, None]]:
    """Return what moves the prices, to be called once the venue serves."""
    symbols = list(venue.book.markets)
    if options.candles:
        players = [CandlePlayer(venue, symbol, read_candles(path))
                   for symbol, path in zip(symbols, options.candles, strict=False)]  # fmt: skip
        if options.present:
            return partial(_play_present, venue, players, options.history)
        return partial(_play_recorded, venue, players, options.history, options.every)
    if not options.present:
        return partial(_nothing_moves, venue)
    if not 0.0 <= options.move < 1.0:
        raise ConfigError(f"--move {options.move}: write a share of the price from 0 to below 1, such as 0.01")
    generator = random.Random(options.seed)  # noqa: S311  # no secret is made of it
    walks = [WalkPlayer(venue, symbol, generator, move=options.move) for symbol in symbols]
    for walk, symbol in zip(walks, symbols, strict=True):
        walk.begin_now(options.history, float(venue.book.markets[symbol].last))
    return partial(_play_walks, venue, walks)


async def _play_walks(venue: TestVenue, walks: Sequence[WalkPlayer]) -> None:
    while True:
        for walk in walks:
            walk.second()
        await venue.clock.sleep_s(1.0)


async def _play_recorded(venue: TestVenue, players: Sequence[CandlePlayer], history: int, every_s: float) -> None:
    for player in players:
        player.begin(history)
    while running := [player for player in players if not player.is_over]:
        span_ms = next(iter(venue.book.markets.values())).span_ms
        open_ms = min(player.open_ms() for player in running)
        due = [player for player in running if player.open_ms() == open_ms]
        for index in range(POINTS):
            venue.time.pinned_ms = open_ms + index * span_ms // POINTS
            for player in due:
                player.point(index)
            await venue.clock.sleep_s(every_s / POINTS)


async def _play_present(venue: TestVenue, players: Sequence[CandlePlayer], history: int) -> None:
    for player in players:
        player.begin_now(history)
    span_ms = next(iter(venue.book.markets.values())).span_ms
    while running := [player for player in players if not player.is_over]:
        for index in range(POINTS):
            for player in running:
                player.point(index)
            now = venue.time.now_ms()
            next_ms = now // (span_ms // POINTS) * (span_ms // POINTS) + span_ms // POINTS
            await venue.clock.sleep_s((next_ms - now) / 1e3)


def _announce(venue: TestVenue, clock: ScaledClock | SystemClock, *, as_toml: bool) -> None:
    ready = {
        "port": venue.port,
        "control": f"http://127.0.0.1:{venue.port}/_control",
        "clock": asdict(clock) if isinstance(clock, ScaledClock) else None,
        "accounts": [account.name for account in venue.book.accounts.values()],
        "ccxt": {dialect.name: venue.ccxt_options(dialect.name) for dialect in venue.dialects},
    }
    print(json.dumps(ready), flush=True)  # noqa: T201  # what whoever started it reads
    if as_toml:
        for name, values in ready["ccxt"].items():  # type: ignore[attr-defined]
            print(f"# {name}\n" + to_toml("exchange.ccxt", values), flush=True)  # noqa: T201


def to_toml(table: str, values: Mapping[str, Any]) -> str:
    """Return `values` as a TOML table with its sub-tables; strings, numbers, booleans, lists of strings."""
    lines: list[str] = []
    inner = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            inner.append(to_toml(f"{table}.{name}", value))
        else:
            # JSON's strings, numbers, booleans and lists are TOML's as well.
            lines.append(f"{name} = {json.dumps(str(value) if isinstance(value, Decimal) else value)}")
    head = [f"[{table}]"] if lines else []
    return "\n".join([*head, *lines, *inner])


if __name__ == "__main__":
    sys.exit(main())
