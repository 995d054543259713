"""Turns the venue's trades into fills: what a fee was paid in, and what it is worth in quote."""

from collections.abc import Awaitable, Callable

from daemon.errors import TransientError
from daemon.ports import Clock
from daemon.venue import Quote, VenueRefused, VenueTrade
from strategy.order import Fill, Order

_KEPT_S = 60.0
_UNKNOWN_PAIR_S = 600.0


class FillWorth:
    """Values fees. ask: `Venue.quote`, watched or not."""

    def __init__(self, ask: Callable[[str], Awaitable[Quote]], clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self._prices: dict[str, tuple[float, float]] = {}

    async def fill(self, trade: VenueTrade, order: Order) -> tuple[Fill, str]:
        """Return the trade as a fill of `order`, and what to say about its fee, "" when there is nothing to say."""
        base, _, quote = order.symbol.partition("/")
        fee, fee_base, fee_coin, words = trade.fee_cost, 0.0, "", ""
        if trade.fee_cost == 0.0:
            fee = 0.0
        elif trade.fee_coin == base:
            fee, fee_base = trade.fee_cost * trade.price, trade.fee_cost
        elif trade.fee_coin != quote:
            worth = await self._price(f"{trade.fee_coin}/{quote}")
            fee, fee_coin = trade.fee_cost * worth, trade.fee_coin
            if worth == 0.0:
                words = f"fee of {trade.fee_cost} {trade.fee_coin} counts nothing: no price in {quote}"
        made = Fill(
            fill_id=trade.trade_id,
            client_id=order.client_id,
            symbol=order.symbol,
            side=trade.side,
            quantity=trade.quantity,
            price=trade.price,
            fee=fee,
            at_ms=trade.at_ms,
            reference_price=order.reference_price,
            fee_base=fee_base,
            fee_coin=fee_coin,
            fee_amount=trade.fee_cost if fee_coin else 0.0,
        )
        return made, words

    async def _price(self, pair: str) -> float:
        """Return what one coin is worth, 0 when the venue has no such price; asks at most once a minute."""
        now_s = self._clock.monotonic_s()
        price, until_s = self._prices.get(pair, (0.0, 0.0))
        if now_s < until_s:
            return price
        try:
            quote = await self._ask(pair)
        except (TransientError, VenueRefused):
            # The last known price is nearer to the truth than nothing.
            self._prices[pair] = price, now_s + (_KEPT_S if price else _UNKNOWN_PAIR_S)
            return price
        price = next((value for value in (quote.last, quote.bid, quote.ask) if value), 0.0)
        self._prices[pair] = price, now_s + (_KEPT_S if price else _UNKNOWN_PAIR_S)
        return price
