"""`sacd data fetch`: arguments in, files and a few lines out."""

import argparse
import json
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from strategy.candle import Timeframe
from strategy.errors import InvalidCandle
from training.commands_common import as_moment, as_symbol
from training.console import counted, make_console, print_json
from training.errors import TrainingError
from training.fetch import Outcome, Span, fetch
from training.fetch_ccxt import CcxtVenue
from training.fetch_pages import moment
from training.fetch_store import Key, locked

_INTERRUPTED = 130
_OUT = make_console()


def add_fetch(verbs: Any) -> argparse.ArgumentParser:  # noqa: ANN401 - argparse's own, without a public type
    """Declare `sacd data fetch` among the verbs of `sacd data`, but for the options that all of these share."""
    parser: argparse.ArgumentParser = verbs.add_parser("fetch", help="get candles from an exchange, or more of them")
    parser.add_argument("--exchange", required=True, metavar="NAME", help="as ccxt names it: binance, kraken, okx ...")
    parser.add_argument("--symbol", type=as_symbol, nargs="+", action="extend", required=True, metavar="BASE/QUOTE")
    parser.add_argument("--timeframe", type=_timeframe, required=True, metavar="1h", help="1m, 15m, 1h, 4h, 1d ...")
    parser.add_argument(
        "--from",
        "--since",
        dest="from_ms",
        type=as_moment,
        metavar="DATE",
        help="first day, UTC, as 2020-01-01 (default: the first)",
    )
    parser.add_argument(
        "--to", "--until", dest="to_ms", type=as_moment, metavar="DATE", help="first day no longer taken"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="one file for each symbol is kept there")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="TOML or JSON with options for ccxt, or config.toml"
    )
    parser.add_argument("--url", metavar="URL", help="ask this host instead of the exchange's")
    parser.add_argument("--proxy", metavar="URL", help="http://HOST:PORT for all requests")
    parser.add_argument("--sandbox", action="store_true", help="the exchange's test market")
    parser.set_defaults(run=_fetch)
    return parser


def _fetch(args: argparse.Namespace) -> int:
    span = Span(from_ms=args.from_ms, to_ms=args.to_ms)
    options = {} if args.config is None else _options(args.config)
    symbols = list(dict.fromkeys(args.symbol))
    venue = CcxtVenue(
        args.exchange, options=options, url=args.url, proxy=args.proxy, sandbox=args.sandbox, say=_complain
    )
    outcomes: list[Outcome] = []
    try:
        with locked(args.out):
            venue.check(symbols, args.timeframe)
            for name in symbols:
                key = Key(exchange=venue.name, symbol=name, timeframe=args.timeframe)
                outcomes.append(fetch(venue, key, span, args.out, _now_ms))
                if not args.json:
                    _print_outcome(outcomes[-1])
    except KeyboardInterrupt:
        _complain(f"interrupted; what was fetched is kept in {args.out}, and the same command goes on from it")
        return _INTERRUPTED
    finally:
        venue.close()
    if args.json:
        print_json({"files": [_told(outcome) for outcome in outcomes]})
    return 0


def _complain(text: str) -> None:
    print(f"sacd data: {text}", file=sys.stderr, flush=True)  # noqa: T201


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _told(outcome: Outcome) -> dict[str, Any]:
    return {**asdict(outcome.fetched), "added": outcome.added, "filled": outcome.filled}


def _print_outcome(outcome: Outcome) -> None:
    fetched = outcome.fetched
    span = f"{moment(fetched.first_ms)} .. {moment(fetched.last_ms)}"
    market = f"{fetched.exchange} {fetched.symbol} {fetched.timeframe}"
    new = f"{outcome.added:,} new" if outcome.added or outcome.filled else "nothing new"
    filled = f", {outcome.filled:,} in gaps" if outcome.filled else ""
    _say(f"{fetched.file}: {market}, {fetched.rows:,} candles, {span}; {new}{filled}")
    if fetched.gaps:
        _say(f"  {_gaps(fetched.gaps)}")
    if fetched.older_withheld:
        _say(
            f"  {fetched.exchange} has older candles, but gives none before {moment(fetched.first_ms)} in this "
            "timeframe: take them from files (sacd data import)"
        )
    if fetched.restated:
        first = moment(fetched.restated[0].open_ms)
        _say(
            f"  {len(fetched.restated)} candles, the first of {first}, are shown otherwise by the exchange now; the "
            f"file keeps them as they were, and {fetched.file}.json tells both; for the new ones fetch into another "
            "directory"
        )


def _gaps(gaps: Sequence[Any]) -> str:
    told = f"{counted(len(gaps), 'gap')} ({counted(sum(gap.missing for gap in gaps), 'candle')})"
    doubtful = [gap for gap in gaps if not gap.confirmed]
    if not doubtful:
        return f"{told}, all confirmed: the exchange has none there"
    first = moment(doubtful[0].first_ms)
    return (
        f"{told}, of which {len(doubtful)} are not confirmed, the first at {first}: "
        "the exchange does not show what lies around them; a later fetch asks again"
    )


def _say(text: str) -> None:
    _OUT.print(text, markup=False, highlight=False)


# ---- arguments --------------------------------------------------------------------------------------------------
def _options(path: Path) -> Mapping[str, Any]:
    """Return the options for ccxt in `path`: all of it, or `[exchange.ccxt]` of a configuration of the daemon."""
    try:
        text = path.read_text(encoding="utf-8")
        read = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise TrainingError(f"--config {path}: cannot be read ({error.strerror}): correct the path") from error
    except ValueError as error:
        raise TrainingError(f"--config {path}: neither TOML nor, with the ending .json, JSON: {error}") from error
    if isinstance(read, Mapping) and isinstance(read.get("exchange"), Mapping):
        read = read["exchange"].get("ccxt", {})
    if not isinstance(read, Mapping) or not isinstance(read.get("options", {}), Mapping):
        raise TrainingError(f"--config {path}: give a table of ccxt's options, such as timeout = 20000")
    return read


def _timeframe(text: str) -> Timeframe:
    try:
        timeframe = Timeframe.parse(text)
    except InvalidCandle as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if text.endswith("w"):  # a week of ours begins on a Thursday, as 1970 did
        raise argparse.ArgumentTypeError(
            f"{text!r}: weeks that begin on Mondays, as exchanges count, are not read: give 1d"
        )
    return timeframe
