"""Who trades with whom at which price: price first, then time; pure arithmetic over offers, nothing moves here."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from daemon.testvenue.orders import ZERO, BookOrder
from strategy.order import Side


@dataclass(slots=True)
class Level:
    """What the house offers at one price."""

    price: Decimal
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Match:
    """One trade to be: `maker` is a resting order, or the house's level."""

    maker: BookOrder | Level
    price: Decimal
    quantity: Decimal


def is_better(side: Side, price: Decimal, than: Decimal) -> bool:
    """Return whether an offer of `side` at `price` stands before one at `than`: higher bids, lower asks."""
    return price > than if side is Side.BUY else price < than


def reaches(side: Side, limit: Decimal, price: Decimal) -> bool:
    """Return whether an order of `side` that trades up to `limit` (0: anything) takes an offer at `price`."""
    if not limit:
        return True
    return price <= limit if side is Side.BUY else price >= limit


def in_line(side: Side, orders: Iterable[BookOrder]) -> list[BookOrder]:
    """Return resting orders of one side, first served first: by price, then by when they began to work."""
    sign = -1 if side is Side.BUY else 1
    return sorted(orders, key=lambda order: (sign * order.price, order.working_ms, order.order_id))


def offers(side: Side, resting: Iterable[BookOrder], house: Sequence[Level]) -> Iterator[BookOrder | Level]:
    """Yield what stands on `side`, best first. At the same price the house stands last."""
    line, levels = in_line(side, resting), list(house)
    while line or levels:
        if line and not (levels and is_better(side, levels[0].price, line[0].price)):
            yield line.pop(0)
        else:
            yield levels.pop(0)


def plan(
    standing: Iterable[BookOrder | Level],
    *,
    side: Side,
    limit: Decimal,
    quantity: Decimal,
    budget: Decimal = ZERO,
    lot: Decimal = ZERO,
    own: str = "",
) -> list[Match]:
    """Return the trades of an order that takes from `standing`, best first, until filled or out of reach.

    quantity: base; 0 with a `budget` of quote: as much, in whole lots, as it pays for.  own: the account that asks;
    it never trades with itself: its own orders that are met give a match of no quantity.
    """
    matches: list[Match] = []
    for offer in standing:
        if not reaches(side, limit, offer.price) or (quantity <= ZERO and not budget):
            break
        if isinstance(offer, BookOrder) and offer.account == own:
            matches.append(Match(offer, offer.price, ZERO))
            continue
        there = offer.remaining if isinstance(offer, BookOrder) else offer.quantity
        wanted = _affordable(budget, offer.price, lot) if budget else quantity
        take = min(there, wanted)
        if take <= ZERO:
            if wanted <= ZERO:
                break
            continue
        matches.append(Match(offer, offer.price, take))
        if budget:
            budget -= take * offer.price
        else:
            quantity -= take
    return matches


def _affordable(budget: Decimal, price: Decimal, lot: Decimal) -> Decimal:
    most = budget / price
    return most - most % lot if lot else most
