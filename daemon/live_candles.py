"""History and live candles of a venue: what to ask, when, and what of the answers is handed on.

REST says what a candle was, the stream only when to ask: the venue closes a candle by showing a later one, and the
values come from the answer that has a later candle behind them. So start, live, reconnect and exchanges without a
candle stream are one path, `_collect`. Rows of the stream stand in only when REST does not answer.
"""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from daemon.candle_finality import REMEMBERED, CandleLedger, Final, Grouper, Row, Settled, opens_at
from daemon.errors import ConfigError, TransientError
from daemon.feed_queue import FeedQueue, HealthBoard
from daemon.ports import CandleGroup, Clock, FeedHealth
from daemon.retry import Backoff, Uniform
from daemon.vitals import Pulse
from strategy.candle import Candle

_OVERLAP = 2  # final candles fetched again with every answer, to notice late corrections
_SECOND_LOOK_S = 1.0  # time for a lagging replica to catch up
_DAY_MS = 86_400_000


class Venue(Protocol):
    """What this needs of an exchange. Every call raises TransientError or ConfigError."""

    page: int
    """Rows that one call of `rows` can bring."""

    @property
    def has_candle_stream(self) -> bool:
        """Whether candles can be watched."""
        ...

    @property
    def has_trade_stream(self) -> bool:
        """Whether trades can be watched."""
        ...

    async def rows(self, symbol: str, since_ms: int | None, limit: int) -> list[Row]:
        """Return candles from `since_ms` on (the newest ones when None), oldest first, the forming one last."""
        ...

    async def now_ms(self) -> int | None:
        """Return the venue's clock, None when it does not tell."""
        ...

    async def price(self, symbol: str) -> float | None:
        """Return what the symbol trades at now, None when the venue does not tell."""
        ...

    async def watch_candles(self, symbol: str, timeout_s: float) -> list[Row]:
        """Return the rows that changed. Raises TimeoutError."""
        ...

    async def watch_trades(self, symbol: str, timeout_s: float) -> list[Mapping[str, Any]]:
        """Return the trades since the last call, in ccxt's form. Raises TimeoutError."""
        ...

    async def drop(self, words: Sequence[str] = ()) -> None:
        """Close the sockets whose subscriptions are called by one of `words`, or all when none is."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long to wait for what, in seconds.

    stale_after_s: silence after which a stream counts as dead.  grace_s: how long a group waits for a slow symbol.
    ask_after_s: how long after the end of an interval the venue is asked when it has shown no later candle.
    confirm_s: how long REST may fail before the stream stands in.
    """

    stale_after_s: float
    grace_s: float = 3.0
    ask_after_s: float = 5.0
    confirm_s: float = 5.0


