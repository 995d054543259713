"""The venue as live orders see it: what it can do, what it answers, and what an answer proves.

`venue_ccxt.py` implements `Venue`; order desk, protection and reconciliation know nothing else of an exchange. A call
that may change something at the venue ends in exactly one of four ways, and the type says which: it returns
(confirmed), VenueRefused (the venue proved that it did not take it), NotSent (we can prove that it never got there),
UnknownOutcome (anything else: look before doing anything). `Unauthorised` is a refusal that concerns the key.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from daemon.errors import SacdError, TransientError
from strategy.instrument import Instrument
from strategy.order import Side


# ---- what an answer proves --------------------------------------------------------------------------------------
class RefusalKind(StrEnum):
    """Why a venue refused; decides what is done next."""

    FUNDS = "funds"
    """Not enough of what would be paid: books and venue disagree."""
    FILTER = "filter"
    """Lot, tick, minimum value or price band: the steps we know are old."""
    WOULD_TRADE = "would_trade"
    """Post-only that would take, or a stop whose price is already passed."""
    CLOSED = "closed"
    """The market is halted, delisted or under maintenance."""
    OTHER = "other"


class VenueRefused(SacdError):
    """The venue answered, and said no: the order does not exist there and never did."""

    def __init__(self, message: str, kind: RefusalKind) -> None:
        super().__init__(message)
        self.kind = kind


class Unauthorised(VenueRefused):
    """The venue refuses the key itself: wrong, revoked, or without the permission. Nobody but a person can help."""

    def __init__(self, message: str) -> None:
        super().__init__(message, RefusalKind.OTHER)


class NotSent(TransientError):
    """The request provably never reached the venue's matching: refused connection, rate limit, clock, no budget."""


# ---- what is asked ----------------------------------------------------------------------------------------------
class RequestKind(StrEnum):
    """How an order is to reach the book."""

    MARKET = "market"
    LIMIT_IOC = "limit_ioc"
    """Takes what is there up to `limit_price`; the rest is cancelled at once."""
    POST_ONLY = "post_only"
    """Rests at `limit_price` and never takes."""
    STOP = "stop"
    """Rests until the price touches `stop_price`, then sells at market, or down to `limit_price` where the venue has
    no stop that sells at market."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An order as it leaves.

    client_id: ours (`strategy.order.client_order_id`); the adapter turns it into what the venue takes, and back.
    quantity: base, on the lot grid.  limit_price, stop_price: quote, on the tick grid.
    """

    client_id: str
    symbol: str
    side: Side
    quantity: float
    kind: RequestKind
    limit_price: float | None = None
    stop_price: float | None = None


