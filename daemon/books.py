"""What the account's books say, for whoever compares them with a venue: the read-only side of trader and memory."""

from collections.abc import Sequence

from daemon.fold import Memory
from strategy.order import Order, OrderStatus
from strategy.trader import Trader


class AccountBooks:
    """Implements `ports.Books`: always as of the last news that was applied."""

    def __init__(self, trader: Trader, memory: Memory) -> None:
        self._trader = trader
        self._memory = memory

    def cash(self) -> float:
        """Return our cash in quote."""
        return self._trader.portfolio.cash

    def held(self, symbol: str) -> float:
        """Return what we hold of a symbol, in base."""
        return self._trader.portfolio.positions[symbol].quantity

    def mark(self, symbol: str) -> float:
        """Return the last price we valued it at, 0 when there was none."""
        return self._trader.portfolio.positions[symbol].mark

    def foreign(self, asset: str) -> float | None:
        """Return what belongs to somebody else in that coin; None before the account was opened at the venue."""
        foreign = self._memory.foreign
        return None if foreign is None else foreign.get(asset, 0.0)

    def orders(self) -> Sequence[OrderStatus]:
        """Return every order that has not ended, stops included, oldest first."""
        return tuple(self._memory.orders.values())

    def known(self, client_id: str) -> OrderStatus | None:
        """Return an order that has not ended, or ended lately; None for one the books never saw or forgot."""
        return self._memory.known(client_id)

    def fill_ids(self, client_id: str) -> frozenset[str]:
        """Return the fills of an order that are in the books."""
        return frozenset(self._memory.fill_ids.get(client_id, ()))

    def stop(self, symbol: str) -> Order | None:
        """Return the protective stop that what is held needs, None when nothing is held."""
        return self._trader.stops[symbol]
