"""What the engine room tells those who listen: values, in the order in which things happened."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from daemon.testvenue.orders import BookOrder, Execution
from strategy.order import Side


class Change(StrEnum):
    """What happened to an order."""

    ACCEPTED = "accepted"
    TRADED = "traded"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderChanged:
    """An order changed. order: a copy, as it is now.  request_id: the cancelling request's own client id, if any."""

    order: BookOrder
    change: Change
    at_ms: int
    execution: Execution | None = None
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancesChanged:
    """What an account now holds of the coins that one step touched: asset -> (free, locked)."""

    account: str
    balances: dict[str, tuple[Decimal, Decimal]]
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Transferred:
    """A deposit (delta > 0) or withdrawal."""

    account: str
    asset: str
    delta: Decimal
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Traded:
    """A public trade. taker: the side that took."""

    symbol: str
    trade_id: int
    price: Decimal
    quantity: Decimal
    taker: Side
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BookChanged:
    """The offers of a symbol changed."""

    symbol: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CandleChanged:
    """A candle changed (the newest, forming) or became final."""

    symbol: str
    open_ms: int
    is_closed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRevoked:
    """An account's key stopped working: its streams end."""

    account: str


Event = OrderChanged | BalancesChanged | Transferred | Traded | BookChanged | CandleChanged | KeyRevoked
