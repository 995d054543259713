"""`sacd data fetch`: the history of a market from a venue into one Parquet file, which a later fetch continues.

Owns the order of the steps and the rules of what is kept; `fetch_pages.py` asks, `fetch_store.py` writes. What a file
holds is never changed, only added to: training runs name its sha256. A candle that the venue has restated since is
recorded beside it; to have the new value, fetch into another directory.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Protocol

from strategy.candle import Timeframe
from strategy.candle_table import CandleTable
from training.console import progress
from training.errors import TrainingError
from training.fetch_pages import BEGINNING_MS, Gap, Market, Page, Venue, moment
from training.fetch_store import Fetched, FetchedGap, Held, Key, Store

_OVERLAP = 50  # candles held already that are asked for again, to notice what the venue has restated


class Exchange(Venue, Protocol):
    """A venue that knows its markets."""

    def page(self, symbol: str) -> int:
        """Return how many candles one question may ask for."""
        ...

    def coarse(self, timeframe: Timeframe) -> Timeframe | None:
        """Return a much longer timeframe that the venue offers, None when there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Which candles are wanted: those that open in [from_ms, to_ms). None: from the first one on, to the newest."""

    from_ms: int | None = None
    to_ms: int | None = None

    def __post_init__(self) -> None:
        if self.from_ms is not None and self.to_ms is not None and self.from_ms >= self.to_ms:
            raise TrainingError(
                f"--from {moment(self.from_ms)} is not before --to {moment(self.to_ms)}: give an earlier --from"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one fetch did. added: candles behind the last one held; filled: candles in gaps of what was held."""

    fetched: Fetched
    added: int
    filled: int


def fetch(venue: Exchange, key: Key, span: Span, directory: Path, now_ms: Callable[[], int]) -> Outcome:
    """Bring the file of `key` in `directory`, which is locked, up to the newest final candle within `span`.

    Goes on from what lies there, finished or not; the same candles give the same bytes however often it was killed.
    now_ms: this machine's clock, for the provenance alone.
    Raises TrainingError when the venue or the files refuse; what came before is kept and a later call goes on.
    """
    store = Store(directory, key)
    held = store.load()
    asked_ms = _agree(held, span, store.path, key.timeframe.span_ms)
    market = _market(venue, key, span)
    store.begin(held, asked_ms)
    try:
        return _fetched(store, held, market, asked_ms, now_ms)
    finally:
        store.close()


def _fetched(store: Store, held: Held, market: Market, asked_ms: int, now_ms: Callable[[], int]) -> Outcome:
    for page in chain(_fillings(market, held), _continued(market, held, asked_ms)):
        store.append(page)
        held.add(page)
    table, former = held.table(), held.fetched
    if table is None:
        store.forget()
        raise TrainingError(
            f"{market.venue.name} has no candle of {market.symbol} {market.timeframe.name} between "
            f"{moment(asked_ms)} and {moment(market.end_ms)}: choose another span"
        )
    if former is not None and held.unfinished == 0:
        store.forget()
        return Outcome(fetched=former, added=0, filled=0)
    fetched = store.finish(
        table,
        asked_ms=asked_ms,
        gaps=_gaps(table, held.confirmed),
        older_withheld=held.is_late,
        restated=tuple(held.restated[open_ms] for open_ms in sorted(held.restated)),
        fetched_ms=now_ms(),
        ccxt=market.venue.version,
    )
    new, added = len(table), len(table)
    if former is not None:
        new, added = len(table) - former.rows, len(table.slice(former.last_ms + 1))
    return Outcome(fetched=fetched, added=added, filled=new - added)


def _agree(held: Held, span: Span, path: Path, span_ms: int) -> int:
    """Return from when on candles are asked for. Raises TrainingError when that is before what lies there begins."""
    wanted_ms = BEGINNING_MS if span.from_ms is None else -(-span.from_ms // span_ms) * span_ms
    if held.asked_ms is None:
        return wanted_ms
    table = held.table()
    nothing_before = table is not None and not held.is_late and int(table.open_ms[0]) - held.asked_ms >= span_ms
    if span.from_ms is not None and wanted_ms < held.asked_ms and not nothing_before:
        raise TrainingError(
            f"{path}: was begun from {moment(held.asked_ms)} on, and nothing is put before that: give --from that time "
            "or leave it out to go on, or give another directory"
        )
    return held.asked_ms


def _market(venue: Exchange, key: Key, span: Span) -> Market:
    market = Market(
        venue=venue,
        symbol=key.symbol,
        timeframe=key.timeframe,
        page=venue.page(key.symbol),
        coarse=venue.coarse(key.timeframe),
        end_ms=0,
    )
    newest_ms = market.newest_ms()
    market.end_ms = newest_ms if span.to_ms is None else min(newest_ms, span.to_ms)
    return market


def _continued(market: Market, held: Held, asked_ms: int) -> Iterator[Page]:
    """Yield what comes after all that is held, and show how far that is."""
    table = held.table()
    known = None if table is None else table.slice(int(table.open_ms[-min(_OVERLAP, market.page // 4, len(table))]))
    pages = market.pages(known, asked_ms)
    first = next(pages, None)
    if first is None:
        return
    told = f"{market.venue.name} {market.symbol} {market.timeframe.name}"
    span_ms = market.timeframe.span_ms
    from_ms = int((first.table if known is None else known).open_ms[0 if known is None else -1])
    with progress(told, max(1, (market.end_ms - from_ms) // span_ms)) as tell:
        for page in chain((first,), pages):
            if len(page.table):
                tell((int(page.table.open_ms[-1]) - from_ms) // span_ms + 1)
            if len(page.table) or not set(page.restated) <= set(held.restated.values()):
                yield page


def _fillings(market: Market, held: Held) -> Iterator[Page]:
    """Yield what the venue gives, or confirms, this time of gaps that it did not confirm before."""
    table = held.table()
    for first_ms, missing in () if table is None else table.gaps():
        if Gap(first_ms=first_ms, missing=missing) in held.confirmed or table is None:
            continue
        edge_ms, end_ms = first_ms - market.timeframe.span_ms, first_ms + missing * market.timeframe.span_ms
        hole = replace(market, end_ms=end_ms + 1)
        for page in hole.pages(table.slice(edge_ms, edge_ms + 1), edge_ms):
            inside = replace(page, table=page.table.slice(None, end_ms))
            if len(inside.table) or inside.confirmed:
                yield inside


def _gaps(table: CandleTable, confirmed: set[Gap]) -> tuple[FetchedGap, ...]:
    gaps = [Gap(first_ms=first_ms, missing=missing) for first_ms, missing in table.gaps()]
    return tuple(FetchedGap(first_ms=gap.first_ms, missing=gap.missing, confirmed=gap in confirmed) for gap in gaps)
