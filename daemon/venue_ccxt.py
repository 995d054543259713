"""One account at a real exchange through ccxt.pro, as `daemon.venue.Venue`: every call ends in what it proves.

Owns the calls; `venue_wire.py` sees what left, `venue_errors.py` says what an answer means, `venue_records.py` what is
in it, `venue_stream.py` keeps the user-data stream, and `venue_dialects.py` holds what differs between exchanges.
Never sends an order twice, never asks an endless question, and lets no other exceptions out than the seam documents.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar

import structlog

from daemon.errors import ConfigError, TransientError
from daemon.ports import Clock
from daemon.rate_budget import Purpose, RateBudget
from daemon.redact import Redactor
from daemon.retry import Backoff, Uniform
from daemon.venue import (
    Balance,
    BalanceChanged,
    Market,
    NotSent,
    Permissions,
    Quote,
    RefusalKind,
    Request,
    RequestKind,
    VenueEvent,
    VenueOrder,
    VenueRefused,
    VenueTrade,
)
from daemon.venue_calls import Calls
from daemon.venue_dialects import Paging, dialect_of
from daemon.venue_errors import Absent, Evidence, OffGrid, Unusable
from daemon.venue_ids import ClientIds
from daemon.venue_import import only_exchange
from daemon.venue_records import balances_of, fees_of, market_of, order_of, placed_of, quote_of, trade_of
from daemon.venue_settings import (
    enter_sandbox,
    near_matches,
    refuse_half_redirected,
    refuse_left_over,
    refuse_sandbox_overrides,
    refuse_unsafe_options,
    spot_market,
    with_defaults,
)
from daemon.venue_stream import WATCHES, UserStream
from daemon.venue_trades import pages_of_trades
from strategy.order import Side

_T = TypeVar("_T")
_log = structlog.get_logger()
_KEEP_ALIVE_MS = 10_000
_CLOSE_S = 0.8  # per step; a dead peer would hold a close for 10 s
_STREAM_BASE_S = 0.5
_STREAM_CAP_S = 30.0
_TYPES: Mapping[RequestKind, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    {
        RequestKind.MARKET: ("market", {}),
        RequestKind.LIMIT_IOC: ("limit", {"timeInForce": "IOC"}),
        RequestKind.POST_ONLY: ("limit", {"postOnly": True}),
    }
)


class CcxtVenue:
    """`daemon.venue.Venue` over one exchange of ccxt.

    exchange_id: ccxt's name.  ccxt_options: passed to ccxt's constructor as they are.  credentials: ccxt's names
    (apiKey, secret, password ...) and their values.  instance: name of the daemon, which its order ids bear.
    budget: what every request is taken from.  generator: seeded, for the jitter of pauses.  sandbox: trade at the
    exchange's test venue.  extra_coins: coins beside those traded whose balance matters too (fees are paid in them).
    Raises ConfigError for settings that cannot work, as far as they can be told without the venue.
    """

    def __init__(
        self,
        *,
        exchange_id: str,
        ccxt_options: Mapping[str, Any],
        symbols: Sequence[str],
        credentials: Mapping[str, str],
        instance: str,
        clock: Clock,
        budget: RateBudget,
        generator: Uniform,
        sandbox: bool = False,
        extra_coins: Iterable[str] = (),
    ) -> None:
        options = {**ccxt_options, **credentials}
        refuse_unsafe_options(options)
        refuse_half_redirected(exchange_id, options)
        if sandbox:
            refuse_sandbox_overrides(options)
        self.exchange_id = exchange_id
        self._options = options
        self._sandbox = sandbox
        self._symbols = tuple(symbols)
        self._coins = frozenset(coin for symbol in symbols for coin in symbol.split("/")) | frozenset(extra_coins)
        self._clock = clock
        self._budget = budget
        self._generator = generator
        self._dialect = dialect_of(exchange_id)
        self._ids = ClientIds(instance=instance, symbols=symbols, style=self._dialect.id_style)
        self._redactor = Redactor(value for value in credentials.values() if value)
        self.abilities = self._dialect.abilities(has_user_stream=True)
        self._calls = Calls(exchange_id=exchange_id, dialect=self._dialect, budget=budget, redactor=self._redactor)
        self._markets: dict[str, Market] = {}
        self._closed = asyncio.Event()
        self._streams: set[asyncio.Future[None]] = set()

    def remember(self, client_id: str) -> None:
        """Hear of an order in the books, so that it is known by name where the venue shows another id."""
        self._ids.to_venue(client_id)

    # ---- life -----------------------------------------------------------------------------------------------------
    async def open(self) -> None:
        """Load markets, set the clock offset; does nothing when that is done.

        Raises ConfigError for an exchange, symbol or setting that cannot work, TransientError, Unauthorised.
        """
        if self._calls.exchange is None:
            self._calls.attach(self._build())
        if not self._markets:
            listed = await self._calls.read("markets", lambda exchange: exchange.load_markets(), _as_it_is)
            if not isinstance(listed, Mapping) or not listed:
                raise TransientError(f"{self.exchange_id} lists no markets")
            self._markets = {symbol: self._market(symbol, listed) for symbol in self._symbols}
            self._judge(listed)
        await self._calls.set_clock()

    def _build(self) -> Any:  # noqa: ANN401  # ccxt's own
        with only_exchange(self.exchange_id):
            import ccxt.pro  # type: ignore[import-untyped]  # noqa: PLC0415  # see feed_ccxt.py

        for name in ("ccxt", "ccxt.base.exchange"):
            logging.getLogger(name).setLevel(logging.INFO)  # at DEBUG it writes headers with the API key
        if self.exchange_id not in ccxt.pro.exchanges:
            near = near_matches(self.exchange_id, ccxt.pro.exchanges)
            raise ConfigError(f"[exchange] id: ccxt does not know {self.exchange_id!r}{near}")
        options = with_defaults(self.exchange_id, self._options)
        options["options"] = {**self._dialect.options, **options["options"]}
        options["streaming"] = {"keepAlive": _KEEP_ALIVE_MS, **self._options.get("streaming", {})}
        exchange = getattr(ccxt.pro, self.exchange_id)(options)
        exchange.milliseconds = self._clock.now_ms  # one source of time, also for what is signed
        if self._dialect.counts_up:
            exchange.nonce = _rising(exchange.nonce)
        if self._sandbox:
            enter_sandbox(self.exchange_id, exchange)
        else:
            refuse_left_over(self.exchange_id, self._options, exchange.urls.get("api"))
        if missing := [
            name for name, needed in exchange.requiredCredentials.items() if needed and not getattr(exchange, name, "")
        ]:
            raise ConfigError(f"[exchange] credentials: {self.exchange_id} needs {', '.join(missing)} too")
        return exchange

    def _market(self, symbol: str, listed: Mapping[str, Any]) -> Market:
        found = spot_market(self.exchange_id, symbol, listed, may_be_halted=True)
        known = self._markets.get(symbol)
        fees = (None, None) if known is None else (known.maker, known.taker)
        return market_of(symbol, found, self._calls.exchange.precisionMode, fees)

    def _judge(self, listed: Mapping[str, Any]) -> None:
        self.abilities = self._dialect.abilities(
            has_user_stream=self._calls.has("watch_orders"),
            markets=tuple(listed[symbol] for symbol in self._symbols),
        )

    async def close(self) -> None:
        """Release connections within two seconds; idempotent."""
        self._closed.set()
        for stream in self._streams:
            stream.cancel()
        if self._streams:
            await asyncio.wait(self._streams, timeout=_CLOSE_S)
        if self._calls.exchange is not None:
            exchange, self._calls.exchange = self._calls.exchange, None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(exchange.close(), _CLOSE_S)

    # ---- what may change something ----------------------------------------------------------------------------------
    async def create(self, request: Request) -> VenueOrder:
        """Place an order, once: at most one request leaves. Raises VenueRefused, NotSent, UnknownOutcome."""
        what = f"{request.client_id}: {request.kind} {request.side} {request.quantity} {request.symbol}"
        kind, price, params = self._shape(request, what)
        purpose = Purpose.ENTRY if request.side is Side.BUY else Purpose.EXIT

        async def place(exchange: Any) -> Any:  # noqa: ANN401  # ccxt's own
            _refuse_off_grid(exchange, request)
            return await exchange.create_order(
                request.symbol, kind, request.side.value, request.quantity, price, params
            )

        return await self._calls.change(
            what,
            purpose,
            place,
            lambda raw: placed_of(raw, request, self._ids, now_ms=self._clock.now_ms()),
        )

    def _shape(self, request: Request, what: str) -> tuple[str, float | None, dict[str, Any]]:
        """Return ccxt's type, price and parameters of a request."""
        params: dict[str, Any] = {"clientOrderId": self._ids.to_venue(request.client_id)}
        if request.kind is RequestKind.STOP:
            if not self.abilities.has_stop:
                raise VenueRefused(f"{what}: refused: no stops are placed at {self.exchange_id}", RefusalKind.OTHER)
            params["stopLossPrice"] = request.stop_price
            return ("market" if request.limit_price is None else "limit"), request.limit_price, params
        kind, more = _TYPES[request.kind]
        params.update(more)
        if kind == "limit":
            return kind, request.limit_price, params
        if request.side is Side.BUY:
            if self._dialect.market_buy is None:
                raise VenueRefused(
                    f"{what}: refused: whether {self.exchange_id} takes the amount of a market purchase as base or as "
                    'quote is not known; set [live] order = "limit"',
                    RefusalKind.OTHER,
                )
            params.update(self._dialect.market_buy)
        # No price: with one, Binance takes a market order's amount times that price as what to spend.
        return kind, None, params

    async def cancel(self, symbol: str, client_id: str, venue_id: str = "") -> None:
        """Ask the venue to end an order.

        Raises VenueRefused when there is nothing (any more) to cancel, NotSent, UnknownOutcome.
        """
        what = f"cancel {client_id} in {symbol}"
        if not self._dialect.cancels_by_client_id:
            venue_id = venue_id or self._ids.name_of(client_id)
        by_client_id = self._dialect.cancels_by_client_id and not venue_id
        if not venue_id and not by_client_id:
            found = await self._find_to_cancel(symbol, client_id, what)
            venue_id = found.venue_id
        params = {"clientOrderId": self._ids.to_venue(client_id)} if by_client_id else {}
        await self._calls.change(
            what,
            Purpose.EXIT,
            lambda exchange: exchange.cancel_order(venue_id or None, symbol, params),
            _answered,
        )

    async def _find_to_cancel(self, symbol: str, client_id: str, what: str) -> VenueOrder:
        try:
            found = await self.find(symbol, client_id)
        except TransientError as error:
            raise NotSent(f"{what}: not sent, its name at the venue is not known: {error}") from error
        if found is None:
            raise VenueRefused(f"{what}: refused: the venue shows no such order", RefusalKind.OTHER)
        return found

    async def arm_dead_man(self, seconds: float) -> None:
        """Let the venue cancel everything in `seconds` unless told again; 0 disarms.

        Raises VenueRefused where there is no such switch, NotSent, UnknownOutcome.
        """
        what = f"dead-man switch of {seconds:.0f} s"
        if not self.abilities.has_dead_man:
            raise VenueRefused(f"{what}: refused: this venue has none", RefusalKind.OTHER)
        await self._calls.change(
            what,
            Purpose.EXIT,
            lambda exchange: exchange.cancel_all_orders_after(round(seconds * 1_000.0)),
            _answered,
        )

    # ---- what only reads ------------------------------------------------------------------------------------------
    async def markets(self, *, refresh: bool = False) -> Mapping[str, Market]:
        """Return what is allowed per traded symbol; refresh: ask the venue again, for our fee rates too.

        A symbol that the venue lists no more is shown as inactive. Raises TransientError, Unauthorised.
        """
        if refresh:
            await self._refresh()
        return dict(self._markets)

    async def _refresh(self) -> None:
        listed = await self._calls.read("markets", lambda exchange: exchange.fetch_markets(), _as_it_is)
        rows = {str(row.get("symbol")): row for row in listed or () if isinstance(row, Mapping)}
        if not rows.keys() & set(self._symbols):
            # ccxt makes an empty list of a broken body, and with it would forget every market.
            raise TransientError(f"{self.exchange_id} lists none of {', '.join(self._symbols)}")
        self._calls.exchange.set_markets(list(listed))
        fees = dict(zip(self._symbols, await asyncio.gather(*map(self._fees, self._symbols)), strict=True))
        for symbol in self._symbols:
            self._markets[symbol] = self._renewed(symbol, fees[symbol])

    def _renewed(self, symbol: str, fees: tuple[float | None, float | None]) -> Market:
        try:
            market = self._market(symbol, self._calls.exchange.markets)
        except ConfigError as error:
            _log.warning("market_unusable", symbol=symbol, reason=str(error))
            return replace(self._markets[symbol], is_active=False)
        return market if fees == (None, None) else replace(market, maker=fees[0], taker=fees[1])

    async def _fees(self, symbol: str) -> tuple[float | None, float | None]:
        if not self._calls.has("fetch_trading_fee"):
            return None, None
        try:
            return await self._calls.read(
                f"fees of {symbol}", lambda exchange: exchange.fetch_trading_fee(symbol), fees_of
            )
        except TransientError as error:
            _log.warning("fees_unknown", symbol=symbol, reason=str(error))
            return None, None

    async def find(self, symbol: str, client_id: str, venue_id: str = "") -> VenueOrder | None:
        """Return the order as it is now; None when the venue says it knows none.

        Raises TransientError, Unauthorised.
        """
        text = self._ids.to_venue(client_id)
        what = f"order {client_id} in {symbol}"
        if not self._dialect.finds_by_client_id:
            venue_id = venue_id or self._ids.name_of(client_id)  # one question instead of whole lists
        if venue_id or self._dialect.finds_by_client_id:
            params = {} if venue_id else {"clientOrderId": text}
            try:
                return await self._calls.read(
                    what,
                    lambda exchange: exchange.fetch_order(venue_id or None, symbol, params),
                    lambda raw: self._expected(order_of(raw, self._ids, symbol=symbol), client_id),
                )
            except Absent:
                return None
        for listing in ("fetch_open_orders", "fetch_closed_orders", "fetch_canceled_orders"):
            for order in await self._listed(what, listing, symbol, {"clientOrderId": text}):
                if order.client_id == client_id:
                    return order
        return None

    def _expected(self, order: VenueOrder, client_id: str) -> VenueOrder:
        if order.client_id != client_id:
            raise Unusable(f"order {order.client_id or order.foreign_id!r} when {client_id} was asked for")
        return order

    async def open_orders(self) -> Sequence[VenueOrder]:
        """Return every open order of the account in the traded symbols, anybody's.

        Raises TransientError, Unauthorised.
        """
        found = []
        for symbol in self._symbols:
            what = f"open orders in {symbol}"
            found += await self._listed(what, "fetch_open_orders", symbol, {})
        return found

    async def _listed(self, what: str, listing: str, symbol: str, params: Mapping[str, Any]) -> list[VenueOrder]:
        """Return the orders of one of ccxt's lists; [] where the exchange has no such list."""
        if not self._calls.has(listing):
            return []
        return await self._calls.read(
            what,
            lambda exchange: getattr(exchange, listing)(symbol, None, None, dict(params)),
            lambda raw: list(self._orders(raw, symbol)),
            is_list=True,
        )

    def _orders(self, raw: Any, symbol: str) -> Iterator[VenueOrder]:  # noqa: ANN401  # ccxt's own
        for row in raw:
            try:
                yield order_of(row, self._ids, symbol=symbol)
            except Unusable as error:
                if not isinstance(row, Mapping) or self._ids.is_ours(str(row.get("clientOrderId") or "")):
                    raise
                _log.warning("foreign_order_unreadable", symbol=symbol, reason=str(error))

    async def trades(self, symbol: str, since_ms: int) -> Sequence[VenueTrade]:
        """Return the account's trades from `since_ms` on, oldest first, all pages of them.

        Raises TransientError, Unauthorised.
        """
        what = f"trades in {symbol}"

        async def page(since: int | None, params: Mapping[str, Any]) -> list[VenueTrade]:
            limit = self._dialect.page if self._dialect.paging is Paging.IDS else None
            return await self._calls.read(
                what,
                lambda exchange: exchange.fetch_my_trades(symbol, since, limit, dict(params)),
                lambda raw: [trade_of(row, self._ids, symbol=symbol) for row in raw],
                is_list=True,
            )

        return await pages_of_trades(
            page, self._dialect.paging, since_ms=since_ms, now_ms=self._clock.now_ms(), full=self._dialect.page
        )

    async def balances(self) -> Mapping[str, Balance]:
        """Return the account by coin; a coin that is missing is held to nothing.

        Raises TransientError, Unauthorised.
        """
        return await self._calls.read(
            "balances",
            lambda exchange: exchange.fetch_balance(),
            lambda raw: balances_of(raw, self._coins),
        )

    async def quote(self, symbol: str) -> Quote:
        """Return the best prices now, also of a symbol that is not traded. Raises TransientError, Unauthorised."""
        return await self._calls.read(f"prices of {symbol}", lambda exchange: exchange.fetch_ticker(symbol), quote_of)

    async def clock_offset_ms(self) -> float | None:
        """Return the venue's clock less ours, halfway through the request; None when it does not tell."""
        if not self._calls.has("fetch_time"):
            return None
        return await self._calls.offset_ms()

    async def permissions(self) -> Permissions:
        """Return what the key may do, None where the venue does not tell. Raises TransientError, Unauthorised."""
        name = self._dialect.permission_call
        if not name or self._sandbox:  # test venues have no such call
            return Permissions(may_trade=None, may_withdraw=None)
        return await self._calls.read(
            "permissions of the key",
            lambda exchange: getattr(exchange, name)(),
            self._dialect.permissions,
        )

    # ---- what it tells unasked ------------------------------------------------------------------------------------
    async def events(self) -> AsyncIterator[VenueEvent]:
        """Yield what the user-data stream says until closed; nothing where the venue has none. Reconnects by itself."""
        news: asyncio.Queue[VenueEvent | None] = asyncio.Queue()
        closing = asyncio.ensure_future(self._closed.wait())
        closing.add_done_callback(lambda _: news.put_nowait(None))
        stream = asyncio.ensure_future(self._stream(news.put_nowait))
        stream.add_done_callback(lambda _: news.put_nowait(None))
        self._streams.add(stream)
        try:
            while (event := await news.get()) is not None:
                yield event
            if stream.done() and not stream.cancelled():
                stream.result()
        finally:
            closing.cancel()
            stream.cancel()
            await asyncio.wait([stream])
            self._streams.discard(stream)

    async def _stream(self, emit: Callable[[VenueEvent], None]) -> None:
        watches = [watch for watch in WATCHES if self._calls.has(watch)]
        if self._calls.exchange is None or not self.abilities.has_user_stream:
            await self._closed.wait()
            return
        rows = self._dialect.stream_rows()
        stream = UserStream(
            self._calls.exchange,
            watches=watches,
            clock=self._clock,
            backoff=Backoff(base_s=_STREAM_BASE_S, cap_s=_STREAM_CAP_S, generator=self._generator),
            read=lambda row, is_order: self._heard(rows(row), is_order=is_order),
            explain=lambda error: self._calls.said(error, Evidence()),
            emit=emit,
        )
        with self._budget.purpose(Purpose.QUERY):
            await stream.run()

    def _heard(self, row: Mapping[str, Any], *, is_order: bool) -> Iterator[VenueEvent]:
        """Yield the event of an order or a trade in a traded symbol; what cannot be read is left for REST to tell."""
        if row.get("symbol") not in self._symbols:
            return
        try:
            yield order_of(row, self._ids) if is_order else trade_of(row, self._ids, needs_fee=True)
        except Unusable as error:
            _log.warning("user_event_unreadable", symbol=row.get("symbol"), reason=self._redactor.text(str(error)))
            yield BalanceChanged()


def _refuse_off_grid(exchange: Any, request: Request) -> None:  # noqa: ANN401  # ccxt's own
    """Raise OffGrid where ccxt would cut a number down, and so send another one than stands in the journal."""
    rounded = {"quantity": (request.quantity, exchange.amount_to_precision)}
    for name, value in (("limit price", request.limit_price), ("stop price", request.stop_price)):
        if value is not None:
            rounded[name] = (value, exchange.price_to_precision)
    for name, (value, cut) in rounded.items():
        if float(cut(request.symbol, value)) != value:
            raise OffGrid(f"{name} {value} is not on the venue's grid, where it would be {cut(request.symbol, value)}")


def _rising(number: Callable[[], float]) -> Callable[[], float]:
    """Return `number`, made to rise with every call: ccxt takes the time, and two requests may share a millisecond."""
    last = 0.0

    def rise() -> float:
        nonlocal last
        last = max(last + 1, number())
        return last

    return rise


def _as_it_is(raw: _T) -> _T:
    return raw


def _answered(_raw: object) -> None:
    """Take any answer for one: whether the order is gone is for `find` to say."""
