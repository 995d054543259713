"""One market: its rules, its last price, what stands in its book, and the house's own offers around the price."""

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import StrEnum

from daemon.testvenue.candles import CandleSeries
from daemon.testvenue.events import Traded
from daemon.testvenue.filters import Rules
from daemon.testvenue.matching import Level, offers
from daemon.testvenue.orders import ZERO, BookOrder, OrderType
from strategy.order import Side

TRADES_KEPT = 1_000


class Status(StrEnum):
    """What can be done in a market."""

    TRADING = "trading"
    BREAK = "break"
    """Orders are refused; those that rest stay, and may be cancelled."""
    DELISTED = "delisted"
    """Not listed any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Liquidity:
    """What the house offers around the last price.

    spread: between best bid and ask, share of the price.  levels: per side.  step: between levels, share of the price.
    value: quote per level, divided by the price and rounded down to the lot.
    """

    spread: Decimal = Decimal("0.0002")
    levels: int = 20
    step: Decimal = Decimal("0.0001")
    value: Decimal = Decimal(100_000)


@dataclass(slots=True, kw_only=True)
class Market:
    """One traded pair. last: of a trade; 0 before the first one, when there is no book either.

    resting: orders that work.  waiting: orders that wait for their price.  book_id: counts the changes of the offers.
    Only `book.py` changes these.
    """

    base: str
    quote: str
    last: Decimal = ZERO
    rules: Rules = field(default_factory=Rules)
    liquidity: Liquidity = field(default_factory=Liquidity)
    status: Status = Status.TRADING
    span_ms: int = 60_000
    house: dict[Side, list[Level]] = field(default_factory=lambda: {Side.BUY: [], Side.SELL: []})
    resting: list[BookOrder] = field(default_factory=list)
    waiting: list[BookOrder] = field(default_factory=list)
    trades: deque[Traded] = field(default_factory=lambda: deque(maxlen=TRADES_KEPT))
    trade_ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    book_id: int = 0
    candles: CandleSeries = field(init=False)

    def __post_init__(self) -> None:
        self.candles = CandleSeries(self.span_ms)
        if self.last:
            self.refill()

    @property
    def symbol(self) -> str:
        """`BASE/QUOTE`."""
        return f"{self.base}/{self.quote}"

    def refill(self) -> None:
        """Let the house offer anew, around the last price."""
        for side in Side:
            self.house[side] = _levels(side, self.last, self.rules, self.liquidity)

    def offer(self, side: Side, levels: Sequence[tuple[Decimal, Decimal]]) -> None:
        """Let the house offer exactly these (price, quantity), best first, until the price moves."""
        self.house[side] = [Level(price, quantity) for price, quantity in levels]

    def standing(self, side: Side) -> Iterator[BookOrder | Level]:
        """Yield everything that stands on one side, best first."""
        return offers(side, (order for order in self.resting if order.side is side), self.house[side])

    def best(self, side: Side) -> Decimal | None:
        """Return the best price on a side, None when nothing stands there."""
        return next((offer.price for offer in self.standing(side)), None)

    def depth(self, side: Side, limit: int) -> list[tuple[Decimal, Decimal]]:
        """Return (price, quantity) of at most `limit` prices of a side, best first."""
        levels: dict[Decimal, Decimal] = {}
        for offer in self.standing(side):
            there = offer.remaining if isinstance(offer, BookOrder) else offer.quantity
            if there > ZERO:
                levels[offer.price] = levels.get(offer.price, ZERO) + there
        return list(levels.items())[:limit]

    def is_triggered(self, order: BookOrder) -> bool:
        """Return whether the last price lets a waiting order work."""
        falls = (order.side is Side.SELL) == (order.type in {OrderType.STOP, OrderType.STOP_LIMIT})
        return self.last <= order.stop_price if falls else self.last >= order.stop_price


def _levels(side: Side, last: Decimal, rules: Rules, liquidity: Liquidity) -> list[Level]:
    tick = rules.tick or Decimal("0.00000001")
    sign, rounding = (-1, ROUND_FLOOR) if side is Side.BUY else (1, ROUND_CEILING)
    price = last + sign * max(last * liquidity.spread / 2, tick / 2)
    price = (price / tick).to_integral_value(rounding=rounding) * tick
    step = (max(last * liquidity.step, tick) / tick).to_integral_value(rounding=ROUND_CEILING) * tick
    levels = []
    for _ in range(liquidity.levels):
        quantity = rules.floor(liquidity.value / price) if price > ZERO else ZERO
        if quantity <= ZERO:
            break
        levels.append(Level(price, quantity))
        price += sign * step
    return levels
