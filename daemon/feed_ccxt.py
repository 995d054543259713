"""Candles and trades of a real exchange through ccxt.pro: final, in order, without gaps or repeats.

Owns every call to ccxt and what its errors mean; `live_candles.py` and `live_streams.py` decide what to call when.
ccxt needs 20 MB to import with one exchange, 78 with all, therefore only here and only when a feed is opened.
"""

import asyncio
import contextlib
import logging
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import structlog

from daemon.candle_finality import Row, is_positive
from daemon.errors import ConfigError, TransientError
from daemon.feed_queue import FeedQueue, HealthBoard
from daemon.live_candles import Desk, LiveCandles, Pace, pauses, together
from daemon.live_streams import CANDLE_WORDS, TRADE_WORDS, LiveStreams
from daemon.ports import Clock, FeedEvent
from daemon.rate_budget import Purpose, RateBudget
from daemon.redact import Redactor
from daemon.retry import Uniform
from daemon.venue_import import only_exchange
from daemon.venue_settings import (
    enter_sandbox,
    instrument_of,
    near_matches,
    refuse_half_redirected,
    refuse_left_over,
    spot_market,
    with_defaults,
)
from daemon.venue_sockets import CLOSE_S, drop_sockets
from daemon.vitals import Pulse
from strategy.candle import Candle, Timeframe
from strategy.instrument import Instrument

_T = TypeVar("_T")
_PAGE = 1_000  # rows per request at most; less where ccxt knows that the venue gives less
_SMALLEST_PAGE = 10
_log = structlog.get_logger()
_START_ATTEMPTS = 6
_SUBSCRIPTIONS = CANDLE_WORDS + TRADE_WORDS
_DAY_MS = 86_400_000


