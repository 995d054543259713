"""The candles of a retraining: histories that were given, what an exchange has since, and what was traded on.

They are put together per symbol, written into the trainer's own folder, and read back from there by whoever goes on
with the same request, so that a training that was interrupted goes on with the candles it began with.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from strategy.candle import Timeframe
from strategy.candle_table import CandleTable, format_csv
from training.candles import CandleFile, guess_market, read_candle_file
from training.commands_common import minute
from training.console import counted
from training.data import provenance_path
from training.disk import write_together
from training.errors import TrainingError
from training.fetch import Exchange, Span, fetch
from training.fetch_ccxt import CcxtVenue
from training.fetch_store import Key, locked
from training.retrain_request import Request

_FILES, _LIST = "candles", "candles.json"
_JOURNAL, _FETCHED = "journal", "fetched"


class Venue(Exchange, Protocol):
    """An exchange that is asked for candles."""

    def check(self, symbols: Sequence[str], timeframe: Timeframe) -> None:
        """Raise TrainingError when it has no such market."""

    def close(self) -> None:
        """End the connections."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gathered:
    """Candles up to now. paths, files: one for each symbol of the request, in their order.  notes: what was found."""

    paths: tuple[Path, ...]
    files: tuple[CandleFile, ...]
    notes: tuple[str, ...]

    @property
    def tables(self) -> tuple[CandleTable, ...]:
        """The candles of each."""
        return tuple(file.table for file in self.files)


def gather(
    request: Request,
    folder: Path,
    *,
    say: Callable[[str], None] = lambda _: None,
    make_venue: Callable[[str], Venue] = CcxtVenue,
    limit_s: float | None = None,
) -> Gathered:
    """Return the candles of a request, put together in `folder`, or those that were put together there before.

    say: told what is done next.  limit_s: how long reading the journal may take.
    Raises TrainingError for a file of another market or timeframe, a symbol without candles, an exchange or a journal
    that cannot be read, and when the folder cannot be written.
    """
    found = _kept(request, folder)
    if found is not None:
        return found
    notes: list[str] = []
    given = {symbol: _given(request, symbol, path) for symbol, path in _there(request, notes).items()}
    if request.journal is not None:
        say("reading the journal")
    traded = _traded(request, folder / _JOURNAL, limit_s)
    if not request.exchange:
        given = {symbol: _up_to_now(table, traded, notes) for symbol, table in given.items()}
    fetched = _fetched(request, given, folder / _FETCHED, say, make_venue) if request.fetch else {}
    say("putting the candles together")
    tables = [_put_together(symbol, fetched, given, traded, notes) for symbol in request.symbols]
    return _keep(request, folder, tables, notes)


def laid_over(under: CandleTable, over: CandleTable) -> tuple[CandleTable, int]:
    """Return the candles of both, those of `over` where both have one, and how many of these differ in any value."""
    _, at, own = np.intersect1d(under.open_ms, over.open_ms, assume_unique=True, return_indices=True)
    differing = int(np.count_nonzero((under.values[at] != over.values[own]).any(axis=1)))
    kept = np.ones(len(under), bool)
    kept[at] = False
    open_ms = np.concatenate([under.open_ms[kept], over.open_ms])
    values = np.concatenate([under.values[kept], over.values])
    order = np.argsort(open_ms, kind="stable")
    table = CandleTable(symbol=over.symbol, timeframe=over.timeframe, open_ms=open_ms[order], values=values[order])
    return table, differing


# ---- where candles come from ------------------------------------------------------------------------------------
def _there(request: Request, notes: list[str]) -> dict[str, Path]:
    """Return the files that are to be read; where an exchange is asked, one that is not there is done without."""
    found = dict(request.data)
    if request.fetch:
        for symbol, path in request.data.items():
            if not path.exists():
                notes.append(f"{symbol}: {path} is not there: all of its candles were asked from {request.exchange}")
                del found[symbol]
    return found


