"""The gateway's own cap: the last look at an order before it leaves, which knows nothing of the risk manager.

It is built from the operator's limits alone, counts by itself, and believes no decision: an order that breaks a limit
is refused here whoever approved it.
"""

import math
from collections import deque

from daemon.live_settings import LiveSettings
from daemon.venue import Quote, Request
from strategy.order import Side

_WILD = 10.0
"""A price this many times away from the market's is a slip of the finger, or worse."""
_ROUNDING = 1e-9
_MINUTE_S = 60.0


class OrderGate:
    """Refuses what breaks a cap. Counts purchases that may still fill, and what left within the last minute."""

    def __init__(self, settings: LiveSettings) -> None:
        self._settings = settings
        self._left_s: deque[float] = deque()
        self._buys: dict[str, tuple[str, float]] = {}
        self.refusals = 0

    def refusal(self, request: Request, *, quote: Quote, held: float, now_s: float) -> str | None:
        """Return why the request may not leave, None when it may. held: base, ours.  now_s: any clock that never falls.

        What may leave is counted at once: ask once per order, right before it goes.
        """
        reason = self._reason(request, quote, held, now_s)
        if reason is not None:
            self.refusals += 1
            return reason
        if request.side is Side.BUY:
            self._left_s.append(now_s)
            self._buys[request.client_id] = request.symbol, request.quantity
        return None

    def cap(self, settings: LiveSettings) -> None:
        """Go by other caps from here on; what was counted stays counted."""
        self._settings = settings

    def end(self, client_id: str) -> None:
        """Hear that an order can fill no more."""
        self._buys.pop(client_id, None)

    def _reason(self, request: Request, quote: Quote, held: float, now_s: float) -> str | None:
        settings, symbol, quantity = self._settings, request.symbol, request.quantity
        if symbol not in settings.symbols:
            return f"{symbol} is not among the symbols that may be traded"
        if not 0.0 < quantity < math.inf:
            return f"quantity {quantity} is not a positive number"
        market = next((price for price in (quote.last, quote.bid, quote.ask) if price is not None and price > 0.0), 0.0)
        if wild := self._wild(request, market):
            return wild
        if request.side is Side.SELL:
            return None if quantity <= held * (1.0 + _ROUNDING) else f"sells {quantity}, but only {held} is held"
        return self._purchase(request, market, held, now_s)

    def _wild(self, request: Request, market: float) -> str | None:
        for price in (request.limit_price, request.stop_price):
            if price is None:
                continue
            if not 0.0 < price < math.inf:
                return f"price {price} is not a positive number"
            if market > 0.0 and not market / _WILD <= price <= market * _WILD:
                return f"price {price} is more than {_WILD:.0f} times away from the market's {market}"
        return None

    def _purchase(self, request: Request, market: float, held: float, now_s: float) -> str | None:
        settings, symbol = self._settings, request.symbol
        price = max(market, request.limit_price or 0.0)
        if price <= 0.0:
            return f"no price of {symbol} to value the order by"
        value = request.quantity * price
        if value > settings.max_order_value * (1.0 + _ROUNDING):
            return f"order value {value:.2f} is above live.max_order_value = {settings.max_order_value:.2f}"
        coming = sum(quantity for bought, quantity in self._buys.values() if bought == symbol)
        position = (held + coming + request.quantity) * price
        if position > settings.max_position_value * (1.0 + _ROUNDING):
            return (
                f"position value {position:.2f} with what is under way would be above"
                f" live.max_position_value = {settings.max_position_value:.2f}"
            )
        while self._left_s and self._left_s[0] <= now_s - _MINUTE_S:
            self._left_s.popleft()
        if len(self._left_s) >= settings.max_orders_per_minute:
            return f"{len(self._left_s)} orders within a minute, live.max_orders_per_minute is reached"
        return None
