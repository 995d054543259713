"""Orders as the test venue's engine room knows them: neutral words, exact decimals; dialects translate.

Owns the values only. What happens to an order is decided in `book.py`.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from strategy.order import Side

ZERO = Decimal(0)


class OrderType(StrEnum):
    """How an order reaches the book."""

    MARKET = "market"
    LIMIT = "limit"
    POST_ONLY = "post_only"
    STOP = "stop"
    """Sells (buys) at market once the price has fallen (risen) to `stop_price`."""
    STOP_LIMIT = "stop_limit"
    TAKE_PROFIT = "take_profit"
    """Sells (buys) at market once the price has risen (fallen) to `stop_price`."""
    TAKE_PROFIT_LIMIT = "take_profit_limit"

    @property
    def is_conditional(self) -> bool:
        """True for orders that wait for a price before they work."""
        return self in _CONDITIONAL

    @property
    def has_limit(self) -> bool:
        """True for orders that never trade beyond a price of their own."""
        return self in _LIMITED


_CONDITIONAL = frozenset({OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TAKE_PROFIT, OrderType.TAKE_PROFIT_LIMIT})
_LIMITED = frozenset({OrderType.LIMIT, OrderType.POST_ONLY, OrderType.STOP_LIMIT, OrderType.TAKE_PROFIT_LIMIT})


class TimeInForce(StrEnum):
    """How long an order works."""

    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"


class State(StrEnum):
    """Where an order is in its life; all but the first two are final."""

    NEW = "new"
    PARTLY_FILLED = "partly_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """Ended by its own rules: nothing (more) to trade with."""
    PREVENTED = "prevented"
    """Ended because it would have traded with its own account."""


class RefusalKind(StrEnum):
    """Why the engine room takes something not; dialects give it their code and words."""

    PRICE = "price"
    QUANTITY = "quantity"
    MARKET_QUANTITY = "market_quantity"
    VALUE = "value"
    PRICE_BAND = "price_band"
    TOO_MANY_ORDERS = "too_many_orders"
    TOO_MANY_STOPS = "too_many_stops"
    FUNDS = "funds"
    DUPLICATE = "duplicate"
    CLOSED = "closed"
    WOULD_TAKE = "would_take"
    WOULD_TRIGGER = "would_trigger"
    NO_SUCH_ORDER = "no_such_order"
    NO_SUCH_MARKET = "no_such_market"
    NO_LIQUIDITY = "no_liquidity"


class Refusal(Exception):
    """The engine room did not take it, and nothing has changed."""

    def __init__(self, kind: RefusalKind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder:
    """What an account asks for. quantity: base; quote_quantity: what to spend instead, market purchases only."""

    symbol: str
    side: Side
    type: OrderType
    quantity: Decimal = ZERO
    quote_quantity: Decimal = ZERO
    price: Decimal = ZERO
    stop_price: Decimal = ZERO
    time_in_force: TimeInForce = TimeInForce.GTC
    client_id: str = ""
    is_api: bool = True
    """False for what a person did by hand: the audit does not count it as ours."""


@dataclass(slots=True, kw_only=True, eq=False)
class BookOrder:
    """One order at the venue. Mutable: it belongs to the book, which hands out copies to those who listen.

    reserve: what is locked of `reserve_asset` for the rest of it.  is_working: False while it waits for its price.
    spent: quote traded so far.  visible_ms: lookups do not show it earlier (replication lag).
    """

    order_id: int
    account: str
    client_id: str
    symbol: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    quantity: Decimal
    price: Decimal
    stop_price: Decimal
    quote_quantity: Decimal
    created_ms: int
    updated_ms: int
    visible_ms: int
    reserve_asset: str
    is_api: bool = True
    is_working: bool = True
    working_ms: int = -1
    state: State = State.NEW
    filled: Decimal = ZERO
    spent: Decimal = ZERO
    reserve: Decimal = ZERO
    detail: str = ""
    executions: list["Execution"] = field(default_factory=list)

    @property
    def remaining(self) -> Decimal:
        """Base not filled yet."""
        return self.quantity - self.filled

    @property
    def is_open(self) -> bool:
        """True while it can still trade, or wait for its price."""
        return self.state in {State.NEW, State.PARTLY_FILLED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One trade, as one account sees it. trade_id: 1, 2, 3 ... per symbol, the same for both sides."""

    trade_id: int
    order_id: int
    account: str
    symbol: str
    side: Side
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_asset: str
    is_maker: bool
    at_ms: int
    visible_ms: int
    client_id: str

    @property
    def value(self) -> Decimal:
        """Quote traded."""
        return self.price * self.quantity