@dataclass(slots=True, kw_only=True)
class Followed:
    """One symbol: what is final, what the stream has shown since, and when to ask the venue again."""

    symbol: str
    ledger: CandleLedger
    backoff: Backoff
    stream: dict[int, Row] = field(default_factory=dict)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    is_questioned: bool = False
    audit_ms: int | None = None
    questioned: deque[str] = field(default_factory=lambda: deque(maxlen=32))
    next_ask_s: float = -math.inf
    ripe_since_s: float | None = None
    heard_s: float = -math.inf
    moved_s: float = -math.inf
    trade_ms: int = 0
    price: float | None = None
    odd_price: float | None = None

    @property
    def is_ripe(self) -> bool:
        """Whether the stream has shown a candle later than the one wanted next."""
        wanted = self.ledger.next_ms
        return any(wanted is None or open_ms > wanted for open_ms in self.stream)

    def ask_now(self, since_ms: int | None = None) -> None:
        """Let the venue be asked at once, also about candles since `since_ms` that are final already."""
        self.is_questioned = True
        if since_ms is not None:
            self.audit_ms = since_ms if self.audit_ms is None else min(since_ms, self.audit_ms)
        self.next_ask_s = -math.inf
        self.wake.set()

    def ripen(self, now_s: float) -> None:
        """Let the venue be asked at once: the stream has shown one more candle that may close others."""
        self.backoff.reset()
        self.next_ask_s = -math.inf
        self.ripe_since_s = now_s if self.ripe_since_s is None else self.ripe_since_s
        self.wake.set()

    def question(self, row: Row, open_ms: int | None) -> None:
        """Let REST be asked about a strange row of the stream, once per row: ccxt may show it again and again."""
        text = repr(row)
        if text not in self.questioned:
            self.questioned.append(text)
            self.ask_now(open_ms)

    def trouble(self, now_s: float, stale_after_s: float) -> FeedHealth:
        """Return how bad an error is: stale when nothing has been heard for too long."""
        return FeedHealth.STALE if now_s - self.heard_s > stale_after_s else FeedHealth.RECONNECTING


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What the parts of one live feed share. span_ms: length of a candle."""

    venue: Venue
    span_ms: int
    clock: Clock
    generator: Uniform
    queue: FeedQueue
    health: HealthBoard
    pace: Pace
    pulse: Pulse


class LiveCandles:
    """Carries final candles of several symbols from a venue into a queue, history first, then as they close.

    resume: the last candle known of each symbol.  history: candles fetched of a symbol of which none is known.
    """

    def __init__(self, desk: Desk, *, symbols: Sequence[str], resume: Mapping[str, Candle], history: int) -> None:
        self._venue = desk.venue
        self._span_ms = desk.span_ms
        self._clock = desk.clock
        self._generator = desk.generator
        self._queue = desk.queue
        self._health = desk.health
        self._pace = desk.pace
        self._pulse = desk.pulse
        self._symbols = tuple(symbols)
        self._history = history
        self._grouper = Grouper(symbols=self._symbols, grace_s=self._pace.grace_s)
        self._grouped = asyncio.Event()
        self.followed = tuple(self._follow_from(symbol, resume.get(symbol)) for symbol in symbols)

    def _follow_from(self, symbol: str, last: Candle | None) -> Followed:
        if last is not None:
            self._grouper.reached(symbol, last.open_ms)
        ledger = CandleLedger(symbol=symbol, span_ms=self._span_ms, last=last)
        return Followed(symbol=symbol, ledger=ledger, backoff=pauses(self._generator))

    def parts(self) -> list[Coroutine[Any, Any, None]]:
        """Return what has to run, side by side and without end, once `backfill` is done."""
        return [self._group(), *(self._follow(followed) for followed in self.followed)]

    async def backfill(self) -> None:
        """Hand on history window by window, all symbols side by side, up to the candle that is forming now."""
        await together(self._insist(followed, self._find_start) for followed in self.followed)
        while (until_ms := self._next_window_ms()) is not None:
            await self._queue.room()
            before = [followed.ledger.next_ms for followed in self.followed]
            await together(self._insist(each, self._collect, until_ms) for each in self.followed)
            # The newest closed candle is held back until the venue has been asked once more: by then it may be old.
            self._release(before_ms=min(until_ms, self._edge_ms() - self._span_ms))
            if before == [followed.ledger.next_ms for followed in self.followed]:
                break
        await together(self._insist(followed, self._collect) for followed in self.followed)
        self._release(before_ms=self._edge_ms() - self._span_ms)
        self._health.live(f"history of {', '.join(self._symbols)} complete")
        self._release(before_ms=self._edge_ms())

    async def _find_start(self, followed: Followed) -> None:
        """Ask for the venue's newest candle, and count back from it when nothing is known of the symbol."""
        rows = await self._venue.rows(followed.symbol, None, 2)
        now_ms = await self._venue_now_ms()
        times = [at for row in rows if (at := opens_at(row, self._span_ms)) is not None]
        edge_ms = max((at for at in times if at <= now_ms), default=None)
        if rows and not times:
            raise ConfigError(
                f"[market] timeframe: candles of {followed.symbol} do not open on multiples of {self._span_ms} ms, "
                f"the newest at {rows[-1][0]}; choose a timeframe of one day or less"
            )
        known = followed.ledger.last
        if known is not None and edge_ms is not None and known.open_ms >= edge_ms + self._span_ms:
            raise ConfigError(
                f"[daemon] state_dir: the journal ends with {followed.symbol} at {known.open_ms}, after the venue's "
                f"newest candle at {edge_ms}: it belongs to another market; choose another state directory"
            )
        followed.ledger.edge_ms = edge_ms
        if followed.ledger.next_ms is None and edge_ms is not None:
            followed.ledger.since_ms = max(0, edge_ms - self._history * self._span_ms)

    def _next_window_ms(self) -> int | None:
        """Return where the next window of history ends, None when every symbol has reached its forming candle."""
        behind = [
            since_ms
            for each in self.followed
            if (since_ms := each.ledger.wanted_ms) is not None
            and each.ledger.edge_ms is not None
            and since_ms < each.ledger.edge_ms
        ]
        return min(behind) + self._venue.page * self._span_ms if behind else None

    async def _insist(self, followed: Followed, ask: Callable[..., Awaitable[object]], *rest: object) -> None:
        """Ask until the venue answers; meanwhile the feed says that it is stale."""
        backoff, part = pauses(self._generator), _history_of(followed)
        while True:
            self._pulse.beat(part)
            try:
                await ask(followed, *rest)
            except TransientError as error:
                self._health.report(part, FeedHealth.STALE, f"{part}: {error}")
                await self._clock.sleep_s(backoff.next_s())
            else:
                self._health.clear(part)
                self._pulse.rest(part)  # others may take longer
                return

    # ---- from rows to candles -------------------------------------------------------------------------------------
    async def _collect(self, followed: Followed, until_ms: int | None = None) -> bool:
        """Fetch what is final and not yet known, up to `until_ms`; returns whether there was anything new."""
        is_any = False
        while True:
            await self._queue.room()
            self._pulse.beat(_history_of(followed))
            settled = await self._ask(followed)
            self._take(followed, settled)
            is_any = is_any or bool(settled.finals or settled.faults)
            wanted, edge = followed.ledger.wanted_ms, max([followed.ledger.edge_ms or 0, *followed.stream])
            is_there = wanted is None or wanted >= (edge if until_ms is None else min(edge, until_ms))
            if (is_there and settled.doubt is None) or not (settled.finals or settled.faults):
                return is_any

    async def _ask(self, followed: Followed) -> Settled:
        """Ask REST for the next page; once more, with the venue's time, before what is odd about it is believed."""
        settled = followed.ledger.settle(await self._page(followed))
        if settled.doubt is None or settled.finals:
            return settled
        await self._clock.sleep_s(_SECOND_LOOK_S)
        now_ms = await self._venue_now_ms()
        price = await self._venue.price(followed.symbol)
        again = followed.ledger.settle(await self._page(followed), venue_now_ms=now_ms, price=price)
        return replace(again, late=settled.late + again.late)

    async def _page(self, followed: Followed) -> list[Row]:
        ledger, since_ms = followed.ledger, followed.ledger.since_ms
        if ledger.next_ms is not None:
            since_ms = max(0, ledger.next_ms - _OVERLAP * self._span_ms)
            if followed.audit_ms is not None:
                since_ms = min(since_ms, max(followed.audit_ms, ledger.next_ms - REMEMBERED * self._span_ms))
        return await self._venue.rows(followed.symbol, since_ms, self._venue.page)

    async def _venue_now_ms(self) -> int:
        # Only to throw out rows from the far future; a venue that does not tell its time gets a day of tolerance.
        now_ms = await self._venue.now_ms()
        return self._clock.now_ms() + _DAY_MS if now_ms is None else now_ms

    def _take(self, followed: Followed, settled: Settled) -> None:
        for final in settled.finals:
            self._grouper.add(final, self._clock.monotonic_s())
        for late in settled.late:
            self._queue.put(late)
        part = f"values of {followed.symbol}"
        for fault in settled.faults:
            self._health.report(part, FeedHealth.STALE, f"the venue confirms a candle that cannot be: {fault}")
        if settled.finals and not settled.faults:
            self._health.clear(part)
        if settled.finals or settled.faults:
            self._forget_settled(followed)
        self._grouped.set()

    def _forget_settled(self, followed: Followed) -> None:
        wanted, edge = followed.ledger.next_ms or 0, followed.ledger.edge_ms or 0
        # REST may lag the stream by the candle that has just begun; anything later is not of this world.
        followed.stream = {at: row for at, row in followed.stream.items() if wanted <= at <= edge + self._span_ms}

    def _edge_ms(self) -> int:
        return max((each.ledger.edge_ms or 0 for each in self.followed), default=0)

    def _release(self, before_ms: int | None = None) -> None:
        edge_ms = self._edge_ms()
        for finals in self._grouper.take(self._clock.monotonic_s(), before_ms):
            for final in finals:
                if final.gap is not None:
                    self._queue.put(final.gap)
            self._queue.put(_group_of(finals, is_backfill=finals[0].candle.close_ms < edge_ms))

    async def _group(self) -> None:
        """Hand on groups as they become complete, or have waited long enough."""
        while True:
            self._grouped.clear()
            self._release()
            deadline_s = self._grouper.deadline_s()
            wait_s = math.inf if deadline_s is None else deadline_s - self._clock.monotonic_s()
            await pause(self._clock, self._grouped, wait_s)

    # ---- live -------------------------------------------------------------------------------------------------
    async def _follow(self, followed: Followed) -> None:
        """Ask REST whenever the stream has shown a later candle, or the interval should be over."""
        part = _history_of(followed)
        while True:
            while (wait_s := self._wait_s(followed)) > 0.0:
                self._pulse.beat(part)
                followed.wake.clear()
                # Looks at the clock at least twice a minute: it may have been set, or the machine asleep.
                await pause(self._clock, followed.wake, min(wait_s, 30.0))
            try:
                is_any = await self._collect(followed)
            except (TransientError, ConfigError) as error:
                is_any = False
                self._health.report(
                    part, followed.trouble(self._clock.monotonic_s(), self._pace.stale_after_s), f"{part}: {error}"
                )
            else:
                self._health.clear(part)
                followed.is_questioned, followed.audit_ms = False, None
            self._plan(followed, is_any=is_any or self._stand_in(followed))

    def _wait_s(self, followed: Followed) -> float:
        now_s, wanted_ms = self._clock.monotonic_s(), followed.ledger.next_ms
        asked_s = followed.next_ask_s - now_s
        if followed.is_ripe or followed.is_questioned or wanted_ms is None:
            return asked_s
        over_ms = wanted_ms + self._span_ms + round(self._pace.ask_after_s * 1_000)
        return max(asked_s, (over_ms - self._clock.now_ms()) / 1_000)

    def _plan(self, followed: Followed, *, is_any: bool) -> None:
        if is_any:
            followed.backoff.reset()
            followed.next_ask_s = -math.inf
            followed.ripe_since_s = self._clock.monotonic_s() if followed.is_ripe else None
        else:
            followed.next_ask_s = self._clock.monotonic_s() + followed.backoff.next_s()

    def _stand_in(self, followed: Followed) -> bool:
        """Take closed candles from the stream when REST has not shown them for `confirm_s`."""
        since_s = followed.ripe_since_s
        if since_s is None or self._clock.monotonic_s() < since_s + self._pace.confirm_s:
            return False
        # Never with holes or jumps: those only REST can explain.
        settled = followed.ledger.settle(followed.stream.values())
        self._take(followed, settled)
        return bool(settled.finals)


def _history_of(followed: Followed) -> str:
    return f"history of {followed.symbol}"


def _group_of(finals: Sequence[Final], *, is_backfill: bool) -> CandleGroup:
    return CandleGroup(candles=tuple(final.candle for final in finals), is_backfill=is_backfill)


def pauses(generator: Uniform) -> Backoff:
    """Return the pauses between attempts to reach a venue."""
    return Backoff(base_s=0.5, cap_s=30.0, floor_s=0.05, generator=generator)


async def pause(clock: Clock, event: asyncio.Event, seconds: float) -> None:
    """Wait for `event`, at most `seconds` by the clock."""
    waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(event.wait())]
    if seconds < math.inf:
        waits.append(asyncio.ensure_future(clock.sleep_s(max(0.0, seconds))))
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def together(parts: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run `parts` side by side; when one fails, end the others and raise what it raised, plainly."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
