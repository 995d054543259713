"""An exchange in memory: balances, matching, stops, fees, filters, user events and scripted faults. Deterministic.

It implements `daemon.venue.Venue` for one account. Brokers come and go over the same one, as processes do over an
exchange. Like real ones it takes a client id again once the order that bore it is over.
"""

import asyncio
import math
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from daemon import crash_points
from daemon.errors import TransientError, UnknownOutcome
from daemon.ports import Clock
from daemon.venue import (
    Abilities,
    Balance,
    BalanceChanged,
    Market,
    NotSent,
    Permissions,
    Quote,
    RefusalKind,
    Request,
    RequestKind,
    StreamStatus,
    Unauthorised,
    VenueEvent,
    VenueOrder,
    VenueRefused,
    VenueState,
    VenueTrade,
)
from strategy.order import Side

FULL = Abilities(has_stop=True, has_market_stop=True, stop_binds_funds=True, has_user_stream=True, has_dead_man=False)
_DUST = 1e-12


class Fault(StrEnum):
    """What goes wrong with one call."""

    DROP_REQUEST = "drop_request"
    """It never arrives, and nobody can tell."""
    DROP_REPLY = "drop_reply"
    """It is carried out; the answer is lost."""
    CUT = "cut"
    """As DROP_REPLY, and from then on nothing reaches the venue."""
    NOT_SENT = "not_sent"
    UNREACHABLE = "unreachable"
    """Reading: no usable answer."""
    UNAUTHORISED = "unauthorised"
    FILL_FIRST = "fill_first"
    """Before it is carried out, what rests fills: the race of a cancel."""


@dataclass(slots=True)
class Book:
    """The market of one symbol: what is bid and offered, and how much of it (base)."""

    bid: float
    ask: float
    depth: float = math.inf


@dataclass(slots=True)
class _Resting:
    """An order the venue knows, open or over."""

    order: VenueOrder
    request: Request
    is_foreign: bool = False
    hidden: int = 0

    @property
    def left(self) -> float:
        return self.order.quantity - self.order.filled