def _given(request: Request, symbol: str, path: Path) -> CandleTable:
    told, _ = guess_market(path)
    if told not in {None, symbol}:
        raise TrainingError(f"{path}: its name tells {told}, and it is given for {symbol}: correct `data` of [retrain]")
    table = read_candle_file(path, symbol=symbol).table
    _require_timeframe(request, table, str(path))
    return table


def _up_to_now(table: CandleTable, traded: Mapping[str, CandleTable], notes: list[str]) -> CandleTable:
    """Return the candles of a file that an account on recorded or made-up ones has come to: the rest is its future."""
    now_ms = max((int(known.open_ms[-1]) for known in traded.values()), default=None)
    if now_ms is None or int(table.open_ms[-1]) <= now_ms:
        return table
    kept = table.slice(None, now_ms + 1)
    notes.append(f"{table.symbol}: {counted(len(table) - len(kept), 'candle')} of its file lie ahead of the account")
    return kept


def _require_timeframe(request: Request, table: CandleTable, place: str) -> None:
    if table.timeframe.span_ms != request.timeframe.span_ms:
        raise TrainingError(
            f"{place}: holds candles of {table.timeframe.name}, {request.timeframe.name} are asked for: give those"
        )


def _traded(request: Request, folder: Path, limit_s: float | None) -> dict[str, CandleTable]:
    """Return what stands in the journal; the daemon's own command tells, for only it knows journals."""
    if request.journal is None:
        return {}
    shutil.rmtree(folder, ignore_errors=True)  # of a trainer that was killed
    command = [sys.executable, "-m", "daemon", "journal", "candles", "--json"]
    command += ["--out", str(folder), "--journal", str(request.journal)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s)
    except subprocess.TimeoutExpired as error:
        raise TrainingError(f"{request.journal}: reading its candles took more than {limit_s:.0f} s") from error
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise TrainingError(f"candles of the journal: {said.removeprefix('sacd: ')}")
    found = {}
    for file in json.loads(done.stdout)["files"]:
        table = read_candle_file(
            Path(file["path"]), symbol=file["symbol"], timeframe=Timeframe.parse(file["timeframe"])
        ).table
        _require_timeframe(request, table, str(request.journal))
        found[table.symbol] = table
    if odd := sorted(set(found) - set(request.symbols)):
        raise TrainingError(f"{request.journal}: holds candles of {', '.join(odd)}, which nobody asked for")
    return found


