"""How candles are read off a venue page by page, whatever its habits: the order of questions, and what answers prove.

Pure but for the venue that is handed in: no files, no clock. Venues differ. Some answer from `since` on, some only with
the window of `limit` candles behind it, some with the newest candles of that window, some with their newest candles
whatever is asked. So nothing is concluded from the length of an answer: every question begins at a candle that is
already known, and only an answer that shows this candle says anything about what lies behind it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import numpy as np

from strategy.candle import Candle, Timeframe
from strategy.candle_table import VALUE_COLUMNS, CandleTable, IntArray
from strategy.errors import InvalidCandle
from training.errors import TrainingError

Row = Sequence[Any]
"""Open time in ms, open, high, low, close, volume, as ccxt gives it: nothing in it is checked."""

BEGINNING_MS = 1_230_940_800_000
"""2009-01-03, the day of Bitcoin's first block: no market is older."""

_DAY_MS = 86_400_000
_LEAST_PAGE = 10  # no venue gives fewer candles at once
_DOUBTED = 3  # times an answer is asked for that contradicts what is known
_FIELDS = 1 + len(VALUE_COLUMNS)


class Venue(Protocol):
    """What this needs of an exchange. Every call raises TrainingError when the venue cannot or will not answer."""

    name: str
    version: str
    """Of the library that speaks to it."""

    def rows(self, symbol: str, timeframe: str, since_ms: int | None, limit: int) -> Sequence[Row]:
        """Return at most some `limit` candles from `since_ms` on (the newest when None), the forming one included."""
        ...

    def now_ms(self) -> int | None:
        """Return the venue's clock, None when it does not tell."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Missing candles between two known ones. first_ms: open time of the first of them; missing: their number."""

    first_ms: int
    missing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Restated:
    """A candle that the venue now shows otherwise. kept: open .. volume as we hold it, None when we have none."""

    open_ms: int
    kept: tuple[float, ...] | None
    venue: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """New candles. confirmed: gaps before and between them that the venue showed twice, with both their edges.

    is_late: of a first page: the venue has older candles, asked for, which it does not give.
    """

    table: CandleTable
    confirmed: tuple[Gap, ...] = ()
    restated: tuple[Restated, ...] = ()
    is_late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Days:
    """When candles of a coarse timeframe open, in order; what else they hold is not read."""

    open_ms: IntArray


_Found = TypeVar("_Found", CandleTable, _Days)