class CcxtFeed:
    """`daemon.ports.Feed` over one exchange of ccxt.

    exchange_id: ccxt's name.  ccxt_options: passed to ccxt's constructor as they are (urls, options, proxies ...).
    history: final candles fetched before live ones when nothing is known of a symbol.
    stale_after_s: silence after which a stream counts as dead.  generator: seeded, for the jitter of pauses.
    grace_s: how long a group waits for a slow symbol.  ask_after_s: how long after the end of an interval the venue
    is asked when it has shown no later candle.  confirm_s: how long REST may fail before the stream stands in.
    sandbox: prices of the exchange's own test market.  budget: what REST requests are taken from; without one, ccxt's
    own limit of this connection alone holds.
    Raises ConfigError for settings that cannot work, as far as they can be told without the venue.
    """

    is_live = True

    def __init__(
        self,
        *,
        exchange_id: str,
        ccxt_options: Mapping[str, Any],
        symbols: Sequence[str],
        timeframe: Timeframe,
        history: int,
        clock: Clock,
        stale_after_s: float,
        generator: Uniform,
        grace_s: float = 3.0,
        ask_after_s: float = 5.0,
        confirm_s: float = 5.0,
        budget: RateBudget | None = None,
        sandbox: bool = False,
    ) -> None:
        self._symbols = tuple(symbols)
        self._timeframe = timeframe
        self._history = history
        self._clock = clock
        self._generator = generator
        self._pace = Pace(stale_after_s=stale_after_s, grace_s=grace_s, ask_after_s=ask_after_s, confirm_s=confirm_s)
        self._session = _Session(exchange_id, ccxt_options, timeframe.name, clock, budget, sandbox=sandbox)
        self._queue = FeedQueue()
        self._pulse = Pulse(clock)
        self._runner: asyncio.Task[None] | None = None
        self._closing: asyncio.Future[None] | None = None

    async def instruments(self) -> Mapping[str, Instrument]:
        """Return the venue's steps per symbol.

        Raises ConfigError when the exchange, a symbol or the timeframe cannot be had, TransientError when the venue
        does not answer after some attempts.
        """
        backoff = pauses(self._generator)
        while True:
            try:
                await self._session.open()
                break
            except TransientError as error:
                pause_s = backoff.next_s()
                if backoff.failures >= _START_ATTEMPTS:
                    raise TransientError(
                        f"{self._session.exchange_id} could not be reached in {_START_ATTEMPTS} attempts: {error}. "
                        "Check the network, and [exchange] id and urls, or on paper set [market] source = "
                        '"simulated", which needs none'
                    ) from error
                _log.warning("venue_unreachable", reason=str(error), again_in_s=round(pause_s, 1))
                await self._clock.sleep_s(pause_s)
        return {symbol: self._session.instrument(symbol) for symbol in self._symbols}

    async def events(self, resume: Mapping[str, Candle]) -> AsyncIterator[FeedEvent]:
        """Yield final candles after those in `resume`, trades between them, and changes of health, until closed.

        Groups are marked as backfill when the venue's current interval does not directly follow them. Raises
        ConfigError when the venue refuses what was asked for at the start; later troubles become FeedStatus.
        """
        try:
            await self.instruments()
            self._runner = asyncio.create_task(self._run(resume), name="feed")
            self._runner.add_done_callback(lambda _: self._queue.end())
            while (event := await self._queue.get()) is not None:
                yield event
            if not self._runner.cancelled():
                self._runner.result()
        finally:
            await self.close()

    def slowest(self) -> tuple[str, float] | None:
        """Return which stream or history was listened to, or asked for, longest ago, and how many seconds ago."""
        return self._pulse.slowest()

    async def close(self) -> None:
        """End `events`, and close every connection within two seconds; idempotent."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._end())
        # Whoever waits here may be cancelled, and others wait too: the connections are closed all the same.
        await asyncio.shield(self._closing)

    async def _end(self) -> None:
        if self._runner is not None and not self._runner.done():
            self._runner.cancel()
            await asyncio.wait([self._runner])
        await self._session.close()

    async def _run(self, resume: Mapping[str, Candle]) -> None:
        desk = Desk(
            venue=self._session,
            span_ms=self._timeframe.span_ms,
            clock=self._clock,
            generator=self._generator,
            queue=self._queue,
            health=HealthBoard(queue=self._queue),
            pace=self._pace,
            pulse=self._pulse,
        )
        candles = LiveCandles(desk, symbols=self._symbols, resume=resume, history=self._history)
        streams = LiveStreams(desk)
        await candles.backfill()
        listening = [part for followed in candles.followed for part in streams.parts(followed)]
        await together([*candles.parts(), *listening])


class _Session:
    """One ccxt.pro exchange: its calls, with errors told apart and without secrets in them."""

    def __init__(
        self,
        exchange_id: str,
        options: Mapping[str, Any],
        timeframe: str,
        clock: Clock,
        budget: RateBudget | None,
        *,
        sandbox: bool,
    ) -> None:
        if options.get("verbose"):
            raise ConfigError("[exchange] verbose = true would write keys and signatures to the log; take it out")
        refuse_half_redirected(exchange_id, options)
        self.exchange_id = exchange_id
        self._options = options
        self._timeframe = timeframe
        self._clock = clock
        self._budget = budget
        self._sandbox = sandbox
        secrets = (
            options.get(name) for name in ("apiKey", "secret", "password", "uid", "token", "privateKey", "twofa")
        )
        self._redactor = Redactor(value for value in secrets if isinstance(value, str) and value)
        self._exchange: Any = None  # ccxt has no types worth the name
        self._ccxt: Any = None
        self._markets: Mapping[str, Any] | None = None
        self._quiet_until_s = -math.inf
        self._heard: dict[str, str] = {}
        self.page = _PAGE

    @property
    def has_candle_stream(self) -> bool:
        """Whether ccxt can watch candles of this exchange."""
        return bool(self._exchange.has.get("watchOHLCV"))

    @property
    def has_trade_stream(self) -> bool:
        """Whether ccxt can watch trades of this exchange."""
        return bool(self._exchange.has.get("watchTrades"))

    async def open(self) -> None:
        """Load the venue's markets; does nothing when they are known. Raises ConfigError, TransientError."""
        if self._exchange is None:
            self._exchange = self._build()
        if self._markets is None:
            markets = await self._ask(self._exchange.load_markets)
            if not isinstance(markets, Mapping) or not markets:
                raise TransientError(f"{self.exchange_id} lists no markets")
            self._markets = markets

    def _build(self) -> Any:  # noqa: ANN401  # see __init__
        with only_exchange(self.exchange_id):
            import ccxt.pro  # type: ignore[import-untyped]  # noqa: PLC0415  # see the module's docstring

        for name in ("ccxt", "ccxt.base.exchange"):
            logging.getLogger(name).setLevel(logging.INFO)  # at DEBUG it writes headers with the API key
        self._ccxt = ccxt
        if self.exchange_id not in ccxt.pro.exchanges:
            near = near_matches(self.exchange_id, ccxt.pro.exchanges)
            raise ConfigError(f"[exchange] id: ccxt has no live data of {self.exchange_id!r}{near}")
        exchange = getattr(ccxt.pro, self.exchange_id)(with_defaults(self.exchange_id, self._options))
        if self._sandbox:
            enter_sandbox(self.exchange_id, exchange)
        else:
            refuse_left_over(self.exchange_id, self._options, exchange.urls.get("api"))
        self._check_abilities(exchange)
        if self._budget is not None:
            self._budget.attach(exchange)
        return exchange

    def _check_abilities(self, exchange: Any) -> None:  # noqa: ANN401  # see __init__
        if not exchange.has.get("fetchOHLCV"):
            raise ConfigError(f"[exchange] id: {self.exchange_id} has no candles; choose another exchange")
        known = exchange.timeframes or {}
        if known and self._timeframe not in known:
            raise ConfigError(
                f"[market] timeframe: {self.exchange_id} has no {self._timeframe!r}; it has {', '.join(known)}"
            )

    def instrument(self, symbol: str) -> Instrument:
        """Return the steps of `symbol`. Raises ConfigError."""
        market = spot_market(self.exchange_id, symbol, self._markets or {})
        limit = self._exchange.feature_value(symbol, "fetchOHLCV", "limit", _PAGE)
        if isinstance(limit, int) and limit > _SMALLEST_PAGE:
            self.page = min(self.page, limit)
        return instrument_of(symbol, market, self._exchange.precisionMode)

    async def rows(self, symbol: str, since_ms: int | None, limit: int) -> list[Row]:
        """Return candles as the venue has them, oldest first; the last one may still be forming."""
        rows = await self._ask(lambda: self._exchange.fetch_ohlcv(symbol, self._timeframe, since_ms, limit))
        # ccxt makes rows of None, or of single letters, out of a broken body with status 200.
        if not isinstance(rows, list) or (rows and not any(is_positive(row[0]) and row[0] > _DAY_MS for row in rows)):
            raise TransientError(f"{self.exchange_id} answered with something that is no candles of {symbol}")
        return [list(row) for row in rows]

    async def now_ms(self) -> int | None:
        """Return the venue's clock, None when it does not tell."""
        if not self._exchange.has.get("fetchTime"):
            return None
        now = await self._ask(self._exchange.fetch_time)
        return int(now) if isinstance(now, int | float) else None

    async def price(self, symbol: str) -> float | None:
        """Return what the symbol trades at now, None when the venue does not tell."""
        if not self._exchange.has.get("fetchTicker"):
            return None
        ticker = await self._ask(lambda: self._exchange.fetch_ticker(symbol))
        price = ticker.get("last") if isinstance(ticker, Mapping) else None
        return float(price) if is_positive(price) else None

    async def watch_candles(self, symbol: str, timeout_s: float) -> list[Row]:
        """Return copies of the rows that changed; ccxt goes on changing its own. Raises TimeoutError."""
        watching = asyncio.ensure_future(
            self._watch(lambda: self._exchange.watch_ohlcv(symbol, self._timeframe), timeout_s)
        )
        try:
            # A frame that came between two calls woke nobody, and ccxt would tell of it with the next one only. Once
            # the next call waits, whatever the cache holds beyond the last answer is such a frame.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            is_missed = symbol in self._heard and repr(self._newest(symbol)) != self._heard[symbol]
            rows = [] if is_missed and not watching.done() else [list(row) for row in await watching or ()]
        finally:
            watching.cancel()
        newest = self._newest(symbol)
        self._heard[symbol] = repr(newest)  # text, because NaN is not equal to itself
        return rows + newest

    def _newest(self, symbol: str) -> list[Row]:
        cache = (self._exchange.ohlcvs.get(symbol) or {}).get(self._timeframe) or ()
        return [list(cache[index]) for index in range(-min(2, len(cache)), 0)]

    async def watch_trades(self, symbol: str, timeout_s: float) -> list[Mapping[str, Any]]:
        """Return the trades since the last call. Raises TimeoutError."""
        trades = await self._watch(lambda: self._exchange.watch_trades(symbol), timeout_s)
        return [dict(trade) for trade in trades or ()]

    async def _watch(self, call: Callable[[], Awaitable[Any]], timeout_s: float) -> Any:  # noqa: ANN401  # ccxt's own
        try:
            return await self._within(timeout_s, self._translated(call))
        except asyncio.CancelledError:
            # Closing a client cancels whoever waits on it; being cancelled ourselves looks the same but for this.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise TransientError("the connection was closed") from None

    async def _within(self, timeout_s: float, call: Coroutine[Any, Any, _T]) -> _T:
        # asyncio.wait_for by the clock that everything else goes by.
        work, timer = asyncio.ensure_future(call), asyncio.ensure_future(self._clock.sleep_s(timeout_s))
        try:
            await asyncio.wait((work, timer), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise TimeoutError
            return work.result()
        finally:
            work.cancel()
            timer.cancel()

    async def _ask(self, call: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401  # ccxt's own
        if (wait_s := self._quiet_until_s - self._clock.monotonic_s()) > 0.0:
            # At once, or the stream could not stand in meanwhile.
            raise TransientError(f"{self.exchange_id} asked not to be asked for another {wait_s:.0f} s")
        return await self._translated(call)

    async def _translated(self, call: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401  # ccxt's own
        ccxt = self._ccxt
        try:
            with contextlib.nullcontext() if self._budget is None else self._budget.purpose(Purpose.PUBLIC):
                return await call()
        except (ccxt.DDoSProtection, ccxt.RateLimitExceeded) as error:
            wait_s = self._retry_after_s()
            self._quiet_until_s = self._clock.monotonic_s() + wait_s
            if self._budget is not None:
                self._budget.quiet(wait_s)
            raise TransientError(self._explain(error)) from None
        except (ccxt.AuthenticationError, ccxt.BadSymbol, ccxt.NotSupported) as error:
            raise ConfigError(f"[exchange] {self.exchange_id}: {self._explain(error)}") from None
        except (ccxt.BaseError, OSError, TypeError, ValueError, AttributeError, LookupError) as error:
            # Not only ccxt's own: a broken body with status 200 makes its parsers stumble.
            raise TransientError(self._explain(error)) from None

    def _retry_after_s(self) -> float:
        headers = self._exchange.last_response_headers or {}
        value = str({str(key).lower(): text for key, text in headers.items()}.get("retry-after", ""))
        return min(3_600.0, float(value)) if re.fullmatch(r"[0-9]{1,9}", value) else 0.0

    def _explain(self, error: BaseException) -> str:
        """Return class and a short text: no query strings, which hold signatures, and no secrets."""
        text = re.sub(r"\?[^\s\"']*", "", str(error))
        return f"{type(error).__name__}: {self._redactor.text(text)[:160]}"

    async def drop(self, words: Sequence[str] = ()) -> None:
        """Close the sockets whose subscriptions are called by one of `words`, so that the next watch_* subscribes anew.

        Without words, or where the names of the subscriptions say nothing, all are closed. ccxt notices neither a
        reader that died of an unreadable frame nor a subscription that was refused.
        """
        if self._exchange is None:
            return
        await drop_sockets(
            self._exchange,
            lambda client: not words or _carries(client, words) or not _carries(client, _SUBSCRIPTIONS),
        )

    async def close(self) -> None:
        """Close all connections; idempotent."""
        if self._exchange is not None:
            await self.drop()
            exchange, self._exchange, self._markets = self._exchange, None, None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(exchange.close(), CLOSE_S)


def _carries(client: Any, words: Sequence[str]) -> bool:  # noqa: ANN401  # ccxt has no types worth the name
    return any(word in str(name).lower() for name in client.subscriptions for word in words)
