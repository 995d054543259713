"""What a script can do in one market: trade, set offers, candles, trading status, rules."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, TypeVar

from daemon.testvenue.book import Book
from daemon.testvenue.candles import Row
from daemon.testvenue.filters import Rules
from daemon.testvenue.market import Liquidity, Market, Status
from daemon.testvenue.orders import ZERO
from daemon.testvenue.venue_time import VenueTime
from strategy.order import Side

Number = Decimal | int | float | str


def exact(value: Number) -> Decimal:
    """Return a number as a script writes it, exactly: 0.1 is one tenth. Raises ValueError for what is no number."""
    try:
        number = Decimal(str(value))
    except ArithmeticError:
        raise ValueError(f"{value!r} is not a number") from None
    if not number.is_finite():
        raise ValueError(f"{value!r} is not a finite number")
    return number


class MarketScript:
    """One market under a script's hand. Prices in quote per base, quantities in base."""

    def __init__(self, book: Book, time: VenueTime, symbol: str) -> None:
        self._book = book
        self._time = time
        self.symbol = symbol

    @property
    def state(self) -> Market:
        """The market itself, to read."""
        return self._book.markets[self.symbol]

    def trade(self, price: Number, quantity: Number | None = None) -> None:
        """Let somebody trade at `price`: the price moves there, what rests at it fills up to `quantity` (None: all)."""
        number = exact(price)
        if number <= ZERO:
            raise ValueError(f"a trade needs a price above 0, not {price}")
        self._book.move(self.symbol, number, None if quantity is None else exact(quantity))

    def path(self, prices: Iterable[Number]) -> None:
        """Trade at one price after the other."""
        for price in prices:
            self.trade(price)

    def offer(self, *, bids: Sequence[tuple[Number, Number]] = (), asks: Sequence[tuple[Number, Number]] = ()) -> None:
        """Let the house offer exactly these (price, quantity), best first, until the price moves."""
        for side, levels in ((Side.BUY, bids), (Side.SELL, asks)):
            self._book.offer(self.symbol, side, [(exact(price), exact(quantity)) for price, quantity in levels])

    def set_liquidity(self, **values: Number) -> None:
        """Change what the house offers around the price (`Liquidity`), from now on."""
        self.state.liquidity = _replaced(self.state.liquidity, values)
        if self.state.last:
            self._book.refill(self.symbol)

    def set_rules(self, **values: Number) -> None:
        """Change rules of the market (`Rules`): steps, limits, price band."""
        self.state.rules = _replaced(self.state.rules, values)

    def set_status(self, status: Status | str) -> None:
        """Halt, reopen or delist the market. A delisted one ends its orders."""
        market = self.state
        market.status = Status(status)
        if market.status is Status.DELISTED:
            for order in [*market.resting, *market.waiting]:
                self._book.end(order)

    def history(self, rows: Iterable[tuple[int, Number, Number, Number, Number, Number]]) -> None:
        """Give the market past candles (open_ms, open, high, low, close, volume); the last close is the price."""
        market = self.state
        for open_ms, *values in rows:
            opened, high, low, close, volume = (exact(value) for value in values)
            row = Row(opened, high, low, close, volume, volume * close, 1 if volume else 0)
            market.candles.put(open_ms, row)
            market.last = close
        if market.last:
            self._book.refill(self.symbol)

    def roll(self) -> None:
        """Close the candles that are over by now."""
        self._book.roll(self.symbol)


_COUNTS = frozenset({"levels", "max_orders", "max_stops"})
_Changed = TypeVar("_Changed", Rules, Liquidity)


def _replaced(old: _Changed, values: Mapping[str, Number]) -> _Changed:
    names = set(type(old).__dataclass_fields__)
    if unknown := sorted(set(values) - names):
        raise ValueError(f"no {', '.join(unknown)} to set; there are {', '.join(sorted(names))}")
    exactly = {name: exact(value) for name, value in values.items()}
    changes: Any = {name: int(value) if name in _COUNTS else value for name, value in exactly.items()}
    return replace(old, **changes)
