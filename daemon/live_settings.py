"""How live orders are sent and watched: the values of `[live]`, and timings that are not for an operator to choose."""

from dataclasses import dataclass
from enum import StrEnum


class OrderStyle(StrEnum):
    """How an order that takes reaches the book."""

    LIMIT = "limit"
    """Immediate-or-cancel with a price collar."""
    MARKET = "market"


class EntryStyle(StrEnum):
    """How a purchase is made."""

    TAKER = "taker"
    MAKER = "maker"
    """Post-only at the best bid for at most `maker_wait_s`; what has not filled by then is dropped."""


class ExternalRule(StrEnum):
    """What becomes of a change of the account that is not ours: somebody's trade, a transfer."""

    IGNORE = "ignore"
    """It belongs to somebody else's part of the account."""
    ADOPT = "adopt"
    """It becomes part of what we trade with."""
    HALT = "halt"
    """As ignore, and the symbol takes no new exposure until a person resumes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSettings:
    """What the live broker goes by.

    collar: share by which a limit may be worse than the price the order was decided at.  max_order_value,
    max_position_value: quote, the gateway's own cap, which knows nothing of the risk manager.  symbols: traded.
    decision_age_s: a purchase decided longer ago than this is not sent any more.

    Timings: unknown_after_s and lookups: how long, and how often, the venue must deny an order before it counts as
    never placed.  quiet_s: the account must have been left alone this long before balances are compared.
    """

    symbols: tuple[str, ...]
    instance: str
    order: OrderStyle = OrderStyle.LIMIT
    entry: EntryStyle = EntryStyle.TAKER
    collar: float = 0.005
    maker_wait_s: float = 30.0
    external: ExternalRule = ExternalRule.HALT
    max_order_value: float
    max_position_value: float
    max_orders_per_minute: int = 30
    decision_age_s: float = 60.0
    unknown_after_s: float = 30.0
    lookups: int = 3
    lookup_every_s: float = 2.0
    reconcile_every_s: float = 30.0
    quiet_s: float = 5.0
    refresh_markets_s: float = 43_200.0
    stop_attempts: int = 3
    drain_s: float = 30.0
