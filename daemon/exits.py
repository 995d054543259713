"""Sales at a venue that cannot wait for a candle, and when one is offered again that has not got through.

At once while that gets somewhere; after a pause, twice as long each time, when nothing of it filled: the book is empty,
the market closed, or what is left too little for the venue, and asking faster changes none of it. For a position
without a stop the pause stays short, but not so short that the account never rests: where coins are not there any more,
and neither stop nor sale is taken for that, only comparing balances finds it out.
"""

from daemon import records
from daemon.fold import Memory
from daemon.ledger import Ledger
from daemon.ports import Clock
from strategy.order import Order, OrderStatus, Side
from strategy.trader import Trader

PAUSE_S, LONGEST_PAUSE_S, LONGEST_NAKED_S = 5.0, 300.0, 40.0


class Exits:
    """Asks the trader what has to go, once something has changed that."""

    def __init__(self, trader: Trader, memory: Memory, ledger: Ledger, clock: Clock) -> None:
        self._trader = trader
        self._memory = memory
        self._ledger = ledger
        self._clock = clock
        self._naked: set[str] = set()
        self._again_s: dict[str, float] = {}
        self._in_vain: dict[str, int] = {}

    def expose(self, symbol: str) -> None:
        """Hear that no stop can be placed for `symbol`: what is held of it has to go, now; once is enough."""
        if symbol not in self._naked or symbol not in self._again_s:
            self._again_s[symbol] = self._clock.monotonic_s()
        self._naked.add(symbol)

    def start_over(self, symbol: str) -> None:
        """Hear that `symbol` has another stop, for what was found to be held: that one is tried before anything goes.

        The venue refuses a stop, and a sale, of coins that are not there; what is there may well be protected.
        """
        self._naked.discard(symbol)

    def due(self) -> list[Order]:
        """Note and return what has to be sold now that orders have ended, stops were lost, or a pause is over.

        The orders stand in the ledger's `waiting`, to be written before they leave.
        """
        self._hear_of_orders()
        now_s = self._clock.monotonic_s()
        orders: list[Order] = []
        for symbol in sorted(symbol for symbol, at_s in self._again_s.items() if at_s <= now_s):
            if symbol in self._naked:  # until a stop rests there or nothing is left
                self._again_s[symbol] = now_s + PAUSE_S
            else:
                del self._again_s[symbol]
            orders += self._exit(symbol)
        return orders

    def _hear_of_orders(self) -> None:
        flat = {symbol for symbol, stop in self._trader.stops.items() if stop is None}
        self._naked -= self._ledger.resting | flat
        for status in self._ledger.ended:
            self._again_s[status.order.symbol] = self._clock.monotonic_s() + self._pause_s(status)
        self._ledger.resting.clear()
        self._ledger.ended.clear()

    def _exit(self, symbol: str) -> list[Order]:
        self._memory.tell_in_flight(self._trader)
        now_ms, unprotected = self._clock.now_ms(), symbol in self._naked
        orders = [verdict.order for verdict in self._trader.exits(symbol, now_ms, unprotected=unprotected)]
        for order in orders:
            self._memory.intend(order)
        if orders:
            self._ledger.waiting.append(records.of_exit(symbol, now_ms, orders, unprotected=unprotected))
        return orders

    def _pause_s(self, status: OrderStatus) -> float:
        symbol = status.order.symbol
        if status.order.side is Side.BUY or status.filled > 0.0:
            self._in_vain.pop(symbol, None)
            return 0.0
        self._in_vain[symbol] = tries = self._in_vain.get(symbol, 0) + 1
        return min(PAUSE_S * 2.0 ** (tries - 1), LONGEST_NAKED_S if symbol in self._naked else LONGEST_PAUSE_S)