@dataclass(slots=True)
class FakeVenue:
    """One account at one exchange.

    holds: totals by coin.  books: the market per symbol.  fee_coin: "" pays fees as exchanges do, a purchase in base
    and a sale in quote; "quote" always in quote; else a third coin.  log: every order ever taken.  faults: what goes
    wrong with the next calls, by the name of the call.  is_reachable: False fails every call.
    is_severed: whoever asks is dead, and gets nowhere.  mute: events are kept
    back.  show_trades: False keeps trades a secret.  hide_next: the next order is denied so many times.
    dearest: the most (quote) that a purchase, filled whole, could have brought a position to.
    """

    clock: Clock
    markets_now: dict[str, Market]
    books: dict[str, Book]
    holds: dict[str, float]
    abilities: Abilities = FULL
    fee_rate: float = 0.001
    fee_coin: str = "quote"
    fee_price: float = 10.0
    is_reachable: bool = True
    mute: bool = False
    duplicates: int = 1
    show_trades: bool = True
    hide_next: int = 0
    log: list[_Resting] = field(default_factory=list)
    all_trades: list[VenueTrade] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    faults: dict[str, deque[Fault | RefusalKind]] = field(default_factory=lambda: defaultdict(deque))
    armed_s: list[float] = field(default_factory=list)
    withheld: list[VenueEvent] = field(default_factory=list)
    is_severed: bool = False
    dearest: float = 0.0
    _streams: list[asyncio.Queue[VenueEvent]] = field(default_factory=list)
    is_closed: bool = False

    # ---- what a test does ---------------------------------------------------------------------------------------
    def fail(self, call: str, *faults: Fault | RefusalKind) -> None:
        """Let the next calls go wrong, one after the other."""
        self.faults[call].extend(faults)

    def move(self, symbol: str, bid: float, ask: float | None = None) -> None:
        """Move the market: stops trigger, resting orders fill."""
        book = self.books[symbol]
        book.bid, book.ask = bid, ask or bid
        for resting in self.resting(symbol):
            self._match(resting)

    def resting(self, symbol: str = "", *, stops: bool | None = None) -> list[_Resting]:
        """Return open orders, ours and foreign."""
        return [
            r
            for r in self.log
            if r.order.state is VenueState.OPEN and symbol in {"", r.order.symbol} and stops in {None, r.order.is_stop}
        ]

    def fill(self, client_id: str, quantity: float, price: float | None = None) -> None:
        """Let a resting order trade."""
        resting = next(r for r in self.resting() if r.order.client_id == client_id)
        limit = resting.request.limit_price or resting.request.stop_price or 0.0
        self._trade(resting, min(quantity, resting.left), price or limit, maker=True)

    def end(self, client_id: str, state: VenueState = VenueState.CANCELLED) -> None:
        """Let the venue end a resting order by itself."""
        self._end(next(r for r in self.resting() if r.order.client_id == client_id), state)

    def orders_of(self, client_id: str) -> list[VenueOrder]:
        """Return every order that was ever taken under a client id."""
        return [r.order for r in self.log if r.request.client_id == client_id]

    def stranger(self, symbol: str, side: Side, quantity: float, limit: float) -> None:
        """Place an order of somebody else who uses the same account."""
        request = Request(
            client_id="web-1",
            symbol=symbol,
            side=side,
            quantity=quantity,
            kind=RequestKind.POST_ONLY,
            limit_price=limit,
        )
        self._take(request, is_foreign=True)

    def speak(self, *events: VenueEvent) -> None:
        """Send events over the user stream, as often as `duplicates` says; kept back while muted."""
        for event in events:
            if self.mute:
                self.withheld.append(event)
                continue
            for stream in self._streams:
                for _ in range(self.duplicates):
                    stream.put_nowait(event)

    def catch_up(self, *, backwards: bool = False) -> None:
        """Send what was kept back, in order or the other way round."""
        self.mute = False
        late, self.withheld = self.withheld, []
        self.speak(*(reversed(late) if backwards else late))

    # ---- the venue ----------------------------------------------------------------------------------------------
    async def open(self) -> None:
        self._begin("open")

    async def markets(self, *, refresh: bool = False) -> Mapping[str, Market]:
        if refresh:
            self._begin("markets")
        return dict(self.markets_now)

    async def create(self, request: Request) -> VenueOrder:
        fault = self._begin("create", request.client_id)
        if fault is Fault.DROP_REQUEST:
            crash_points.at("sent")
            raise UnknownOutcome("no answer in time")
        taken = self._take(request)
        crash_points.at("sent")
        await asyncio.sleep(0)
        if fault is Fault.CUT:
            self.is_reachable = False
        if fault in {Fault.DROP_REPLY, Fault.CUT}:
            raise UnknownOutcome("no answer in time")
        return taken.order

    async def cancel(self, symbol: str, client_id: str, venue_id: str = "") -> None:
        fault = self._begin("cancel", client_id)
        resting = next((r for r in self.resting(symbol) if r.order.client_id == client_id), None)
        if fault is Fault.DROP_REQUEST:
            raise UnknownOutcome("no answer in time")
        if fault is Fault.FILL_FIRST and resting is not None:
            price = resting.request.limit_price or self.books[symbol].bid
            self._trade(resting, resting.left, price, maker=False)
            resting = None
        if resting is None:
            raise VenueRefused("nothing to cancel", RefusalKind.OTHER)
        self._end(resting, VenueState.CANCELLED)
        await asyncio.sleep(0)
        if fault is Fault.DROP_REPLY:
            raise UnknownOutcome("no answer in time")

    async def find(self, symbol: str, client_id: str, venue_id: str = "") -> VenueOrder | None:
        self._begin("find", client_id)
        await asyncio.sleep(0)
        found = None
        for resting in self.log:
            if client_id == resting.order.client_id and venue_id in {"", resting.order.venue_id}:
                found = resting
        if found is None:
            return None
        if found.hidden > 0:
            found.hidden -= 1
            return None
        return found.order

    async def open_orders(self) -> Sequence[VenueOrder]:
        self._begin("open_orders")
        await asyncio.sleep(0)
        shown = [r.order for r in self.resting() if r.hidden <= 0]
        for resting in self.resting():
            resting.hidden = max(resting.hidden - 1, 0)
        return shown

    async def trades(self, symbol: str, since_ms: int) -> Sequence[VenueTrade]:
        self._begin("trades", symbol)
        await asyncio.sleep(0)
        seen = [t for t in self.all_trades if t.symbol == symbol and t.at_ms >= since_ms]
        return [replace(t, client_id="") for t in seen] if self.show_trades else []

    async def balances(self) -> Mapping[str, Balance]:
        self._begin("balances")
        await asyncio.sleep(0)
        bound = self._bound()
        return {coin: Balance(free=total - bound[coin], used=bound[coin]) for coin, total in self.holds.items()}

    async def quote(self, symbol: str) -> Quote:
        self._begin("quote", symbol)
        await asyncio.sleep(0)
        if symbol in self.books:
            book = self.books[symbol]
            return Quote(bid=book.bid, ask=book.ask, last=(book.bid + book.ask) / 2.0)
        if self.fee_coin and symbol.startswith(f"{self.fee_coin}/"):
            return Quote(bid=self.fee_price, ask=self.fee_price, last=self.fee_price)
        raise TransientError(f"no market {symbol}")

    async def clock_offset_ms(self) -> float | None:
        self._begin("clock_offset_ms")
        return 0.0

    async def permissions(self) -> Permissions:
        self._begin("permissions")
        return Permissions(may_trade=True, may_withdraw=False)

    async def arm_dead_man(self, seconds: float) -> None:
        self._begin("arm_dead_man")
        self.armed_s.append(seconds)

    def events(self) -> AsyncIterator[VenueEvent]:
        stream: asyncio.Queue[VenueEvent] = asyncio.Queue()
        self._streams.append(stream)
        return self._events(stream)

    async def _events(self, stream: asyncio.Queue[VenueEvent]) -> AsyncIterator[VenueEvent]:
        yield StreamStatus(is_up=True)
        try:
            while True:
                yield await stream.get()
        finally:
            self._streams.remove(stream)

    async def close(self) -> None:
        self.is_closed = True

    # ---- faults -------------------------------------------------------------------------------------------------
    def _begin(self, call: str, about: str = "") -> Fault | RefusalKind | None:
        if self.is_severed:
            raise asyncio.CancelledError  # the process that asked is dead
        self.calls.append((call, about))
        fault = self.faults[call].popleft() if self.faults[call] else None
        if not self.is_reachable:
            fault = Fault.NOT_SENT if call in {"create", "cancel", "arm_dead_man"} else Fault.UNREACHABLE
        match fault:
            case RefusalKind():
                raise VenueRefused(f"refused: {fault}", fault)
            case Fault.UNAUTHORISED:
                raise Unauthorised("invalid key")
            case Fault.NOT_SENT:
                raise NotSent("connection refused")
            case Fault.UNREACHABLE:
                raise TransientError("no answer")
            case _:
                return fault

    # ---- matching -----------------------------------------------------------------------------------------------
    def _take(self, request: Request, *, is_foreign: bool = False) -> _Resting:
        self._check(request)
        if request.side is Side.BUY and not is_foreign:
            held = self.holds.get(self.markets_now[request.symbol].instrument.base, 0.0)
            self.dearest = max(self.dearest, (held + request.quantity) * self.books[request.symbol].ask)
        book, is_stop = self.books[request.symbol], request.kind is RequestKind.STOP
        resting = _Resting(
            order=VenueOrder(
                venue_id=f"v{len(self.log) + 1}",
                client_id="" if is_foreign else request.client_id,
                foreign_id=request.client_id,
                symbol=request.symbol,
                side=request.side,
                quantity=request.quantity,
                filled=0.0,
                state=VenueState.OPEN,
                at_ms=self.clock.now_ms(),
                is_stop=is_stop,
                price=request.limit_price,
                stop_price=request.stop_price,
            ),
            request=request,
            is_foreign=is_foreign,
            hidden=self.hide_next,
        )
        self.hide_next = 0
        self.log.append(resting)
        self.speak(resting.order)
        if request.kind in {RequestKind.MARKET, RequestKind.LIMIT_IOC}:
            price = book.ask if request.side is Side.BUY else book.bid
            if self._reaches(request, price):
                self._trade(resting, min(resting.left, book.depth), price, maker=False)
            if resting.order.state is VenueState.OPEN:
                self._end(resting, VenueState.EXPIRED)
        return resting

    def _check(self, request: Request) -> None:
        market, instrument = self.markets_now[request.symbol], self.markets_now[request.symbol].instrument
        book = self.books[request.symbol]
        if not market.is_active:
            raise VenueRefused("market is closed", RefusalKind.CLOSED)
        price = request.limit_price or request.stop_price or book.ask
        for value, floor in ((request.quantity, instrument.floor_quantity), (price, instrument.floor_price)):
            if request.kind is not RequestKind.MARKET and abs(floor(value) - value) > _DUST:
                raise VenueRefused(f"{value} is not on the grid", RefusalKind.FILTER)
        if request.quantity * price < instrument.min_notional or request.quantity < instrument.lot:
            raise VenueRefused("below the minimum", RefusalKind.FILTER)
        if any(r.order.client_id == request.client_id for r in self.resting()):
            raise VenueRefused("duplicate order sent", RefusalKind.OTHER)
        if request.kind is RequestKind.STOP and book.bid <= (request.stop_price or 0.0):
            raise VenueRefused("stop would trigger at once", RefusalKind.WOULD_TRADE)
        if request.kind is RequestKind.POST_ONLY and price >= book.ask and request.side is Side.BUY:
            raise VenueRefused("post-only would take", RefusalKind.WOULD_TRADE)
        coin = instrument.base if request.side is Side.SELL else instrument.quote
        need = request.quantity if request.side is Side.SELL else request.quantity * price
        if self.holds.get(coin, 0.0) - self._bound()[coin] < need - _DUST:
            raise VenueRefused(f"not enough {coin}", RefusalKind.FUNDS)

    def _bound(self) -> defaultdict[str, float]:
        bound: defaultdict[str, float] = defaultdict(float)
        for resting in self.resting():
            base, _, quote = resting.order.symbol.partition("/")
            if resting.order.is_stop and not self.abilities.stop_binds_funds:
                continue
            is_sale = resting.order.side is Side.SELL
            bound[base if is_sale else quote] += resting.left * (1.0 if is_sale else resting.request.limit_price or 0.0)
        return bound

    @staticmethod
    def _reaches(request: Request, price: float) -> bool:
        limit = request.limit_price
        return limit is None or (price <= limit if request.side is Side.BUY else price >= limit)

    def _match(self, resting: _Resting) -> None:
        request, book = resting.request, self.books[resting.order.symbol]
        if request.kind is RequestKind.STOP:
            if book.bid <= (request.stop_price or 0.0) and self._reaches(request, book.bid):
                self._trade(resting, min(resting.left, book.depth), book.bid, maker=False)
        elif request.side is Side.BUY and book.ask <= (request.limit_price or 0.0):
            self._trade(resting, min(resting.left, book.depth), request.limit_price or 0.0, maker=True)

    def _trade(self, resting: _Resting, quantity: float, price: float, *, maker: bool) -> None:
        order = resting.order
        base, _, quote = order.symbol.partition("/")
        if order.side is Side.SELL:
            quantity = min(quantity, self.holds.get(base, 0.0))
        if quantity <= _DUST:
            return
        coin, cost = self._fee(order.side, base, quote, quantity, price)
        self.holds[base] = self.holds.get(base, 0.0) + order.side.sign * quantity
        self.holds[quote] = self.holds.get(quote, 0.0) - order.side.sign * quantity * price
        self.holds[coin] = self.holds.get(coin, 0.0) - cost
        trade = VenueTrade(
            trade_id=f"t{len(self.all_trades) + 1}",
            venue_id=order.venue_id,
            client_id=order.client_id,
            symbol=order.symbol,
            side=order.side,
            quantity=quantity,
            price=price,
            fee_cost=cost,
            fee_coin=coin,
            at_ms=self.clock.now_ms(),
        )
        self.all_trades.append(trade)
        filled = order.filled + quantity
        notional = (order.average or 0.0) * order.filled + quantity * price
        is_whole = filled >= order.quantity - _DUST
        resting.order = replace(
            order,
            filled=order.quantity if is_whole else filled,
            average=notional / filled,
            state=VenueState.FILLED if is_whole else VenueState.OPEN,
            at_ms=self.clock.now_ms(),
        )
        shown = [trade] if self.show_trades else []
        self.speak(*shown, resting.order, BalanceChanged())

    def _fee(self, side: Side, base: str, quote: str, quantity: float, price: float) -> tuple[str, float]:
        if self.fee_coin not in {"", "quote"}:
            return self.fee_coin, self.fee_rate * quantity * price / self.fee_price
        if side is Side.BUY and not self.fee_coin:
            return base, self.fee_rate * quantity
        return quote, self.fee_rate * quantity * price

    def _end(self, resting: _Resting, state: VenueState) -> None:
        resting.order = replace(resting.order, state=state, at_ms=self.clock.now_ms())
        self.speak(resting.order, BalanceChanged())
