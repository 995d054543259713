"""From an order to the request that leaves: price collar, price band, steps and least value. Pure.

A purchase that has become too dear is left alone. A sale that lowers risk always finds a price at which it can leave.
"""

from dataclasses import dataclass

from daemon.live_settings import EntryStyle, LiveSettings, OrderStyle
from daemon.venue import Market, Quote, Request, RequestKind
from daemon.wording import price as price_words
from daemon.wording import quantity as quantity_words
from strategy.instrument import Instrument
from strategy.order import Order, Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfit:
    """Why an order does not leave now. detail: in words."""

    detail: str


_NOISE = 1e-9
"""What sums of amounts leave behind, as a share; a venue tells amounts to eight digits or more."""
_HAIR = 0.01
"""The same, in lots."""
_LEFT_BY_FEES = 0.01
_ROUNDING = 1e-12
"""What float64 leaves behind, as a share: 100 x 1.005 is 100.5, not a tick less."""


def request_for(
    order: Order, quantity: float, quote: Quote, market: Market, settings: LiveSettings, *, funds: float
) -> Request | Unfit:
    """Return what to send for an order that takes, or for a post-only entry. quantity: base, may be less than ordered.

    funds: our cash in quote. A venue asks for the whole of a purchase at its limit price, fee included, though it will
    fill for less: one that our cash does not cover at that price becomes smaller.

    The order's own price is where the collar of a purchase, and of a sale that does not have to happen, hangs; a sale
    that reduces risk takes what is bid now as its start.
    """
    if not market.is_active:
        return Unfit(detail=f"{order.symbol} takes no orders at the venue")
    is_maker = order.side is Side.BUY and not order.reduces and settings.entry is EntryStyle.MAKER
    limit = (
        _entry_price(order, quote, settings, is_maker=is_maker)
        if not _must_leave(order)
        else _exit_price(order, quote, settings)
    )
    if isinstance(limit, Unfit):
        return limit
    limit = _on_grid(limit, order.side, quote, market)
    if order.side is Side.BUY:
        quantity = min(quantity, max(funds, 0.0) / (limit * (1.0 + (market.taker or 0.0))))
    amount = whole_lots(market.instrument, min(quantity, market.max_quantity or quantity))
    has_price = is_maker or settings.order is not OrderStyle.MARKET
    if small := too_small(amount, limit if has_price else min(limit, _now(quote, limit)), market):
        return Unfit(detail=small)
    if not has_price:
        kind, price = RequestKind.MARKET, None
    else:
        kind, price = RequestKind.POST_ONLY if is_maker else RequestKind.LIMIT_IOC, limit
    return Request(
        client_id=order.client_id, symbol=order.symbol, side=order.side, quantity=amount, kind=kind, limit_price=price
    )


def stop_for(
    order: Order, quantity: float, market: Market, settings: LiveSettings, *, has_market_stop: bool
) -> Request | Unfit:
    """Return what to send for a protective stop; Unfit means that the venue takes nothing so small."""
    assert order.stop_price is not None  # noqa: S101  # an Order of kind STOP has one, it says so itself
    instrument = market.instrument
    amount = whole_lots(instrument, min(quantity, market.max_quantity or quantity))
    limit = None if has_market_stop else instrument.floor_price(order.stop_price * (1.0 - settings.collar))
    if limit is not None and limit <= 0.0:
        limit = instrument.tick
    if small := too_small(amount, limit or order.stop_price, market):
        return Unfit(detail=f"dust: {small}")
    return Request(
        client_id=order.client_id,
        symbol=order.symbol,
        side=Side.SELL,
        quantity=amount,
        kind=RequestKind.STOP,
        limit_price=limit,
        stop_price=order.stop_price,
    )


def within_balance(quantity: float, free: float) -> float:
    """Return how much of `quantity` to offer for sale: a little less where fees or dust have left less free (base).

    A larger shortfall is a difference between books and venue, which the venue itself has to state.
    """
    if free >= quantity * (1.0 - _NOISE):
        return quantity
    return free if free >= quantity * (1.0 - _LEFT_BY_FEES) else quantity


def whole_lots(instrument: Instrument, quantity: float) -> float:
    """Return the lots in a quantity that sums and differences of float64 have left a hair below the grid, or above."""
    amount = max(quantity, 0.0)
    # Never near a whole lot, however many lots it is: a thousand-millionth of ten coins is one lot of 0.00000001.
    return instrument.floor_quantity(amount + min(amount * _NOISE, _HAIR * instrument.lot))


def too_small(quantity: float, price: float, market: Market) -> str:
    """Return why the venue would refuse so little, in words, "" when it would not."""
    instrument = market.instrument
    if quantity <= 0.0:
        return f"less than one lot of {quantity_words(instrument.lot)} {instrument.base}"
    if market.min_quantity is not None and quantity < market.min_quantity:
        return (
            f"{quantity_words(quantity)} {instrument.base} below the minimum of {quantity_words(market.min_quantity)}"
        )
    if quantity * price < instrument.min_notional:
        value, least = price_words(quantity * price), price_words(instrument.min_notional)
        return f"value {value} {instrument.quote} below the minimum of {least}"
    return ""


def _must_leave(order: Order) -> bool:
    return order.side is Side.SELL and order.reduces


def _entry_price(order: Order, quote: Quote, settings: LiveSettings, *, is_maker: bool) -> float | Unfit:
    """Return the worst price that the collar allows, or the price to rest at."""
    sign, reference = order.side.sign, order.reference_price
    bound = reference * (1.0 + sign * settings.collar)
    there = (quote.ask if order.side is Side.BUY else quote.bid) if not is_maker else quote.bid
    if there is None:
        return Unfit(
            detail=f"nobody {'offers' if order.side is Side.BUY and not is_maker else 'bids for'} {order.symbol}"
        )
    if sign * there > sign * bound:
        return Unfit(
            detail=f"price has left the collar: {price_words(there)}, decided at {price_words(reference)},"
            f" {settings.collar:.2%} allowed"
        )
    return there if is_maker else bound


def _exit_price(order: Order, quote: Quote, settings: LiveSettings) -> float:
    now = next((price for price in (quote.bid, quote.last, quote.ask) if price), order.reference_price)
    return now * (1.0 - settings.collar)


def _on_grid(limit: float, side: Side, quote: Quote, market: Market) -> float:
    """Return the price on the tick grid and inside the venue's band around the present price."""
    instrument, now = market.instrument, _now(quote, limit)
    if side is Side.BUY:
        highest = limit if market.highest_price is None else min(limit, now * market.highest_price)
        return max(instrument.floor_price(highest * (1.0 + _ROUNDING)), instrument.tick)
    lowest = limit if market.lowest_price is None else max(limit, now * market.lowest_price)
    return max(instrument.ceil_price(lowest * (1.0 - _ROUNDING)), instrument.tick)


def _now(quote: Quote, otherwise: float) -> float:
    """Return the present price, as far as it is known: what a venue counts bands and market orders by."""
    return next((price for price in (quote.last, quote.bid, quote.ask) if price), otherwise)