# ---- what it answers --------------------------------------------------------------------------------------------
class VenueState(StrEnum):
    """Where an order is, as the venue says. All but OPEN are final."""

    OPEN = "open"
    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueOrder:
    """One order as the venue shows it. venue_id: its name there.  filled: base, so far.

    client_id: ours when it is one of those this process knows or bears our prefix; "" for anybody else's.
    foreign_id: the client id as the venue shows it, "" when there is none.  average: quote per base of what filled,
    None while nothing has.  at_ms: last change, the venue's time.
    """

    venue_id: str
    client_id: str
    symbol: str
    side: Side
    quantity: float
    filled: float
    state: VenueState
    at_ms: int
    is_stop: bool = False
    average: float | None = None
    price: float | None = None
    stop_price: float | None = None
    foreign_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueTrade:
    """One trade of the account. trade_id: unique per symbol at the venue.  fee_cost: in fee_coin, >= 0.

    client_id: "" where the venue does not say it; venue_id always names the order.
    """

    trade_id: str
    venue_id: str
    client_id: str
    symbol: str
    side: Side
    quantity: float
    price: float
    fee_cost: float
    fee_coin: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What the account holds of one coin: free to use, and bound by resting orders."""

    free: float
    used: float

    @property
    def total(self) -> float:
        """Free and bound together."""
        return self.free + self.used


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """Best prices now, quote per base; None where that side of the book is empty or unknown. last: of a trade."""

    bid: float | None
    ask: float | None
    last: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What the venue allows in one symbol now. is_active: orders are taken.

    lowest_price, highest_price: as multiples of the current price, what a limit order may ask (None: no band).
    min_quantity, max_quantity: base, per order; the smallest may be more than one lot.  maker, taker: fee rates as
    shares, None when unknown.
    """

    instrument: Instrument
    is_active: bool = True
    lowest_price: float | None = None
    highest_price: float | None = None
    min_quantity: float | None = None
    max_quantity: float | None = None
    maker: float | None = None
    taker: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """What the key may do; None where the venue does not tell."""

    may_trade: bool | None
    may_withdraw: bool | None
    is_bound_to_ip: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What this venue and its ccxt class can do.

    has_market_stop: a triggered stop sells at market; else it needs a limit price.  stop_binds_funds: a resting stop
    binds what it would sell, so that it must go before anything else is sold.  dead_man: the venue cancels all orders
    of the account, stops too, when it is not told in time.
    """

    has_stop: bool
    has_market_stop: bool
    stop_binds_funds: bool
    has_user_stream: bool
    has_dead_man: bool


# ---- what it tells unasked --------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceChanged:
    """Something moved: ask for the balances. A trigger only, never a number to rely on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStatus:
    """The user-data stream came (back) or went. detail: in words, never a secret.

    After it came back everything is asked for by REST: a venue replays nothing.
    """

    is_up: bool
    detail: str = ""


VenueEvent = VenueOrder | VenueTrade | BalanceChanged | StreamStatus


class Venue(Protocol):
    """One account at one exchange. Calls that only read raise TransientError when there is no usable answer."""

    abilities: Abilities

    async def open(self) -> None:
        """Load markets, set the clock offset. Raises ConfigError, TransientError, Unauthorised."""
        ...

    async def markets(self, *, refresh: bool = False) -> Mapping[str, Market]:
        """Return what is allowed per traded symbol; refresh: ask the venue again."""
        ...

    async def create(self, request: Request) -> VenueOrder:
        """Place an order, once. Raises VenueRefused, NotSent, UnknownOutcome."""
        ...

    async def cancel(self, symbol: str, client_id: str, venue_id: str = "") -> None:
        """Ask the venue to end an order; that it is gone is for `find` to prove. venue_id: where it is known.

        Raises VenueRefused when the venue says there is nothing (any more) to cancel, NotSent, UnknownOutcome.
        """
        ...

    async def find(self, symbol: str, client_id: str, venue_id: str = "") -> VenueOrder | None:
        """Return the order as it is now, open or closed; None when the venue says it knows none.

        One None proves nothing: right after an order was taken a venue may not show it yet.
        """
        ...

    async def open_orders(self) -> Sequence[VenueOrder]:
        """Return every open order of the account in the traded symbols, anybody's."""
        ...

    async def trades(self, symbol: str, since_ms: int) -> Sequence[VenueTrade]:
        """Return the account's trades from `since_ms` on, oldest first, all pages of them."""
        ...

    async def balances(self) -> Mapping[str, Balance]:
        """Return the account by coin; a coin that is missing is held to nothing."""
        ...

    async def quote(self, symbol: str) -> Quote:
        """Return the best prices now; symbol may be one that is not traded, to value a fee."""
        ...

    async def clock_offset_ms(self) -> float | None:
        """Return the venue's clock less ours, halfway through the request; None when it does not tell."""
        ...

    async def permissions(self) -> Permissions:
        """Return what the key may do."""
        ...

    async def arm_dead_man(self, seconds: float) -> None:
        """Let the venue cancel everything in `seconds` unless told again; 0 disarms."""
        ...

    def events(self) -> AsyncIterator[VenueEvent]:
        """Yield what the user-data stream says, for as long as it lives; reconnects by itself, with jitter."""
        ...

    async def close(self) -> None:
        """Release connections within two seconds; idempotent."""
        ...
