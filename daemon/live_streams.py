"""The streams of a venue: keeps them open, takes what they say, notices when one is mute.

A stream never makes a candle final: it wakes `live_candles.py`, which asks. Trades go straight into the queue.
"""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import structlog

from daemon.candle_finality import Row, is_jump, is_positive, opens_at
from daemon.errors import ConfigError, TransientError
from daemon.live_candles import Desk, Followed, pauses
from daemon.ports import FeedHealth, MarketTrade

_T = TypeVar("_T")
_log = structlog.get_logger()
CANDLE_WORDS = ("ohlc", "kline", "candle")
TRADE_WORDS = ("trade",)
"""What ccxt's exchanges call their subscriptions to candles and to trades."""
_POLL_S = (2.0, 60.0)  # how often exchanges without a candle stream are asked, at least and at most


class LiveStreams:
    """Listens to candles and trades of the followed symbols, or polls where the exchange has no streams."""

    def __init__(self, desk: Desk) -> None:
        self._venue = desk.venue
        self._span_ms = desk.span_ms
        self._clock = desk.clock
        self._generator = desk.generator
        self._queue = desk.queue
        self._health = desk.health
        self._pace = desk.pace
        self._pulse = desk.pulse

    def parts(self, followed: Followed) -> list[Coroutine[Any, Any, None]]:
        """Return what has to run, side by side and without end, to hear of one symbol."""
        candles = self._listen(followed) if self._venue.has_candle_stream else self._poll(followed)
        return [candles, self._listen_to_trades(followed)] if self._venue.has_trade_stream else [candles]

    async def _listen(self, followed: Followed) -> None:
        await self._keep_watching(
            f"candles of {followed.symbol}",
            followed,
            lambda: self._venue.watch_candles(followed.symbol, self._pace.stale_after_s),
            lambda rows: self._hear(followed, rows),
        )

    async def _listen_to_trades(self, followed: Followed) -> None:
        await self._keep_watching(
            f"trades of {followed.symbol}",
            followed,
            lambda: self._venue.watch_trades(followed.symbol, self._pace.stale_after_s),
            lambda trades: self._hear_trades(followed, trades),
        )

    async def _keep_watching(
        self, part: str, followed: Followed, watch: Callable[[], Awaitable[_T]], hear: Callable[[_T], None]
    ) -> None:
        """Keep one stream open: connect again after an error, and after a silence that is none of the market's."""
        backoff, is_trades = pauses(self._generator), part.startswith("trades")
        while True:
            asked_s = self._clock.monotonic_s()
            self._pulse.beat(part)
            try:
                news = await watch()
            except TimeoutError:
                # Few trades are normal; a candle that changes without any is not, but candles are what decides.
                if is_trades and followed.moved_s < asked_s:
                    self._health.clear(part)
                    continue
                detail = f"no {part} for {self._pace.stale_after_s:g} s, connecting again"
                await self._reconnect(
                    part, followed, FeedHealth.RECONNECTING if is_trades else FeedHealth.STALE, detail
                )
            except (TransientError, ConfigError) as error:
                await self._reconnect(
                    part,
                    followed,
                    followed.trouble(self._clock.monotonic_s(), self._pace.stale_after_s),
                    f"{part}: {error}",
                )
                await self._clock.sleep_s(backoff.next_s())
            else:
                backoff.reset()
                self._health.clear(part)
                hear(news)

    async def _reconnect(self, part: str, followed: Followed, health: FeedHealth, detail: str) -> None:
        self._health.report(part, health, detail)
        if part.startswith("trades"):
            await self._venue.drop(TRADE_WORDS)
            return
        followed.stream.clear()  # what was missed meanwhile cannot be told from these rows
        await self._venue.drop(CANDLE_WORDS)
        followed.ask_now()

    def _hear(self, followed: Followed, rows: Sequence[Row]) -> None:
        now_s = followed.heard_s = self._clock.monotonic_s()
        for row in rows:
            open_ms = opens_at(row, self._span_ms)
            if open_ms is None:
                followed.question(row, None)  # whatever this is, REST knows better
            elif followed.ledger.next_ms is not None and open_ms < followed.ledger.next_ms:
                if not followed.ledger.has(row):
                    followed.question(row, open_ms)  # a late copy that differs, or a stray one; REST says which
            elif followed.stream.get(open_ms) != row:
                self._hear_row(followed, row, open_ms, now_s)

    def _hear_row(self, followed: Followed, row: Row, open_ms: int, now_s: float) -> None:
        is_new = open_ms not in followed.stream
        followed.stream[open_ms] = row
        if row[5]:
            followed.moved_s = now_s
        if is_new and followed.is_ripe:
            followed.ripen(now_s)
        if not self._venue.has_trade_stream:
            self._put_forming(followed, row, open_ms)

    def _put_forming(self, followed: Followed, row: Row, open_ms: int) -> None:
        at_ms = max(open_ms, min(self._clock.now_ms(), open_ms + self._span_ms - 1))
        self._put_trade(followed, {"price": row[4], "amount": row[5], "timestamp": at_ms})

    def _hear_trades(self, followed: Followed, trades: Sequence[Mapping[str, Any]]) -> None:
        for trade in trades:
            self._put_trade(followed, trade)

    def _put_trade(self, followed: Followed, trade: Mapping[str, Any]) -> None:
        price, quantity, at_ms = trade.get("price"), trade.get("amount"), trade.get("timestamp")
        if not (is_positive(price) and is_positive(quantity)) or not isinstance(at_ms, int):
            return
        if at_ms < followed.trade_ms or self._is_odd(followed, price):
            return
        followed.trade_ms = at_ms
        self._queue.put_trade(
            MarketTrade(symbol=followed.symbol, price=float(price), quantity=float(quantity), at_ms=at_ms)
        )

    def _is_odd(self, followed: Followed, price: float) -> bool:
        """Return whether a price is too far from the last one to be believed before another trade bears it out."""
        known, odd = followed.price, followed.odd_price
        if known is not None and is_jump(price, known) and (odd is None or is_jump(price, odd)):
            followed.odd_price = price
            _log.warning("odd_trade", symbol=followed.symbol, price=price, last=known)
            return True
        followed.price, followed.odd_price = price, None
        return False

    async def _poll(self, followed: Followed) -> None:
        """Stand in for the candle stream of an exchange that has none."""
        least_s, most_s = _POLL_S
        part = f"candles of {followed.symbol}"
        while True:
            self._pulse.beat(part)
            wanted = followed.ledger.wanted_ms
            try:
                self._hear(followed, await self._venue.rows(followed.symbol, wanted, 5))
                self._health.clear(part)
            except (TransientError, ConfigError) as error:
                self._health.report(
                    part, followed.trouble(self._clock.monotonic_s(), self._pace.stale_after_s), f"{part}: {error}"
                )
            await self._clock.sleep_s(min(most_s, max(least_s, self._span_ms / 20_000)))