def _fetched(
    request: Request,
    given: Mapping[str, CandleTable],
    folder: Path,
    say: Callable[[str], None],
    make_venue: Callable[[str], Venue],
) -> dict[str, CandleTable]:
    """Return what the exchange has behind what was given, and where that was fetched, in its gaps; else all it has."""
    venue, found = make_venue(request.exchange), {}
    try:
        with locked(folder):
            venue.check(request.symbols, request.timeframe)
            for symbol in request.symbols:
                say(f"asking {request.exchange} for {symbol}")
                key = Key(exchange=venue.name, symbol=symbol, timeframe=request.timeframe)
                span = _wanted(request, key, given.get(symbol), folder)
                fetch(venue, key, span, folder, lambda: time.time_ns() // 1_000_000)
                found[symbol] = read_candle_file(folder / key.file, symbol=symbol, timeframe=request.timeframe).table
    finally:
        venue.close()
    return found


def _wanted(request: Request, key: Key, given: CandleTable | None, folder: Path) -> Span:
    """Return what is to be fetched; a file that was fetched before is copied, so that the fetch goes on from it."""
    path = request.data.get(key.symbol)
    if (folder / key.file).exists() or (folder / f".{key.file}.unfinished").exists():
        return Span()  # of a trainer that was interrupted: it goes on
    if given is not None and path is not None and path.name == key.file and _is_fetched(path, key):
        shutil.copyfile(provenance_path(path), folder / provenance_path(path).name)
        shutil.copyfile(path, folder / path.name)
        return Span()
    return Span(from_ms=None if given is None else int(given.open_ms[-1]))


def _is_fetched(path: Path, key: Key) -> bool:
    try:
        record = json.loads(provenance_path(path).read_bytes())
        return "asked_ms" in record and all(record.get(name) == value for name, value in key.facts.items())
    except (OSError, ValueError, TypeError):
        return False


# ---- one table of each symbol -----------------------------------------------------------------------------------
def _put_together(
    symbol: str,
    fetched: Mapping[str, CandleTable],
    given: Mapping[str, CandleTable],
    traded: Mapping[str, CandleTable],
    notes: list[str],
) -> CandleTable:
    """Return all candles of a symbol; where sources differ, what was traded on counts, then what was given."""
    parts = [part[symbol] for part in (fetched, given) if symbol in part]
    if symbol not in traded and not parts:
        raise TrainingError(f"{symbol}: there is no candle of it, neither in a file nor in the journal: give a file")
    table = parts[0] if parts else traded[symbol]
    for part in parts[1:]:
        table, _ = laid_over(table, part)
    if symbol in traded and parts:
        table, differing = laid_over(table, traded[symbol])
        if differing:
            notes.append(
                f"{symbol}: {counted(differing, 'candle')} of {len(traded[symbol]):,} that were traded on differ from "
                "the file: those of the journal count"
            )
    if gaps := table.gaps():
        missing = sum(count for _, count in gaps)
        notes.append(f"{symbol}: {counted(len(gaps), 'gap')}, {counted(missing, 'candle')} missing")
    span = f"{minute(int(table.open_ms[0]))} .. {minute(int(table.open_ms[-1]))}"
    notes.append(f"{symbol}: {counted(len(table), 'candle')}, {span}")
    return table


# ---- what is kept for whoever goes on ---------------------------------------------------------------------------
def _keep(request: Request, folder: Path, tables: Sequence[CandleTable], notes: Sequence[str]) -> Gathered:
    place = folder / _FILES
    try:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
    except OSError as error:
        raise TrainingError(f"{place}: {error.strerror}: free space or correct its permissions") from error
    names = [_name(request, table.symbol) for table in tables]
    if len(set(names)) < len(names):
        raise TrainingError(f"files of {', '.join(request.symbols)} would have one name: their letters are the same")
    write_together({place / name: format_csv(table) for name, table in zip(names, tables, strict=True)})
    read = [_read(request, place / name, table.symbol) for name, table in zip(names, tables, strict=True)]
    listed = [{"name": file.name, "sha256": file.sha256, "symbol": file.table.symbol} for file in read]
    write_together({folder / _LIST: json.dumps({"files": listed, "notes": list(notes)}, indent=1).encode()})
    shutil.rmtree(folder / _JOURNAL, ignore_errors=True)  # it is in there now
    shutil.rmtree(folder / _FETCHED, ignore_errors=True)
    return _gathered(place, read, notes)


def _name(request: Request, symbol: str) -> str:
    return f"{Path(Key(exchange='', symbol=symbol, timeframe=request.timeframe).file).stem}.csv"


def _kept(request: Request, folder: Path) -> Gathered | None:
    """Return what was put together before, None when it is not there as it was: then it is done anew."""
    place = folder / _FILES
    try:
        listed: dict[str, Any] = json.loads((folder / _LIST).read_bytes())
        files = [_read(request, place / file["name"], file["symbol"]) for file in listed["files"]]
        is_same = [file.sha256 for file in files] == [file["sha256"] for file in listed["files"]]
    except (OSError, ValueError, KeyError, TrainingError):
        return None
    if not is_same or [file.table.symbol for file in files] != list(request.symbols):
        return None
    return _gathered(place, files, listed["notes"])


def _read(request: Request, path: Path, symbol: str) -> CandleFile:
    return read_candle_file(path, symbol=symbol, timeframe=request.timeframe)


def _gathered(place: Path, files: Sequence[CandleFile], notes: Sequence[str]) -> Gathered:
    return Gathered(paths=tuple(place / file.name for file in files), files=tuple(files), notes=tuple(notes))