@dataclass(slots=True, kw_only=True)
class Market:
    """One symbol and timeframe at a venue, up to `end_ms`: no candle that opens there or later is read.

    page: candles to ask for at once; becomes smaller when the venue turns out to give fewer.
    coarse: a longer timeframe of the venue, in which long empty stretches are crossed; None when it has none.
    """

    venue: Venue
    symbol: str
    timeframe: Timeframe
    page: int
    end_ms: int
    coarse: Timeframe | None = None

    def pages(self, known: CandleTable | None, from_ms: int) -> Iterator[Page]:
        """Yield the candles after those in `known`, or from `from_ms` on, in order, until the end.

        known: the newest candles held already; where the venue shows them otherwise, the first page tells.
        Raises TrainingError for a broken candle and whatever the venue raises.
        """
        if known is None:
            page = self._first(from_ms)
            if page is None:
                return
            yield page
            known = page.table.slice(int(page.table.open_ms[-1]))
        while (page := self._after(known)) is not None:
            yield page
            if len(page.table) == 0:
                return
            known = page.table.slice(int(page.table.open_ms[-1]))

    # ---- the first page -----------------------------------------------------------------------------------------
    def _first(self, from_ms: int) -> Page | None:
        """Return the earliest candles from `from_ms` on, None when there are none before the end."""
        new = self._leap(from_ms)
        if new is None:
            return None
        first_ms = int(new.open_ms[0])
        is_late = False
        if self.coarse is not None and first_ms - from_ms >= self._span_ms:
            day_ms = self._next_day(from_ms)
            is_late = day_ms is not None and day_ms + self.coarse.span_ms <= first_ms
        return self._settled(None, new, is_late=is_late)

    # ---- the pages after it -------------------------------------------------------------------------------------
    def _after(self, known: CandleTable) -> Page | None:
        """Return the next candles after `known`, None when all is read; an empty page tells restated candles only."""
        since_ms, last_ms = int(known.open_ms[0]), int(known.open_ms[-1])
        if last_ms + self._span_ms >= self.end_ms:
            return None
        seen = self._anchored(since_ms)
        restated = () if seen is None else tuple(_differences(known, seen))
        if seen is not None and seen.open_ms[-1] <= last_ms:
            seen = self._anchored(last_ms)  # asked again before a hole is believed
        if seen is not None and seen.open_ms[-1] > last_ms:
            return self._settled(known.slice(last_ms), seen.slice(last_ms + 1), restated)
        page = self._beyond(last_ms, restated, is_shown=seen is not None)
        return Page(table=known.slice(0, 0), restated=restated) if page is None and restated else page

    def _beyond(self, last_ms: int, restated: tuple[Restated, ...], *, is_shown: bool) -> Page | None:
        """Return the page behind a hole that begins after `last_ms`, None when none comes before the end.

        is_shown: whether the venue shows the candle before the hole: else nobody knows what lies in it.
        """
        found = self._leap(last_ms + (self.page if is_shown else 1) * self._span_ms)
        if found is None:
            return None
        page = self._settled(None, found, restated)
        missing = (int(found.open_ms[0]) - last_ms) // self._span_ms - 1
        gap = Gap(first_ms=last_ms + self._span_ms, missing=missing)
        return replace(page, confirmed=(gap, *page.confirmed)) if is_shown else page

    def _settled(
        self, last: CandleTable | None, new: CandleTable, restated: tuple[Restated, ...] = (), *, is_late: bool = False
    ) -> Page:
        """Return `new`, of which every gap, also that behind `last`, was asked for once more from its near edge."""
        whole = new if last is None else joined((last, new))
        begin_ms, end_ms = int(new.open_ms[0]) if last is None else int(last.open_ms[0]) + 1, int(new.open_ms[-1]) + 1
        confirmed: list[Gap] = []
        rest_ms = int(whole.open_ms[0])
        while gaps := whole.slice(rest_ms).gaps():
            edge_ms, rest_ms = gaps[0][0] - self._span_ms, gaps[0][0] + gaps[0][1] * self._span_ms
            again = self._anchored(edge_ms)
            if again is not None:
                whole = joined((whole, again.slice(None, end_ms)))
                shown = whole.slice(edge_ms, min(end_ms, int(again.open_ms[-1]) + 1))
                confirmed += _gaps(shown)
                rest_ms = max(rest_ms, int(shown.open_ms[-1]))
        return Page(table=whole.slice(begin_ms), confirmed=tuple(confirmed), restated=restated, is_late=is_late)

    # ---- questions ----------------------------------------------------------------------------------------------
    @property
    def _span_ms(self) -> int:
        return self.timeframe.span_ms

    def newest_ms(self) -> int:
        """Return the open time of the newest candle the venue shows: all before it are final, it is not.

        Raises TrainingError when the venue shows none.
        """
        now_ms = self.venue.now_ms()
        rows = self.venue.rows(self.symbol, self.timeframe.name, None, self.page)
        times = [int(row[0]) for row in rows if now_ms is None or row[0] <= now_ms]
        if not times:
            raise TrainingError(f"{self._name} shows no candles now: choose another symbol or exchange")
        return max(times)

    def _anchored(self, since_ms: int) -> CandleTable | None:
        """Return candles from the one at `since_ms` on, which is known to exist, None when the venue does not show it.

        Where it shows the newest of the window only, fewer are asked for from then on.
        """
        asked, limit = 0, self.page
        while True:
            table = self._ask(since_ms, limit)
            if len(table) and table.open_ms[0] == since_ms:
                self.page = limit
                return table
            asked += 1
            if asked >= _DOUBTED:
                is_window = len(table) > 0 and table.open_ms[-1] < since_ms + limit * self._span_ms
                if not is_window or limit <= _LEAST_PAGE:
                    return None
                limit = max(_LEAST_PAGE, limit // 2)

    def _leap(self, at_ms: int) -> CandleTable | None:
        """Return the first candles found from `at_ms` on, None when there are none before the end.

        An empty stretch is believed when it was empty twice.
        """
        found = self._crossed(at_ms)
        if found is not None and found.open_ms[0] == at_ms:
            return found
        ways = [way for way in (found, self._crossed(at_ms)) if way is not None]
        return min(ways, key=lambda way: int(way.open_ms[0]), default=None)

    def _crossed(self, at_ms: int) -> CandleTable | None:
        at: int | None = at_ms
        while at is not None and at < self.end_ms:
            window_ms = self.page * self._span_ms
            table = self._unclipped(self._ask, at, self._span_ms)
            if len(table):
                return table
            at = self._next_day(at + window_ms)
        return None

    def _next_day(self, at_ms: int) -> int | None:
        """Return where, from `at_ms` on, a candle of the coarse timeframe lies, None when none lies before the end."""
        if self.coarse is None:
            return at_ms
        span_ms = self.coarse.span_ms
        since_ms = at_ms - span_ms + 1  # the one that holds `at_ms`; not every venue's days begin at midnight UTC
        while since_ms < self.end_ms:
            window_ms = self.page * span_ms
            days = self._unclipped(self._days, since_ms, span_ms)
            if len(days.open_ms):
                return max(at_ms, int(days.open_ms[0]))
            since_ms += window_ms
        return None

    def _unclipped(self, ask: Callable[[int, int], _Found], since_ms: int, span_ms: int) -> _Found:
        """Return what `ask` finds from `since_ms` on, with nothing left out at its beginning.

        A venue that shows the newest candles of a window may hide the first ones. They are searched by halves, until so
        few are asked for that all must be shown.
        """
        limit, found = self.page, ask(since_ms, self.page)
        while limit > _LEAST_PAGE and _may_be_clipped(found.open_ms, since_ms, since_ms + limit * span_ms):
            half = max(_LEAST_PAGE, limit // 2)
            more = ask(since_ms, half)
            if len(more.open_ms) == 0:
                more = ask(since_ms, half)
            if len(more.open_ms) == 0:
                since_ms, limit = since_ms + half * span_ms, limit - half
                continue
            if more.open_ms[0] < found.open_ms[0]:
                self.page = min(self.page, half)
            found, limit = more, half
        return found

    def _days(self, since_ms: int, limit: int) -> _Days:
        coarse = self.coarse or self.timeframe
        rows = self.venue.rows(self.symbol, coarse.name, since_ms, limit)
        times = sorted({int(row[0]) for row in rows if row[0] >= since_ms})
        return _Days(open_ms=np.array(times, np.int64))

    def _ask(self, since_ms: int, limit: int | None = None) -> CandleTable:
        """Return final candles from `since_ms` on, in order, each once; a broken answer is asked for again."""
        for _ in range(_DOUBTED - 1):
            try:
                return self._asked(since_ms, limit)
            except InvalidCandle:
                continue
        try:
            return self._asked(since_ms, limit)
        except InvalidCandle as error:
            raise TrainingError(
                f"{self.venue.name} shows a candle that cannot be one: {error}. Nothing is lost: the same command goes "
                "on once the venue has mended it; or end before it with --to, and begin another file after it"
            ) from error

    def _asked(self, since_ms: int, limit: int | None) -> CandleTable:
        rows = self.venue.rows(self.symbol, self.timeframe.name, since_ms, limit or self.page)
        return self._table([row for row in rows if since_ms <= row[0] < self.end_ms])

    def _table(self, rows: Sequence[Row]) -> CandleTable:
        found: dict[int, tuple[float, ...]] = {}
        for row in rows:
            open_ms, values = int(row[0]), self._values(row)
            if found.setdefault(open_ms, values) != values:
                raise InvalidCandle(f"{self._name} candle of {moment(open_ms)}: shown twice, with different values")
        times = sorted(found)
        table = np.array([found[open_ms] for open_ms in times], np.float64).reshape(-1, len(VALUE_COLUMNS))
        return CandleTable(
            symbol=self.symbol, timeframe=self.timeframe, open_ms=np.array(times, np.int64), values=table
        )

    def _values(self, row: Row) -> tuple[float, ...]:
        open_ms = int(row[0])
        place = f"{self._name} candle of {moment(open_ms)}"
        try:
            opened, high, low, close, volume = (float(value) for value in row[1:_FIELDS])
        except (TypeError, ValueError):
            raise InvalidCandle(f"{place}: {list(row[1:])} are not five numbers") from None
        try:
            return Candle(
                symbol=self.symbol,
                open_ms=open_ms,
                span_ms=self._span_ms,
                open=opened,
                high=high,
                low=low,
                close=close,
                volume=volume,
            ).values
        except InvalidCandle as error:
            raise InvalidCandle(f"{place}: {str(error).partition(': ')[2]}") from None

    @property
    def _name(self) -> str:
        return f"{self.symbol} {self.timeframe.name}"


def joined(tables: Sequence[CandleTable]) -> CandleTable:
    """Return the candles of all tables, at least one, in order of time; of one time, the one in the first table."""
    times, rows = np.unique(np.concatenate([table.open_ms for table in tables]), return_index=True)
    values = np.concatenate([table.values for table in tables])[rows]
    return CandleTable(symbol=tables[0].symbol, timeframe=tables[0].timeframe, open_ms=times, values=values)


def moment(open_ms: int) -> str:
    """Return a time as people read it, UTC, to the minute."""
    try:
        return datetime.fromtimestamp(open_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):
        return f"{open_ms} ms"


def _may_be_clipped(open_ms: IntArray, since_ms: int, end_ms: int) -> bool:
    """Tell whether these times, an answer about [since_ms, end_ms), may be the newest of more."""
    return len(open_ms) >= _LEAST_PAGE and bool(since_ms < open_ms[0] and open_ms[-1] < end_ms)


def _gaps(table: CandleTable) -> tuple[Gap, ...]:
    return tuple(Gap(first_ms=first_ms, missing=missing) for first_ms, missing in table.gaps())


def _differences(known: CandleTable, seen: CandleTable) -> Iterator[Restated]:
    """Yield what the venue shows otherwise than we hold it, or has where we have nothing, up to our last candle."""
    for row, open_ms in enumerate(seen.slice(None, int(known.open_ms[-1]) + 1).open_ms.tolist()):
        ours, theirs = known.index_of(open_ms), tuple(seen.values[row].tolist())
        kept = None if ours is None else tuple(known.values[ours].tolist())
        if kept != theirs:
            yield Restated(open_ms=open_ms, kept=kept, venue=theirs)
